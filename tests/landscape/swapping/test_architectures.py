"""Public architectures, built from their configurations without weights: every kind of normalization, really run."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from landscape import normalization_plan, normalized

transformers = pytest.importorskip("transformers")

IMAGES = {"pixel_values": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
TOKENS = {"input_ids": torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))}
TEXT = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def build(config: str, model: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**options))
    return built


def image(name: str, **options: object) -> nn.Module:
    return build(f"{name}Config", f"{name}ForImageClassification", num_labels=3, **options)


# architecture -> what builds it, what it is called with
ZOO = {
    "resnet": (lambda: image("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]), IMAGES),
    "regnet": (
        lambda: image("RegNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=8),
        IMAGES,
    ),
    "convnext": (
        lambda: image("ConvNext", hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], patch_size=2),
        IMAGES,
    ),
    "mobilenetv2": (lambda: image("MobileNetV2", depth_multiplier=0.25, depth_divisible_by=2, image_size=32), IMAGES),
    "vit": (
        lambda: image(
            "ViT", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            image_size=32, patch_size=8,
        ),
        IMAGES,
    ),
    "swin": (
        lambda: image("Swin", image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4),
        IMAGES,
    ),
    "gpt2": (
        lambda: build("GPT2Config", "GPT2LMHeadModel", n_embd=16, n_layer=2, n_head=2, n_positions=16, **TEXT),
        TOKENS,
    ),
    "llama": (
        lambda: build(
            "LlamaConfig", "LlamaForCausalLM", hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, tie_word_embeddings=True, **TEXT,
        ),
        TOKENS,
    ),
    "mamba": (
        lambda: build("MambaConfig", "MambaForCausalLM", hidden_size=16, state_size=4, num_hidden_layers=2, **TEXT),
        TOKENS,
    ),
    "t5": (
        lambda: build(
            "T5Config", "T5ForConditionalGeneration", d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
            decoder_start_token_id=0, **TEXT,
        ),
        TOKENS | {"decoder_input_ids": TOKENS["input_ids"]},
    ),
}  # fmt: skip
BATCH = {"resnet", "regnet", "mobilenetv2"}
LAYER = {"convnext", "vit", "swin", "gpt2"}
NORMS = ["none", "batch", "layer", "group:2", "rms", "weight"]


def is_layer(module: nn.Module) -> bool:
    """By name alone, which is enough for these ten: a class that ends in Norm, or Norm2d."""
    return type(module).__name__.removesuffix("2d").endswith("Norm")


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("architecture", ZOO)
def test_architecture(architecture: str, name: str) -> None:
    make, batch = ZOO[architecture]
    model = make()
    layers = [key for key, m in model.named_modules() if is_layer(m)]
    plan = normalization_plan(model, name, example=batch)
    by_action = Counter(change.action for change in plan)
    changed = {change.name: change for change in plan if change.action in ("replace", "remove", "keep")}
    assert set(layers) <= set(changed)  # every layer is in the plan

    new = normalized(model, name, example=batch)
    before, after = model.state_dict(), new.state_dict()
    theirs = [key for key in before if key.rpartition(".")[0] not in layers]
    moved = {name for name, change in changed.items() if change.action != "keep"}
    kept = [key for key in theirs if key.rpartition(".")[0] not in moved]
    assert all(torch.equal(after[key], before[key]) for key in kept)
    if name != "weight":
        assert kept == theirs
        own = architecture in {"batch": BATCH, "layer": LAYER, "rms": {"llama", "mamba"}}.get(name, set())
        expected = "remove" if name == "none" else "keep" if own else "replace"
        assert by_action == {expected: len(layers)}
    else:
        kinds = {"Linear", "Conv1d", "Conv2d", "Conv1D"}
        linears = [m for m in model.modules() if type(m).__name__ in kinds]
        assert by_action["remove"] == len(layers)
        assert by_action["keep"] == 1  # the output layer
        assert by_action["replace"] + by_action["keep"] + by_action["can't"] == len(linears)
        uncalled = {change.name.rpartition(".")[2] for change in plan if change.action == "can't"}
        assert uncalled == ({"conv1d", "dt_proj"} if architecture == "mamba" else set())
    if getattr(model, "lm_head", None) is not None:
        tied = model.lm_head.weight is model.get_input_embeddings().weight
        assert (new.lm_head.weight is new.get_input_embeddings().weight) == tied

    new.train()
    loss = new(**batch).logits.square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in new.parameters())


@pytest.mark.parametrize("architecture", ["convnext", "gpt2", "mamba"])
def test_without_an_example_the_limit_is_said(architecture: str) -> None:
    make, batch = ZOO[architecture]
    plan = normalization_plan(make(), "batch")
    seen = normalization_plan(make(), "batch", example=batch)
    assert [(c.name, c.action, c.after) for c in plan[:-1]] == [(c.name, c.action, c.after) for c in seen]
    assert plan[-1].action == "can't"
    assert "give example=" in plan[-1].why
