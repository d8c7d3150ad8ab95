"""The long table cut into runs and series, once, whatever the number of claims."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from landscape.analysis import Claim, Measure
from landscape.errors import UsageError
from landscape.statistics.matched import Curve, Series, Steps, by_loss, log10_measure, monotone_log_loss

if TYPE_CHECKING:
    import pandas as pd

RunKey = tuple[str, str, float, int]  # study, arm, learning rate, seed
SeriesKey = tuple[str, str, str, str, str, int]  # probe, quantity, variant, batch, layer, index

#: Quantities that the rules need besides the claims' own.
ALWAYS = frozenset({"full_loss", "chance_loss", "diverged", "step_curvature", "step_sharpness", "effective_smoothness"})
#: A network that diverged predicts nothing: its accuracy is the worst there is, not +inf.
ACCURACIES = frozenset({"accuracy", "train_accuracy", "test_accuracy", "test_accuracy_reestimated"})
#: An arm has left the plateau where its full loss is at most this much of the loss of guessing.
PLATEAU = 0.95

_RUN = ["study", "arm", "learning_rate", "seed"]
_SERIES = ["probe", "quantity", "variant", "batch", "layer", "index"]
_WORDS = ["study", "arm", "probe", "quantity", "variant", "batch", "layer", "statistics"]


class RunData:
    """The measurements of one run, by series.

    Attributes:
        series: (probe, quantity, variant, batch, layer, index) -> values over steps.
    """

    def __init__(self) -> None:
        self.series: dict[SeriesKey, Series] = {}
        self._curves: dict[tuple[Measure, str, bool, bool], Curve] = {}

    def training(self, quantity: str) -> Series | None:
        """A full-data series of the training loop, e.g. "full_loss"."""
        return self.series.get(("training", quantity, "", "", "", 0))

    def measured(self, measure: Measure, layer: str) -> Series | None:
        """The claim's measure; non-finite values rank as +inf (an accuracy: as 0)."""
        key = (measure.probe, measure.quantity, measure.variant, measure.batch, layer, measure.index)
        found = self.series.get(key)
        if found is None:
            return None
        return Series(found.steps, np.where(np.isfinite(found.values), found.values, worst(measure)))

    @cached_property
    def diverged_at(self) -> int | None:
        """The step at which the loss became non-finite, or None."""
        marked = self.training("diverged")
        if marked is None or not (marked.values == 1.0).any():
            return None
        return int(marked.steps[marked.values == 1.0][0])

    @cached_property
    def threshold(self) -> float | None:
        """.95 of the loss of guessing: ln C, or the loss of the mean predictor. None if there is nothing to go by.

        Where that loss is not known (a loss of the user's own), .95 of the run's own loss before it was trained: a
        network that never left its first loss is as flat as one that never left the loss of guessing.
        """
        chance, loss = self.training("chance_loss"), self.training("full_loss")
        if chance is not None:
            return PLATEAU * float(chance.values[0])
        if loss is None or loss.steps[0] != 0 or not 0 < loss.values[0] < float("inf"):
            return None
        return PLATEAU * float(loss.values[0])

    @property
    def chance_known(self) -> bool:
        """Whether the loss of guessing was recorded."""
        return self.training("chance_loss") is not None

    @cached_property
    def fitted_loss(self) -> Series | None:
        """The decreasing fit of log full loss over steps, up to divergence."""
        loss = self.training("full_loss")
        if loss is None:
            return None
        if self.diverged_at is not None:
            before = loss.steps < self.diverged_at
            loss = Series(loss.steps[before], loss.values[before])
        return monotone_log_loss(loss)

    def curve(self, measure: Measure, layer: str, *, trained: bool, logs: bool) -> Curve:
        """The measure as a function of the run's own log full loss; kept, since every pair asks for it.

        Args:
            measure: which numbers.
            layer: of this layer.
            trained: only at steps where the run is off the plateau.
            logs: log10 of the measure.
        """
        key = (measure, layer, trained, logs)
        if key not in self._curves:
            found, fitted = self.measured(measure, layer), self.fitted_loss
            if found is None or fitted is None:
                return np.empty(0), np.empty(0)
            kept = self.trained(found.steps) if trained else np.ones(len(found.steps), dtype=np.bool_)
            values = log10_measure(found.values) if logs else found.values
            self._curves[key] = by_loss(fitted, Series(found.steps[kept], values[kept]))
        return self._curves[key]

    @property
    def plateau_known(self) -> bool:
        """Whether a trained network can be told from an untrained one."""
        return self.threshold is not None and self.training("full_loss") is not None

    def trained(self, steps: Steps) -> npt.NDArray[np.bool_]:
        """Whether the run is off the plateau at each step, by the last full loss at or before it.

        From divergence on, and before the first full loss, it is not. All True where there is no threshold,
        so that nothing can be said.
        """
        loss, threshold = self.training("full_loss"), self.threshold
        off = np.ones(len(steps), dtype=np.bool_)
        if loss is not None and threshold is not None:
            last = np.searchsorted(loss.steps, steps, side="right") - 1
            off = (last >= 0) & (loss.values[np.maximum(last, 0)] <= threshold)
        if self.diverged_at is not None:
            off = off & (steps < self.diverged_at)
        return off


