"""Seeds are the replicates: t intervals and one-sided p-values over one number per seed, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from landscape.analysis import Interval


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean with its two-sided t interval: mean -/+ t(1/2 + level/2, n - 1) sd / sqrt(n).

    Infinite values (a diverged run): all of one sign give the degenerate interval at that infinity;
    any other mixture gives no bound on either side. ``winsorised`` makes mixtures finite first.

    Args:
        values: one number per seed. (n,)
        level: coverage, e.g. .95.

    Returns:
        The interval; its bounds are NaN for n < 2.

    >>> found = interval([1.0, 2.0, 3.0])
    >>> round(found.lower, 3), round(found.upper, 3)  # 2 -/+ 4.303 / sqrt(3)
    (-0.484, 4.484)
    """
    from scipy.special import stdtrit  # scipy.stats costs .6 s to import

    x = np.asarray(values, dtype=float)
    n, nan = len(x), float("nan")
    if n == 0:
        return Interval(0, nan, nan, nan, nan, level)
    if n == 1:
        return Interval(1, float(x[0]), nan, nan, nan, level)
    if (x == x[0]).all():  # said exactly: the rounded mean of equal numbers is not that number
        return Interval(n, float(x[0]), 0.0, float(x[0]), float(x[0]), level)
    if not np.isfinite(x).all():
        return Interval(n, nan, float("inf"), float("-inf"), float("inf"), level)
    mean = float(x.mean())
    sd = float(x.std(ddof=1))
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half, level)


def winsorised(values: Sequence[float], least: float) -> list[float]:
    """Infinite values cut to the largest finite magnitude among the seeds, but to ``least`` at the least.

    One diverged run then counts as the most extreme run there is, and not as an unbounded one. Where
    every value is infinite with the same sign nothing is cut: that is a result by itself. Where nothing
    finite says how far to cut (no finite value and ``least`` = 0), nothing is cut either.

    >>> winsorised([0.5, 2.0, float("inf")], least=1.0)
    [0.5, 2.0, 2.0]
    >>> winsorised([0.1, float("-inf")], least=1.0)
    [0.1, -1.0]
    """
    infinite = [math.isinf(v) for v in values]
    if not any(infinite) or (all(infinite) and len(set(values)) == 1):
        return list(values)
    largest = max([abs(v) for v, bad in zip(values, infinite, strict=True) if not bad] + [least])
    if largest == 0.0 and all(infinite):
        return list(values)
    return [math.copysign(largest, v) if bad else v for v, bad in zip(values, infinite, strict=True)]


def p_above(found: Interval, boundary: float) -> float:
    """One-sided p-value of "the mean over seeds is at most the boundary", by Student's t.

    A degenerate interval (no spread) has p = 0 above the boundary and 1 elsewhere. NaN for n < 2.

    >>> round(p_above(interval([1.0, 2.0, 3.0]), 0.0), 4)  # t = 2 / (1 / sqrt 3) with 2 degrees of freedom
    0.0371
    """
    from scipy.special import stdtr

    if found.n < 2:
        return float("nan")
    if math.isnan(found.mean):
        return 1.0
    if found.sd == 0.0:
        return 0.0 if found.mean > boundary else 1.0
    t = (found.mean - boundary) * math.sqrt(found.n) / found.sd
    return float(stdtr(found.n - 1, -t))


def p_below(found: Interval, boundary: float) -> float:
    """One-sided p-value of "the mean over seeds is at least the boundary": ``p_above`` mirrored."""
    mirrored = Interval(found.n, -found.mean, found.sd, -found.upper, -found.lower, found.level)
    return p_above(mirrored, -boundary)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjusted p-values (Holm 1979): max over j <= i of min(1, (m - j + 1) p_(j)).

    NaN (nothing was tested) stays NaN and is not counted among the m tests.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [float("nan")] * len(p_values)
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    running = 0.0
    for rank, (p, i) in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = running
    return tuple(adjusted)
