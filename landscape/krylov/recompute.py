r"""Eigenpairs where no basis fits: Lanczos that keeps three vectors, and makes them again for the eigenvectors.

Without reorthogonalization T has more Ritz values than it should: rounding brings back what has converged, as copies
and on its way to become one ("ghosts"). T is then that of an exact run on a matrix whose eigenvalues are blurred by
rounding (Greenbaum 1989). So a Ritz value is a ghost if such a blur of a converged one, its distance times the root
of its weight, accounts for the start's share of it. (Cullum & Willoughby 1985 ask whether that share is 0, by the
eigenvalues of T without its first row.) What lies away from all others by its residual is an eigenvalue all the same
(Paige 1980); only a second copy can't be told from a ghost.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from landscape.krylov.basis import ROUNDING_UNITS, Product, inner, length, random_direction, tiny
from landscape.krylov.ritz import (
    OVERLAP,
    SEARCH,
    Eigenpairs,
    check,
    diverged,
    errors,
    hidden_share,
    keys,
    summed,
    targets,
    wanted_first,
)
from landscape.streams import stream

#: T is looked at whenever it has grown by this share, or by one.
GROWTH = 1 / 64
#: A start times this is multiplied too; not a power of two, which would be rounded like the start itself.
SCALED = 0.7
#: Rounding blurs eigenvalues by at most so many times what it does to one product.
BLUR = 4.0
#: Components of the start below this are 0, and would give a vector no direction.
LEAST = 1e-100
#: An eigenvalue lies within so many residuals of any Ritz value (Paige 1980: 2.5).
REACH = 2.5


class Recurrence:
    """Lanczos' three-term recurrence.

    Args:
        product: A v.
        start: of norm one. (n,)

    Attributes:
        vector: the one whose turn it is. (n,)
        alphas: the diagonal of T so far.
        betas: beside the diagonal, and the norm of what is pending.
        finite: False once a product was not.
        ended: so, or nothing is left outside what was reached.
    """

    def __init__(self, product: Product, start: Tensor) -> None:
        self.product, self.vector = product, start
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.finite, self.ended = True, False
        self._before: Tensor | None = None
        self._scale = 0.0

    def grow(self) -> None:
        """One step, for one product."""
        image = self.product(self.vector)
        self._scale = max(self._scale, float(length(image)))
        if self._before is not None:
            image.add_(self._before, alpha=-self.betas[-1])
        alpha = float(inner(image, self.vector))
        image.add_(self.vector, alpha=-alpha)
        beta = float(length(image))
        self.alphas.append(alpha)
        self.betas.append(beta)
        self.finite = math.isfinite(alpha) and math.isfinite(beta)
        rounding = ROUNDING_UNITS * torch.finfo(image.dtype).eps * self._scale
        self.ended = not self.finite or beta <= max(rounding, tiny(image.dtype))
        if not self.ended:
            self._before, self.vector = self.vector, image.div_(beta)

    def projected(self) -> Tensor:
        """T, and below it the row of what is pending: (m + 1, m)."""
        m = len(self.alphas)
        T = torch.zeros(m + 1, m, dtype=torch.float64)
        T.diagonal().copy_(torch.tensor(self.alphas, dtype=torch.float64))
        T.diagonal(-1).copy_(torch.tensor(self.betas, dtype=torch.float64))
        T.diagonal(1).copy_(torch.tensor(self.betas[:-1], dtype=torch.float64))
        return T


def recomputed(
    product: Product,
    n: int,
    k: int = 1,
    *,
    tol: float = 1e-3,
    which: str = "largest",
    start: Tensor | None = None,
    seed: int = 0,
    max_products: int | None = None,
    vectors: int | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Eigenpairs:
    """``eigenpairs`` without a basis: three vectors in the first pass, and ``vectors`` more in the second.

    Equal eigenvalues are seen once, so that there can be fewer than k. ``verified`` is False: a random start goes on
    until a missed eigenvalue would have shown itself, but a second copy never does.

    Args:
        product: A v for a flat v; the same v gives the same numbers.
        n: length of v.
        k: how many eigenvalues.
        tol: bound of each one's relative error.
        which: "largest" (algebraic), "smallest" or "magnitude".
        start: vectors to start from, (n,) or (p, n): their sum, if it is neither 0 nor NaN.
        seed: of the random start.
        max_products: give up after so many, both passes together; 100 (k + 1) unless told otherwise.
        vectors: eigenvectors to make, of the first values; all k if None. 0 saves the second pass.
        dtype: of the vectors.
        device: where the vectors are kept.

    Raises:
        UsageError: k, tol, which, start or max_products are not what they have to be.

    >>> from landscape.krylov import matrix_product
    >>> A = torch.diag(torch.tensor([7.0, 7.0, 2.0, -9.0], dtype=torch.float64))
    >>> [round(x, 6) for x in recomputed(matrix_product(A), 4, 2).values.tolist()]
    [7.0, 2.0]
    """
    vectors = k if vectors is None else min(vectors, k)
    max_products = 100 * (k + 1) if max_products is None else max_products
    passes = 2 if vectors else 1
    check(n, k, tol, which, start, max_products, passes * k + 1)
    like = torch.empty(0, dtype=dtype, device=device)
    warm = summed(start, n, like) is not None

    def begin() -> Tensor:
        given = summed(start, n, like) if warm else None
        return random_direction(n, stream(seed, "krylov/start"), like) if given is None else given

    search = _Search(product, k, tol, which, dtype)
    search.run(begin, (max_products - 1) // passes, blind=warm)
    if warm and search.short:  # the start lies in a space of fewer dimensions that the operator does not leave
        warm = False
        search.run(begin, (max_products - 1 - search.products) // passes)
    if not search.finite:
        return diverged(which, k, like.new_empty(vectors, n), search.products)
    chain = Recurrence(product, begin())
    made, search.residuals[:vectors] = _vectors(chain, search.theta[:k][:vectors], search.weights[:, :vectors])
    return Eigenpairs(
        values=search.theta[:k],
        vectors=made,
        residuals=search.residuals[:k],
        products=search.products + len(chain.alphas),
        converged=search.converged,
        verified=False,
    )


class _Search:
    """The first pass: eigenvalues, and how their vectors are made of the recurrence's.

    Attributes:
        products: products so far, of all runs.
        theta: Ritz values without ghosts, best first. (p,)
        residuals: theirs. (p,)
        weights: of the recurrence's vectors in the first k of theirs. (m, k), or fewer
        finite: False once a product was not.
        short: the recurrence ended before k eigenvalues were seen.
    """

    def __init__(self, product: Product, k: int, tol: float, which: str, dtype: torch.dtype) -> None:
        self.product, self.k, self.tol, self.which, self.dtype = product, k, tol, which, dtype
        self.products, self.finite, self.short = 0, True, False

    def run(self, begin: Callable[[], Tensor], limit: int, *, blind: bool = False) -> None:
        """Until the wanted errors are below tolerance, the recurrence ends, or after ``limit`` steps.

        A random start goes on until an eigenvalue that was missed would have shown itself; a given one may be blind.
        """
        chain = Recurrence(self.product, begin())
        self._settled: list[float] = []
        self._rounding = max(ROUNDING_UNITS * torch.finfo(self.dtype).eps, BLUR * _noise(chain))
        look, patience = 1, math.inf
        while chain.finite:
            steps = len(chain.alphas)
            last = chain.ended or steps >= limit
            if last or steps >= look:
                self._look(chain)
                look = steps + 1 + int(GROWTH * steps)
                if self.converged:
                    patience = min(patience, steps + (0 if blind else SEARCH))
                    last = last or steps >= patience or self._would_show(chain)
                if last:
                    break
            chain.grow()
        self.products += 1 + len(chain.alphas)
        self.finite = chain.finite
        self.short = chain.ended and self.finite and len(self.theta) < self.k

    @property
    def converged(self) -> bool:
        """k eigenvalues, every error bound below its tolerance."""
        allowed = targets(self.theta, self.k, self.tol, self.dtype)
        found = errors(self.theta, self.residuals)[: self.k]
        return len(self.theta) >= self.k and bool((found <= allowed).all())

    def _would_show(self, chain: Recurrence) -> bool:
        """Whether an eigenvalue among the wanted ones, but equal to none, would show in a random start by now."""
        theta, allowed = self.theta[: self.k], targets(self.theta, self.k, self.tol, self.dtype)
        least = float((keys(theta, self.which) + allowed)[-1])
        edges = torch.cat([theta + allowed, theta - allowed, torch.tensor([least, -least], dtype=torch.float64)])
        beyond = edges[keys(edges, self.which) >= least].tolist()
        most = 1.0 / (OVERLAP * len(chain.vector))
        return all(hidden_share(chain.alphas, chain.betas, x) < most for x in beyond)

    def _look(self, chain: Recurrence) -> None:
        theta, W = torch.linalg.eigh(chain.projected()[:-1])
        residuals = chain.betas[-1] * W[-1].abs()
        blur = self._rounding * float(theta.abs().max())
        apart = (theta[:, None] - theta[None, :]).abs()
        known = torch.tensor(self._settled, dtype=torch.float64)
        settled = (residuals <= blur) | ((theta[:, None] - known).abs() <= blur).any(dim=1)
        self._settled = theta[settled].tolist()
        ghost = _ghosts(apart, residuals, W[0].abs(), settled, blur)
        theta, residuals, parts = _merged(theta, chain.betas[-1] * W[-1], W[0], ghost, apart <= blur)
        order = wanted_first(theta, self.which)
        self.theta, self.residuals, self.weights = theta[order], residuals[order], W @ parts[:, order[: self.k]]


def _noise(chain: Recurrence) -> float:
    """The first step, and beside it how far from linear the product is: its rounding, relative.

    It may be coarser than the vectors' arithmetic: weights in half precision, autocast.
    """
    start = chain.vector
    scaled = chain.product(start * SCALED)
    chain.grow()
    if chain.ended:
        return 0.0
    alpha, beta = chain.alphas[0], chain.betas[0]
    scaled.div_(SCALED).sub_(start, alpha=alpha).sub_(chain.vector, alpha=beta)
    return float(length(scaled)) / math.hypot(alpha, beta)


def _ghosts(apart: Tensor, residuals: Tensor, share: Tensor, settled: Tensor, blur: float) -> Tensor:
    """Which Ritz values are ghosts of settled ones, by their distances and the start's components: (m,)."""
    reached = apart <= REACH * residuals[:, None] + blur
    blurred = apart * share[:, None] <= blur * share[None, :]
    return (settled[None, :] & (share[None, :] > share[:, None]) & reached & blurred).any(dim=1)


