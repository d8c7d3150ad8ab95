"""Batch normalization, and no normalization at all.

``batch`` is torch's: in training the mean and biased variance of the batch, in eval running averages. One value per
unit in training (batch size 1 without space) is refused by torch. (N, F): over the batch; sequences (N, F, T): over
batch and steps; images: over batch and space. The data-dependent statistics make one sample's output depend on others.
"""

from __future__ import annotations

from torch import nn

from landscape.normalization.base import TWO_PER_UNIT, Normalization, by_dimensions, identity


def batch_norm(features: int, ndim: int) -> nn.Module:
    """torch's batch normalization for activations of ``ndim`` dimensions.

    Raises:
        UsageError: ``ndim`` is not 2, 3, 4 or 5.
    """
    classes = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    return by_dimensions(classes, features, ndim, "batch normalization")


NONE = Normalization(
    name="none",
    formula="z = y",
    source="-",
    over="nothing",
    needs="nothing",
    build=identity,
)

BATCH = Normalization(
    name="batch",
    formula="z = gamma (y - mean) / sqrt(var + 1e-5) + beta",
    source="Ioffe & Szegedy 2015, arXiv 1502.03167",
    over="batch and space, per unit",
    needs=TWO_PER_UNIT,
    build=batch_norm,
)
