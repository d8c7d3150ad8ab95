"""No trace on public architectures, built small from transformers' own configurations, and sane numbers on each."""

import copy
import functools

import numpy as np
import pytest
import torch

import landscape
from landscape.errors import ProbeError
from landscape.probes import PROBES, build_probe

transformers = pytest.importorskip("transformers")

STEPS, BATCH, CLASSES, WORDS = 3, 4, 5, 40
IMAGES = {"num_labels": CLASSES}
TEXT = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

#: name -> (model class, configuration class, options, kind of batch).
ARCHITECTURES = {
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", **IMAGES},
        "image",
    ),
    "regnet": (
        "RegNetForImageClassification",
        "RegNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8, **IMAGES},
        "image",
    ),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32, "drop_path_rate": 0.2, **IMAGES},
        "image",
    ),
    "mobilenet": (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {"depth_multiplier": 0.1, "image_size": 32, "output_stride": 8, **IMAGES},
        "image",
    ),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 32,
            "patch_size": 8,
            "hidden_dropout_prob": 0.1,
            **IMAGES,
        },
        "image",
    ),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 32, **IMAGES},
        "image",
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16},
        "text",
    ),
    "bert": (
        "BertForSequenceClassification",
        "BertConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, **IMAGES},
        "sentence",
    ),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 16},
        "text",
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 2,
            "decoder_start_token_id": 0,
        },
        "text",
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
        },
        "text",
    ),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "use_mambapy": False},
        "text",
    ),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {
            "hidden_size": 16,
            "word_embed_proj_dim": 16,
            "ffn_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
        },
        "text",
    ),
}
#: Why a probe does not apply: nothing else may fail.
REASONS = {
    "theorems": "has no batch-normalization layer",
    "positions": "this is for batches (N, T, ...)",
    "moments": "no nonlinearity module was called",
}
BATCH_NORMALIZED = ("resnet", "regnet", "mobilenet")


def _unfit(name):
    """The probes that can't apply to an architecture."""
    found = set() if name in BATCH_NORMALIZED else {"theorems"}
    found |= {"positions"} if ARCHITECTURES[name][3] == "image" else set()
    return found | ({"moments"} if name == "mamba" else set())  # its activations are functions


def _build(name):
    model, config, options, kind = ARCHITECTURES[name]
    words = TEXT if kind != "image" else {}
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**options | words))
    return made.train()


