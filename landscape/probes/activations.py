r"""What flows through the network: per-unit distributions at each site, and how far they shift.

The shift between two moments is the Wasserstein-1 distance of each unit's distribution, divided by
the unit's earlier standard deviation (raw units would only measure scale), averaged over units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.objective import Batch, LossFunction, Objective
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment
from landscape.sites import SITES, Part, collect

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
PERCENTILES = (15.0, 50.0, 85.0)  # Ioffe & Szegedy 2015, figure 1
QUANTILES = 256  # points of each unit's stored quantile function
SAMPLES = 4096  # per unit, evenly spaced over batch and space, for quantiles and rank
BINS = 48
FLAT_SLOPE = 0.01  # |slope| of a nonlinearity below which an entry counts as saturated


@dataclass(frozen=True)
class SiteStatistics:
    """One site of one layer on one batch; C units, all tensors on the model's device.

    Attributes:
        layer: the module's name ("#2" at its second call in one forward).
        site: one of SITES.
        mean: per unit, over batch and space. (C,)
        std: per unit, biased. (C,)
        percentiles: the 15th, 50th and 85th of each unit. (3, C)
        quantiles: each unit's quantile function at midpoints; all samples in order where there are few. (C, Q)
        histogram: density over all units together, 48 bins between ``low`` and ``high``. (48,)
        low: smallest value.
        high: largest value.
        dead: fraction of units that nothing passes through: flat nonlinearity on the whole batch, or constant.
        saturated: fraction of entries where the nonlinearity's |slope| < 0.01; NaN at other sites.
        effective_rank: tr(K)^2 / ||K||_F^2 of the units' covariance K (Daneshmand et al. 2020).
    """

    layer: str
    site: str
    mean: Tensor
    std: Tensor
    percentiles: Tensor
    quantiles: Tensor
    histogram: Tensor
    low: Tensor
    high: Tensor
    dead: Tensor
    saturated: Tensor
    effective_rank: Tensor


@dataclass(frozen=True)
class ActivationStatistics:
    """Statistics of every site that was asked for, in the order of the forward pass.

    Attributes:
        sites: one entry per site and call.
        note: what could not be seen, in words; empty if nothing.
    """

    sites: tuple[SiteStatistics, ...]
    note: str = ""

    def frame(self) -> pd.DataFrame:
        """One row per site with means over its units; synchronises."""
        import pandas as pd

        names = ("dead", "saturated", "effective_rank", "low", "high")
        rows = [
            {"layer": s.layer, "site": s.site, "mean": float(s.mean.mean()), "std": float(s.std.mean())}
            | {name: float(getattr(s, name)) for name in names}
            for s in self.sites
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class ActivationShift:
    """How far each site's distributions moved between two moments; l sites, not synchronised.

    Attributes:
        layers: names of the sites' layers.
        sites: the sites.
        distance: W1 of each unit over its earlier standard deviation, mean over units. (l,)
        raw: W1 in the activation's own units, mean over units. (l,)
        mean_shift: |change of mean| over the earlier standard deviation, mean over units. (l,)
        std_shift: |change of standard deviation| over the earlier one, mean over units. (l,)
        constant: units left out of the relative measures because they were constant before. (l,)
    """

    layers: tuple[str, ...]
    sites: tuple[str, ...]
    distance: Tensor
    raw: Tensor
    mean_shift: Tensor
    std_shift: Tensor
    constant: Tensor


def activation_statistics(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    layers: Sequence[str] | None = None,
    *,
    sites: Sequence[str] = ("nonlinearity input",),
    statistics: str = "batch",
) -> ActivationStatistics:
    """Per-unit distributions at the inputs and outputs of modules, on one batch.

    Sites are module inputs and outputs. The input of the nonlinearity is the same site in networks with
    and without normalization. A model without nonlinearity modules is measured at its layers' outputs,
    and the note says so: activations that are functions (``F.relu``) can't be seen.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``; its forward pass is what is watched.
        batch: a nest of tensors, or ``Batches``.
        layers: module names; a name also stands for everything below it. All if None.
        sites: some of SITES.
        statistics: "batch" or "running".

    Returns:
        ``ActivationStatistics``. Units are channels of (N, C, ...) and the last dimension of (N, F), (N, T, F).

    Raises:
        UsageError: an unknown site or a layer that no site lies in.
        ProbeError: no site was visible.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> stats = activation_statistics(net, lambda m, x: m(x).mean(), torch.randn(8, 2))
    >>> [(s.layer, s.site, tuple(s.mean.shape)) for s in stats.sites]
    [('1', 'nonlinearity input', (3,))]
    """
    for site in sites:
        if site not in SITES:
            raise UsageError(f"site {site!r} is not known; sites are {', '.join(SITES)}")
    with preserved(model) as snapshot, torch.inference_mode(False), torch.no_grad():
        objective = Objective(model, loss_fn, snapshot, statistics=statistics)
        found, note = collect(objective, batch, layers, tuple(sites)), ""
        if not found and tuple(sites) == ("nonlinearity input",):
            found = collect(objective, batch, layers, ("output",))
            note = "no nonlinearity module was called (functional activations are not visible): layer outputs instead"
        if not found:
            where = f"in layers {list(layers)}" if layers else f"in {type(model).__name__}"
            raise ProbeError(f"no site {list(sites)} {where} was called; look at the names with model.named_modules()")
        return ActivationStatistics(tuple(_summary(key, parts) for key, parts in found.items()), note)


def activation_shift(a: ActivationStatistics, b: ActivationStatistics) -> ActivationShift:
    """How far the distributions moved from ``a`` to ``b``.

    distance = mean over units of W1(a_j, b_j) / std(a_j), with W1 = integral over q of |F_a^-1(q) - F_b^-1(q)|.

    Raises:
        UsageError: the two were not taken at the same sites.

    >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    >>> stats = activation_statistics(net, lambda m, x: m(x).mean(), torch.randn(8, 1))
    >>> float(activation_shift(stats, stats).distance)
    0.0
    """
    keys = [[(s.layer, s.site, tuple(s.quantiles.shape)) for s in side.sites] for side in (a, b)]
    if keys[0] != keys[1]:
        raise UsageError(f"activation_shift needs the same sites and batch sizes twice: {keys[0]} against {keys[1]}")
    columns: list[list[Tensor]] = []
    for before, after in zip(a.sites, b.sites, strict=True):
        w1 = (before.quantiles - after.quantiles).abs().mean(dim=1)
        alive = ~(before.std <= 1e-7 * before.std.max())  # NaN, of a network that diverged, is not left out
        size = torch.where(alive, before.std, torch.ones_like(before.std))
        count = alive.sum().clamp_min(1)

        def relative(change: Tensor, size: Tensor = size, alive: Tensor = alive, count: Tensor = count) -> Tensor:
            return torch.where(alive, change / size, torch.zeros_like(change)).sum() / count

        moved, widened = (before.mean - after.mean).abs(), (before.std - after.std).abs()
        columns.append([relative(w1), w1.mean(), relative(moved), relative(widened), (~alive).sum()])
    distance, raw, mean_shift, std_shift, constant = (torch.stack(list(c)) for c in zip(*columns, strict=True))
    return ActivationShift(
        layers=tuple(s.layer for s in a.sites),
        sites=tuple(s.site for s in a.sites),
        distance=distance,
        raw=raw,
        mean_shift=mean_shift,
        std_shift=std_shift,
        constant=constant,
    )


def _thinned(values: Tensor) -> Tensor:
    """At most SAMPLES samples per unit, evenly spaced."""
    count = values.shape[1]
    if count <= SAMPLES:
        return values
    index = torch.arange(SAMPLES, device=values.device) * count // SAMPLES
    return values[:, index]


def _summary(key: tuple[str, str], parts: list[Part]) -> SiteStatistics:
    values = torch.cat([part.values for part in parts], dim=1).float()  # (C, S)
    thinned = _thinned(values)
    ordered = thinned.sort(dim=1).values
    count = ordered.shape[1]
    if count > QUANTILES:
        at = ((torch.arange(QUANTILES, device=values.device) + 0.5) / QUANTILES * count).long()
        quantiles = ordered[:, at]
    else:
        quantiles = ordered
    percentiles = torch.stack([ordered[:, min(int(q / 100 * count), count - 1)] for q in PERCENTILES])
    std, mean = torch.std_mean(values, dim=1, correction=0)
    low, high = values.min(), values.max()
    position = (values - low) / (high - low).clamp_min(1e-30) * BINS
    index = torch.nan_to_num(position).long().clamp(0, BINS - 1).reshape(-1)
    counts = torch.zeros(BINS, dtype=torch.long, device=values.device).scatter_add_(0, index, torch.ones_like(index))
    centred = thinned - thinned.mean(dim=1, keepdim=True)
    K = centred @ centred.T / count
    slopes = [part.slope for part in parts if part.slope is not None]
    if slopes:
        flat = torch.cat(slopes, dim=1).abs() < FLAT_SLOPE
        dead, saturated = flat.all(dim=1).float().mean(), flat.float().mean()
    else:
        dead, saturated = (std == 0).float().mean(), torch.full_like(low, float("nan"))
    return SiteStatistics(
        layer=key[0],
        site=key[1],
        mean=mean,
        std=std,
        percentiles=percentiles,
        quantiles=quantiles,
        histogram=counts / (values.numel() * (high - low).clamp_min(1e-30) / BINS),
        low=low,
        high=high,
        dead=dead,
        saturated=saturated,
        effective_rank=K.trace() ** 2 / K.square().sum().clamp_min(1e-30),
    )


class ActivationsProbe:
    """``activation_statistics`` on a fixed batch, and the shift against the previous and the first probe.

    The fixed batch is the Observer's ``batches["fixed"]``. Without one the mini-batch of the step is
    measured (its rows say batch "same"), and the shift is that of the data as well.
    ``percentile_shift`` is the mean over units of how far the 15th, 50th and 85th percentiles moved since the
    previous probe, in the activation's own units. Memory does not grow with the trajectory: the quantiles of two
    moments are kept.

    Args:
        layers: module names, all if None.
        sites: some of SITES.
        histograms: keep the histogram of every probe (an array each).
        statistics: "batch" or "running".
    """

    name = "activations"
    version = VERSION

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        sites: Sequence[str] = ("nonlinearity input",),
        histograms: bool = True,
        statistics: str = "batch",
    ) -> None:
        self.layers, self.sites, self.histograms, self.statistics = layers, tuple(sites), histograms, statistics
        self._on = "fixed"
        self._first: ActivationStatistics | None = None
        self._previous: ActivationStatistics | None = None

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return 1 / 3

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One forward pass at this moment."""
        self._on = "fixed" if "fixed" in moment.batches else "same"
        batch = moment.batches.get("fixed", moment.batch)
        now = activation_statistics(
            moment.model, moment.loss_fn, batch, self.layers, sites=self.sites, statistics=self.statistics
        )
        for site in now.sites:
            yield from self._site(site)
        for name, earlier in (("shift_previous", self._previous), ("shift_first", self._first)):
            if earlier is not None:
                shift = activation_shift(earlier, now)
                for layer, site_name, value in zip(shift.layers, shift.sites, shift.distance.tolist(), strict=True):
                    yield self._row(name, value, layer, site_name)
        for before, after in zip(self._previous.sites if self._previous else (), now.sites, strict=False):
            moved = (after.percentiles - before.percentiles).abs().mean()
            yield self._row("percentile_shift", float(moved), after.layer, after.site)
        self._first = self._first or now
        self._previous = now

    def _row(self, quantity: str, value: Any, layer: str, site: str, index: int = 0) -> Measurement:
        return Measurement(
            self.name,
            quantity,
            value,
            layer=layer,
            index=index,
            variant=site,
            batch=self._on,
            statistics=self.statistics,
            version=VERSION,
        )

    def _site(self, s: SiteStatistics) -> Iterator[Measurement]:
        numbers = {"mean": s.mean.mean(), "std": s.std.mean(), "dead": s.dead, "effective_rank": s.effective_rank}
        if s.site == "nonlinearity input":
            numbers["saturated"] = s.saturated
        for quantity, value in numbers.items():
            yield self._row(quantity, float(value), s.layer, s.site)
        for index, value in enumerate(s.percentiles.mean(dim=1).tolist()):
            yield self._row("percentile", value, s.layer, s.site, index)
            yield self._row("first_unit_percentile", float(s.percentiles[index, 0]), s.layer, s.site, index)
        if self.histograms:
            yield self._row("histogram", s.histogram.double().cpu().numpy(), s.layer, s.site)
            yield self._row("histogram_low", float(s.low), s.layer, s.site)
            yield self._row("histogram_high", float(s.high), s.layer, s.site)

    def state_dict(self) -> dict[str, Any]:
        """The two moments that shifts are measured against, as tensors."""
        return {"first": _packed(self._first), "previous": _packed(self._previous)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._first, self._previous = _unpacked(state["first"]), _unpacked(state["previous"])


def _packed(statistics: ActivationStatistics | None) -> list[dict[str, Any]] | None:
    return None if statistics is None else [dict(vars(site)) for site in statistics.sites]


def _unpacked(state: list[dict[str, Any]] | None) -> ActivationStatistics | None:
    return None if state is None else ActivationStatistics(tuple(SiteStatistics(**site) for site in state))
