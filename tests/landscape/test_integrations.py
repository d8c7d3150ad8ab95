"""The adapters, each in a real training by the real library: the same bits with and without, and the right numbers."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import landscape
from landscape.errors import UsageError
from landscape.store import Folder

pytest.importorskip("lightning")
pytest.importorskip("transformers")

PROBES = ["gradient_path", "covariate_shift", "activations", "curvature", "updates"]


def _examples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(24, 6, generator=generator), torch.randint(0, 3, (24,), generator=generator)


# ------------------------------------------------------------------------------------------------ Lightning


def _lightning_module(dropout):
    import lightning.pytorch as lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)
            )
            self.losses = []

        def training_step(self, batch, index):
            loss = _lightning_loss(self, batch)
            self.losses.append(loss.item())
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            sgd = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
            return [sgd], [torch.optim.lr_scheduler.StepLR(sgd, 1, gamma=0.5)]

    return Module()


def _lightning_loss(module, batch):
    return nn.functional.cross_entropy(module.net(batch[0]), batch[1])


def _fit(callback=None, epochs=2, ckpt=None, dropout=0.2, **options):
    import lightning.pytorch as lightning

    module = _lightning_module(dropout)
    data = torch.utils.data.TensorDataset(*_examples())
    torch.manual_seed(1)
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback] if callback else [],
        **quiet | {"enable_checkpointing": False} | options,
    )
    trainer.fit(module, loader, ckpt_path=ckpt, **({"weights_only": False} if ckpt else {}))
    return module, trainer


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 3}, {"precision": "bf16-mixed"}])
def test_lightning_trains_to_the_same_bits_and_each_batch_is_measured(ending, same, tmp_path, options):
    from landscape.integrations.lightning import LandscapeCallback

    plain, plain_trainer = _fit(**options)
    without = ending(plain, plain_trainer.optimizers[0])
    callback = LandscapeCallback(_lightning_loss, PROBES, every=2, to=tmp_path / "run", strict=True)
    module, trainer = _fit(callback, **options)
    assert same(without, ending(module, trainer.optimizers[0]))
    assert plain.losses == module.losses
    frame = callback.observer.frame()
    accumulated = options.get("accumulate_grad_batches", 1)
    assert sorted(frame.step.unique()) == list(range(0, 6 // accumulated, 2))
    assert set(frame.probe) == set(PROBES)
    (progress,) = Folder.read(tmp_path / "run").progress()
    assert progress.status == "finished"
    rates = frame.groupby("step").learning_rate.first()
    if not options:
        assert rates.tolist() == [0.1, 0.1, 0.05]  # three batches an epoch, halved after each


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_measures_the_loss_that_it_trains_on(precision):
    from landscape.integrations.lightning import LandscapeCallback

    callback = LandscapeCallback(_lightning_loss, ["gradient_path"], every=1, strict=True)
    module, _ = _fit(callback, dropout=0.0, precision=precision)
    assert callback.observer.frame().query("quantity == 'loss0'").value.tolist() == module.losses


def test_lightning_keeps_the_state_in_its_checkpoints(tmp_path):
    from landscape.integrations.lightning import LandscapeCallback

    first = LandscapeCallback(_lightning_loss, ["activations"], every=2, strict=True)
    _, trainer = _fit(first, epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = LandscapeCallback(_lightning_loss, ["activations"], every=2, strict=True)
    _fit(second, epochs=2, ckpt=tmp_path / "half.ckpt")
    frame = second.observer.frame()
    assert sorted(frame.step.unique()) == [4]
    assert {"shift_first", "shift_previous"} <= set(frame.quantity)  # against step 0, of the process before


def test_lightning_with_two_optimizers_is_refused():
    from landscape.integrations.lightning import LandscapeCallback

    class Trainer:
        world_size, optimizers = 1, [None, None]

    with pytest.raises(UsageError, match="one process with one optimizer; this Trainer has 1 and 2"):
        LandscapeCallback(_lightning_loss, PROBES).on_train_start(Trainer(), None)
    Trainer.world_size, Trainer.optimizers = 2, [None]
    with pytest.raises(UsageError, match="has 2 and 1: use devices=1"):
        LandscapeCallback(_lightning_loss, PROBES).on_train_start(Trainer(), None)


# --------------------------------------------------------------------------------------------- Hugging Face


def _bert():
    import transformers

    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20, num_labels=3
        )
    )


def _sentences():
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, 20, (24, 5), generator=generator)
    labels = torch.randint(0, 3, (24,), generator=generator)
    return [{"input_ids": w, "labels": y} for w, y in zip(words, labels, strict=True)]


def _probe_batch():
    import transformers

    return transformers.default_data_collator(_sentences()[:6])


def _train(folder, callback=None, steps=6, resume=None, **options):
    import transformers

    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "logging_strategy": "no"}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, seed=3, **quiet | options
    )
    trainer = transformers.Trainer(_bert(), arguments, train_dataset=_sentences())
    if callback is not None:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"bf16": True}])
def test_hugging_face_trains_to_the_same_bits_and_the_probe_batch_is_measured(ending, same, tmp_path, options):
    from landscape.integrations.transformers import LandscapeCallback

    def end(trainer):
        return ending(trainer.model, trainer.optimizer.optimizer)

    without = end(_train(tmp_path / "a", **options))
    callback = LandscapeCallback(_probe_batch(), PROBES, every=2, to=tmp_path / "run", strict=True)
    trainer = _train(tmp_path / "b", callback, **options)
    assert same(without, end(trainer))
    frame = callback.observer.frame()
    assert sorted(frame.step.unique()) == [0, 2, 4]
    assert set(frame.probe) == set(PROBES)
    assert np.isfinite(frame.value.astype(float)).all()
    (progress,) = Folder.read(tmp_path / "run").progress()
    assert (progress.status, progress.run.study.model.name) == ("finished", "BertForSequenceClassification")


def test_hugging_face_measures_the_loss_of_the_probe_batch_at_the_weights_of_the_step(tmp_path):
    from transformers import TrainerCallback

    from landscape.integrations.transformers import LandscapeCallback

    expected = []

    class ByHand(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            with torch.random.fork_rng():
                expected.append(model(**_probe_batch()).loss.item())

    callback = LandscapeCallback(_probe_batch(), ["gradient_path"], every=1, strict=True)
    _train(tmp_path, callback, steps=3)
    _train(tmp_path, ByHand(), steps=3)
    losses = callback.observer.frame().query("quantity == 'loss0'").value.tolist()
    assert losses == pytest.approx(expected, rel=1e-6)  # the same dropout too: both see the state of that moment


def test_hugging_face_keeps_the_state_beside_its_checkpoints(tmp_path):
    from landscape.integrations.transformers import LandscapeCallback

    saving = {"save_strategy": "steps", "save_steps": 3}

    def callback():
        return LandscapeCallback(_probe_batch(), ["activations"], every=2, strict=True)

    whole = callback()
    _train(tmp_path / "whole", whole, **saving)
    _train(tmp_path / "part", callback(), steps=3, lr_scheduler_type="constant", **saving)
    again = callback()
    _train(tmp_path / "part", again, resume=str(tmp_path / "part" / "checkpoint-3"), **saving)
    frame = again.observer.frame()
    assert sorted(frame.step.unique()) == [4]
    assert {"shift_first", "shift_previous"} <= set(frame.quantity)


def test_hugging_face_on_several_devices_is_refused():
    from landscape.integrations.transformers import LandscapeCallback

    class Arguments:
        world_size, n_gpu = 1, 2

    with pytest.raises(UsageError, match=r"1 processes with 2 GPUs each.*CUDA_VISIBLE_DEVICES"):
        LandscapeCallback({}, PROBES).on_train_begin(Arguments(), None, None)


# ---------------------------------------------------------------------------------------------- TensorBoard


def test_tensorboard_shows_every_number_at_its_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from landscape.integrations.tensorboard import TensorBoard

    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_fn = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    sink = TensorBoard(tmp_path / "logs")
    assert isinstance(sink, landscape.Sink)
    with landscape.Observer(net, loss_fn, PROBES, every=2, optimizer=sgd, to=sink, strict=True) as obs:
        for batch in obs.watch([_examples()] * 3):
            sgd.zero_grad()
            loss_fn(net, batch).backward()
            sgd.step()
    read = EventAccumulator(str(tmp_path / "logs"))
    read.Reload()
    shown = {(tag, e.step): e.value for tag in read.Tags()["scalars"] for e in read.Scalars(tag)}
    frame = obs.frame()
    assert len(shown) == len(frame) + 2  # and the learning rate, twice
    value = frame.query("quantity == 'effective_smoothness' and step == 2").value.item()
    assert shown["gradient_path/effective_smoothness/gradient-scaled", 2] == np.float32(value)
    value = frame.query("quantity == 'loss' and step == 2 and index == 3").value.item()
    assert shown["gradient_path/loss/gradient-scaled/3", 2] == np.float32(value)
    value = frame.query("quantity == 'relative' and step == 0 and layer == '2'").value.item()
    assert shown["covariate_shift/relative/2", 0] == np.float32(value)
    assert shown["learning_rate", 0] == np.float32(0.1)


def test_integrations_are_imported_where_they_are_used_only():
    code = (
        "import sys, landscape, landscape.integrations\n"
        "print(*[m for m in ('lightning', 'pytorch_lightning', 'transformers', 'accelerate', 'tensorboard')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
