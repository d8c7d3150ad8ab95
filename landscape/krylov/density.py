r"""The spectral density by stochastic Lanczos quadrature (Lin, Saad & Yang 2016; Ghorbani et al. 2019).

Lanczos from a random unit vector v gives Ritz values theta_j and weights (first component of T's eigenvectors)^2:
the Gauss quadrature of v' f(A) v, whose mean over v is tr f(A) / n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.krylov.basis import Basis, Product
from landscape.krylov.subspace import Subspace
from landscape.streams import stream


@dataclass(frozen=True)
class Quadrature:
    """One Gauss quadrature per draw, float64 on the CPU; d draws, m nodes.

    Attributes:
        nodes: Ritz values ascending; where a draw ended early (an invariant subspace), its last value again. (d, m)
        weights: their shares of the spectrum, summing to 1 over a draw; 0 for what is repeated. (d, m)
        products: products with A.
    """

    nodes: Tensor
    weights: Tensor
    products: int

    def density(self, grid: Tensor, width: float) -> Tensor:
        """Each draw's density, with a Gaussian of standard deviation ``width`` for each node: (d, p)."""
        z = (grid[None, None, :] - self.nodes[:, :, None]) / width
        return (self.weights[:, :, None] * torch.exp(-0.5 * z.square())).sum(dim=1) / (width * math.sqrt(2.0 * math.pi))


def quadrature(
    product: Product,
    n: int,
    *,
    draws: int = 8,
    steps: int = 40,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Quadrature:
    """Stochastic Lanczos quadrature, full reorthogonalization.

    Raises:
        UsageError: no draws or no steps.

    >>> from landscape.krylov import matrix_product
    >>> rule = quadrature(matrix_product(torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))), 2, draws=1)
    >>> [round(x, 6) for x in rule.nodes[0].tolist()]
    [1.0, 3.0]
    """
    if draws < 1 or steps < 1:
        raise UsageError(f"draws={draws}, steps={steps}: at least one of each is needed")
    steps = min(steps, n)
    generator = stream(seed, "krylov/density")
    basis = Basis(n, steps, dtype, torch.device(device))
    nodes, weights, products = [], [], 0
    for _ in range(draws):
        basis.size = 0
        space = Subspace(product, basis, generator)
        chain = space.start()
        while space.finite and space.size < steps and chain in space.chains:
            space.grow(chain)
        products += space.products
        theta, share = _gauss(space)
        padding = steps - len(theta)
        nodes.append(torch.cat([theta, theta[-1:].expand(padding)]))
        weights.append(torch.cat([share, share.new_zeros(padding)]))
    return Quadrature(torch.stack(nodes), torch.stack(weights), products)


def _gauss(space: Subspace) -> tuple[Tensor, Tensor]:
    if not space.finite:  # a network that diverged has no spectrum
        nan = torch.full((1,), math.nan, dtype=torch.float64)
        return nan, torch.ones_like(nan)
    theta, W, _ = space.ritz()
    return theta, W[0].square()
