"""What every solver of eigenpairs shares: its result, which eigenvalues are wanted, how large their errors can be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import UsageError, nearest
from landscape.krylov.basis import ROUNDING_UNITS, tiny

WHICH = ("largest", "smallest", "magnitude")
#: Products that the search for missed eigenvalues may take.
SEARCH = 24
#: n times the squared overlap of a random direction with a given one lies below 1 / this in one case of a hundred.
OVERLAP = 6400.0
#: A share of 1 / this is none.
LOST = 1e100


@dataclass(frozen=True)
class Eigenpairs:
    """What ``eigenpairs`` found, best first.

    Attributes:
        values: (k,), float64 on the CPU; fewer where vectors were recomputed and no more could be seen.
        vectors: rows of norm one, of the first values where not all were asked for. (k, n)
        residuals: ||A v - value v||, from the recurrence. (k,)
        products: products with A.
        converged: every value's error bound lies below its tolerance.
        verified: and a fresh start found nothing missed (99 % sure).
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool
    verified: bool


def diverged(which: str, k: int, vectors: Tensor, products: int) -> Eigenpairs:
    """The result where a product was not finite: such a network ranks as infinitely curved."""
    worst = torch.full((k,), -math.inf if which == "smallest" else math.inf, dtype=torch.float64)
    return Eigenpairs(worst, vectors.fill_(math.nan), torch.full_like(worst, math.inf), products, False, False)


def keys(theta: Tensor, which: str) -> Tensor:
    """What is largest for the wanted ones."""
    return theta if which == "largest" else -theta if which == "smallest" else theta.abs()


def wanted_first(theta: Tensor, which: str) -> Tensor:
    """The order of Ritz values, best first."""
    return keys(theta, which).argsort(descending=True, stable=True)


def targets(theta: Tensor, k: int, tol: float, dtype: torch.dtype) -> Tensor:
    """Errors that the first k of ``theta`` may have: relative ones, down to rounding in the vectors' arithmetic."""
    floor = (ROUNDING_UNITS * torch.finfo(dtype).eps * theta.abs().max()).clamp_min(tiny(dtype))
    return torch.maximum(tol * theta[:k].abs(), floor)


def errors(theta: Tensor, residuals: Tensor) -> Tensor:
    """min(r, r^2 / gap), the gap to the nearest interval in which another Ritz value may lie."""
    gaps = (theta[:, None] - theta[None, :]).abs() - residuals[None, :]
    gaps.fill_diagonal_(math.inf)
    gap = gaps.min(dim=1).values
    alone = torch.isinf(gap)  # a lone Ritz value has no gap that anybody knows
    return torch.where((gap > residuals) & ~alone, residuals.square() / gap, residuals)


def hidden_share(alphas: list[float], betas: list[float], x: float) -> float:
    """The most that an eigenvector with the eigenvalue x can have of ||start||^2; 1: all of it.

    The Christoffel function 1 / sum_i p_i(x)^2 of Lanczos' orthonormal polynomials p_0, p_1... (Szego 1939, 3.41).
    It falls away from the Ritz values.
    """
    before, p, total, last = 0.0, 1.0, 1.0, 0.0
    for alpha, beta in zip(alphas, betas, strict=True):
        if not beta > 0.0:
            return 1.0
        before, p, last = p, ((x - alpha) * p - last * before) / beta, beta
        total += p * p
        if total > LOST:
            break
    return 1.0 / total


def summed(start: Tensor | None, n: int, like: Tensor) -> Tensor | None:
    """The sum of the rows of ``start``, of norm one; None if it is 0 or not finite."""
    if start is None:
        return None
    vector = start.reshape(-1, n).sum(dim=0, dtype=like.dtype).to(like.device)
    size = float(torch.linalg.vector_norm(vector))
    return vector.div_(size) if math.isfinite(size) and size > 0 else None


def check(n: int, k: int, tol: float, which: str, start: Tensor | None, max_products: int, least: int) -> None:
    """Refuse arguments of a solver that are not what they have to be."""
    if which not in WHICH:
        raise UsageError(f"which={which!r} is not known: {nearest(which, list(WHICH))}")
    if not 1 <= k <= n:
        raise UsageError(f"k={k} eigenpairs of an operator on {n} numbers: k must be 1 to {n}")
    if not 0.0 < tol < 1.0:
        raise UsageError(f"tol={tol} is a relative error: it must lie between 0 and 1")
    if max_products < least:
        raise UsageError(f"max_products={max_products}: {k} eigenpairs need {least} products at least")
    if start is not None and (start.numel() % n or start.shape[-1] != n):
        raise UsageError(f"start must be ({n},) or (p, {n}) numbers, not {tuple(start.shape)}")
