"""Matched loss against closed forms: where the measure is a function of the loss, matching has one right answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from landscape.statistics import matched_log_ratio
from landscape.statistics.matched import (
    Series,
    by_loss,
    difference,
    log_ratio,
    matched_difference,
    monotone_log_loss,
    reduced,
)

INF = float("inf")
STEPS = range(0, 201, 10)


def decay(rate: float, start: float = 2.3) -> dict[int, float]:
    return {t: start * math.exp(-rate * t) for t in STEPS}


def power(loss: dict[int, float], factor: float, exponent: float = 0.7) -> dict[int, float]:
    return {t: factor * value**exponent for t, value in loss.items()}


def test_equal_functions_of_the_loss_are_equal_at_matched_loss_however_fast_the_arms_train() -> None:
    slow, fast = decay(0.004), decay(0.03)
    s, overlap = matched_log_ratio(fast, power(fast, 5.0), slow, power(slow, 5.0))
    assert s == pytest.approx(0.0, abs=1e-12)
    assert overlap == pytest.approx((2.3 * math.exp(-0.8), 2.3))
    # By step the two differ: matching removed what speed alone had made.
    by_step = [math.log10(power(slow, 5.0)[t] / power(fast, 5.0)[t]) for t in STEPS]
    assert np.median(by_step) > 0.5


@pytest.mark.parametrize("factor", [0.2, 3.0, 100.0])
def test_a_known_factor_is_found_at_matched_loss(factor: float) -> None:
    a, b = decay(0.01), decay(0.02)
    s, _ = matched_log_ratio(a, power(a, 2.0), b, power(b, 2.0 * factor))
    assert s == pytest.approx(math.log10(factor), abs=1e-12)
    assert matched_log_ratio(b, power(b, factor), a, power(a, 1.0))[0] == pytest.approx(-math.log10(factor))


def test_losses_that_share_no_range_are_not_compared() -> None:
    high, low = decay(0.001, start=2.3), decay(0.01, start=1.0)
    s, overlap = matched_log_ratio(high, high, low, low)
    assert math.isnan(s)
    assert overlap is None
    assert matched_log_ratio({0: 1.0}, {0: 1.0}, low, low)[1] is None
    assert matched_log_ratio(low, {500: 1.0, 510: 2.0}, low, low)[1] is None  # measured after the last loss


def test_levels_are_seven_inside_the_overlap_and_equally_spaced_in_log_loss() -> None:
    # Arm a's log measure is a step function of log loss: its values at the 7 levels are known by hand.
    loss = {t: math.exp(-float(t)) for t in range(9)}  # log loss 0, -1, ..., -8; overlap [-8, 0]: levels -7..-1
    a = {t: 10.0 ** (t >= 4) for t in range(9)}  # at -4..-7: 10 (four levels), at -1..-3: 1 (three)
    s, overlap = matched_log_ratio(loss, a, loss, dict.fromkeys(range(9), 100.0))
    assert s == pytest.approx(1.0)  # the median of four 1s and three 2s
    assert overlap == pytest.approx((math.exp(-8), 1.0))
    assert matched_log_ratio(loss, {t: 10.0 ** (t >= 5) for t in range(9)}, loss, dict.fromkeys(range(9), 100.0))[
        0
    ] == pytest.approx(2.0)


def test_the_ends_of_the_overlap_are_no_levels() -> None:
    loss = {t: math.exp(-float(t)) for t in range(9)}
    a = {t: 10.0 if t in (0, 1, 2, 8) else 1.0 for t in range(9)}  # at two of the seven levels t = 1..7
    assert matched_log_ratio(loss, a, loss, dict.fromkeys(range(9), 1.0))[0] == pytest.approx(0.0, abs=1e-12)


def test_beside_an_infinite_measure_the_nearer_neighbour_counts() -> None:
    ends, flat = (np.array([0.0, 1.0]), np.array([0.0, INF])), (np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    assert matched_difference(flat, ends)[0] == INF  # four of the seven levels lie at or beyond the middle
    assert matched_difference(flat, (ends[0], ends[1][::-1]))[0] == 0.0


def test_only_the_finite_prefix_of_a_diverging_loss_is_used() -> None:
    good = decay(0.01)
    broken = {t: value if t < 100 else INF for t, value in good.items()}
    broken[150] = 0.001  # back from infinity: no longer the run that diverged
    s, overlap = matched_log_ratio(broken, power(good, 1.0), good, power(good, 10.0))
    assert s == pytest.approx(1.0)
    assert overlap == pytest.approx((good[90], good[0]))
    assert matched_log_ratio({0: INF, 10: 1.0}, good, good, good)[1] is None


def test_the_fit_is_monotone_and_the_nearest_in_least_squares() -> None:
    loss = Series.of({0: math.e**3, 1: math.e, 2: math.e**2, 3: 1.0})  # logs 3, 1, 2, 0: the middle two pool to 1.5
    assert monotone_log_loss(loss).values == pytest.approx([3.0, 1.5, 1.5, 0.0])


def test_steps_that_share_a_fitted_loss_share_the_median_of_their_measures() -> None:
    fitted = Series.of({0: 3.0, 1: 1.5, 2: 1.5, 3: 1.5, 4: 0.0})
    levels, values = by_loss(fitted, Series.of({0: 7.0, 1: 1.0, 2: 2.0, 3: 9.0, 4: 5.0, 5: 99.0}))
    assert levels.tolist() == [0.0, 1.5, 3.0]
    assert values.tolist() == [5.0, 2.0, 7.0]


def test_a_noisy_loss_is_matched_without_bias() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(40):
        a, b = decay(0.008), decay(0.016)
        noisy = [{t: v * math.exp(generator.normal(0, 0.1)) for t, v in loss.items()} for loss in (a, b)]
        measured = [
            {t: v * math.exp(generator.normal(0, 0.3)) for t, v in power(x, k).items()} for x, k in ((a, 1), (b, 2))
        ]
        found.append(matched_log_ratio(noisy[0], measured[0], noisy[1], measured[1])[0])
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert abs(np.mean(found) - math.log10(2.0)) < 4 * error
    assert error < 0.02


def test_infinite_measures_rank_at_matched_loss_too() -> None:
    loss = decay(0.01)
    s, _ = matched_log_ratio(loss, power(loss, 1.0), loss, dict.fromkeys(loss, INF))
    assert s == INF
    one = power(loss, 10.0) | {100: INF}  # one bad step does not move the median of seven levels
    assert matched_log_ratio(loss, power(loss, 1.0), loss, one)[0] == pytest.approx(1.0)
    assert matched_log_ratio(loss, dict.fromkeys(loss, INF), loss, dict.fromkeys(loss, INF))[0] == 0.0


def test_log_ratios_of_zero_negative_and_infinite_measures() -> None:
    over = np.array([0.0, 1.0, 0.0, INF, INF, 1.0, -1.0, -1.0])
    under = np.array([0.0, 0.0, 1.0, INF, 1.0, INF, 1.0, -2.0])
    assert log_ratio(over, under).tolist() == [0.0, INF, -INF, 0.0, INF, -INF, -INF, 0.0]
    assert difference(np.array([INF, INF, 1.0]), np.array([INF, 1.0, INF])).tolist() == [0.0, INF, -INF]


def test_reducing_infinite_values() -> None:
    assert reduced(np.array([1.0, INF, 3.0]), "median") == 3.0
    assert reduced(np.array([-INF, INF]), "median") == 0.0
    assert reduced(np.array([INF, INF]), "median") == INF
    assert reduced(np.array([1.0, INF]), "mean") == INF
    assert reduced(np.array([1.0, 2.0, 6.0]), "mean") == 3.0
