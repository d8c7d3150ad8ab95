"""The shipped networks: what they compute and count, and that arms differ in nothing but the normalization."""

from __future__ import annotations

import itertools
import math
import random
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.errors import UsageError
from landscape.models import MODELS, build_model
from landscape.normalization import NORMALIZATIONS
from landscape.streams import stream

# name -> how it is built here, small
SETTINGS = {
    "mlp": {"input_shape": (1, 4, 4), "output_size": 3, "hidden": [8, 6]},
    "deep_linear": {"input_shape": (10,), "output_size": 10},
    "convnet": {"input_shape": (1, 8, 8), "output_size": 10},
    "vgg": {"input_shape": (3, 32, 32), "output_size": 10, "width": 16},
    "lenet": {"input_shape": (1, 12, 12), "output_size": 10},
    "resnet": {"input_shape": (1, 8, 8), "output_size": 10, "depth": 8, "width": 2},
    "inception": {"input_shape": (1, 8, 8), "output_size": 10, "channels": [4, "M", 8]},
    "recurrent": {"input_shape": (3, 5), "output_size": 10, "hidden": 8, "cell": "rnn"},
    "transformer": {"input_shape": (3, 5), "output_size": 10, "features": 16, "layers": 1},
    "phase_dnn": {"input_shape": (1,), "output_size": 1, "hidden": [8, 8]},
}
PLAIN = ["mlp", "deep_linear", "convnet", "vgg", "lenet"]  # blocks one after the other
SPACELESS = ["mlp", "deep_linear", "phase_dnn"]
PAIRS = [
    (name, norm)
    for name in SETTINGS
    for norm, entry in NORMALIZATIONS.items()
    if not ("in space" in entry.needs and name in SPACELESS)
]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- sizes ------------------------------------------------------------------------------------------


def test_parameter_counts_by_hand():
    def conv(a: int, b: int) -> int:
        return a * b * 9 + b

    p1 = conv(1, 16) + conv(16, 16) + conv(16, 32) + conv(32, 32) + conv(32, 64) + conv(64, 64) + 64 * 10 + 10
    assert p1 == 72_442
    assert count(build_model("convnet", input_shape=(1, 8, 8), output_size=10)) == p1
    normalized = build_model("convnet", norm="batch", input_shape=(1, 8, 8), output_size=10)
    assert count(normalized) == p1 + 2 * (16 + 16 + 32 + 32 + 64 + 64)  # gamma and beta of six layers
    assert count(build_model("deep_linear", input_shape=(10,), output_size=10)) == 25 * 100
    assert count(build_model("deep_linear", norm="lp:1", input_shape=(10,), output_size=10)) == 25 * 100 + 24 * 20
    assert count(build_model("mlp", input_shape=(1, 8, 8), output_size=10)) == 64 * 128 + 128 + 128 * 129 + 1290


@pytest.mark.parametrize(
    ("configuration", "convolutional", "layers"),
    # Convolutional parameters with biases: 133, 133, 138 and 144 million of Table 2 less the 123.6 of the
    # classifier there (25088-4096-4096-1000). C is D with three 3x3 kernels less their eight outer ninths.
    [
        ("A", 9_220_480, 8),
        ("B", 9_404_992, 10),
        ("C", 14_714_688 - 8 * (256**2 + 2 * 512**2), 13),
        ("D", 14_714_688, 13),
        ("E", 20_024_384, 16),
    ],
)
def test_vgg_has_the_published_number_of_parameters(configuration, convolutional, layers):
    with torch.device("meta"):
        classifier = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 10))
    assert count(classifier) == 530_442
    published = {"A": 133, "B": 133, "C": 134, "D": 138, "E": 144}[configuration]
    theirs = 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    assert abs((convolutional + theirs) / 1e6 - published) < 1
    model = build_model("vgg", configuration=configuration, input_shape=(3, 32, 32), output_size=10)
    assert count(model) == convolutional + 530_442
    assert sum(name.startswith("conv") for name, _ in model.named_children()) == layers


