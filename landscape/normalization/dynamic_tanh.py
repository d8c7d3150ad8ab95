"""Dynamic tanh: no statistics, a squashing in their place.

Elementwise, so any batch size, any layout, alike in train and eval; alpha is one number per layer, 0.5 at the start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.normalization.base import Normalization, per_unit


class DynamicTanh(nn.Module):
    """gamma tanh(alpha y) + beta for activations (N, units, ...).

    >>> DynamicTanh(1)(torch.tensor([[2.0]])).item()  # tanh(1)
    0.7615941762924194
    """

    units_dim = 1
    site = "norm"

    def __init__(self, features: int, alpha: float = 0.5) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, y: Tensor) -> Tensor:
        """(N, units, ...) to the same shape."""
        return torch.tanh(self.alpha * y) * per_unit(self.weight, y) + per_unit(self.bias, y)


DYNAMIC_TANH = Normalization(
    name="dynamic-tanh",
    formula="z = gamma tanh(alpha y) + beta",
    source="Zhu et al. 2025, arXiv 2503.10622",
    over="nothing: elementwise; gamma and beta per unit, alpha per layer",
    needs="nothing (any batch size)",
    build=lambda features, ndim: DynamicTanh(features),
)
