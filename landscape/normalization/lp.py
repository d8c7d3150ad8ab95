r"""l_p normalization: batch normalization with another norm in place of the standard deviation.

    z = gamma (y - mean(y)) / sqrt(norm_p(y)^2 + eps) + beta,    norm_p(y) = (mean |y|^p)^(1/p)

with mean and norm over batch and space, per unit. norm_p is the average l_p norm of the activation
*before* its mean is subtracted: mean |y| for p = 1, sqrt(mean y^2) for p = 2, max |y| for p = inf.

Readings chosen where the paper leaves a choice: "average" is over batch and space (for p = inf the
average over n values, n^(-1/p) ||y||_p, tends to the maximum itself); eps = 1e-5 stands where batch
normalization has it, so that a unit at rest is scaled alike by both; in eval mode running averages of mean
and norm are used, as in batch normalization. At a kink of |y| or max |y| the derivative is torch's (0 at y = 0).

lp:2 is not batch normalization: its norm^2 is var + mean^2, so a unit with a mean leaves with a variance
of var / (var + mean^2) < 1. The two agree where pre-activations have no mean, as in a linear network on
centred data. There, with Gaussian y, the output has a standard deviation of sqrt(pi/2) = 1.25 for p = 1, 1 for
p = 2, and one that falls with the batch for p = inf (about 0.35 at 200 samples).

One value per unit in training is refused. (N, F): over the batch; sequences: over batch and steps; images: over batch
and space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.normalization.base import TWO_PER_UNIT, Normalization, require_two_values, shortest


class LpNorm(nn.Module):
    """l_p normalization of activations (N, units, ...), with running statistics for eval mode.

    Args:
        features: how many units.
        p: the norm's order, 1 <= p <= inf.
        eps: added to the squared norm.
        momentum: weight of the newest batch in the running averages; None for the plain average over batches.

    >>> y = torch.tensor([[1.0], [3.0]])  # mean 2, mean |y| 2
    >>> LpNorm(1, p=1.0)(y).detach().flatten()
    tensor([-0.5000,  0.5000])
    """

    units_dim = 1
    weight: Tensor  # (features,) gamma
    bias: Tensor  # (features,) beta
    running_mean: Tensor  # (features,)
    running_norm: Tensor  # (features,)
    num_batches_tracked: Tensor  # ()

    def __init__(self, features: int, p: float, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.features, self.p, self.eps, self.momentum = features, p, eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_norm", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def reset_running_stats(self) -> None:
        """Running statistics as at the start: mean 0, norm 1, no batches seen."""
        self.running_mean.zero_()
        self.running_norm.fill_(1)
        self.num_batches_tracked.zero_()

    def forward(self, y: Tensor) -> Tensor:
        """Normalize by this batch's statistics in training mode, by the running ones in eval mode.

        Raises:
            UsageError: one value per unit in training mode.
        """
        require_two_values(self, y)
        if self.training:
            dims = [d for d in range(y.ndim) if d != 1]
            mean = y.mean(dims)
            squared = self._squared_norm(y, dims)
            self._track(mean.detach(), squared.detach().sqrt())
        else:
            mean, squared = self.running_mean, self.running_norm.square()
        shape = (1, -1, *[1] * (y.ndim - 2))  # (1, units, 1, 1)
        scale = self.weight * torch.rsqrt(squared + self.eps)
        return (y - mean.reshape(shape)) * scale.reshape(shape) + self.bias.reshape(shape)

    def _squared_norm(self, y: Tensor, dims: list[int]) -> Tensor:
        """norm_p(y)^2 per unit, with finite derivatives of both orders where a unit is 0 throughout."""
        if self.p == 2:
            return y.square().mean(dims)
        if math.isinf(self.p):
            return y.abs().amax(dims).square()
        power = y.abs().pow(self.p).mean(dims)
        zero = power == 0  # x^(2/p) has no derivative there
        return torch.where(zero, 0.0, torch.where(zero, 1.0, power).pow(2 / self.p))

    @torch.no_grad()
    def _track(self, mean: Tensor, norm: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        newest = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), newest)
        self.running_norm.lerp_(norm.to(self.running_norm.dtype), newest)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.features}, p={self.p:g}, eps={self.eps}, momentum={self.momentum}"


def lp(argument: str) -> Normalization:
    """The l_p normalization of order ``argument``: "1", "2", "inf", or any number from 1 on.

    Raises:
        UsageError: ``argument`` is not such a number.

    >>> lp("inf").name
    'lp:inf'
    """
    try:
        p = float(argument)
    except ValueError:
        p = math.nan
    if not p >= 1:
        raise UsageError(f"normalization 'lp:{argument}': p has to be a number from 1 on, or inf, as in 'lp:1'")
    averages = {1.0: "mean |y|", 2.0: "sqrt(mean y^2)", math.inf: "max |y|"}
    average = averages.get(p, f"(mean |y|^{shortest(p)})^(1/{shortest(p)})")
    return Normalization(
        name=f"lp:{shortest(p)}",
        formula=f"z = gamma (y - mean) / sqrt(norm^2 + 1e-5) + beta, norm = {average}",
        source="Santurkar et al. 2018, arXiv 1805.11604, section 3.3",
        over="batch and space, per unit; the norm before the mean is subtracted",
        needs=TWO_PER_UNIT,
        build=lambda features, ndim: LpNorm(features, p),
    )