def _merged(
    theta: Tensor, pending: Tensor, share: Tensor, ghost: Tensor, close: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each eigenvalue with its copies: values and residuals (p,), and what each Ritz vector has of its vector (m, p).

    The part of the start in all of them together is a vector of norm one; that in one of them alone may be short.
    """
    copies = (close & ghost[:, None]).double().fill_diagonal_(1.0)[:, ~ghost]
    parts = copies * torch.copysign(share.abs().clamp_min(LEAST), share)[:, None]
    parts /= torch.linalg.vector_norm(parts, dim=0)
    values = parts.square().T @ theta
    spread = (parts.square() * (theta[:, None] - values).square()).sum(dim=0)
    return values, (spread + (pending @ parts).square()).sqrt(), parts


def _vectors(chain: Recurrence, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The second pass: vectors (p, n) from weights (m, p), and their residuals by the second pass's own T (p,).

    A product that does not repeat itself thus shows in the residuals.
    """
    made = chain.vector.new_zeros(len(values), len(chain.vector))
    for row in weights if len(values) else []:
        if not chain.ended:
            made.addr_(row.to(made), chain.vector)
            chain.grow()
    used = weights[: len(chain.alphas)]
    error = chain.projected() @ used
    error[:-1] -= used * values
    sizes = torch.tensor([float(length(row)) for row in made], dtype=torch.float64)
    made.div_(sizes.to(made)[:, None])
    return made, torch.linalg.vector_norm(error, dim=0) / sizes
