"""Networks for images against their papers: sizes from the layer tables, and what they compute, written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.models import build_model


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def batch_norm(y: torch.Tensor) -> torch.Tensor:
    dims = [d for d in range(y.ndim) if d != 1]
    return (y - y.mean(dims, keepdim=True)) / (y.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()


# --- lenet ------------------------------------------------------------------------------------------


def test_lenet_is_the_papers_but_for_three_stated_differences():
    # LeCun et al. 1998, section II.B: C1, S2, C3, S4, C5, F6.
    paper = 156 + 12 + 1516 + 32 + 48_120 + 10_164
    assert paper == 60_000
    by_hand = paper - (12 + 32) + (16 * (6 * 25 + 1) - 1516) + 10 * 85
    for shape in ((1, 28, 28), (1, 32, 32)):
        assert count(build_model("lenet", input_shape=shape, output_size=10)) == by_hand == 61_706


def test_lenet_is_its_formula():
    model = build_model("lenet", input_shape=(1, 28, 28), output_size=10).double()
    w = dict(model.named_parameters())
    x = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    a = F.avg_pool2d(F.conv2d(F.pad(x, (2, 2, 2, 2)), w["conv1.linear.weight"]).tanh(), 2)
    a = F.avg_pool2d(F.conv2d(a, w["conv2.linear.weight"]).tanh(), 2).flatten(1)
    assert a.shape == (3, 400)
    for layer in ("fc1", "fc2"):
        a = (a @ w[f"{layer}.linear.weight"].T).tanh()
    torch.testing.assert_close(model(x), a @ w["fc3.linear.weight"].T)


# --- resnet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnet_has_the_published_number_of_parameters(depth, published):
    n = (depth - 2) // 6
    convolutions = 9 * (3 * 16 + 2 * n * 16 * 16)
    convolutions += 9 * (16 * 32 + (2 * n - 1) * 32 * 32) + 9 * (32 * 64 + (2 * n - 1) * 64 * 64)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    by_hand = convolutions + norms + 64 * 10 + 10
    assert {20: 269_722, 56: 853_018}.get(depth, by_hand) == by_hand
    assert round(by_hand / 1e6, 2 if depth < 110 else 1) == published  # table 6 of arXiv 1512.03385
    model = build_model("resnet", depth=depth, norm="batch", input_shape=(3, 32, 32), output_size=10)
    assert count(model) == by_hand
    with_layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(with_layers) == depth


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("option", ["A", "B"])
def test_resnet_is_its_formula(option, shortcut, placement):
    settings = {"depth": 8, "width": 4, "norm": "batch", "input_shape": (3, 8, 8), "output_size": 5}
    model = build_model("resnet", option=option, shortcut=shortcut, placement=placement, **settings).double()
    w = dict(model.named_parameters())

    def ending(y, past=None):
        if placement == "before":
            y = batch_norm(y)
        y = (y if past is None else y + past).clamp_min(0)
        return y if placement == "before" else batch_norm(y)

    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    a = ending(F.conv2d(x, w["conv1.linear.weight"], padding=1))
    for stage in (1, 2, 3):
        at, stride = f"stage{stage}_unit1", 1 if stage == 1 else 2
        y = ending(F.conv2d(a, w[f"{at}.conv1.linear.weight"], stride=stride, padding=1))
        y = F.conv2d(y, w[f"{at}.conv2.linear.weight"], padding=1)
        past = a if shortcut else None
        if shortcut and stage > 1 and option == "A":
            past = torch.cat([a[:, :, ::2, ::2], torch.zeros_like(a[:, :, ::2, ::2])], 1)
        if shortcut and stage > 1 and option == "B":
            past = batch_norm(F.conv2d(a, w[f"{at}.shortcut.linear.weight"], stride=2))
        a = ending(y, past)
    torch.testing.assert_close(model(x), a.mean((2, 3)) @ w["fc1.linear.weight"].T)


def test_plain_and_residual_network_have_the_same_weights():
    settings = {"depth": 14, "width": 8, "seed": 2, "input_shape": (1, 8, 8), "output_size": 3}
    residual, plain = (build_model("resnet", shortcut=s, **settings).state_dict() for s in (True, False))
    assert residual.keys() == plain.keys()
    assert all(torch.equal(residual[key], plain[key]) for key in plain)


# --- inception --------------------------------------------------------------------------------------


def test_inception_is_its_formula():
    settings = {"input_shape": (1, 6, 6), "output_size": 4, "channels": [2, "M", 3], "activation": "sigmoid"}
    model = build_model("inception", norm="batch", **settings).double()
    w = dict(model.named_parameters())

    def conv(a, name):
        weight = w[f"{name}.linear.weight"]
        return batch_norm(F.conv2d(a, weight, padding=weight.shape[2] // 2)).sigmoid()

    x = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    a = conv(x, "conv1")
    assert a.shape == (3, 8, 6, 6)
    for module in ("mixed1", "mixed2"):
        one = conv(a, f"{module}.branch1.conv1")
        two = conv(conv(a, f"{module}.branch2.conv1"), f"{module}.branch2.conv2")
        three = conv(conv(a, f"{module}.branch3.conv1"), f"{module}.branch3.conv2")
        three = conv(three, f"{module}.branch3.conv3")
        four = conv(F.avg_pool2d(a, 3, 1, 1), f"{module}.branch4.conv1")
        a = torch.cat([one, two, three, four], 1)
        if module == "mixed1":
            a = F.max_pool2d(a, 2)
    assert a.shape == (3, 12, 3, 3)
    torch.testing.assert_close(model(x), a.mean((2, 3)) @ w["fc1.linear.weight"].T)


def test_inceptions_parameters_by_hand():
    def module(inputs, c):
        one, three = c * inputs + c, 9 * c * c + c
        return 4 * one + 3 * three

    by_hand = 9 * 64 + 64 + module(64, 16) + module(64, 16) + module(64, 32) + module(128, 32) + 128 * 10 + 10
    assert count(build_model("inception", input_shape=(1, 8, 8), output_size=10)) == by_hand
