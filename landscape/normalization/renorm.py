r"""Batch renormalization: batch normalization that trains on nearly what it evaluates with.

    z = gamma ((y - mean_B) / std_B * r + d) + beta
    r = clip(std_B / std, 1/r_max, r_max),    d = clip((mean_B - mean) / std, -d_max, d_max)

with the batch's mean_B and std_B = sqrt(var_B + 1e-5), and running averages mean and std. r and d are held constant
in the backward pass. In eval z = gamma (y - mean) / std + beta. One value per unit in training is refused.

The schedule: r_max = 1 and d_max = 0, which is batch normalization, for a warm-up of W batches; from there d_max
grows in a straight line to 5 at batch 5 W, and r_max to 3 at batch 8 W. The paper has W = 5000 in a run of 160000
steps ("batch-renorm:5000"); plain "batch-renorm" has W = 50, since runs here are about that much shorter. Running
averages have momentum 0.1, as batch normalization has here (the paper: 0.01).
(N, F): over the batch; sequences: over batch and steps; images: over batch and space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.normalization.base import TWO_PER_UNIT, Normalization, per_unit, require_two_values


class BatchRenorm(nn.Module):
    """Batch renormalization of activations (N, units, ...).

    Args:
        features: how many units.
        warmup: batches of plain batch normalization, W of the schedule.
        eps: added to the variance.
        momentum: weight of the newest batch in the running averages.

    >>> norm = BatchRenorm(1, warmup=1)
    >>> [round(float(bound), 2) for bound in norm.bounds()]  # r_max and d_max before the first batch
    [1.0, 0.0]
    """

    units_dim = 1
    weight: Tensor  # (features,) gamma
    bias: Tensor  # (features,) beta
    running_mean: Tensor  # (features,)
    running_std: Tensor  # (features,)
    num_batches_tracked: Tensor  # ()

    def __init__(self, features: int, warmup: int = 50, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.features, self.warmup, self.eps, self.momentum = features, warmup, eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_std", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """r_max and d_max at this batch of the schedule."""
        warmups = self.num_batches_tracked.double() / self.warmup
        return 1 + 2 * ((warmups - 1) / 7).clamp(0, 1), 5 * ((warmups - 1) / 4).clamp(0, 1)

    def forward(self, y: Tensor) -> Tensor:
        """Renormalize in training mode, normalize by the running statistics in eval mode.

        Raises:
            UsageError: one value per unit in training mode.
        """
        require_two_values(self, y)
        if self.training:
            dims = [d for d in range(y.ndim) if d != 1]
            mean, std = y.mean(dims), (y.var(dims, correction=0) + self.eps).sqrt()
            r, d = self._corrections(mean.detach(), std.detach())
            self._track(mean.detach(), std.detach())
            scale = r / std
        else:
            mean, d = self.running_mean, torch.zeros_like(self.running_mean)
            scale = 1 / self.running_std
        normalized = (y - per_unit(mean, y)) * per_unit(scale, y) + per_unit(d, y)
        return normalized * per_unit(self.weight, y) + per_unit(self.bias, y)

    def _corrections(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """r and d, from copies of the running averages, which move afterwards."""
        r_max, d_max = (bound.to(mean.dtype) for bound in self.bounds())
        r = (std / self.running_std).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / self.running_std).clamp(-d_max, d_max)
        return r, d

    @torch.no_grad()
    def _track(self, mean: Tensor, std: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_std.lerp_(std.to(self.running_std.dtype), self.momentum)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.features}, warmup={self.warmup}, eps={self.eps}, momentum={self.momentum}"


def renorm(argument: str) -> Normalization:
    """Batch renormalization with a warm-up of ``argument`` batches.

    Raises:
        UsageError: ``argument`` is not a whole number from 1 on.

    >>> renorm("5000").build(4, 2)
    BatchRenorm(4, warmup=5000, eps=1e-05, momentum=0.1)
    """
    if not argument.isascii() or not argument.isdigit() or int(argument) < 1:
        raise UsageError(
            f"normalization 'batch-renorm:{argument}': the warm-up has to be a whole number of batches from 1 on, "
            "as in 'batch-renorm:5000'"
        )
    return _entry(f"batch-renorm:{int(argument)}", int(argument))


def _entry(name: str, warmup: int) -> Normalization:
    return Normalization(
        name=name,
        formula="z = gamma ((y - mean_B) / std_B r + d) + beta, r = clip(std_B / std), d = clip((mean_B - mean)/std), "
        f"held constant in backward, clipped less and less after {warmup} batches",
        source="Ioffe 2017, arXiv 1702.03275",
        over="batch and space, per unit, corrected towards the running averages",
        needs=TWO_PER_UNIT,
        build=lambda features, ndim: BatchRenorm(features, warmup),
        held="r and d",
    )


BATCH_RENORM = _entry("batch-renorm", 50)