@functools.cache
def _batches(kind):
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(STEPS):
        labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
        words = torch.randint(1, WORDS, (BATCH, 7), generator=generator)
        found.append(
            {
                "image": {"pixel_values": torch.randn(BATCH, 3, 32, 32, generator=generator), "labels": labels},
                "text": {"input_ids": words, "labels": words},
                "sentence": {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": labels},
            }[kind]
        )
    return found


def _loss(model, batch):
    return model(**batch).loss


#: Options under which a probe is quick; the others are as they come.
QUICK = {
    "gradient_path": {"multiples": [0.5, 1.0, 4.0]},
    "activations": {"histograms": False, "sites": ("nonlinearity input", "output")},
    "hessian_eigenpairs": {"tol": 0.3},
    "hessian_trace": {"products": 6},
    "spectral_density": {"draws": 2, "steps": 4},
    "loss_slice": {"points": 5},
}

#: Probes that need a loss and nothing else of a model; input_lipschitz takes networks of one tensor to one tensor,
#: bands a regression of one variable.
FIT = [name for name in PROBES if name not in ("input_lipschitz", "bands")]


def _probes():
    """Every probe that there is; those of many passes at one step only."""
    update = build_probe("gradient_path", direction="update", on="held-out", multiples=[1.0])
    every = [build_probe(name, **QUICK.get(name, {})) for name in FIT]
    return [update, *(landscape.Scheduled(p, {2} if p.passes(1, 4) > 10 else 2) for p in every)]


@pytest.mark.filterwarnings("ignore:probe '(theorems|positions|moments)' failed:UserWarning")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_probe_leaves_no_trace_and_gives_finite_numbers_or_a_reason(name, trained, same):
    batches, seen = _batches(ARCHITECTURES[name][3]), []

    def observed(model, optimizer):
        further = {"fixed": batches[0], "held-out": batches[1], "full": landscape.Batches(batches)}
        seen.append(landscape.Observer(model, _loss, _probes(), every=2, optimizer=optimizer, batches=further))
        return seen[0]

    build, adam = functools.partial(_build, name), functools.partial(torch.optim.AdamW, lr=1e-3)
    without = trained(build, _loss, batches, optimizer=adam)
    assert same(without, trained(build, _loss, batches, observed, optimizer=adam))

    (obs,) = seen
    assert set(obs.failures) == _unfit(name)
    assert all(REASONS[label] in reason for label, reason in obs.failures.items())
    frame = obs.frame()
    assert set(frame.probe) == set(FIT) - set(obs.failures)
    lost = frame[~np.isfinite(frame.value.astype(float))]
    # Two reasons, both in the docstrings: a weight that is zero (Swin's position bias at the start) has no direction
    # to turn from, and a noise scale is infinite where its few batches leave no positive squared gradient.
    zero = frame[(frame.quantity == "weight_norm") & (frame.value == 0)]
    allowed = {("updates", *at) for at in zip(zero.step, zero.layer, strict=True)}
    noise = lost.quantity.isin(["noise_scale", "noise_scale_error"]) & (lost.value == np.inf)
    others = lost[~noise]
    assert set(zip(others.probe, others.step, others.layer, strict=True)) <= allowed


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_numbers_are_those_of_plain_torch(name):
    """Loss, gradient, the loss after a step and the curvature, with backward(), a copy and finite differences."""
    model, batch = _build(name).double(), _batches(ARCHITECTURES[name][3])[0]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = {key: t.double() if t.is_floating_point() else t for key, t in batch.items()}

    def at(step, direction):
        torch.manual_seed(4)  # what else draws: stochastic depth
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for p, d in zip(moved.parameters(), direction, strict=True):
                p.sub_(step * d)
        loss = _loss(moved, batch)
        loss.backward()
        return loss.item(), [torch.zeros_like(p) if p.grad is None else p.grad for p in moved.parameters()]

    def dot(a, b):
        return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))

    still = [torch.zeros_like(p) for p in model.parameters()]
    loss, g = at(0.0, still)
    torch.manual_seed(4)
    path = landscape.gradient_path(model, _loss, batch, [0.05])
    # transformers computes some norms and losses in float32 whatever the model's arithmetic is.
    assert float(path.loss0) == pytest.approx(loss, rel=1e-6)
    assert float(path.gradient_norm) == pytest.approx(dot(g, g) ** 0.5, rel=1e-5)
    after, h = at(0.05, g)
    assert float(path.loss) == pytest.approx(after, rel=1e-5)
    difference = [x - y for x, y in zip(h, g, strict=True)]
    assert float(path.gradient_distance) == pytest.approx(dot(difference, difference) ** 0.5, rel=1e-3)
    torch.manual_seed(4)
    curvature = float(landscape.gradient_curvature(model, _loss, batch))
    # The networks for images are in float64 throughout, and have kinks; those for text have float32 inside.
    half = (1e-9 if ARCHITECTURES[name][3] == "image" else 1e-4) / dot(g, g) ** 0.5
    ends = [at(step, g)[1] for step in (half, -half)]
    secant = dot(g, [(b - a) / (2 * half) for a, b in zip(*ends, strict=True)]) / dot(g, g)
    assert curvature == pytest.approx(secant, rel=2e-2, abs=2e-3)


def test_activation_functions_of_transformers_are_seen_as_nonlinearities():
    model, batch = _build("bert"), _batches("sentence")[0]
    sites = landscape.activation_statistics(model, _loss, batch).sites
    names = [site.layer for site in sites]
    assert names == [
        "bert.encoder.layer.0.intermediate.intermediate_act_fn",
        "bert.encoder.layer.1.intermediate.intermediate_act_fn",
        "bert.pooler.activation",
    ]
    assert all(len(site.mean) == units for site, units in zip(sites, (32, 32, 16), strict=True))


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit"])
def test_curvature_is_the_same_under_every_attention_kernel(name):
    """Fused kernels have no double backward: the probe runs the math kernel, also where the model asks for sdpa."""
    values = []
    for kernel in ("sdpa", "eager"):
        model = _build(name)
        model.set_attn_implementation(kernel)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        batch = _batches(ARCHITECTURES[name][3])[0]
        values.append(float(landscape.gradient_curvature(model, _loss, batch)))
    assert values[0] == pytest.approx(values[1], rel=1e-3)


def test_gradient_checkpointing_of_transformers_is_probed_or_refused_by_name():
    batch, numbers = _batches("text")[0], []
    for kind in (None, False):
        model = _build("llama")
        if kind is not None:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": kind})
        numbers.append(landscape.gradient_path(model, _loss, batch, [0.1]).smoothness.item())
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    model.gradient_checkpointing_disable()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(ProbeError, match="gradient_checkpointing_kwargs"):
        landscape.gradient_path(model, _loss, batch, [0.1])