def worst(measure: Measure) -> float:
    """What a non-finite value of this measure counts as."""
    return 0.0 if measure.quantity in ACCURACIES else float("inf")


def rate_key(rate: float) -> float:
    """A learning rate as written, whatever a text file did to its last digit.

    >>> rate_key(0.1 + 0.2) == rate_key(0.3)
    True
    """
    return float(f"{rate:.12g}")


def quantities(claims: Collection[Claim]) -> frozenset[str]:
    """The quantities that deciding these claims reads."""
    return ALWAYS | {claim.measure.quantity for claim in claims}


def cut(frame: pd.DataFrame, wanted: Collection[str]) -> dict[RunKey, RunData]:
    """The long table as runs, restricted to some quantities; one sort, whatever the number of runs.

    Where a quantity was measured under several statistics modes, "batch" is taken (the loss that is
    trained on); a step that was written twice keeps its last value.

    Args:
        frame: the long table.
        wanted: names of quantities.

    Returns:
        (study, arm, learning rate, seed) -> the run's series.

    Raises:
        UsageError: the table lacks a column.
    """
    columns = [*_RUN, *_SERIES, "statistics", "step", "value"]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UsageError(f"this is not a long table of measurements: it has no column {', '.join(missing)}")
    rows = frame.loc[frame["quantity"].isin(list(wanted)), columns]
    if rows.empty:
        return {}
    # A text file reads "" back as NaN, and a column of nothing else as floats.
    empty = [name for name in _WORDS if rows[name].isna().any()]
    rows = rows.assign(**{name: rows[name].astype(object).fillna("") for name in empty})
    keys = [*_RUN, *_SERIES, "statistics"]
    code = rows.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    steps = rows["step"].to_numpy(dtype=np.int64)
    order = np.lexsort((steps, code))
    code, steps = code[order], steps[order]
    values = rows["value"].to_numpy(dtype=np.float64)[order]
    last = np.ones(len(code), dtype=np.bool_)
    last[:-1] = (code[1:] != code[:-1]) | (steps[1:] != steps[:-1])
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    names = rows[keys].iloc[order[starts]].itertuples(index=False, name=None)
    runs: dict[RunKey, RunData] = {}
    for name, start, end in zip(names, starts, [*starts[1:], len(code)], strict=True):
        study, arm, rate, seed, *series, statistics = name
        run = runs.setdefault((study, arm, rate_key(rate), int(seed)), RunData())
        key: SeriesKey = (series[0], series[1], series[2], series[3], series[4], int(series[5]))
        if statistics == "batch" or key not in run.series:
            part = slice(start, end)
            kept = last[part]
            run.series[key] = Series(steps[part][kept], values[part][kept])
    return runs
