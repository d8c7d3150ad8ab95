r"""How noisy the statistics of a mini-batch are: what batch normalization adds to its input by looking at few examples.

    mean_noise^2 = mean over units of Var_b(mean_b) / Var(y),    std_noise^2 = mean over units of Var_b(std_b) / Var(y)

with mean_b and std_b of a unit over mini-batch b and Var(y) over all of them. For m independent values in a mini-batch
mean_noise = 1 / sqrt(m); the pixels of an image are not independent, so that m lies between images and pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.objective import Batch, LossFunction, Objective, as_batches
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment
from landscape.sites import Part, collect

VERSION = 2


@dataclass(frozen=True)
class StatisticsNoise:
    """Spread of mini-batch statistics at the inputs of l normalizations.

    Attributes:
        layers: names of the normalizations.
        mean_noise: of the mean, in standard deviations of the unit. (l,)
        std_noise: of the standard deviation, in the same unit. (l,)
    """

    layers: tuple[str, ...]
    mean_noise: Tensor
    std_noise: Tensor


def statistics_noise(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    layers: Sequence[str] | None = None,
    *,
    statistics: str = "batch",
) -> StatisticsNoise:
    """How far mean and standard deviation of a unit vary from mini-batch to mini-batch, before each normalization.

    Args:
        model: any ``nn.Module`` with normalizations.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batches: ``Batches`` or a list of mini-batches, two or more of the size that is asked about.
        layers: module names; a name also stands for everything below it. All if None.
        statistics: "batch" or "running".

    Raises:
        UsageError: fewer than two mini-batches.
        ProbeError: no normalization was called.

    Cost: a forward pass for each mini-batch. Memory: inputs of all normalizations over all of them.

    >>> from landscape.objective import Batches
    >>> net = nn.Sequential(nn.BatchNorm1d(1))
    >>> two = [torch.tensor([[0.0], [2.0]]), torch.tensor([[2.0], [4.0]])]  # means 1 and 3, of all the variance is 2
    >>> noise = statistics_noise(net, lambda m, x: m(x).mean(), Batches(two))
    >>> float(noise.mean_noise[0]), float(noise.std_noise[0])
    (1.0, 0.0)
    """
    parts = as_batches(batches)
    if len(parts) < 2:
        raise UsageError("the noise of statistics is a spread over mini-batches: pass two or more")
    with preserved(model) as snapshot, torch.inference_mode(False), torch.no_grad():
        objective = Objective(model, loss_fn, snapshot, statistics=statistics)
        found = collect(objective, parts, layers, ("pre-norm",))
    if not found:
        raise ProbeError(f"no normalization module was called in {type(model).__name__}")
    rows = [_noise(seen) for seen in found.values()]
    mean, std = (torch.stack(column) for column in zip(*rows, strict=True))
    return StatisticsNoise(tuple(layer for layer, _ in found), mean, std)


def _noise(parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    values = [part.values.double() for part in parts]  # (C, S) each
    variance = torch.cat(values, dim=1).var(1, correction=0)
    alive = variance > 1e-14 * variance.max()

    def spread(numbers: list[Tensor]) -> Tensor:
        relative: Tensor = torch.stack(numbers).var(0, correction=1)[alive] / variance[alive]
        return relative.mean().sqrt()

    return spread([v.mean(1) for v in values]), spread([v.std(1, correction=0) for v in values])


class StatisticsNoiseProbe:
    """``statistics_noise`` inside a training loop, over the mini-batches of the full loss.

    Args:
        layers: module names, all if None.
    """

    name = "statistics_noise"
    version = VERSION

    def __init__(self, layers: Sequence[str] | None = None) -> None:
        self.layers = layers

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return full / 3

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One forward pass over the full loss's mini-batches."""
        found = statistics_noise(moment.model, moment.loss_fn, moment.named("full"), self.layers)
        for quantity in ("mean_noise", "std_noise"):
            for layer, number in zip(found.layers, getattr(found, quantity).tolist(), strict=True):
                yield Measurement(
                    self.name, quantity, number, layer=layer, batch="full", dtype="float64", version=VERSION
                )
