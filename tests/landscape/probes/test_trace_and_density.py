"""Trace and spectral density of losses whose Hessian is known."""

import pytest
import torch
from curvature_cases import batch_of, classify, dense_hessian, seeded_net, softmax_hessian
from torch import nn

import landscape
from landscape.probes import Moment, build_probe


@pytest.fixture(scope="module")
def case():
    net = seeded_net(lambda: nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)))
    batch = batch_of(60, 6, 3)
    return net, batch, dense_hessian(net, classify, batch)


def test_trace_of_softmax_regression_by_hand_and_exactly():
    x, y = batch_of(50, 6, 4)
    net = seeded_net(lambda: nn.Linear(6, 4, bias=False))
    found = landscape.hessian_trace(net, classify, (x, y))
    assert found.method == "exact"
    assert found.value == pytest.approx(float(softmax_hessian(net.weight.detach(), x).trace()), rel=1e-10)
    assert found.frame().products.tolist() == [24]


@pytest.mark.parametrize("layer", [None, "0", "2"])
def test_traces_of_blocks_within_their_standard_errors(case, layer):
    net, batch, H = case
    block = {None: H, "0": H[:84, :84], "2": H[84:, 84:]}[layer]
    found = [
        landscape.hessian_trace(net, classify, batch, products=20, layers=layer and [layer], seed=seed)
        for seed in range(20)
    ]
    values = torch.tensor([estimate.value for estimate in found], dtype=torch.float64)
    assert abs(float(values.mean() - block.trace())) < 4 * float(values.std()) / 20**0.5
    stated = torch.tensor([estimate.standard_error for estimate in found]).square().mean().sqrt()
    assert 0.5 < float(stated) / float(values.std()) < 2.0
    assert {estimate.numel for estimate in found} == {len(block)}


def test_trace_over_unequal_batches(case):
    net, (x, y), H = case
    parts = [(x[:50], y[:50]), (x[50:], y[50:])]
    assert landscape.hessian_trace(net, classify, parts, products=200).value == pytest.approx(float(H.trace()))


def test_without_memory_for_a_subspace_hutchinson_is_taken(case):
    net, batch, H = case
    found = landscape.hessian_trace(net, classify, batch, products=20, memory_limit=8 * len(H) * 10)
    assert found.method == "hutchinson"
    assert abs(found.value - float(H.trace())) < 5 * found.standard_error


def test_density_of_a_known_spectrum(case):
    net, batch, H = case
    found = landscape.spectral_density(net, classify, batch, draws=30, steps=20)
    true = torch.linalg.eigvalsh(H)
    assert float(found.nodes.max()) == pytest.approx(float(true.max()), rel=1e-3)
    for degree in (1, 2):
        each = (found.weights * found.nodes**degree).sum(dim=1)
        assert abs(float(each.mean() - (true**degree).mean())) < 4 * float(each.std()) / 30**0.5
    smooth = torch.exp(-0.5 * ((found.grid[:, None] - true) / found.width).square()).mean(dim=1)
    smooth /= found.width * (2 * torch.pi) ** 0.5
    # A band of 95 % holds the truth at most points; away from the peak at zero, where 20 nodes resolve the spectrum.
    inside = (found.lower <= smooth + 1e-9) & (smooth <= found.upper + 1e-9)
    assert float(inside.double().mean()) > 0.7
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1.0, rel=1e-3)
    assert bool((found.lower >= 0).all() and (found.lower <= found.density).all())
    share = float((true < -1e-6 * true.max()).double().mean())
    assert share > 0.05
    assert found.negative_share == pytest.approx(share, abs=0.1)
    assert list(found.frame().columns) == ["grid", "density", "lower", "upper"]


def test_density_repeats_and_one_draw_has_no_band(case):
    net, batch, _ = case
    first, again = (landscape.spectral_density(net, classify, batch, draws=2, steps=8, seed=3) for _ in range(2))
    assert torch.equal(first.nodes, again.nodes)
    assert torch.equal(first.density, again.density)
    alone = landscape.spectral_density(net, classify, batch, draws=1, steps=8)
    assert bool(alone.upper.isnan().all())
    grid = torch.linspace(0, 1, 7)
    asked = landscape.spectral_density(net, classify, batch, draws=1, steps=8, grid=grid, width=0.1)
    assert asked.density.shape == (7,)
    assert asked.width == 0.1


def test_rows_of_the_probes(case):
    net, batch, H = case
    moment = Moment(net, classify, batch, 0)
    for name in ("hessian_eigenpairs", "hessian_trace", "spectral_density"):
        assert {row.dtype for row in build_probe(name).measure(moment)} == {"float64"}
    rows = {(row.quantity, row.layer): row.value for row in build_probe("hessian_trace", products=200).measure(moment)}
    assert rows["trace", ""] == pytest.approx(float(H.trace()), rel=1e-9)
    assert rows["mean_eigenvalue", ""] == pytest.approx(float(H.trace()) / len(H), rel=1e-9)
    each = {row.layer for row in build_probe("hessian_trace", products=4, layers=["0", "2"]).measure(moment)}
    assert each == {"0", "2"}
    rows = {row.quantity: row.value for row in build_probe("spectral_density", draws=2, steps=5).measure(moment)}
    assert rows["nodes"].shape == rows["weights"].shape == (2, 5)
    assert rows["products"] == 10.0
