"""The same model, batch and matrix through the tools that people use (installed by benchmarks/peers.txt)."""

import pytest
import torch
from curvature_cases import batch_of, classify, seeded_net
from torch import nn

import landscape
from landscape.products import curvature_operator


@pytest.fixture(scope="module")
def case():
    net = seeded_net(lambda: nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 3)))
    return net, batch_of(40, 6, 3)


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_curvlinops(case, operator):
    curvlinops = pytest.importorskip("curvlinops", reason="make test installs it: benchmarks/peers.txt")
    net, batch = case
    cls = {"hessian": curvlinops.HessianLinearOperator, "ggn": curvlinops.GGNLinearOperator}[operator]
    theirs = cls(net, nn.CrossEntropyLoss(), list(net.parameters()), [batch])
    v = torch.randn(theirs.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with curvature_operator(net, classify, batch, operator=operator) as ours:
        torch.testing.assert_close(ours(v), theirs @ v, rtol=1e-9, atol=1e-12)
    dense = theirs @ torch.eye(len(v), dtype=torch.float64)
    pairs = landscape.hessian_eigenpairs(net, classify, batch, k=3, tol=1e-7, operator=operator)
    assert pairs.eigenvalues.tolist() == pytest.approx(torch.linalg.eigvalsh(dense).flip(0)[:3].tolist(), rel=1e-5)


def test_hessian_eigenthings(case):
    eigenthings = pytest.importorskip("hessian_eigenthings", reason="make test installs it: benchmarks/peers.txt")
    net, batch = case
    theirs = eigenthings.lanczos(
        eigenthings.HessianOperator(net, [batch], classify),
        k=3,
        max_iter=60,
        tol=1e-10,
        reorthogonalize=True,  # else, above 50 steps, it gives three copies of the first eigenvalue
        which="LA",
    )
    pairs = landscape.hessian_eigenpairs(net, classify, batch, k=3, tol=1e-7)
    values = sorted(torch.as_tensor(theirs.eigenvalues).tolist(), reverse=True)
    assert pairs.eigenvalues.tolist() == pytest.approx(values, rel=1e-5)
