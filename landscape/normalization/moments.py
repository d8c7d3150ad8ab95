"""Mean and standard deviation of a nonlinearity under a standard Gaussian, and the nonlinearity rescaled by them."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def gaussian_moments(nonlinearity: nn.Module) -> tuple[float, float]:
    """E f(Z) and the standard deviation of f(Z), Z ~ N(0, 1), by Gauss-Legendre quadrature on unit intervals.

    Exact to rounding for smooth f and for those whose kinks lie at whole numbers (ReLU, ReLU6, hard tanh).

    >>> mean, std = gaussian_moments(nn.ReLU())
    >>> math.isclose(mean, math.sqrt(1 / (2 * math.pi))), math.isclose(std, math.sqrt((1 - 1 / math.pi) / 2))
    (True, True)
    """
    nodes, weights = np.polynomial.legendre.leggauss(20)
    starts = np.arange(-12, 12)[:, None]
    z = torch.from_numpy((starts + (nodes + 1) / 2).ravel())
    density = torch.from_numpy(np.tile(weights / 2, len(starts))) * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    f: Tensor = copy.deepcopy(nonlinearity).eval()(z)
    mean = float(density @ f)
    return mean, math.sqrt(float(density @ (f - mean).square()))


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
