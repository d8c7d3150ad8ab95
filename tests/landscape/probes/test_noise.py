"""Gradient noise: identities by hand, unbiasedness on a Gaussian of known covariance, in standard errors."""

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import UsageError
from landscape.objective import Batches
from landscape.probes import PROBES


class Linear(nn.Module):
    """The gradient of the mean of x_a . a + x_b . b is the mean of the rows: noise made to measure."""

    def __init__(self, a, b):
        super().__init__()
        self.first, self.second = nn.Linear(a, 1, bias=False).double(), nn.Linear(b, 1, bias=False).double()
        self.a = a

    def forward(self, x):
        return self.first(x[:, : self.a]) + self.second(x[:, self.a :])


def _mean(model, x):
    return model(x).mean()


def test_two_batch_sizes_give_mccandlish_equations():
    """Appendix A.1 of the paper: ||G||^2 and tr(Sigma) from the norms of small and big batches."""
    x = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    noise = landscape.gradient_noise(Linear(3, 2), _mean, Batches(list(x)))
    small, big = x.mean(1).square().sum(1).mean(), x.mean((0, 1)).square().sum()
    assert float(noise.squared_norm[0]) == pytest.approx(float((24 * big - 4 * small) / (24 - 4)), rel=1e-12)
    assert float(noise.variance[0]) == pytest.approx(float((small - big) / (1 / 4 - 1 / 24)), rel=1e-12)
    assert float(noise.noise_scale[0]) == float(noise.variance[0] / noise.squared_norm[0])


def test_batches_of_one_example_give_the_sample_covariance_by_layer():
    x = torch.randn(9, 1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3
    noise = landscape.gradient_noise(Linear(3, 2), _mean, Batches(list(x)))
    assert noise.layers == ("", "first", "second")
    rows = x[:, 0]
    for layer, columns in zip(range(3), (slice(0, 5), slice(0, 3), slice(3, 5)), strict=True):
        part = rows[:, columns]
        assert float(noise.variance[layer]) == pytest.approx(float(torch.cov(part.T).trace()), rel=1e-12)
        assert float(noise.gradient_norm[layer]) == pytest.approx(float(part.mean(0).norm()), rel=1e-12)
    expected = nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2)
    torch.testing.assert_close(noise.cosine, expected, rtol=1e-12, atol=1e-12)
    off = expected[~torch.eye(9, dtype=torch.bool)]
    assert float(noise.mean_cosine) == pytest.approx(float(off.mean()), rel=1e-12)


def test_estimates_are_unbiased_for_unequal_batches_and_their_errors_are_true():
    """Sigma = diag(s^2) and G are known; 300 replicates of mini-batches of 2, 3, 5, 6, 8 and 12 examples."""
    sizes, replicates = [2, 3, 5, 6, 8, 12], 300
    scale = torch.tensor([3.0, 1.0, 2.0, 0.5, 1.5], dtype=torch.float64)
    G = torch.tensor([0.5, -1.0, 0.0, 0.5, 0.3], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    model = Linear(3, 2)
    found = []
    for _ in range(replicates):
        x = G + scale * torch.randn(sum(sizes), 5, generator=generator, dtype=torch.float64)
        noise = landscape.gradient_noise(model, _mean, Batches(list(x.split(sizes))))
        found.append([*noise.squared_norm, *noise.variance, *noise.squared_norm_error, *noise.variance_error])
    table = torch.tensor(found, dtype=torch.float64)
    truth = [G.square(), G[:3].square(), G[3:].square(), scale.square(), scale[:3].square(), scale[3:].square()]
    for k, exact in enumerate(truth):
        estimates, errors = table[:, k], table[:, 6 + k]
        standard_error = estimates.std() / replicates**0.5
        assert abs(float(estimates.mean() - exact.sum())) < 4 * float(standard_error)
        # The jackknife's squared error against the spread that there is, in its own standard errors (and the
        # spread's, 10 % of it); it is known to lie high rather than low.
        claimed = errors.square()
        spread = float(estimates.var())
        assert float(claimed.mean() + 4 * claimed.std() / replicates**0.5) > 0.6 * spread
        assert float(claimed.mean() - 4 * claimed.std() / replicates**0.5) < 1.8 * spread


def test_where_noise_hides_the_gradient_the_scale_is_infinite():
    x = torch.tensor([[[1.0, 0, 0, 0, 0]], [[-1.0, 0, 0, 0, 0]]], dtype=torch.float64)
    noise = landscape.gradient_noise(Linear(3, 2), _mean, Batches(list(x)))
    assert float(noise.squared_norm[0]) == -1.0  # 0 - 2 / 2
    assert float(noise.noise_scale[0]) == float("inf")
    assert bool(noise.squared_norm_error.isnan().all())  # two mini-batches have no spread of spreads


def test_without_noise_there_is_none():
    x = torch.ones(3, 2, 5, dtype=torch.float64)
    noise = landscape.gradient_noise(Linear(3, 2), _mean, Batches(list(x)))
    assert noise.variance.tolist() == pytest.approx([0.0] * 3, abs=1e-12)
    assert noise.squared_norm.tolist() == pytest.approx([5.0, 3.0, 2.0])
    assert noise.mean_cosine_error.tolist() == pytest.approx(0.0, abs=1e-12)


def test_one_mini_batch_has_no_variance():
    model = Linear(3, 2)
    with pytest.raises(UsageError, match="two mini-batches or more"):
        landscape.gradient_noise(model, _mean, torch.ones(4, 5).double())
    probe = PROBES["gradient_noise"](on="same")
    with pytest.raises(UsageError, match=r"make 'same' a Batches"):
        list(probe.measure(landscape.Moment(model, _mean, torch.ones(4, 5).double(), 0)))
