"""Activation statistics and shifts against numpy, scipy and known maps."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn

import landscape
from landscape.errors import ProbeError, UsageError


def _loss(model, x):
    return model(x).mean()


def _net(weight, bias):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(weight)
        net[0].bias.copy_(bias)
    return net


X = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


def test_moments_and_percentiles_against_numpy():
    net = _net(torch.eye(2), torch.zeros(2))
    (site,) = landscape.activation_statistics(net, _loss, X).sites
    values = X.numpy()
    assert (site.layer, site.site) == ("1", "nonlinearity input")
    np.testing.assert_allclose(site.mean, values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(site.std, values.std(0), rtol=1e-5)
    for row, q in zip(site.percentiles, (15, 50, 85), strict=True):
        np.testing.assert_allclose(row, np.percentile(values, q, axis=0, method="higher"), atol=0.05)
    counts, edges = np.histogram(values, bins=48, density=True)
    assert float(site.low) == pytest.approx(edges[0])
    assert float(site.high) == pytest.approx(edges[-1])
    np.testing.assert_allclose(site.histogram, counts, atol=1.5 / (400 * (edges[1] - edges[0])))
    assert float(site.saturated) == pytest.approx((values <= 0).mean(), abs=1e-6)
    covariance = np.cov(values.T, bias=True)
    assert float(site.effective_rank) == pytest.approx(
        np.trace(covariance) ** 2 / np.square(covariance).sum(), rel=1e-4
    )


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.7), (2.0, 0.0), (0.5, -3.0)])
def test_shift_of_an_affine_map_is_the_wasserstein_distance_over_the_earlier_std(scale, offset):
    before = landscape.activation_statistics(_net(torch.eye(2), torch.zeros(2)), _loss, X)
    after = landscape.activation_statistics(_net(scale * torch.eye(2), torch.full((2,), offset)), _loss, X)
    shift = landscape.activation_shift(before, after)
    units = X.numpy().T
    exact = [wasserstein_distance(u, scale * u + offset) for u in units]
    assert float(shift.raw) == pytest.approx(np.mean(exact), rel=1e-5)
    relative = np.mean([w / u.std() for w, u in zip(exact, units, strict=True)])
    assert float(shift.distance) == pytest.approx(relative, rel=1e-5)
    moved = np.mean([abs((scale - 1) * u.mean() + offset) / u.std() for u in units])
    assert float(shift.mean_shift) == pytest.approx(moved, rel=1e-4)
    assert float(shift.std_shift) == pytest.approx(abs(scale - 1), rel=1e-4, abs=1e-6)


def test_pure_translation_has_a_closed_form():
    before = landscape.activation_statistics(_net(torch.eye(2), torch.zeros(2)), _loss, X)
    after = landscape.activation_statistics(_net(torch.eye(2), torch.full((2,), 0.7)), _loss, X)
    expected = float((0.7 / X.std(0, correction=0)).mean())
    assert float(landscape.activation_shift(before, after).distance) == pytest.approx(expected, rel=1e-5)


def test_convolutions_have_channels_as_units_and_many_samples_are_thinned_with_small_error():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU())
    x = torch.randn(64, 1, 16, 16)  # 16,384 samples a unit: more than are kept
    (site,) = landscape.activation_statistics(net, _loss, x).sites
    assert site.mean.shape == (3,)
    exact = net[0](x).detach().movedim(1, 0).reshape(3, -1).sort(dim=1).values
    theirs = exact[:, torch.arange(256) * 64 + 32]
    error = (site.quantiles - theirs).abs()[:, 16:-16].max() / exact.std()
    assert float(error) < 4 * (0.5 / 4096**0.5) / 0.1  # 4 standard errors of a quantile where the density is > 0.1


def test_dead_units_and_dropped_relative_shift():
    bias = torch.tensor([0.0, -100.0])
    (site,) = landscape.activation_statistics(_net(torch.eye(2), bias), _loss, X).sites
    assert float(site.dead) == 0.5
    constant = _net(torch.diag(torch.tensor([1.0, 0.0])), torch.zeros(2))
    before = landscape.activation_statistics(constant, _loss, X)
    after = landscape.activation_statistics(_net(torch.eye(2), torch.zeros(2)), _loss, X)
    shift = landscape.activation_shift(before, after)
    assert int(shift.constant) == 1
    assert float(shift.distance) == pytest.approx(0.0, abs=1e-6)  # the other unit did not move


def test_sites_before_and_after_normalization_and_shared_modules():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), relu, nn.Linear(3, 3), relu)
    sites = ("output", "pre-norm", "post-norm", "nonlinearity input", "nonlinearity output")
    stats = landscape.activation_statistics(net, _loss, X, sites=sites)
    seen = {(s.layer, s.site): s for s in stats.sites}
    assert ("2#2", "nonlinearity input") in seen
    torch.testing.assert_close(seen["0", "output"].mean, seen["1", "pre-norm"].mean)
    torch.testing.assert_close(seen["1", "post-norm"].std, torch.ones(3), rtol=1e-3, atol=0)
    assert float(seen["2", "nonlinearity output"].low) == 0.0
    only = landscape.activation_statistics(net, _loss, X, layers=["3"], sites=("output",))
    assert [s.layer for s in only.sites] == ["3"]


def test_in_place_nonlinearities_are_seen_before_they_overwrite():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    (site,) = landscape.activation_statistics(net, _loss, X).sites
    assert float(site.low) < 0


def test_functional_activations_are_reported_as_not_visible():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return torch.relu(self.linear(x))

    stats = landscape.activation_statistics(Functional(), _loss, X)
    assert stats.sites[0].site == "output"
    assert "not visible" in stats.note


def test_errors():
    net = _net(torch.eye(2), torch.zeros(2))
    with pytest.raises(UsageError, match="site 'inputs' is not known"):
        landscape.activation_statistics(net, _loss, X, sites=("inputs",))
    with pytest.raises(ProbeError, match="nowhere"):
        landscape.activation_statistics(net, _loss, X, layers=["nowhere"])
    a = landscape.activation_statistics(net, _loss, X)
    b = landscape.activation_statistics(net, _loss, X[:10])
    with pytest.raises(UsageError, match="same sites and batch sizes"):
        landscape.activation_shift(a, b)


def test_percentiles_of_the_first_unit_and_how_far_they_moved():
    net = _net(torch.eye(2), torch.zeros(2))
    probe = landscape.probes.build_probe("activations")
    moment = landscape.Moment(net, _loss, X, 0)

    def found(quantity):
        return [m.value for m in measured if m.quantity == quantity]

    measured = list(probe.measure(moment))
    first = np.percentile(X[:, 0].numpy(), (15, 50, 85), method="higher")
    np.testing.assert_allclose(found("first_unit_percentile"), first, atol=0.05)
    assert found("percentile_shift") == []
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([0.5, -1.5]))
    measured = list(probe.measure(moment))
    assert found("percentile_shift") == [pytest.approx(1.0, rel=1e-5)]
