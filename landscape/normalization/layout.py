"""Where the units are: modules for (N, F) at each step of a sequence, and sequences with the units last."""

from __future__ import annotations

from torch import Tensor, nn


class EachStep(nn.Module):
    """A module for activations (N, F), applied alike to every step of a sequence (N, F, T).

    So no step sees another: the statistics are those that the same module takes in a transformer or a recurrent
    network, and nothing of the future leaks into the past.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, y: Tensor) -> Tensor:
        """(N, F, T) to (N, F, T)."""
        steps = y.transpose(1, 2)
        normalized: Tensor = self.norm(steps.flatten(0, 1))
        return normalized.reshape(steps.shape).transpose(1, 2)


class UnitsLast(nn.Module):
    """A module for activations with units on dimension 1, applied to activations that have them last."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, y: Tensor) -> Tensor:
        """(N, ..., F) to (N, ..., F)."""
        normalized: Tensor = self.norm(y.movedim(-1, 1))
        return normalized.movedim(1, -1)


def units_last(norm: nn.Module) -> nn.Module:
    """``norm``, built for (N, F, T), as a module for (N, T, F): the layout of transformers and recurrent networks.

    >>> import torch
    >>> from landscape.normalization import normalization
    >>> y = torch.randn(2, 5, 8)  # 2 sequences of 5 steps with 8 units
    >>> norm = units_last(normalization("layer").build(8, 3))
    >>> bool(torch.allclose(norm(y), torch.nn.functional.layer_norm(y, (8,)), atol=1e-6))
    True
    """
    return norm if isinstance(norm, nn.Identity) else UnitsLast(norm)
