"""A growing subspace with the operator projected onto it: Lanczos with full reorthogonalization, from any starts.

With A Q = Q T + sum over chains of f g', Q the basis, T = Q' A Q (dense: it also holds what a restart or a second
start make of the tridiagonal), and one pending vector f with its coupling g per start. Plain Lanczos is one chain
with g = beta e_m. A restart rotates Q, T and the couplings and keeps the pending vectors: thick restart (Wu & Simon
2000). A fresh start with g = 0 looks at what the first one cannot have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.krylov.basis import ROUNDING_UNITS, Basis, Product, random_direction


@dataclass(eq=False)
class Chain:
    """A pending vector and how strongly the basis is coupled to it.

    Attributes:
        vector: a multiple of f, which becomes the basis' next row when this chain is grown. (n,)
        coupling: g above, float64 on the CPU. (capacity,)
        size: its norm.
        clear: it is orthogonal to so many of the basis' vectors.
    """

    vector: Tensor
    coupling: Tensor
    size: float = 1.0
    clear: int = 0


class Subspace:
    """Rayleigh-Ritz on what has been reached so far.

    Args:
        product: A v.
        basis: where the vectors are kept; empty.
        generator: of fresh starts.

    Attributes:
        products: products with A so far.
        finite: False once a product was not.
    """

    def __init__(self, product: Product, basis: Basis, generator: torch.Generator) -> None:
        self.product, self.basis, self.generator = product, basis, generator
        self.capacity, self.n = basis.rows.shape
        self.T = torch.zeros(self.capacity, self.capacity, dtype=torch.float64)
        self.chains: list[Chain] = []
        self.products, self.finite = 0, True

    @property
    def size(self) -> int:
        """Dimension of the subspace."""
        return self.basis.size

    def projected(self, first: int = 0) -> Tensor:
        """T from row and column ``first`` on."""
        return self.T[first : self.size, first : self.size]

    def start(self, vector: Tensor | None = None) -> Chain:
        """A new chain: from ``vector``, or at random."""
        if vector is None:
            vector = random_direction(self.n, self.generator, self.basis.rows)
        chain = Chain(vector, torch.zeros(self.capacity, dtype=torch.float64))
        self.chains.append(chain)
        return chain

    def grow(self, chain: Chain) -> bool:
        """The chain's pending vector joins the basis, for one product.

        Returns:
            False if nothing of it was outside the basis (the chain has ended, without a product).
        """
        if not self._clear(chain):
            return False
        row = self.basis.append(chain.vector, chain.size)
        image = self.product(row).contiguous()  # it is written to: no number may stand for several
        if image.untyped_storage().data_ptr() == row.untyped_storage().data_ptr():  # handed back, as it was or changed
            image = image.clone()
            torch.div(chain.vector, chain.size, out=row)
        self.products += 1
        column, size, beta = self.basis.orthogonalize(image)
        m = self.size - 1
        self.T[: m + 1, m] = self.T[m, : m + 1] = column
        if not math.isfinite(beta) or not math.isfinite(float(column.sum())):
            self.finite = False
            return True
        chain.coupling.zero_()
        scale = max(size, float(self.T.abs().max()))
        if beta <= max(
            ROUNDING_UNITS * self.basis.eps * scale, self.basis.tiny
        ):  # invariant: no pending vector is left
            self.chains.remove(chain)
        else:
            chain.coupling[m] = beta
            chain.vector, chain.size, chain.clear = image, beta, self.size
        return True

    def settle(self) -> None:
        """Take out of every pending vector what other chains have added to the basis since: its part of T is there."""
        for chain in list(self.chains):
            self._clear(chain)

    def _clear(self, chain: Chain) -> bool:
        """The pending vector made orthogonal to the basis again, its coupling smaller by as much; False: it ended."""
        if chain.clear == self.size:
            return True
        _, before, after = self.basis.orthogonalize(chain.vector)
        if after <= ROUNDING_UNITS * self.basis.eps * before:
            self.chains.remove(chain)
            return False
        chain.coupling *= after / before
        chain.size, chain.clear = after, self.size
        return True

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values ascending (m,), their vectors in the basis (m, m), bounds of the residual norms (m,)."""
        theta, W = torch.linalg.eigh(self.projected())
        residuals = torch.zeros_like(theta)
        for chain in self.chains:
            residuals += (chain.coupling[: self.size] @ W).abs()
        return theta, W, residuals

    def restart(self, theta: Tensor, weights: Tensor) -> None:
        """Keep only these Ritz pairs: values (p,) and vectors in the basis (m, p)."""
        size, kept = weights.shape
        self.basis.rotate(weights)
        self.T.zero_()
        self.T[:kept, :kept] = torch.diag(theta)
        for chain in self.chains:
            chain.clear = kept if chain.clear == size else 0
            coupling = weights.T @ chain.coupling[:size]
            chain.coupling.zero_()
            chain.coupling[:kept] = coupling
