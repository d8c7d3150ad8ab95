r"""Moments of what flows through each nonlinearity: are its inputs Gaussian, are its outputs N(0, 1)?

Analytic normalizations rest on a premise that a network may leave while it trains: Gaussian pre-activations (Arpit et
al. 2016), or layers whose mean and variance stay near (0, 1) (Klambauer et al. 2017).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError
from landscape.objective import Batch, LossFunction, Objective
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment
from landscape.sites import collect

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
SITES = ("nonlinearity input", "nonlinearity output")


@dataclass(frozen=True)
class LayerMoments:
    """Moments at the input and the output of l nonlinearities, in the order of their calls; in float64.

    Attributes:
        layers: names of the nonlinearities ("#2" at the second call in one forward).
        mean: over all units and samples; row 0 at the input, row 1 at the output. (2, l)
        variance: the same, around that mean. (2, l)
        skewness: of each unit over samples, mean over units; units that are constant are left out. (2, l)
        excess_kurtosis: the same; 0 for a Gaussian. (2, l)
        gaussian_distance: Kolmogorov-Smirnov distance of each unit, standardized by its own mean and deviation, from
            N(0, 1), mean over units. About 0.6 / sqrt(S) for S samples that are Gaussian. (2, l)
    """

    layers: tuple[str, ...]
    mean: Tensor
    variance: Tensor
    skewness: Tensor
    excess_kurtosis: Tensor
    gaussian_distance: Tensor

    def frame(self) -> pd.DataFrame:
        """One row per nonlinearity and site; synchronises."""
        import pandas as pd

        rows = [dataclasses.asdict(m) for m in _rows("", self)]
        wide = pd.DataFrame(rows).pivot(index=["layer", "variant"], columns="quantity", values="value")
        return wide.reindex(pd.MultiIndex.from_product([self.layers, SITES], names=wide.index.names)).reset_index()


def layer_moments(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    layers: Sequence[str] | None = None,
    *,
    statistics: str = "batch",
) -> LayerMoments:
    """Moments at the input and the output of each nonlinearity.

    Args:
        model: any ``nn.Module`` whose nonlinearities are modules.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: a nest of tensors, or ``Batches``.
        layers: module names; a name also stands for everything below it. All if None.
        statistics: "batch" or "running".

    Raises:
        ProbeError: no nonlinearity was called.

    Cost: one forward pass. Memory: inputs and outputs of the nonlinearities over all of ``batch``.

    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> nn.init.ones_(net[0].weight).shape
    torch.Size([1, 1])
    >>> moments = layer_moments(net, lambda m, x: m(x).sum(), torch.tensor([[1.0], [-1.0]]))
    >>> moments.mean[:, 0].tolist(), moments.variance[:, 0].tolist()
    ([0.0, 0.5], [1.0, 0.25])
    """
    with preserved(model) as snapshot, torch.inference_mode(False), torch.no_grad():
        objective = Objective(model, loss_fn, snapshot, statistics=statistics)
        found = collect(objective, batch, layers, SITES)
    if not found:
        raise ProbeError("no nonlinearity module was called: activations that are functions (F.relu) can't be seen")
    names = tuple(dict.fromkeys(layer for layer, _ in found))
    values = [[torch.cat([part.values for part in found[name, site]], dim=1) for name in names] for site in SITES]
    columns = [[torch.stack(column) for column in zip(*map(_moments, at), strict=True)] for at in values]
    return LayerMoments(names, *(torch.stack(pair) for pair in zip(*columns, strict=True)))


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Mean and variance of all; skewness, excess kurtosis and distance from a Gaussian, mean over units. (C, S)."""
    values = values.double()
    centred = values - values.mean(1, keepdim=True)
    std = centred.square().mean(1).sqrt()
    z = (centred / std[:, None])[std > 1e-7 * std.max()]
    samples = z.shape[1]
    below = torch.special.ndtr(z.sort(dim=1).values)
    rank = torch.arange(samples + 1, dtype=z.dtype, device=z.device) / samples
    distance = torch.maximum(rank[1:] - below, below - rank[:-1]).amax(1).mean()
    variance, mean = torch.var_mean(values, correction=0)
    return mean, variance, z.pow(3).mean(), z.pow(4).mean() - 3, distance


def _rows(probe: str, found: LayerMoments, **plain: Any) -> Iterable[Measurement]:
    for item in dataclasses.fields(found):
        value = getattr(found, item.name)
        if not isinstance(value, Tensor):
            continue
        for site, numbers in zip(SITES, value.tolist(), strict=True):
            for layer, number in zip(found.layers, numbers, strict=True):
                yield Measurement(probe, item.name, number, layer=layer, variant=site, dtype="float64", **plain)


class MomentsProbe:
    """``layer_moments`` inside a training loop.

    Args:
        layers: module names, all if None.
        on: "fixed" (one mini-batch, the same at every moment), "same" (that of the step) or "full".
        statistics: "batch" or "running".
    """

    name = "moments"
    version = VERSION

    def __init__(self, layers: Sequence[str] | None = None, on: str = "fixed", statistics: str = "batch") -> None:
        self.layers, self.on, self.statistics = layers, on, statistics

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return (full if self.on == "full" else 1) / 3

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One forward pass at this moment."""
        on = "same" if self.on == "fixed" and "fixed" not in moment.batches else self.on
        found = layer_moments(moment.model, moment.loss_fn, moment.named(on), self.layers, statistics=self.statistics)
        yield from _rows(self.name, found, batch=on, statistics=self.statistics, version=VERSION)
