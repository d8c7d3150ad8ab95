r"""The trace of a symmetric operator from a few products: XTrace, or Hutchinson where that does better.

XTrace (Epperly, Tropp & Webber 2023): half the products find a subspace Q = range(A Omega), the other half give A Q;
the trace is tr(Q'AQ) plus Hutchinson on what lies outside, with each test vector used for what the others found.
Its error falls with the part of A that few eigenvalues don't explain, so on a flat spectrum plain Hutchinson, which
gets twice as many test vectors, is better. Which of the two, the first half of the products tells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import UsageError, nearest
from landscape.krylov.basis import ROUNDING_UNITS, Basis, Product, inner, random_direction
from landscape.streams import stream

METHODS = ("auto", "xtrace", "hutchinson")
#: Below this many products there is no subspace worth the half of them.
FEW = 8


@dataclass(frozen=True)
class TraceEstimate:
    """A trace and its standard error.

    Attributes:
        value: the estimate.
        standard_error: of the value; 0 where it is exact.
        products: products with A.
        method: "xtrace", "hutchinson" or "exact".
    """

    value: float
    standard_error: float
    products: int
    method: str


def trace(
    product: Product,
    n: int,
    products: int = 60,
    *,
    method: str = "auto",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> TraceEstimate:
    """tr A from ``products`` products; exact where there are n or more.

    Args:
        product: A v for a flat v.
        n: length of v.
        products: how many.
        method: "auto", "xtrace" or "hutchinson".
        seed: of the test vectors.
        dtype: of the vectors.
        device: where they are kept.

    Raises:
        UsageError: fewer than two products, or an unknown method.

    >>> from landscape.krylov import matrix_product
    >>> trace(matrix_product(torch.diag(torch.tensor([3.0, -1.0], dtype=torch.float64))), 2).value
    2.0
    """
    if method not in METHODS:
        raise UsageError(f"method={method!r} is not known: {nearest(method, list(METHODS))}")
    if products < 2:
        raise UsageError(f"products={products}: a trace with an error needs at least two")
    like = torch.empty(0, dtype=dtype, device=device)
    if products >= n:
        return _exact(product, n, like)
    generator = stream(seed, "krylov/trace")
    if method == "hutchinson" or (method == "auto" and products < FEW):
        return _hutchinson(product, n, products, [], generator, like)
    return _XTrace(product, n, products // 2, generator, like).estimate(products, method == "auto")


def _exact(product: Product, n: int, like: Tensor) -> TraceEstimate:
    total = 0.0
    for i in range(n):
        unit = like.new_zeros(n)
        unit[i] = 1.0
        total += float(product(unit)[i])
    return TraceEstimate(total, 0.0, n, "exact")


def _test_vector(n: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform on the sphere of radius sqrt(n), so that E[w'Aw] = tr A."""
    return random_direction(n, generator, like) * math.sqrt(n)


def _hutchinson(
    product: Product, n: int, products: int, samples: list[float], generator: torch.Generator, like: Tensor
) -> TraceEstimate:
    """The mean of w'Aw; ``samples`` are those that were taken already."""
    while len(samples) < products:
        w = _test_vector(n, generator, like)
        samples = [*samples, float(inner(w, product(w)))]
    values = torch.tensor(samples, dtype=torch.float64)
    return TraceEstimate(float(values.mean()), float(values.std() / math.sqrt(products)), products, "hutchinson")


class _XTrace:
    """The first half: Y = A Omega = Q R, one column after the other."""

    def __init__(self, product: Product, n: int, half: int, generator: torch.Generator, like: Tensor) -> None:
        self.product, self.n, self.half, self.generator, self.like = product, n, half, generator, like
        self.tests = torch.empty(half, n, dtype=like.dtype, device=like.device)
        self.basis = Basis(n, half, like.dtype, like.device)
        self.R = torch.zeros(half, half, dtype=torch.float64)
        self.samples: list[float] = []
        self.complete = False  # the range of A was reached: what lies outside is zero
        for i in range(half):
            self.tests[i] = _test_vector(n, generator, like)
            image = product(self.tests[i].clone()).contiguous()  # it may be what was handed in, and is written to
            self.samples.append(float(inner(self.tests[i], image)))
            column, before, after = self.basis.orthogonalize(image)
            if after <= ROUNDING_UNITS * self.basis.eps * before:
                self.complete = True
                break
            self.R[:i, i], self.R[i, i] = column, after
            self.basis.append(image, after)

    def estimate(self, products: int, choose: bool) -> TraceEstimate:
        """The second half: by XTrace, or by Hutchinson if that promises less error and ``choose`` allows it."""
        spent = len(self.samples)
        if not all(map(math.isfinite, self.samples)):
            return TraceEstimate(math.inf, math.inf, spent, "xtrace")
        if self.complete:
            value = float(self._projected().trace())
            return TraceEstimate(value, 0.0, spent + self.basis.size, "xtrace")
        S = torch.linalg.solve_triangular(self.R, torch.eye(self.half, dtype=torch.float64), upper=True).T
        outside = S.square().sum(dim=0).reciprocal()  # of A w_i, outside the range of the others: squared
        if choose and 2.0 * outside.sum() > self.R.square().sum():
            del self.tests
            return _hutchinson(self.product, self.n, products, self.samples, self.generator, self.like)
        return self._leave_one_out(S / S.square().sum(dim=0).sqrt())

    def _projected(self) -> Tensor:
        """H = Q'AQ, float64."""
        columns = [self.basis.project(self.product(row)).cpu() for row in self.basis.rows[: self.basis.size]]
        H = torch.stack(columns, dim=1) if columns else torch.zeros(0, 0, dtype=torch.float64)
        return (H + H.T) / 2

    def _leave_one_out(self, S: Tensor) -> TraceEstimate:
        """Column s_i of S is the direction in Q that only test vector i has found."""
        H = self._projected()
        W = torch.stack([self.basis.project(test).cpu() for test in self.tests], dim=1)  # Q'Omega
        P = W - S * (S * W).sum(dim=0)  # what the others' range takes of test vector i
        left = self.n - P.square().sum(dim=0)  # ||w_i||^2 - ||p_i||^2
        scale = (self.n - self.half + 1) / left
        inside = H.trace() - (S * (H @ S)).sum(dim=0)
        quadratic = torch.tensor(self.samples, dtype=torch.float64) - 2.0 * (P * self.R).sum(dim=0)
        estimates = inside + scale * (quadratic + (P * (H @ P)).sum(dim=0))
        error = float(estimates.std() / math.sqrt(self.half))
        return TraceEstimate(float(estimates.mean()), error, 2 * self.half, "xtrace")
