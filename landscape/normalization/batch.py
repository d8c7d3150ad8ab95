"""Batch normalization, and no normalization at all.

``batch`` is torch's: in training the mean and biased variance of the batch, in eval running averages. One value per
unit in training (batch size 1 without space) is refused: its variance is 0 and the output would be beta, whatever came
in. (N, F): over the batch; sequences (N, F, T): over batch and steps; images: over batch and space. The data-dependent
statistics make one sample's output depend on others.
"""

from __future__ import annotations

from torch import Tensor, nn

from landscape.normalization.base import (
    TWO_PER_UNIT,
    Normalization,
    by_dimensions,
    identity,
    require_two_values,
)


class _Checked(nn.modules.batchnorm._BatchNorm):
    """What the batch normalizations of each dimension share: torch's own, with a refusal that says what to do."""

    def _check_input_dim(self, input: Tensor) -> None:
        super()._check_input_dim(input)  # type: ignore[no-untyped-call]  # untyped in torch
        require_two_values(self, input)


class BatchNorm1d(_Checked, nn.BatchNorm1d):
    """torch's batch normalization of (N, F) and (N, C, L).

    >>> BatchNorm1d(2).state_dict().keys() == nn.BatchNorm1d(2).state_dict().keys()
    True
    """


class BatchNorm2d(_Checked, nn.BatchNorm2d):
    """torch's batch normalization of (N, C, H, W)."""


class BatchNorm3d(_Checked, nn.BatchNorm3d):
    """torch's batch normalization of volumes."""


def batch_norm(features: int, ndim: int) -> nn.Module:
    """torch's batch normalization for activations of ``ndim`` dimensions.

    Raises:
        UsageError: ``ndim`` is not 2, 3, 4 or 5.
    """
    classes = {2: BatchNorm1d, 3: BatchNorm1d, 4: BatchNorm2d, 5: BatchNorm3d}
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
