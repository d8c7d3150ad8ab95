"""Traces against matrices whose trace is known: exact, unbiased, and as sure as they say."""

import math
import statistics

import pytest
import torch

from landscape.errors import UsageError
from landscape.krylov import matrix_product, trace

N = 200
DRAWS = 60


def _matrix(spectrum):
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64)).Q
    return (Q * torch.as_tensor(spectrum, dtype=torch.float64)) @ Q.T


OUTLIERS = _matrix([9.0, 6.0, 4.0, 2.0, -1.0, *torch.linspace(-0.05, 0.05, N - 5).tolist()])  # trace 20
FLAT = _matrix(torch.linspace(-1.0, 2.0, N))  # trace 100


@pytest.mark.parametrize(("A", "true"), [(OUTLIERS, 20.0), (FLAT, 100.0)])
@pytest.mark.parametrize("method", ["xtrace", "hutchinson", "auto"])
def test_unbiased_and_as_sure_as_it_says(A, true, method):
    found = [trace(matrix_product(A), N, 30, method=method, seed=seed) for seed in range(DRAWS)]
    errors = [estimate.value - true for estimate in found]
    assert abs(statistics.mean(errors)) < 4 * statistics.stdev(errors) / math.sqrt(DRAWS)
    # The stated error against the real one: mean square of z = 1, with relative sampling error sqrt(2 / 60) = .18;
    # Student's t of 15 samples adds 15 %.
    z = [error / estimate.standard_error for error, estimate in zip(errors, found, strict=True)]
    assert 0.45 < statistics.fmean(x * x for x in z) < 2.2


def _rms(A, true, method):
    errors = [trace(matrix_product(A), N, 30, method=method, seed=seed).value - true for seed in range(DRAWS)]
    return math.sqrt(statistics.fmean(x * x for x in errors))


def test_the_better_method_is_taken():
    assert _rms(OUTLIERS, 20.0, "auto") < _rms(OUTLIERS, 20.0, "hutchinson") / 10
    # On a flat spectrum sqrt(2) is lost by spending half the products on a subspace.
    assert _rms(FLAT, 100.0, "auto") == pytest.approx(_rms(FLAT, 100.0, "hutchinson"))
    assert trace(matrix_product(FLAT), N, 30).method == "hutchinson"
    assert trace(matrix_product(OUTLIERS), N, 30).method == "xtrace"
    assert trace(matrix_product(OUTLIERS), N, 4).method == "hutchinson"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_where_it_can_be(dtype):
    eps = torch.finfo(dtype).eps
    A = OUTLIERS.to(dtype)
    full = trace(matrix_product(A), N, N, dtype=dtype)
    assert full.value == pytest.approx(float(A.double().diagonal().sum()), rel=100 * eps)
    assert (full.standard_error, full.products, full.method) == (0.0, N, "exact")
    u = torch.nn.functional.normalize(torch.arange(1.0, 101.0, dtype=dtype), dim=0)
    one = trace(lambda v: -3.0 * u * (u @ v), 100, 40, dtype=dtype)  # rank one: its range is found at once
    assert one.value == pytest.approx(-3.0, rel=100 * eps)
    assert one.standard_error == 0.0
    assert one.products <= 4
    assert trace(torch.zeros_like, 100, 40, dtype=dtype).value == 0.0


def test_seeds_repeat():
    first, again, other = (trace(matrix_product(OUTLIERS), N, 30, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.value != other.value


def test_a_product_that_is_not_finite_ranks_as_infinite():
    assert trace(lambda v: v * math.nan, 100, 10).value == math.inf


def test_wrong_arguments():
    with pytest.raises(UsageError, match="did you mean 'xtrace'"):
        trace(torch.clone, 10, method="xtrase")
    with pytest.raises(UsageError, match="at least two"):
        trace(torch.clone, 10, 1)


def test_a_product_may_hand_back_what_it_was_handed():
    plain, back = (trace(product, 60, 20, method="xtrace") for product in (lambda v: v.clone(), lambda v: v))
    assert back == plain
