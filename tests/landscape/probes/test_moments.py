"""Moments of activations against numpy and scipy, and the noise of statistics against its law."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import landscape
from landscape.errors import ProbeError, UsageError
from landscape.models import build_model


def _loss(model, x):
    return model(x).square().mean()


X = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _chain():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)).double()


def test_moments_of_each_unit_are_those_of_scipy():
    net = _chain()
    found = landscape.layer_moments(net, _loss, X)
    assert found.layers == ("1", "3")
    y = net[0](X)
    sites = {(0, 0): y, (1, 0): y.tanh(), (0, 1): net[2](y.tanh()), (1, 1): net[2](y.tanh()).relu()}
    for (site, layer), values in sites.items():
        units = values.detach().numpy()
        units = units[:, units.std(0) > 0]
        assert float(found.mean[site, layer]) == pytest.approx(values.detach().numpy().mean(), rel=1e-12)
        assert float(found.variance[site, layer]) == pytest.approx(values.detach().numpy().var(), rel=1e-12)
        assert float(found.skewness[site, layer]) == pytest.approx(stats.skew(units).mean(), rel=1e-10)
        assert float(found.excess_kurtosis[site, layer]) == pytest.approx(stats.kurtosis(units).mean(), rel=1e-10)
        z = (units - units.mean(0)) / units.std(0)
        distance = np.mean([stats.kstest(column, "norm").statistic for column in z.T])
        assert float(found.gaussian_distance[site, layer]) == pytest.approx(distance, rel=1e-10)


def test_several_batches_make_one():
    net = _chain()
    found = landscape.layer_moments(net, _loss, X)
    split = landscape.layer_moments(net, _loss, landscape.Batches([X[:100], X[100:]]))
    np.testing.assert_allclose(split.excess_kurtosis, found.excess_kurtosis, rtol=1e-12)
    assert list(found.frame().columns)[:2] == ["layer", "variant"]
    assert len(found.frame()) == 4


@pytest.mark.parametrize(("norm", "growth"), [("norm-propagation:1", 1 / (1 - 1 / math.pi)), ("norm-propagation", 1.0)])
def test_a_layer_of_normalization_propagation_multiplies_squared_gradients_by_its_constant(norm, growth):
    found = []
    for seed in range(6):
        x = torch.randn(128, 256, generator=torch.Generator().manual_seed(seed))
        net = build_model("mlp", norm=norm, seed=seed, input_shape=(256,), output_size=10, hidden=[256] * 6)
        signals = landscape.layer_signals(net, lambda m, b: m(b).sum(), x)
        found.append(float(signals.growth[1:-1].log().mean().exp()))
    error = np.std(found, ddof=1) / len(found) ** 0.5
    assert abs(np.mean(found) - growth) < 4 * error + 0.01


def test_the_mean_of_m_independent_values_has_noise_one_over_the_root_of_m():
    net = nn.Sequential(nn.BatchNorm1d(400))
    draws = torch.Generator().manual_seed(2)
    for m in (4, 16):
        batches = [torch.randn(m, 400, generator=draws) for _ in range(50)]
        noise = landscape.statistics_noise(net, _loss, landscape.Batches(batches))
        # Var of a variance over 50 batches and 400 units: relative error sqrt(2 / 20000), and 1 / 50 of bias.
        assert float(noise.mean_noise[0]) ** 2 * m == pytest.approx(1.0, abs=0.02 + 5 * math.sqrt(2 / 2e4))
        assert float(noise.std_noise[0]) < float(noise.mean_noise[0])


def test_what_cannot_be_measured_is_refused():
    linear = nn.Sequential(nn.Linear(3, 2)).double()
    with pytest.raises(ProbeError, match="no nonlinearity"):
        landscape.layer_moments(linear, _loss, X)
    with pytest.raises(ProbeError, match="no normalization"):
        landscape.statistics_noise(linear, _loss, landscape.Batches([X[:10], X[10:20]]))
    with pytest.raises(UsageError, match="two or more"):
        landscape.statistics_noise(linear, _loss, X)
