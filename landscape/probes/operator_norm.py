r"""The spectral norm of a linear map that is given as a function, in float64.

The largest eigenvalue of A'A by Rayleigh-Ritz on a subspace that grows by the residual of its best vector and
is cut back to its best few when it is full: Lanczos with full reorthogonalization and thick restarts (Wu & Simon,
*Thick-Restart Lanczos Method*, 2000), in which neither rounding nor memory adds up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from landscape.errors import ProbeError
from landscape.streams import stream

#: Relative residual of A'A at which it stops, and the slack that is added to its eigenvalue.
TOLERANCE = 1e-5
#: Products before a small residual is believed: with a hundred thousand equal eigenvalues below the largest one,
#: the first vector has a small residual already, and only products bring out the largest.
FEWEST = 10
PRODUCTS = 3000
KEPT = 4
#: Bytes of the subspace and its image, where 64 vectors of each would take more.
MEMORY = 2**28


def operator_norm(
    apply: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device | None = None, seed: int = 0
) -> float:
    r"""max ||A v|| / ||v||, from above: larger than the norm by at most half of TOLERANCE, relatively.

    Args:
        apply: v -> A v, linear, made of operations that autograd knows; v is float64.
        shape: of v.
        device: where v lies.
        seed: of the first vector; a Gaussian one is orthogonal to no eigenvector.

    Raises:
        ProbeError: no convergence.

    >>> round(operator_norm(lambda v: v * torch.tensor([3.0, 1.0, -5.0]).double(), (3,)), 4)
    5.0
    """
    start = torch.randn(*shape, generator=stream(seed, "operator norm"), dtype=torch.float64).to(device)
    n = start.numel()
    most = min(n, max(2 * KEPT, min(64, MEMORY // (16 * n))))
    Q, Z = start.new_empty(most, n), start.new_empty(most, n)  # rows: the subspace, and A'A of it
    q, size = start.flatten() / start.norm(), 0
    for product in range(1, PRODUCTS + 1):
        Q[size], Z[size] = q, _normal(apply, q.view(shape)).flatten()
        size += 1
        values, vectors = torch.linalg.eigh(_symmetric(Q[:size] @ Z[:size].T))
        best = vectors[:, -1]
        theta = float(values[-1].clamp_min(0.0))
        r = best @ Z[:size] - theta * (best @ Q[:size])
        residual = float(r.norm())
        exhausted = residual <= 1e-12 * theta or size == n  # an invariant subspace, or all of them
        if exhausted or (product >= FEWEST and residual <= TOLERANCE * theta):
            return math.sqrt(theta * (1 + TOLERANCE))
        if size == most:
            top = vectors[:, -min(KEPT, size - 1) :].T
            size = len(top)
            Q[:size], Z[:size] = top @ Q, top @ Z
        for _ in range(2):  # twice is enough (Kahan)
            r = r - (Q[:size] @ r) @ Q[:size]
            r = r / r.norm()
        q = r
    raise ProbeError(f"the spectral norm of a map of {n} numbers did not settle within {PRODUCTS} products")


def _normal(apply: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """A'A v: the gradient of ||A v||^2 / 2."""
    with torch.enable_grad():
        x = v.detach().requires_grad_()
        y = apply(x)
        if not y.requires_grad:  # A = 0
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(y, x, y.detach())
    return product.detach()


def _symmetric(H: Tensor) -> Tensor:
    return (H + H.T) / 2