def test_vgg_a_divided_by_eight_by_hand():
    channels = [3, 8, 16, 32, 32, 64, 64, 64, 64]
    by_hand = sum(a * b * 9 + b for a, b in itertools.pairwise(channels))
    by_hand += 2 * (64 * 64 + 64) + 64 * 10 + 10
    assert count(build_model("vgg", width=8, input_shape=(3, 32, 32), output_size=10)) == by_hand


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_outputs_have_their_shape_and_are_finite(name, norm):
    settings = SETTINGS[name]
    model = build_model(name, norm=norm, **settings)
    x = torch.randn(4, *settings["input_shape"], generator=stream(0, "x"))
    for training in (True, False):
        out = model.train(training)(x)
        assert out.shape == (4, settings["output_size"])
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("size", [(32, 32), (40, 33), (64, 96)])
def test_vgg_takes_larger_images(size):
    model = build_model("vgg", width=32, norm="batch", input_shape=(3, *size), output_size=5)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_convnet_takes_other_sizes_and_channels():
    model = build_model("convnet", input_shape=(3, 9, 13), output_size=4, channels=[4, "M", 6, "M", 8, "M", 8])
    assert model(torch.randn(2, 3, 9, 13)).shape == (2, 4)


# --- what they compute ------------------------------------------------------------------------------


def test_deep_linear_is_a_product_of_matrices():
    model = build_model("deep_linear", input_shape=(10,), output_size=10).double()
    product = torch.eye(10, dtype=torch.float64)
    weights = dict(model.named_parameters())
    assert list(weights) == [f"fc{i}.linear.weight" for i in range(1, 26)]
    for i in range(1, 26):
        product = weights[f"fc{i}.linear.weight"] @ product
    x = torch.randn(6, 10, dtype=torch.float64)
    torch.testing.assert_close(model(x), x @ product.T)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_mlp_is_its_formula_with_the_norm_before_the_activation(activation):
    model = build_model("mlp", norm="batch", activation=activation, **SETTINGS["mlp"]).double()
    w = dict(model.named_parameters())
    x = torch.randn(7, 1, 4, 4, dtype=torch.float64)
    a = x.reshape(7, 16)
    for layer in ("fc1", "fc2"):
        y = a @ w[f"{layer}.linear.weight"].T + w[f"{layer}.linear.bias"]
        y = (y - y.mean(0)) / (y.var(0, correction=0) + 1e-5).sqrt()
        a = getattr(torch, activation)(y)
    torch.testing.assert_close(model(x), a @ w["fc3.linear.weight"].T + w["fc3.linear.bias"])


def test_convnet_is_its_formula():
    model = build_model("convnet", norm="none", **SETTINGS["convnet"]).double()
    w = dict(model.named_parameters())
    x = a = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for layer in range(1, 7):
        a = F.conv2d(a, w[f"conv{layer}.linear.weight"], w[f"conv{layer}.linear.bias"], padding=1).clamp_min(0)
        if layer in (2, 4):
            a = F.max_pool2d(a, 2)
    torch.testing.assert_close(model(x), a.mean((2, 3)) @ w["fc1.linear.weight"].T)  # biases start at 0


# --- pairs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_arms_of_a_seed_share_names_and_weights_bit_for_bit(name, norm):
    settings = {"seed": 3, "init": "he"} | SETTINGS[name]  # selu brings initial weights of its own otherwise
    plain = build_model(name, norm="none", **settings)
    torch.rand(5)  # what was drawn in between is nobody's business
    arm = build_model(name, norm=norm, **settings)
    own = re.compile(r"parametrizations|\.(norm|activation)\.")
    assert [key for key, _ in plain.named_modules()] == [key for key, _ in arm.named_modules() if not own.search(key)]
    # The weight that is trained in place of a parametrized one.
    theirs = {re.sub(r"parametrizations\.weight\.original1?$", "weight", key): p for key, p in arm.named_parameters()}
    for key, p in plain.named_parameters():
        assert torch.equal(p, theirs.pop(key)), key
    assert all(own.search(key) for key in theirs)


