r"""EvoNorm-S0: normalization and nonlinearity in one operation that a search found.

    z = gamma y sigmoid(v y) / sqrt(var + 1e-5) + beta

with the variance over a group's units (and space) of one sample: any batch size, alike in train and eval. It stands in
the place of the nonlinearity, whatever that was, also where a network has none: the two can't be taken apart. Groups
are 8 or the largest divisor below, of two units at least (the paper: 32, in networks of 64 to 2048 channels).
(N, F): over a group's units; sequences: the same at each step; images: over a group's channels and space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.normalization.base import Normalization, identity, per_unit, require_two_units
from landscape.normalization.group import groups_of
from landscape.normalization.layout import EachStep


class EvoNormS0(nn.Module):
    """EvoNorm-S0 of activations (N, units, ...).

    Args:
        features: how many units.
        groups: into how many groups they fall; a divisor of ``features``.
        eps: added to the variance.

    >>> EvoNormS0(2, groups=1)(torch.tensor([[1.0, -1.0]])).detach()  # variance 1: y sigmoid(y)
    tensor([[ 0.7311, -0.2689]])
    """

    units_dim = 1
    site = "nonlinearity"
    elementwise = False

    def __init__(self, features: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.features, self.groups, self.eps = features, groups, eps
        self.v = nn.Parameter(torch.ones(features))
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, y: Tensor) -> Tensor:
        """(N, units, ...) to the same shape."""
        grouped = y.reshape(len(y), self.groups, -1)
        scale = torch.rsqrt(grouped.var(2, correction=0) + self.eps).repeat_interleave(self.features // self.groups, 1)
        gated = y * torch.sigmoid(per_unit(self.v, y) * y)
        normalized = gated * scale.reshape(len(y), self.features, *[1] * (y.ndim - 2))
        return normalized * per_unit(self.weight, y) + per_unit(self.bias, y)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.features}, groups={self.groups}, eps={self.eps}"


def _evonorm(nonlinearity: nn.Module, features: int, ndim: int) -> nn.Module:
    if ndim < 4:
        require_two_units(features, "EvoNorm-S0")
    norm = EvoNormS0(features, groups_of(features, 8))
    return EachStep(norm) if ndim == 3 else norm


EVONORM_S0 = Normalization(
    name="evonorm-s0",
    formula="z = gamma y sigmoid(v y) / sqrt(var + 1e-5) + beta, in place of the nonlinearity",
    source="Liu et al. 2020, arXiv 2004.02967",
    over="the units of a group of one sample (and space), 8 groups or the largest divisor below",
    needs="nothing (any batch size)",
    build=identity,
    activation=_evonorm,
)
