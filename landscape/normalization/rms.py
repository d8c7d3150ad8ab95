"""Root mean square normalization: layer normalization without the mean.

Within a sample: any batch size, alike in train and eval. (N, F): over the units. Sequences (N, F, T): over the units
of one step. Images (N, C, H, W): over channels and space, gamma per channel, as layer normalization is here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.normalization.base import Normalization, per_unit
from landscape.normalization.layout import EachStep

EPS = 1e-5


class ImageRMSNorm(nn.Module):
    """Root mean square normalization of (N, C, H, W) over channels and space; torch's has no gamma per channel.

    >>> ImageRMSNorm(1)(torch.tensor([[[[3.0, 4.0]]]])).detach().flatten()  # rms sqrt(12.5)
    tensor([0.8485, 1.1314])
    """

    units_dim = 1

    def __init__(self, features: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, y: Tensor) -> Tensor:
        """(N, C, ...) to the same shape."""
        square = y.square().mean(tuple(range(1, y.ndim)), keepdim=True)
        return y * torch.rsqrt(square + self.eps) * per_unit(self.weight, y)


def _rms(features: int, ndim: int) -> nn.Module:
    if ndim > 3:
        return ImageRMSNorm(features)
    norm = nn.RMSNorm(features, eps=EPS)
    return EachStep(norm) if ndim == 3 else norm


RMS = Normalization(
    name="rms",
    formula="z = gamma y / sqrt(mean y^2 + 1e-5)",
    source="Zhang & Sennrich 2019, arXiv 1910.07467",
    over="all units of one sample (images: channels and space; sequences: each step), gamma per unit",
    needs="nothing (any batch size)",
    build=_rms,
)
