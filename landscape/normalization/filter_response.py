r"""Filter response normalization with its thresholded linear unit: no mean, no batch.

    z = gamma y / sqrt(mean y^2 + |eps|) + beta,    TLU(z) = max(z, tau)

with the mean over space, per unit and sample: any batch size, alike in train and eval. The TLU, with a trained tau per
unit (0 at the start), stands where the network has a ReLU; another nonlinearity stays as it is.

Images and sequences (over time): eps = 1e-6. (N, F) has no space, and y / |y| would be the sign of y alone, so eps is
trained there, as the paper does for such layers: 1e-6 + |eps_l| with eps_l = 1e-4 at the start, per unit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.normalization.base import Normalization, per_unit


class FilterResponseNorm(nn.Module):
    """Filter response normalization of activations (N, units, ...).

    Args:
        features: how many units.
        learned_eps: whether eps is trained, for layers without space.

    >>> y = torch.tensor([[[1.0, 7.0]]])  # one unit, two positions: root mean square 5
    >>> FilterResponseNorm(1)(y).detach().flatten()
    tensor([0.2000, 1.4000])
    """

    units_dim = 1

    def __init__(self, features: int, learned_eps: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.eps = 1e-6
        self.learned_eps = nn.Parameter(torch.full((features,), 1e-4)) if learned_eps else None

    def forward(self, y: Tensor) -> Tensor:
        """(N, units, ...) to the same shape."""
        square = y.square().mean(tuple(range(2, y.ndim)), keepdim=True) if y.ndim > 2 else y.square()
        eps = self.eps if self.learned_eps is None else self.eps + per_unit(self.learned_eps.abs(), y)
        return y * torch.rsqrt(square + eps) * per_unit(self.weight, y) + per_unit(self.bias, y)


class TLU(nn.Module):
    """The thresholded linear unit: max(y, tau), tau per unit.

    >>> TLU(1)(torch.tensor([[-1.0], [2.0]])).detach().flatten()
    tensor([0., 2.])
    """

    units_dim = 1
    site = "nonlinearity"

    def __init__(self, features: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(features))

    def forward(self, y: Tensor) -> Tensor:
        """(N, units, ...) to the same shape."""
        return torch.maximum(y, per_unit(self.tau, y))


def _filter_response(features: int, ndim: int) -> nn.Module:
    return FilterResponseNorm(features, learned_eps=ndim == 2)


def _tlu(nonlinearity: nn.Module, features: int, ndim: int) -> nn.Module:
    return TLU(features) if isinstance(nonlinearity, nn.ReLU) else nonlinearity


FILTER_RESPONSE = Normalization(
    name="filter-response",
    formula="z = gamma y / sqrt(mean y^2 + |eps|) + beta, and max(z, tau) in place of a ReLU",
    source="Singh & Krishnan 2020, arXiv 1911.09737",
    over="space (or time) of one sample, per unit; gamma, beta and tau per unit",
    needs="nothing (any batch size)",
    build=_filter_response,
    activation=_tlu,
)
