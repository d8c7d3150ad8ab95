"""Batch normalization, and no normalization at all."""

from __future__ import annotations

from torch import nn

from landscape.errors import UsageError
from landscape.normalization.base import Normalization


def _identity(features: int, ndim: int) -> nn.Module:
    return nn.Identity()


def batch_norm(features: int, ndim: int) -> nn.Module:
    """torch's batch normalization for activations of ``ndim`` dimensions.

    Raises:
        UsageError: ``ndim`` is not 2, 3 or 4.
    """
    if ndim in (2, 3):
        return nn.BatchNorm1d(features)
    if ndim == 4:
        return nn.BatchNorm2d(features)
    raise UsageError(f"batch normalization is for activations of 2, 3 or 4 dimensions, not {ndim}")


NONE = Normalization(
    name="none",
    formula="z = y",
    source="-",
    over="nothing",
    needs="nothing",
    build=_identity,
)

BATCH = Normalization(
    name="batch",
    formula="z = gamma (y - mean) / sqrt(var + 1e-5) + beta",
    source="Ioffe & Szegedy 2015, arXiv 1502.03167",
    over="batch and space, per unit",
    needs="at least 2 values per unit in training: batch size >= 2 (or space beyond 1x1)",
    build=batch_norm,
)
