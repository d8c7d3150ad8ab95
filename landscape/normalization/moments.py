"""Mean and standard deviation of a nonlinearity under a standard Gaussian, and the nonlinearity rescaled by them."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import UsageError


@torch.no_grad()
def gaussian_moments(nonlinearity: nn.Module) -> tuple[float, float]:
    """E f(Z) and the standard deviation of f(Z), Z ~ N(0, 1), by Gauss-Legendre quadrature on intervals of 1/2.

    Exact to rounding for smooth f and for those whose kinks lie at whole numbers and halves (ReLU, ReLU6, hard tanh,
    soft shrinkage). In float64, on a copy.

    Raises:
        UsageError: f is not one function of single numbers: values per unit, a softmax.

    >>> mean, std = gaussian_moments(nn.ReLU())
    >>> math.isclose(mean, math.sqrt(1 / (2 * math.pi))), math.isclose(std, math.sqrt((1 - 1 / math.pi) / 2))
    (True, True)
    """
    nodes, weights = np.polynomial.legendre.leggauss(20)
    starts = np.arange(-12, 12, 0.5)[:, None]
    z = torch.from_numpy((starts + (nodes + 1) / 4).ravel())
    density = torch.from_numpy(np.tile(weights / 4, len(starts))) * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    f = _values(nonlinearity, z)
    mean = float(density @ f)
    return mean, math.sqrt(float(density @ (f - mean).square()))


def _values(nonlinearity: nn.Module, z: Tensor) -> Tensor:
    """f at each of ``z``."""
    kind = type(nonlinearity).__name__
    exact = copy.deepcopy(nonlinearity).eval().to("cpu", torch.float64)
    half = len(z) // 2
    try:
        f: Tensor = exact(z)
        alone: Tensor = exact(z[half:])
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"the moments of a {kind} are those of a function of single numbers, and it does not take them as such "
            f"({error}): use one with the same values for all units, as nn.PReLU(), or another normalization"
        ) from error
    if f.shape != z.shape or not torch.allclose(f[half:], alone, rtol=1e-9, atol=1e-12):
        raise UsageError(
            f"the moments of a {kind} are those of a function of single numbers, and its values depend on several: "
            "use an elementwise nonlinearity, or another normalization"
        )
    return f


class Rescaled(nn.Module):
    """(f(y) - mean) / std, elementwise, for a nonlinearity f.

    >>> Rescaled(nn.ReLU(), 1.0, 2.0)(torch.tensor([5.0]))
    tensor([2.])
    """

    site = "nonlinearity"

    def __init__(self, nonlinearity: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.nonlinearity, self.mean, self.std = nonlinearity, mean, std

    def forward(self, y: Tensor) -> Tensor:
        """Any shape to the same."""
        f: Tensor = self.nonlinearity(y)
        return (f - self.mean) / self.std

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"mean={self.mean:.6g}, std={self.std:.6g}"