@pytest.mark.parametrize("name", ["mlp", "deep_linear", "phase_dnn"])
def test_a_normalization_that_would_act_nowhere_is_refused(name):
    with pytest.raises(UsageError, match=r"'instance' acts nowhere in this network.*use a convolutional"):
        build_model(name, norm="instance", **SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_selu_brings_lecun_weights_unless_others_are_asked_for(name):
    def weights(**options):
        return [p for p in build_model(name, **options, **SETTINGS[name]).parameters() if p.ndim > 1]

    own, lecun = weights(norm="selu"), weights(init="lecun")
    asked, he = weights(norm="selu", init="he"), weights(init="he")
    assert all(torch.equal(p, q) for p, q in zip(own + asked, lecun + he, strict=True))


@pytest.mark.parametrize("name", PLAIN)
def test_every_hidden_block_is_normalized_and_the_output_is_not(name):
    model = build_model(name, norm="batch", **SETTINGS[name])
    blocks = {key: child for key, child in model.named_children() if key.startswith(("conv", "fc"))}
    *hidden, last = blocks.values()
    for child in hidden:
        assert [key for key, _ in child.named_children()] == ["linear", "norm", "activation"]
        assert isinstance(child.norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert [key for key, _ in last.named_children()] == ["linear"]
    assert len(hidden) == {"mlp": 2, "deep_linear": 24, "convnet": 6, "vgg": 10, "lenet": 4}[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_seeds_differ_and_repeat(name):
    first, again, other = (build_model(name, seed=seed, **SETTINGS[name]) for seed in (0, 0, 1))
    for (key, p), q, r in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        if key.endswith("weight"):
            assert not torch.equal(p, r)


def test_a_weight_depends_on_its_name_and_not_on_the_layers_beside_it():
    short = build_model("mlp", input_shape=(16,), output_size=3, hidden=[8])
    long = build_model("mlp", input_shape=(16,), output_size=3, hidden=[8, 8, 8])
    assert torch.equal(short.fc1.linear.weight, long.fc1.linear.weight)
    assert not torch.equal(long.fc2.linear.weight, long.fc3.linear.weight)


@pytest.mark.parametrize("norm", ["none", "noisy-batch"])
@pytest.mark.parametrize("name", SETTINGS)
def test_building_leaves_random_states_alone(name, norm):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    build_model(name, norm=norm, **SETTINGS[name])
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


# --- initial weights --------------------------------------------------------------------------------


@pytest.mark.parametrize(("init", "variance"), [("he", 2 / 400), ("lecun", 1 / 400), ("glorot", 2 / (400 + 100))])
def test_inits_have_their_variance_and_zero_biases(init, variance):
    model = build_model("mlp", input_shape=(400,), output_size=2, hidden=[100], init=init)
    w = model.fc1.linear.weight.detach().double()
    kurtosis = 1.8 if init == "glorot" else 3.0  # uniform, Gaussian
    standard_error = variance * math.sqrt((kurtosis - 1) / w.numel())
    assert abs(w.var().item() - variance) < 4 * standard_error
    assert abs(w.mean().item()) < 4 * math.sqrt(variance / w.numel())
    if init == "glorot":
        assert w.abs().max().item() <= math.sqrt(6 / 500) < 1.001 * w.abs().max().item()
    assert all(not p.any() for key, p in model.named_parameters() if key.endswith("bias"))


def test_he_counts_the_kernel_into_the_fan_in():
    w = build_model("vgg", width=2, **{k: v for k, v in SETTINGS["vgg"].items() if k != "width"}).conv8.linear.weight
    assert w.shape == (256, 256, 3, 3)
    assert w.double().std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)


def test_defaults_are_he_and_for_the_deep_linear_network_glorot():
    for name, init in (("mlp", "he"), ("convnet", "he"), ("vgg", "he"), ("deep_linear", "glorot")):
        default, named = build_model(name, **SETTINGS[name]), build_model(name, init=init, **SETTINGS[name])
        assert all(torch.equal(p, q) for p, q in zip(default.parameters(), named.parameters(), strict=True))


# --- the user's own ---------------------------------------------------------------------------------

USER_CODE = """
import random
import re
import numpy as np
import torch
from torch import nn

def plain(input_shape, output_size):
    return nn.Linear(input_shape[0], output_size)

def with_norm(norm, hidden=4):
    model = nn.Sequential(nn.Linear(3, hidden), nn.Identity() if norm == "none" else nn.LayerNorm(hidden))
    model.asked = norm
    return model

def everything(*, norm, seed, input_shape, output_size, depth):
    model = nn.Linear(1, 1)
    model.given = (norm, seed, input_shape, output_size, depth)
    return model

def greedy(**given):
    model = nn.Linear(1, 1)
    model.given = given
    return model

def draws():
    model = nn.Linear(1, 1)
    model.drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
    return model

class Own(nn.Module):
    def __init__(self, output_size):
        super().__init__()
        self.layer = nn.Linear(2, output_size)

def no_module():
    return 3

not_callable = 7
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own_models.py"
    path.write_text(USER_CODE)

    def build(function: str, **settings):
        return build_model(f"{path}:{function}", **({"input_shape": (3,), "output_size": 2} | settings))

    return build


def test_own_models_get_what_their_signature_accepts(own):
    assert own("plain").weight.shape == (2, 3)
    assert own("with_norm", norm="mine", hidden=5).asked == "mine"
    assert own("everything", norm="batch", seed=4, depth=9).given == ("batch", 4, (3,), 2, 9)
    expected = {"norm": "none", "seed": 0, "input_shape": (3,), "output_size": 2, "depth": 1}
    assert own("greedy", depth=1).given == expected
    assert own("Own").layer.out_features == 2


def test_own_models_draw_from_the_seed_and_leave_random_states_alone(own):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = own("draws", seed=1)
    torch.rand(3)
    again, other = own("draws", seed=1), own("draws", seed=2)
    assert first.drawn == again.drawn
    assert torch.equal(first.weight, again.weight)
    assert all(a != b for a, b in zip(first.drawn, other.drawn, strict=True))
    torch.set_rng_state(before[2])
    own("draws")
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_own_models_that_cant_be_used_are_refused(own):
    with pytest.raises(UsageError, match="can't be normalized by 'batch'"):
        own("plain", norm="batch")  # a linear map alone: its output layer
    with pytest.raises(UsageError, match=r"no option 'hiden'; did you mean 'hidden'\?"):
        own("with_norm", hiden=4)
    with pytest.raises(UsageError, match="no option 'depth'; it takes none"):
        own("plain", depth=4)
    with pytest.raises(UsageError, match="needs the option 'depth'"):
        own("everything")
    with pytest.raises(UsageError, match=r"returned a int, not an nn\.Module"):
        own("no_module")
    with pytest.raises(UsageError, match="is a int, not a function"):
        own("not_callable")


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vg", {}, r"no model 'vg'; did you mean 'vgg'\?"),
        (
            "mlp",
            {"hiden": [3]},
            r"no option 'hiden'; did you mean 'hidden'\? Known: hidden, activation, placement, init",
        ),
        ("mlp", {"norm": "bacth"}, "did you mean 'batch'"),
        ("mlp", {"activation": "rleu"}, "did you mean 'relu'"),
        ("mlp", {"init": "hee"}, "did you mean 'he'"),
        ("mlp", {"hidden": [0]}, "positive whole numbers, got 0"),
        ("mlp", {"hidden": [2.5]}, r"positive whole numbers, got 2\.5"),
        ("mlp", {"hidden": 64}, "hidden is a list of widths"),
        ("deep_linear", {"layers": 0}, "at least 1 layer, got layers = 0"),
        ("deep_linear", {"hidden": -1}, "positive whole numbers, got -1"),
        ("convnet", {"channels": [4, "P"]}, "got 'P'"),
        ("convnet", {"channels": "16M"}, "channels is a list"),
        ("convnet", {"input_shape": (64,)}, r"takes images.*shape is \(64,\)"),
        ("convnet", {"input_shape": (1, 3, 8)}, "4x4 or more, got 3x8: its 2 pools"),
        ("vgg", {"input_shape": (1, 8, 8)}, "32x32 or more, got 8x8: its five pools.*nothing; use convnet"),
        ("vgg", {"width": 3}, "1, 2, 4, ... 64, got 3"),
        ("vgg", {"width": 0}, "got 0"),
        ("vgg", {"configuration": "F"}, "no VGG 'F'; known: A, B, C, D, E"),
        ("convnet", {"channels": [[4, 2]]}, r"an odd kernel.*got \[4, 2\]"),
        ("convnet", {"placement": "befor"}, "did you mean 'before'"),
        ("lenet", {"input_shape": (1, 11, 12)}, "12x12 or more, got 11x12"),
        ("resnet", {"depth": 18}, "6n \\+ 2.*got 18"),
        ("resnet", {"width": 3}, "1, 2, 4, 8 or 16, got 3"),
        ("resnet", {"option": "C"}, "no shortcut option 'C'; known: A, B"),
        ("inception", {"channels": ["M"]}, r"at least one, and 'M' \(a pool\), got \['M'\]"),
        ("recurrent", {"cell": "lsmt"}, "did you mean 'lstm'"),
        ("recurrent", {"placement": "inputs"}, "did you mean 'input'"),
        ("recurrent", {"hidden": 0}, "hidden has to be a positive whole number, got 0"),
        ("recurrent", {"input_shape": (1, 8, 8)}, r"sequences, .*shape is \(1, 8, 8\); digit-rows"),
        ("transformer", {"placement": "before"}, "no placement 'before'; known: pre, post"),
        ("transformer", {"heads": 3}, "16 is no multiple of 3"),
        ("transformer", {"task": "langauge"}, "did you mean 'language'"),
        ("transformer", {"input_shape": (4,), "vocabulary": 0}, "number of different tokens, got 0"),
    ],
)
def test_wrong_settings_are_refused_with_the_way_out(name, settings, message):
    with pytest.raises(UsageError, match=message):
        build_model(name, **(SETTINGS.get(name, SETTINGS["mlp"]) | settings))


def test_every_model_is_tried_here():
    assert SETTINGS.keys() == MODELS.keys()
