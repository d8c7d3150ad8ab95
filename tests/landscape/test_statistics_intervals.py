"""The t interval, one-sided p-values, winsorising and Holm, against scipy.stats and hand-computed examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from landscape.statistics import holm, interval
from landscape.statistics.intervals import p_above, p_below, winsorised

INF = float("inf")


@pytest.mark.parametrize("level", [0.90, 0.95])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_and_p_value_are_scipys_t_test(n: int, level: float) -> None:
    x = np.random.default_rng(n).normal(0.3, 1.0, n)
    found, oracle = interval(x.tolist(), level), scipy.stats.ttest_1samp(x, 0.1, alternative="greater")
    low, high = scipy.stats.ttest_1samp(x, 0.0).confidence_interval(level)
    assert (found.n, found.level) == (n, level)
    assert [found.lower, found.upper] == pytest.approx([low, high], rel=1e-10)
    assert found.sd == pytest.approx(np.std(x, ddof=1))
    assert p_above(found, 0.1) == pytest.approx(oracle.pvalue, rel=1e-10)
    less = scipy.stats.ttest_1samp(x, 0.1, alternative="less")
    assert p_below(found, 0.1) == pytest.approx(less.pvalue, rel=1e-10)


def test_fewer_than_two_values_have_no_bounds() -> None:
    for values in ([], [1.5], [INF]):
        found = interval(values)
        assert found.n == len(values)
        assert math.isnan(found.lower)
        assert math.isnan(found.upper)
        assert math.isnan(p_above(found, 0.0))


def test_infinite_values_of_one_sign_are_degenerate_and_mixtures_bound_nothing() -> None:
    up = interval([INF, INF, INF])
    assert (up.mean, up.lower, up.upper) == (INF, INF, INF)
    assert (p_above(up, 5.0), p_below(up, 5.0)) == (0.0, 1.0)
    mixed = interval([INF, -INF, INF])
    assert (mixed.lower, mixed.upper) == (-INF, INF)
    assert p_above(mixed, 0.0) == 1.0


def test_equal_values_are_degenerate_at_that_value() -> None:
    found = interval([0.2, 0.2, 0.2])
    assert found.lower == found.mean == found.upper == 0.2
    assert p_above(interval([0.5, 0.5]), 0.0) == 0.0
    assert p_above(interval([0.5, 0.5]), 0.5) == 1.0


@pytest.mark.parametrize(
    ("values", "least", "expected"),
    [
        ([0.5, 2.0, INF], 1.0, [0.5, 2.0, 2.0]),  # the largest finite magnitude
        ([0.5, -2.0, INF], 1.0, [0.5, -2.0, 2.0]),  # of either sign
        ([0.1, 0.2, -INF], 1.0, [0.1, 0.2, -1.0]),  # at least one dex
        ([INF, -INF, INF], 1.0, [1.0, -1.0, 1.0]),
        ([INF, INF], 1.0, [INF, INF]),  # all of one sign: left as it is
        ([INF, -INF], 0.0, [INF, -INF]),  # nothing says how far to cut
        ([0.1, 0.2], 1.0, [0.1, 0.2]),
    ],
)
def test_winsorised(values: list[float], least: float, expected: list[float]) -> None:
    assert winsorised(values, least) == expected


def test_holm_against_a_hand_worked_example() -> None:
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1 is .02, .03, .06, .04; the running maximum lifts the last to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_holm_leaves_untested_claims_out_of_the_count_and_stops_at_one() -> None:
    nan = float("nan")
    adjusted = holm([nan, 0.02, nan, 0.9])
    assert math.isnan(adjusted[0])
    assert math.isnan(adjusted[2])
    assert adjusted[1] == pytest.approx(0.04)
    assert adjusted[3] == pytest.approx(0.9)
    assert holm([0.7, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


def test_holm_keeps_the_familywise_error_below_its_level_under_the_null() -> None:
    trials, level = 4000, 0.05
    p = np.random.default_rng(0).uniform(size=(trials, 6))
    wrong = np.mean([min(holm(row)) <= level for row in p.tolist()])
    assert wrong < level + 4 * math.sqrt(level * (1 - level) / trials)
    assert np.mean((p <= level).any(axis=1)) > 0.2  # without it
