"""Stochastic Lanczos quadrature against moments of chosen spectra."""

import pytest
import torch

from landscape.errors import UsageError
from landscape.krylov import matrix_product, quadrature

N = 200


def test_one_quadrature_has_the_moments_of_its_start():
    """Gauss quadrature with m nodes is exact for polynomials up to degree 2m - 1: v'A^j v, by powers of the matrix."""
    generator = torch.Generator().manual_seed(0)
    B = torch.randn(N, N, generator=generator, dtype=torch.float64) / N**0.5
    A = (B + B.T) / 2
    starts = []

    def product(v):
        starts.append(v.clone())
        return A @ v

    rule = quadrature(product, N, draws=1, steps=5)
    power, v = starts[0].clone(), starts[0]
    for degree in range(10):
        moment = float((rule.weights[0] * rule.nodes[0] ** degree).sum())
        assert moment == pytest.approx(float(v @ power), rel=1e-10, abs=1e-12)
        power = A @ power


def test_moments_of_the_spectrum_within_standard_errors():
    spectrum = torch.linspace(-1.0, 3.0, N, dtype=torch.float64)
    rule = quadrature(matrix_product(torch.diag(spectrum)), N, draws=40, steps=20)
    for degree in (1, 2, 3):
        each = (rule.weights * rule.nodes**degree).sum(dim=1)
        error = float(each.std() / 40**0.5)
        assert abs(float(each.mean() - (spectrum**degree).mean())) < 4 * error


def test_an_invariant_subspace_ends_a_draw():
    spectrum = torch.cat([torch.full((150,), 2.0), torch.full((50,), -1.0)]).double()
    rule = quadrature(matrix_product(torch.diag(spectrum)), N, draws=30, steps=10)
    assert rule.products == 60  # two distinct eigenvalues: two products a draw
    assert rule.nodes.shape == (30, 10)
    torch.testing.assert_close(rule.weights.sum(dim=1), torch.ones(30, dtype=torch.float64))
    share = rule.weights[:, 0]  # of -1
    assert abs(float(share.mean()) - 0.25) < 4 * float(share.std()) / 30**0.5


def test_the_density_integrates_to_one():
    rule = quadrature(matrix_product(torch.diag(torch.linspace(0, 1, N).double())), N, draws=3, steps=10)
    grid = torch.linspace(-1, 2, 2001, dtype=torch.float64)
    integral = torch.trapezoid(rule.density(grid, 0.02), grid, dim=1)
    torch.testing.assert_close(integral, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_wrong_arguments():
    with pytest.raises(UsageError, match="at least one of each"):
        quadrature(torch.clone, 10, draws=0)
