"""The landscape of a language model while Hugging Face's Trainer trains it: one callback, TensorBoard beside it.

python examples/hugging_face_trainer.py       # needs the extra: pip install 'landscape-smoothness[integrations]'
tensorboard --logdir runs/tensorboard
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, default_data_collator

from landscape.integrations.tensorboard import TensorBoard
from landscape.integrations.transformers import LandscapeCallback

torch.manual_seed(0)
config = GPT2Config(
    vocab_size=64,
    n_positions=32,
    n_embd=32,
    n_layer=2,
    n_head=2,
    bos_token_id=0,
    eos_token_id=0,
    loss_type="ForCausalLM",
)
words = torch.randint(0, 64, (128, 16)).cumsum(dim=1) % 64
dataset = [{"input_ids": row, "labels": row} for row in words]

# The Trainer does not show its batches to callbacks, so a fixed probe batch is measured.
probe_batch = default_data_collator(dataset[:16])
callback = LandscapeCallback(
    probe_batch, ["gradient_path", "curvature", "covariate_shift"], every=5, to=TensorBoard("runs/tensorboard")
)
arguments = TrainingArguments(
    output_dir="runs/hugging-face",
    max_steps=15,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    use_cpu=True,
    report_to=[],
    save_strategy="no",
    disable_tqdm=True,
)
Trainer(GPT2LMHeadModel(config), arguments, train_dataset=dataset, callbacks=[callback]).train()

table = callback.observer.frame().query("quantity in ['loss0', 'effective_smoothness', 'gradient_curvature']")
print(table.pivot_table(index="step", columns="quantity", values="value").round(4))
print("curves in runs/tensorboard")
