"""Batch normalization per time step, for sequences: each step has statistics of its own.

The mean and variance of a unit at step t are over the batch alone; gamma and beta are shared by all steps. In eval the
running averages of each step are used, and those of the last one that is kept beyond it. A training batch of one
sequence is refused. Without steps, in (N, F) and (N, C, H, W), it is batch normalization.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.normalization.base import Normalization, one_value, per_unit
from landscape.normalization.batch import batch_norm


class BatchNormPerStep(nn.Module):
    """Batch normalization of sequences (N, units, T), with statistics per unit and step.

    Args:
        features: how many units.
        steps: for how many steps running averages are kept; later ones are evaluated with the last.
        eps: added to the variance.
        momentum: weight of the newest batch in the running averages.

    >>> y = torch.tensor([[[1.0, 10.0]], [[3.0, 30.0]]])  # one unit, two steps
    >>> BatchNormPerStep(1)(y).detach().round()[:, 0]
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """

    units_dim = 1
    weight: Tensor  # (features,) gamma
    bias: Tensor  # (features,) beta
    running_mean: Tensor  # (steps, features)
    running_var: Tensor  # (steps, features)

    def __init__(self, features: int, steps: int = 128, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.features, self.steps, self.eps, self.momentum = features, steps, eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(steps, features))
        self.register_buffer("running_var", torch.ones(steps, features))

    def forward(self, y: Tensor, first: int = 0) -> Tensor:
        """Normalize steps ``first``, ``first`` + 1, ... of a sequence: (N, units, T) to the same shape.

        Raises:
            UsageError: one sequence in training mode.
        """
        if self.training:
            if len(y) < 2:
                raise one_value(self, y, " at each step")
            mean, var = y.mean(0), y.var(0, correction=0)
            self._track(mean.detach().T, var.detach().T * len(y) / (len(y) - 1), first)
        else:
            rows = torch.arange(first, first + y.shape[2], device=y.device).clamp(max=self.steps - 1)
            mean, var = self.running_mean[rows].T, self.running_var[rows].T
        normalized = (y - mean) * torch.rsqrt(var + self.eps)
        return normalized * per_unit(self.weight, y) + per_unit(self.bias, y)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, first: int) -> None:
        kept = max(0, min(len(mean), self.steps - first))
        self.running_mean[first : first + kept].lerp_(mean[:kept].to(self.running_mean.dtype), self.momentum)
        self.running_var[first : first + kept].lerp_(var[:kept].to(self.running_var.dtype), self.momentum)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.features}, steps={self.steps}, eps={self.eps}, momentum={self.momentum}"


def _batch_per_step(features: int, ndim: int) -> nn.Module:
    return BatchNormPerStep(features) if ndim == 3 else batch_norm(features, ndim)


BATCH_PER_STEP = Normalization(
    name="batch-per-step",
    formula="z_t = gamma (y_t - mean_t) / sqrt(var_t + 1e-5) + beta",
    source="Cooijmans et al. 2017, arXiv 1603.09025",
    over="batch, per unit and time step; what is no sequence as in 'batch'",
    needs="at least 2 values per unit and step in training: batch size >= 2",
    build=_batch_per_step,
)
