"""Two runs compared at the same full loss instead of the same step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]
Curve = tuple[Floats, Floats]
#: Loss levels at which two runs are compared, equally spaced in log loss inside the overlap.
LEVELS = 7


@dataclass(frozen=True)
class Series:
    """One measure of one run.

    Attributes:
        steps: increasing. (T,)
        values: the measure at each step. (T,)
    """

    steps: Steps
    values: Floats

    @staticmethod
    def of(points: Mapping[int, float]) -> Series:
        """The series of a mapping step -> value (a dict, a pandas Series).

        >>> Series.of({10: 2.0, 0: 1.0}).steps.tolist()
        [0, 10]
        """
        ordered = sorted(points.items())
        steps = np.array([step for step, _ in ordered], dtype=np.int64)
        return Series(steps, np.array([value for _, value in ordered], dtype=np.float64))


def log_ratio(over: Floats, under: Floats) -> Floats:
    """log10(over / under), elementwise, where measures may be 0 or +inf.

    inf / inf and 0 / 0 are ties (0); x / 0 and inf / x are +inf; a negative measure counts as 0.

    >>> log_ratio(np.array([10.0, np.inf, np.inf, 0.0]), np.array([1.0, np.inf, 5.0, 2.0])).tolist()
    [1.0, 0.0, inf, -inf]
    """
    return difference(log10_measure(over), log10_measure(under))


def log10_measure(values: Floats) -> Floats:
    """log10 of a measure; -inf where it is zero or negative."""
    with np.errstate(divide="ignore"):
        logs: Floats = np.log10(np.maximum(values, 0.0))
    return logs


def difference(a: Floats, b: Floats) -> Floats:
    """``a - b`` elementwise; two equal infinities are tied (0)."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def reduced(values: Floats, how: str) -> float:
    """Median or mean of numbers that may be infinite; opposite infinities cancel to 0 (a tie).

    >>> reduced(np.array([1.0, np.inf, 3.0]), "median")
    3.0
    """
    with np.errstate(invalid="ignore"):
        value = float(np.median(values) if how == "median" else np.mean(values))
    return 0.0 if math.isnan(value) else value


def monotone_log_loss(loss: Series) -> Series:
    """Log full loss over steps as the nearest decreasing curve (isotonic least squares), finite prefix only.

    Natural logarithm. Everything after the first non-finite loss is left out: there is no loss to match.
    """
    from sklearn.isotonic import isotonic_regression

    broken = np.flatnonzero(~np.isfinite(loss.values))
    end = int(broken[0]) if len(broken) else len(loss.values)
    if end == 0:
        return Series(loss.steps[:0], loss.values[:0])
    logs = np.log(np.maximum(loss.values[:end], np.finfo(np.float64).tiny))
    fitted: Floats = np.asarray(isotonic_regression(logs, increasing=False), dtype=np.float64)
    return Series(loss.steps[:end], fitted)


def by_loss(fitted: Series, measure: Series) -> Curve:
    """A measure as a function of the log loss of its own run: (levels ascending, values).

    The fitted log loss is interpolated linearly at the steps of the measure and never extrapolated:
    steps outside the loss's own are left out. Steps that share a fitted loss (a flat part, where the
    inverse is a set of steps) share the median of their measures.
    """
    if len(fitted.steps) == 0:
        return np.empty(0), np.empty(0)
    inside = (measure.steps >= fitted.steps[0]) & (measure.steps <= fitted.steps[-1])
    x = np.interp(measure.steps[inside], fitted.steps, fitted.values)
    order = np.argsort(x, kind="stable")
    y = measure.values[inside][order]
    levels, starts = np.unique(x[order], return_index=True)
    blocks = np.split(y, starts[1:]) if len(levels) else []
    return levels, np.array([reduced(block, "median") if len(block) > 1 else block[0] for block in blocks])


def _at(levels: Floats, x: Floats, y: Floats) -> Floats:
    """Linear interpolation; beside an infinite value, the nearer of the two neighbours."""
    right = np.clip(np.searchsorted(x, levels), 1, len(x) - 1)
    left = right - 1
    weight = (levels - x[left]) / (x[right] - x[left])
    with np.errstate(invalid="ignore"):
        linear = y[left] + weight * (y[right] - y[left])
    nearest = np.where(weight < 0.5, y[left], y[right])
    return np.where(np.isfinite(y[left]) & np.isfinite(y[right]), linear, nearest)


def matched_difference(
    curve_a: Curve, curve_b: Curve, levels: int = LEVELS
) -> tuple[float, tuple[float, float] | None]:
    """Median over loss levels of b - a, both as functions of log loss (``by_loss``).

    Returns:
        (s, overlap): overlap is the range of full loss that both runs pass through; (NaN, None) without one.
    """
    (xa, ya), (xb, yb) = curve_a, curve_b
    if len(xa) < 2 or len(xb) < 2:
        return float("nan"), None
    low, high = max(xa[0], xb[0]), min(xa[-1], xb[-1])
    if not low < high:
        return float("nan"), None
    inner = np.linspace(low, high, levels + 2)[1:-1]
    s = reduced(difference(_at(inner, xb, yb), _at(inner, xa, ya)), "median")
    return s, (float(np.exp(low)), float(np.exp(high)))


def matched_log_ratio(
    loss_a: Mapping[int, float],
    measure_a: Mapping[int, float],
    loss_b: Mapping[int, float],
    measure_b: Mapping[int, float],
    levels: int = LEVELS,
) -> tuple[float, tuple[float, float] | None]:
    """log10(measure_b / measure_a) at equal full loss, of one pair of runs: positive where a's is smaller.

    Each run's log full loss is fitted by a decreasing curve over steps and inverted; the log measure is
    interpolated at ``levels`` interior levels of the overlap of the two runs, equally spaced in log loss;
    s is the median over levels. Nothing is extrapolated.

    Args:
        loss_a: step -> full loss L_m of run a.
        measure_a: step -> measure of run a.
        loss_b: step -> full loss of run b.
        measure_b: step -> measure of run b.
        levels: how many levels.

    Returns:
        (s in dex, overlap): the overlap is the range of full loss that both pass through; (NaN, None)
        where they share none.

    >>> loss = {t: 2.0 * 0.9**t for t in range(10)}
    >>> s, overlap = matched_log_ratio(loss, loss, loss, {t: 10 * x for t, x in loss.items()})
    >>> round(s, 6)
    1.0
    """
    curves = []
    for loss, measure in ((loss_a, measure_a), (loss_b, measure_b)):
        y = Series.of(measure)
        fitted = monotone_log_loss(Series.of(loss))
        curves.append(by_loss(fitted, Series(y.steps, log10_measure(y.values))))
    return matched_difference(curves[0], curves[1], levels)
