r"""Do the statistics of a layer differ from one time step (position) of its sequences to the next?

With m_t and s_t a unit's mean and standard deviation at position t over the sequences of a batch, and m and s those
over all positions together: (m_t - m) / s, s_t / s, and the share of s^2 that lies between positions. Statistics over
all steps (Laurent et al. 2016) fit where that share is 0; those of each step (Cooijmans et al. 2017) in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError
from landscape.objective import Batch, Batches, LossFunction, Objective, batch_size, tensors_of
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment, measurements
from landscape.sites import collect

VERSION = 1


@dataclass(frozen=True)
class PositionStatistics:
    """Outputs of l layers at T positions.

    Attributes:
        layers: names of the layers whose outputs are one row per token.
        mean: root mean square over units of (m_t - m) / s. (l, T)
        std: mean over units of s_t / s. (l, T)
        between: mean over units of the share of s^2 between positions, what chance alone adds taken off. (l,)
    """

    layers: tuple[str, ...]
    mean: Tensor
    std: Tensor
    between: Tensor


def position_statistics(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    layers: Sequence[str] | None = None,
    *,
    statistics: str = "batch",
) -> PositionStatistics:
    """Means and spreads at each position of a batch of sequences, against those over all positions.

    The share between positions is (mean over t of (m_t - m)^2 - (1 - 1/T) w / N) / s^2 with w the mean over t of the
    unbiased variances: 0 on average where the positions do not differ, whatever the number N of sequences.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: a nest of tensors whose first is (N, T, ...).
        layers: module names; a name also stands for everything below it. All if None.
        statistics: "batch" or "running".

    Returns:
        ``PositionStatistics``, in float64 on the CPU. Units that are constant count as 0 shift and spread.

    Raises:
        ProbeError: no layer's output has a row for each token, or several mini-batches were given.

    >>> net, x = nn.Linear(1, 1), torch.tensor([[[0.0], [1.0]], [[2.0], [3.0]]])
    >>> position_statistics(net, lambda m, x: m(x).mean(), x).std.shape
    torch.Size([1, 2])
    """
    if isinstance(batch, Batches):
        raise ProbeError("positions are compared within one mini-batch: pass it, not Batches")
    first = next(tensors_of(batch), None)
    count, steps = batch_size(batch), 0 if first is None or first.ndim < 2 else int(first.shape[1])
    with preserved(model) as snapshot, torch.inference_mode(False), torch.no_grad():
        objective = Objective(model, loss_fn, snapshot, statistics=statistics)
        found = collect(objective, batch, layers, ("output",))
    rows = {name: parts[0].values for (name, _), parts in found.items()}
    rows = {name: values for name, values in rows.items() if values.shape[1] == count * steps}
    if not rows or steps < 2 or count < 2:
        raise ProbeError(
            f"no layer of {type(model).__name__} has an output for each of {steps} positions of {count} sequences: "
            "this is for batches (N, T, ...) of two or more sequences of two or more steps"
        )
    columns = [_compare(values.double().cpu().view(len(values), count, steps)) for values in rows.values()]
    return PositionStatistics(tuple(rows), *(torch.stack(part) for part in zip(*columns, strict=True)))


def _compare(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of (units, N, T): (T,), (T,) and ()."""
    count, steps = values.shape[1:]
    total = values.var(dim=(1, 2), correction=0)
    size = torch.where(total > 0, total, torch.ones_like(total))[:, None]
    moved = values.mean(1) - values.mean((1, 2))[:, None]  # (units, T)
    within = values.var(1, correction=1)
    chance = (1 - 1 / steps) * within.mean(1) / count
    between = (moved.square().mean(1) - chance) / size[:, 0]
    spread = (values.var(1, correction=0) / size).sqrt()
    return (moved.square() / size).mean(0).sqrt(), spread.mean(0), between.mean()


class PositionsProbe:
    """``position_statistics`` of the mini-batch of the step, inside a training loop.

    Args:
        layers: module names, all if None.
        statistics: "batch" or "running".
    """

    name = "positions"
    version = VERSION

    def __init__(self, layers: Sequence[str] | None = None, statistics: str = "batch") -> None:
        self.layers, self.statistics = layers, statistics

    def passes(self, full: int, layers: int) -> float:
        """Cost in forward+backward passes: one forward."""
        return 1 / 3

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One forward pass at this moment; the index is the position."""
        found = position_statistics(moment.model, moment.loss_fn, moment.batch, self.layers, statistics=self.statistics)
        for k, layer in enumerate(found.layers):
            values = {"between": found.between[k], "mean": found.mean[k], "std": found.std[k]}
            yield from measurements(self, values, layer=layer, statistics=self.statistics, dtype="float64")
