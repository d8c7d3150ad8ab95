"""The k largest, smallest or farthest eigenvalues, with a stopping rule that looks for what it may have missed.

Errors are bounded by min(r, r^2 / gap) with r the residual norm (Kato and Temple) and the gap taken to the nearest
*interval* that another Ritz value may stand for, so a lone Ritz value, an unconverged neighbour or a cluster fall
back to r. One start can't see a second copy of an eigenvalue, and may not yet see a close one: after convergence a
fresh random start is grown outside everything found, until a missed eigenvalue would have shown itself: a random
start has a share of its eigenvector, and the polynomials of Lanczos bound the share that can hide from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.krylov.basis import Basis, Product
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
from landscape.krylov.subspace import Chain, Subspace
from landscape.streams import stream


def default_capacity(n: int, k: int) -> int:
    """Vectors of the basis unless told otherwise."""
    return min(n, 4 * k + 48)


def smallest_capacity(n: int, k: int) -> int:
    """Vectors below which a restarted solve can't go on."""
    return min(n, k + 4)


def eigenpairs(
    product: Product,
    n: int,
    k: int = 1,
    *,
    tol: float = 1e-3,
    which: str = "largest",
    start: Tensor | None = None,
    seed: int = 0,
    capacity: int | None = None,
    max_products: int | None = None,
    verify: bool | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Eigenpairs:
    r"""Eigenpairs of a symmetric operator by restarted Lanczos with full reorthogonalization.

    Args:
        product: A v for a flat v.
        n: length of v.
        k: how many pairs.
        tol: bound of each value's relative error.
        which: "largest" (algebraic), "smallest" or "magnitude".
        start: vectors to start from, (n,) or (p, n): their sum, if it is neither 0 nor NaN.
        seed: of the random starts.
        capacity: most vectors kept at a time.
        max_products: give up after so many; 100 (k + 1) unless told otherwise.
        verify: search for missed eigenvalues; None: unless there is a start.
        dtype: of the vectors.
        device: where the vectors are kept.

    Raises:
        UsageError: k, tol, which, start or capacity are not what they have to be.

    >>> from landscape.krylov import matrix_product
    >>> A = torch.diag(torch.tensor([7.0, 7.0, 2.0, -9.0], dtype=torch.float64))
    >>> [round(x, 6) for x in eigenpairs(matrix_product(A), 4, 2).values.tolist()]
    [7.0, 7.0]
    """
    capacity = default_capacity(n, k) if capacity is None else min(capacity, n)
    max_products = 100 * (k + 1) if max_products is None else max_products
    check(n, k, tol, which, start, max_products, k)
    if capacity < smallest_capacity(n, k):
        raise UsageError(
            f"a basis of {capacity} vectors can't hold a solve for k={k}: {smallest_capacity(n, k)} at least"
        )
    space = Subspace(product, Basis(n, capacity, dtype, torch.device(device)), stream(seed, "krylov/start"))
    given = summed(start, n, space.basis.rows)
    space.start(given)
    solver = _Solver(space, k, tol, which, max_products)
    search = given is None if verify is None else verify
    converged = solver.converge()
    verified = False
    while search and converged and not verified:
        found = solver.search()
        if found is None:
            break
        verified = not found
        converged = solver.converge()
    return solver.result(converged, verified)


class _Solver:
    def __init__(self, space: Subspace, k: int, tol: float, which: str, max_products: int) -> None:
        self.space, self.k, self.tol, self.which, self.max_products = space, k, tol, which, max_products

    def converge(self) -> bool:
        """Grow until the wanted errors are below tolerance; False if the products ran out."""
        space = self.space
        space.settle()
        while space.finite:
            if space.size >= self.k:
                theta, _, residuals = self._sorted()
                if bool((errors(theta, residuals)[: self.k] <= self._targets(theta)).all()):
                    return True
            if space.size == space.n:
                return True
            if space.products >= self.max_products:
                return False
            if space.size == space.capacity:
                self._restart(self.k + (space.capacity - self.k) // 3)
            space.grow(self._next_chain())
        return False

    def search(self) -> bool | None:
        """Grow a fresh start outside the basis: True: something was missed; False: nothing was; None: can't tell."""
        space = self.space
        if space.size == space.n:
            return False
        room = min(SEARCH, space.capacity - self.k, self.max_products - space.products)
        if room < 1:
            return None
        if space.size + room > space.capacity:
            self._restart(max(self.k, space.capacity - room))
        theta = self._sorted()[0][: self.k]
        bound = self._key(theta)[-1] + float(self._targets(theta)[-1])
        first, chain = space.size, space.start()
        for _ in range(room):
            grown = space.grow(chain)
            if not space.finite:
                return None
            if not grown:
                return False
            if self._key(self._sorted()[0][: self.k])[-1] > bound:
                return True
            if chain not in space.chains or self._would_show(bound, first, chain):
                return False
        return None

    def result(self, converged: bool, verified: bool) -> Eigenpairs:
        space, k = self.space, self.k
        if not space.finite:
            return diverged(self.which, k, space.basis.rows.new_empty(k, space.n), space.products)
        theta, W, residuals = self._sorted()
        space.chains.clear()  # their vectors make room for the result
        vectors = space.basis.combine(W[:, :k])
        return Eigenpairs(theta[:k], vectors, residuals[:k], space.products, converged, verified)

    def _key(self, theta: Tensor) -> list[float]:
        return list(keys(theta, self.which).tolist())

    def _sorted(self) -> tuple[Tensor, Tensor, Tensor]:
        theta, W, residuals = self.space.ritz()
        order = wanted_first(theta, self.which)
        return theta[order], W[:, order], residuals[order]

    def _targets(self, theta: Tensor) -> Tensor:
        return targets(theta, self.k, self.tol, self.space.basis.rows.dtype)

    def _next_chain(self) -> Chain:
        """The chain that the wanted residuals owe most to; a fresh one where none is left."""
        space = self.space
        if not space.chains:
            return space.start()
        if len(space.chains) == 1 or space.size == 0:
            return space.chains[0]
        W = self._sorted()[1][:, : self.k]
        return max(space.chains, key=lambda chain: float((chain.coupling[: space.size] @ W).abs().max()))

    def _restart(self, keep: int) -> None:
        theta, W, _ = self._sorted()
        self.space.restart(theta[:keep], W[:, :keep])

    def _would_show(self, bound: float, first: int, chain: Chain) -> bool:
        """Whether an eigenvalue beyond ``bound`` outside the earlier basis would show in this random start by now."""
        T, beta = self.space.projected(first), float(chain.coupling[self.space.size - 1])
        edges = {"largest": [bound], "smallest": [-bound], "magnitude": [bound, -bound]}[self.which]
        return all(_hidden_share(T, beta, edge) * OVERLAP * self.space.n < 1.0 for edge in edges)


def _hidden_share(T: Tensor, beta: float, edge: float) -> float:
    """The most that an eigenvector with an eigenvalue at ``edge`` or beyond can have of ||start||^2; 1: all of it.

    Tridiagonal T (m, m), and the norm of what is pending.
    """
    ritz = torch.linalg.eigvalsh(T)
    if float(ritz[0]) <= edge <= float(ritz[-1]):
        return 1.0
    return hidden_share(T.diagonal().tolist(), [*T.diagonal(1).tolist(), beta], edge)
