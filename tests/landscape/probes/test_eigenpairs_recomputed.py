"""Eigenpairs of networks where no basis fits: against the dense Hessian, in the memory that was stated."""

import math

import pytest
import torch
from curvature_cases import batch_of, classify, dense_hessian, seeded_net
from spectra import Live
from torch import nn

import landscape
from landscape.errors import ProbeError
from landscape.krylov.memory import room
from landscape.probes import Moment, build_probe
from landscape.probes import eigenpairs as probe_module

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case():
    """A trained network, its batch and its Hessian's eigenvalues and eigenvectors, best first."""
    net = seeded_net(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    batch = batch_of(60, 6, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        classify(net, batch).backward()
        optimizer.step()
    net.zero_grad()
    values, vectors = torch.linalg.eigh(dense_hessian(net, classify, batch))
    return net, batch, values.flip(0), vectors.flip(1)


def _single(net, batch):
    twin = seeded_net(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    twin.load_state_dict(net.state_dict())
    return twin.float(), (batch[0].float(), batch[1])


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("precision", ["double", "single"])
def test_eigenpairs_are_those_of_the_dense_hessian(case, k, precision):
    net, batch, values, vectors = case
    if precision == "single":
        net, batch = _single(net, batch)
    found = landscape.hessian_eigenpairs(net, classify, batch, k=k, tol=1e-5, max_basis=0)
    assert found.converged
    assert not found.verified
    assert found.eigenvalues.tolist() == pytest.approx(values[:k].tolist(), rel=2e-5, abs=1e-5 * float(values[0]))
    cosines = (found.eigenvectors.double() @ vectors[:, :k]).abs().diagonal()
    assert float(cosines.min()) > 0.999
    classify(case[0], case[1]).backward()
    g = torch.cat([p.grad.reshape(-1) for p in case[0].parameters()])
    case[0].zero_grad()
    share = float((vectors[:, :k].T @ g).square().sum() / g.square().sum())
    assert found.gradient_energy == pytest.approx(share, rel=0.01)


@pytest.mark.parametrize("which", ["smallest", "magnitude"])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_other_ends_and_the_gauss_newton_matrix_as_with_a_basis(case, which, operator):
    net, batch, _, _ = case
    options = {"k": 2, "tol": 1e-6, "which": which, "operator": operator, "max_products": 400}
    kept = landscape.hessian_eigenpairs(net, classify, batch, **options)
    found = landscape.hessian_eigenpairs(net, classify, batch, **options, max_basis=0)
    if (which, operator) == ("smallest", "ggn"):  # 0, of which there are many, once
        assert float(found.eigenvalues[0]) == pytest.approx(0.0, abs=1e-6)
    else:
        assert found.eigenvalues.tolist() == pytest.approx(kept.eigenvalues.tolist(), rel=1e-5)


def test_what_does_not_fit_is_recomputed_then_left_out_then_refused(case):
    net, batch, values, _ = case
    n, k = len(values), 5
    vector = 8 * n

    def solve(vectors, short=0):
        return landscape.hessian_eigenpairs(net, classify, batch, k=k, memory_limit=vectors * vector - short)

    assert landscape.eigenpairs_memory(net, k=k, max_basis=0) == 9 * vector
    smallest = landscape.eigenpairs_memory(net, k=k, max_basis=9)
    assert smallest == 14 * vector
    for vectors, short, made in ((14, 1, 5), (9, 0, 5), (9, 1, 4), (5, 0, 1), (4, 0, 0)):
        found = solve(vectors, short)
        assert found.eigenvalues.tolist() == pytest.approx(values[:k].tolist(), rel=1e-3)
        assert found.eigenvectors.shape == (made, n)
        assert math.isnan(found.gradient_energy) == (made < k)
        assert len(found.frame()) == k
    with pytest.raises(ProbeError, match=f"4 vectors of {n} numbers need"):
        solve(4, 1)


@pytest.mark.parametrize(("k", "max_basis"), [(3, None), (3, 7), (3, 0), (8, 0)])
def test_the_flat_vectors_alive_are_those_that_were_stated(k, max_basis, monkeypatch):
    monkeypatch.setattr("landscape.krylov.basis.CHUNK", 500)  # as short beside n as it is for a large network
    layers = [layer for _ in range(4) for layer in (nn.Linear(60, 60), nn.Tanh())]
    net, batch = seeded_net(lambda: nn.Sequential(*layers, nn.Linear(60, 3))), batch_of(20, 60, 3)
    stated = landscape.eigenpairs_memory(net, k=k, max_basis=max_basis)
    with Live(sum(p.numel() for p in net.parameters())) as live:  # flat ones: no layer has as many numbers
        landscape.hessian_eigenpairs(net, classify, batch, k=k, max_basis=max_basis, max_products=24)
    assert 0.7 * stated < live.most <= stated


def test_vectors_go_where_more_of_them_fit(monkeypatch):
    free = {"cuda": 1e4, "cpu": 2e4}
    monkeypatch.setattr("landscape.krylov.memory.available", lambda device: free[device.type])
    gpu = torch.device("cuda")

    def found(hundreds, max_basis=None, offload=None):  # half of what is free is 12 / hundreds or 25 / hundreds vectors
        where, capacity, vectors = room(100 * hundreds, 2, max_basis, torch.float32, gpu, None, offload)
        return where.type, capacity, vectors

    assert found(1, max_basis=7) == ("cuda", 7, 2)
    assert found(2, max_basis=7) == ("cpu", 7, 2)  # 6 fit on the GPU, 12 on the CPU
    assert found(2, max_basis=0) == ("cuda", 0, 2)
    assert found(2, max_basis=7, offload=False) == ("cuda", 0, 2)
    assert found(3, max_basis=0) == ("cpu", 0, 2)
    assert found(5) == ("cpu", 0, 1)
    assert found(6) == ("cpu", 0, 0)
    with pytest.raises(ProbeError, match="may be taken on cpu"):
        found(7)


def test_a_warm_start_takes_a_few_products(case):
    net, batch, values, _ = case
    cold = landscape.hessian_eigenpairs(net, classify, batch, k=2, max_basis=0)
    warm = landscape.hessian_eigenpairs(net, classify, batch, k=2, max_basis=0, start=cold.eigenvectors)
    assert warm.eigenvalues.tolist() == pytest.approx(values[:2].tolist(), rel=1e-3)
    assert warm.products < 0.7 * cold.products


@pytest.mark.parametrize("vectors", [4, 5, 6])
def test_the_probe_goes_on_with_fewer_vectors(case, vectors, monkeypatch):
    net, batch, values, _ = case
    monkeypatch.setattr(probe_module, "room", lambda n, k, *rest: room(n, k, *rest[:3], vectors * 8 * n, None))
    probe = build_probe("hessian_eigenpairs", k=2)
    for step in range(2):
        rows = list(probe.measure(Moment(net, classify, batch, step, None, 0.1)))
        numbers = {(row.quantity, row.index): row.value for row in rows}
        assert [numbers["eigenvalue", i] for i in (0, 1)] == pytest.approx(values[:2].tolist(), rel=1e-3)
        assert numbers["step_sharpness", 0] == pytest.approx(0.1 * float(values[0]), rel=1e-3)
        assert numbers["verified", 0] == 0.0
        assert math.isnan(numbers["gradient_energy", 0]) == (vectors < 6)
        assert {row.dtype for row in rows} == {"float64"}
    assert probe.state_dict()["starts"][""].shape == (vectors - 4, len(values))
