"""Eigenpairs, traces and densities under what large models need: checkpoints, micro-batches, float32."""

import copy

import pytest
import torch
from curvature_cases import batch_of, classify, dense_hessian, seeded_net
from torch import nn
from torch.utils.checkpoint import checkpoint

import landscape
from landscape.errors import ProbeError
from landscape.products import curvature_operator


def _eigenvalues(*args, **options):
    return landscape.hessian_eigenpairs(*args, k=3, tol=1e-7, **options).eigenvalues


def _recomputed(*args, **options):
    return landscape.hessian_eigenpairs(*args, k=3, tol=1e-7, max_basis=0, **options).eigenvalues


def _trace(*args, **options):
    return torch.tensor([landscape.hessian_trace(*args, products=30, **options).value], dtype=torch.float64)


def _density(*args, **options):
    """What a few draws say of the density: moments and ends, which no rounding reorders."""
    found = landscape.spectral_density(*args, draws=3, steps=8, **options)
    moments = [(found.weights * found.nodes**p).sum(dim=1) for p in (1, 2)]
    return torch.cat([*moments, found.nodes[:, -1]])


MEASURES = pytest.mark.parametrize("measure", [_eigenvalues, _recomputed, _trace, _density])


class Net(nn.Module):
    """A part of it can be checkpointed; no batch normalization."""

    def __init__(self, reentrant=None, drop=0.0):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.drop, self.reentrant = nn.Dropout(drop), reentrant

    def forward(self, x):
        part = lambda h: self.drop(torch.tanh(self.inner(h)))  # noqa: E731
        h = torch.tanh(self.first(x))
        h = part(h) if self.reentrant is None else checkpoint(part, h, use_reentrant=self.reentrant)
        return self.last(h)


def _net(**options):
    return seeded_net(lambda: Net(**options))


def _with(net, **changes):
    twin = copy.deepcopy(net)
    for name, value in changes.items():
        setattr(twin, name, value)
    return twin


def _parts(batch, *sizes):
    x, y = batch
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


@MEASURES
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_checkpointing_changes_no_number(measure, operator):
    net, batch = _net(drop=0.2), batch_of(40, 6, 3)
    plain = measure(net, classify, batch, operator=operator)
    saved = measure(_with(net, reentrant=False), classify, batch, operator=operator)
    torch.testing.assert_close(saved, plain, rtol=1e-6, atol=1e-9)


@MEASURES
def test_a_reentrant_checkpoint_is_refused_with_what_to_do(measure):
    with pytest.raises(ProbeError, match=r"use_reentrant=True.*pass use_reentrant=False"):
        measure(_net(reentrant=True), classify, batch_of(20, 6, 3))


@MEASURES
@pytest.mark.parametrize("kept", [True, False])
def test_unequal_micro_batches_are_one_whole_batch(measure, kept):
    net, batch = _net(), batch_of(64, 6, 3)
    n = sum(p.numel() for p in net.parameters())
    whole = measure(net, classify, batch)
    # Graphs that don't fit are built again for every product: here of copies so many that the vectors alone fit.
    times = 1 if kept else 60
    large = (batch[0].repeat_interleave(times, 0), batch[1].repeat_interleave(times, 0))
    limit, parts = None if kept else 8 * n * 80, _parts(large, 50 * times, 13 * times, times)
    with curvature_operator(net, classify, parts, memory_limit=limit) as H:
        assert H.kept == kept
    split = measure(net, classify, parts, memory_limit=limit)
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=1e-9)
    unweighted = sum(dense_hessian(net, classify, part) for part in _parts(batch, 50, 13, 1)) / 3
    true = dense_hessian(net, classify, batch)
    assert abs(float(unweighted.trace() / true.trace()) - 1.0) > 0.02  # what a mean of means would give


@MEASURES
def test_micro_batches_of_a_checkpointed_model(measure):
    net, batch = _net(), batch_of(64, 6, 3)
    whole = measure(net, classify, batch)
    split = measure(_with(net, reentrant=False), classify, _parts(batch, 40, 20, 4))
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=1e-9)


@MEASURES
def test_a_float32_model_gives_the_numbers_of_a_float64_one(measure):
    net, (x, y) = _net(), batch_of(60, 6, 3)
    exact = measure(net, classify, (x, y))
    single = measure(net.float(), classify, (x.float(), y))
    assert single.dtype == torch.float64  # sums and recurrences
    # A random start is drawn in the vectors' precision: traces and densities are of other draws.
    if measure in (_eigenvalues, _recomputed):
        torch.testing.assert_close(single, exact, rtol=1e-5, atol=1e-6)


def test_a_float32_trace_and_density_are_those_of_the_dense_hessian():
    net, (x, y) = _net(), batch_of(60, 6, 3)
    H = dense_hessian(net, classify, (x, y))
    single, batch = copy.deepcopy(net).float(), (x.float(), y)
    exact = landscape.hessian_trace(single, classify, batch, products=len(H))
    assert exact.method == "exact"
    assert exact.value == pytest.approx(float(H.trace()), rel=1e-5)
    found = landscape.spectral_density(single, classify, batch, draws=40, steps=20)
    top = torch.linalg.eigvalsh(H)[-1]
    assert float(found.nodes.max()) == pytest.approx(float(top), rel=1e-5)
    each = (found.weights * found.nodes).sum(dim=1)
    assert abs(float(each.mean() - H.trace() / len(H))) < 4 * float(each.std()) / 40**0.5
