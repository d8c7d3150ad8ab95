"""Every probe on networks with every normalization: finite, and its layers have the same names in every arm."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

import landscape
from landscape.layers import is_weight, own_parameters, public_name
from landscape.models import build_model
from landscape.normalization import NORMALIZATIONS
from landscape.sites import SITES

NETWORKS = {
    "mlp": {"input_shape": (12,), "hidden": (8, 6)},
    "convnet": {"input_shape": (1, 6, 6), "channels": (4, "M", 8)},
}
CASES = [
    (name, norm)
    for name in NETWORKS
    for norm, e in NORMALIZATIONS.items()
    if name != "mlp" or "in space" not in e.needs
]


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(7)


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def built(name: str, norm: str) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model = build_model(name, norm=norm, output_size=3, **NETWORKS[name]).double()
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if p.ndim == 1:  # off the kink of a ReLU whose inputs are all dead
            p.data += 0.1 * torch.randn(p.shape, dtype=p.dtype, generator=generator)
    x = torch.randn(6, *NETWORKS[name]["input_shape"], dtype=torch.float64, generator=generator)
    return model, (x, torch.randint(3, (6,), generator=generator))


def finite(result) -> bool:
    tensors = [value for value in vars(result).values() if isinstance(value, Tensor)]
    return bool(tensors) and all(torch.isfinite(value).all() for value in tensors)


LAYERS = {
    "mlp": ("fc1.linear", "fc2.linear", "fc3.linear"),
    "convnet": ("conv1.linear", "conv2.linear", "fc1.linear"),
}
UNITS = {"mlp": (8, 6), "convnet": (4, 8)}


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_layers_are_the_same_in_every_arm_and_measured(name, norm):
    model, batch = built(name, norm)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    shift = landscape.covariate_shift(model, loss_fn, batch, optimizer)
    assert shift.layers == LAYERS[name]
    assert shift.ancestry == "graph"
    assert shift.before == ((), LAYERS[name][:1], LAYERS[name][:2])
    assert shift.distance[0] == 0
    assert finite(shift)
    assert (shift.gradient_norm > 0).all()
    assert (shift.moved_distance[1:] > 0).all()

    loss_fn(model, batch).backward()
    updates = landscape.layer_updates(model, optimizer)
    assert updates.layers == tuple(f"{layer}.weight" for layer in LAYERS[name])
    assert finite(updates)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_sites_are_the_same_in_every_arm_and_measured(name, norm):
    model, batch = built(name, norm)
    sites = landscape.activation_statistics(model, loss_fn, batch, sites=SITES).sites
    blocks = [layer.removesuffix(".linear") for layer in LAYERS[name][:2]]
    for site in ("nonlinearity input", "nonlinearity output"):
        found = [(s.layer, len(s.mean)) for s in sites if s.site == site]
        assert found == [(f"{b}.activation", units) for b, units in zip(blocks, UNITS[name], strict=True)]
    assert [s.layer for s in sites if s.site == "output"] == list(LAYERS[name])
    for site in sites:
        numbers = dataclasses.asdict(site)
        assert all(torch.isfinite(v).all() for k, v in numbers.items() if isinstance(v, Tensor) and k != "saturated")
        elementwise = site.site == "nonlinearity input" and norm != "evonorm-s0"
        assert torch.isnan(site.saturated) != elementwise
        units = {"conv1": 4, "conv2": 8, "fc1": 8, "fc2": 6}
        if site.site in ("pre-norm", "post-norm"):
            assert len(site.mean) == units[site.layer.removesuffix(".norm")]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_curvature_is_the_slope_of_the_gradient_on_the_path(name, norm):
    """Unless something is held constant in backward: then it is that of another function."""
    model, batch = built(name, norm)
    torch.manual_seed(5)
    path = landscape.gradient_path(model, loss_fn, batch, [0.1])
    torch.manual_seed(5)
    curvature = float(landscape.gradient_curvature(model, loss_fn, batch))
    assert finite(path)
    assert math.isfinite(curvature)
    if not NORMALIZATIONS[norm].held:
        parameters = list(model.parameters())
        start = [p.detach().clone() for p in parameters]

        def gradient(step: float, along: list[Tensor]) -> list[Tensor]:
            for p, w, v in zip(parameters, start, along, strict=True):
                p.data.copy_(w + step * v)
            torch.manual_seed(5)  # the same noise
            return torch.autograd.grad(loss_fn(model, batch), parameters)

        g = gradient(0, start)
        square = sum(float(v.square().sum()) for v in g)
        step = 1e-6 / math.sqrt(square)
        pairs = zip(gradient(step, g), gradient(-step, g), g, strict=True)
        slope = sum(float(((a - b) * v).sum()) for a, b, v in pairs) / (2 * step)
        assert curvature == pytest.approx(slope / square, rel=1e-5, abs=1e-6)
        assert float(path.gradient_norm) == pytest.approx(math.sqrt(square), rel=1e-10)


@pytest.mark.parametrize("norm", ["weight", "norm-propagation"])
def test_the_layers_weight_is_the_one_that_is_trained_and_not_its_gain(norm):
    model, batch = built("mlp", norm)
    shift = landscape.covariate_shift(model, loss_fn, batch, torch.optim.SGD(model.parameters(), 0.05))
    directions = [layer.linear.parametrizations.weight.original1 for layer in (model.fc1, model.fc2)]
    gradients = torch.autograd.grad(loss_fn(model, batch), directions)
    assert shift.gradient_norm[:2].tolist() == pytest.approx([float(g.norm()) for g in gradients], rel=1e-10)


@pytest.mark.parametrize("inputs", [1, 5])
def test_weights_and_gains_are_told_apart_by_what_they_are_not_by_their_shape(inputs):
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(inputs, 4))
    told = {name: is_weight(layer, name, p) for name, p in own_parameters(layer, "fc")}
    first = "parametrizations.weight.original"
    assert told == {"bias": False, f"{first}0": False, f"{first}1": True}
    assert public_name(f"fc.{first}1") == "fc.weight"
    across = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4), dim=1)
    assert [is_weight(across, name, p) for name, p in own_parameters(across, "fc") if p.ndim > 1] == [False, True]
    orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    assert [is_weight(orthogonal, name, p) for name, p in own_parameters(orthogonal, "fc")] == [False, True]
