"""From a long table to verdicts: every verdict reached by a constructed table whose right answer is known."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from landscape.analysis import Claim, Measure
from landscape.errors import UsageError
from landscape.experiment import Arm, Experiment, Spec, Study
from landscape.statistics import Decision, best_rates, decide, decide_claims, expected_false_holds, interval
from landscape.statistics.compare import CHANCE_FLAG, LIMIT_FLAG, PLATEAU_FLAG, SIZE_FLAG
from landscape.statistics.layers import joined

INF = float("inf")
STEPS = list(range(0, 100, 10))
CHANCE = math.log(10.0)
BETA = Measure("gradient_path", "effective_smoothness", variant="gradient/scaled")
CLAIM = Claim("A-beta", "batch is smoother", "vgg", BETA, arm="batch")
Curve = Callable[[int, int], float]  # (step, seed) -> value


def experiment(seeds: int = 5, **changes: Any) -> Experiment:
    study = Study(
        name="vgg",
        model=Spec("vgg"),
        data=Spec("digits"),
        arms=(Arm("none"), Arm("batch")),
        learning_rates=(0.03, 0.1, 0.3),
        primary_rate=0.1,
        seeds=tuple(range(seeds)),
        steps=100,
    )
    return Experiment("test", (dataclasses.replace(study, **changes),))


def series(quantity: str, values: dict[int, float], **columns: Any) -> list[dict[str, Any]]:
    base = {"study": "vgg", "learning_rate": 0.1, "version": 1, "variant": "", "statistics": "batch"}
    base |= {"dtype": "float32", "batch": "", "layer": "", "index": 0, "probe": "training"}
    return [base | columns | {"quantity": quantity, "step": t, "value": v} for t, v in values.items()]


def loss_curve(step: int, seed: int) -> float:
    return CHANCE * 0.99 if step < 20 else 2.0 * math.exp(-0.02 * step)


def run(
    arm: str,
    seed: int,
    beta: Curve,
    *,
    rate: float = 0.1,
    loss: Curve = loss_curve,
    layer: str = "",
    curvature: float | None = 0.5,
    stop: int = 1000,
) -> list[dict[str, Any]]:
    who = {"arm": arm, "seed": seed, "learning_rate": rate}
    steps = [t for t in STEPS if t < stop]
    rows = series("effective_smoothness", {t: beta(t, seed) for t in steps}, **who, layer=layer, **PATH)
    rows += series("full_loss", {t: loss(t, seed) for t in steps}, **who)
    rows += series("chance_loss", {0: CHANCE}, **who)
    if curvature is not None:
        at = dict.fromkeys(steps, curvature)
        rows += series("step_curvature", at, **who, probe="curvature", batch="same")
    return rows


PATH = {"probe": "gradient_path", "variant": "gradient/scaled", "batch": "same"}


def constant(value: float) -> Curve:
    """``value``, spread a little over seeds: log10 factors -.02, -.01, 0, .01, .02."""
    return lambda step, seed: value * 10.0 ** (0.01 * (seed - 2))


def table(*runs: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in runs for row in rows])


def pairs(none: Curve, batch: Curve, seeds: int = 5, **options: Any) -> pd.DataFrame:
    both = [
        run(arm, seed, beta, **options) for seed in range(seeds) for arm, beta in (("none", none), ("batch", batch))
    ]
    return table(*both)


def flat(value: float) -> Curve:
    return lambda step, seed: value


# ---- The six verdicts


def test_holds_with_the_numbers_of_a_t_test() -> None:
    verdict = decide(CLAIM, experiment(), pairs(constant(20.0), flat(2.0)))
    equal = verdict.equal
    s = [1.0 + 0.01 * (seed - 2) for seed in range(5)]
    assert verdict.verdict == "holds"
    assert list(equal.seeds.values()) == pytest.approx(s)
    assert equal.by_step is not None
    low, high = scipy.stats.ttest_1samp(s, 0.0).confidence_interval(0.95)
    assert (equal.by_step.lower, equal.by_step.upper) == pytest.approx((low, high))
    assert equal.p_value == pytest.approx(scipy.stats.ttest_1samp(s, 0.0, alternative="greater").pvalue)
    assert equal.at_matched_loss is None
    assert equal.material is True
    assert (equal.arm_rate, equal.reference_rate) == (0.1, 0.1)
    assert verdict.holm_p == pytest.approx(equal.p_value)


def test_fails_and_undecided() -> None:
    assert decide(CLAIM, experiment(), pairs(flat(2.0), constant(20.0))).verdict == "fails"
    sides = decide(CLAIM, experiment(), pairs(lambda t, seed: 2.0 + seed % 2, lambda t, seed: 2.5))
    assert sides.verdict == "undecided"
    assert "contains the boundary" in sides.equal.reason


def test_a_small_sure_difference_holds_and_is_not_material() -> None:
    found = decide(CLAIM, experiment(), pairs(flat(1.05), flat(1.0))).equal
    assert found.verdict == "holds"
    assert found.material is False


def test_supports_larger_turns_the_sign() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    assert decide(dataclasses.replace(CLAIM, supports="larger"), experiment(), frame).verdict == "fails"


def test_differences_and_values() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    points = dataclasses.replace(CLAIM, scale="difference", boundary=10.0)
    found = decide(points, experiment(), frame)
    assert found.verdict == "holds"
    assert found.equal.seeds[2] == pytest.approx(18.0)
    assert found.equal.material is None
    value = dataclasses.replace(CLAIM, scale="value", reference=None, kind="threshold", supports="larger", boundary=1.9)
    assert decide(value, experiment(), frame).verdict == "holds"
    # A smaller value supports: s = -m, so "below 3" has the boundary -3.
    below = dataclasses.replace(value, supports="smaller", boundary=-3.0)
    found = decide(below, experiment(), frame)
    assert found.verdict == "holds"
    assert found.equal.seeds[0] == -2.0


def test_not_measured_and_why() -> None:
    few = decide(CLAIM, experiment(2), pairs(constant(20.0), flat(2.0), seeds=2))
    assert few.verdict == "not measured"
    assert "2 seeds" in few.equal.reason
    assert math.isnan(few.equal.p_value)
    for count, words in ((0, "no seeds have every run"), (1, "1 seed has every run")):
        fewer = decide(CLAIM, experiment(2), pairs(constant(20.0), flat(2.0), seeds=2).query(f"seed < {count}"))
        assert fewer.equal.reason.startswith(words)
    held_out = dataclasses.replace(CLAIM, measure=dataclasses.replace(BETA, batch="held-out"))
    found = decide(held_out, experiment(), pairs(constant(20.0), flat(2.0)))
    assert found.verdict == "not measured"
    assert "batch 'same'" in found.equal.reason  # says what there is instead
    absent = decide(dataclasses.replace(CLAIM, arm="layer"), experiment(), pairs(flat(1.0), flat(1.0)))
    assert absent.verdict == "not measured"
    assert "no arm layer" in absent.equal.reason
    rate = decide(dataclasses.replace(CLAIM, rate=0.5), experiment(), pairs(flat(1.0), flat(1.0)))
    assert "not trained at learning rate 0.5" in rate.equal.reason
    empty = decide(CLAIM, experiment(), pairs(flat(1.0), flat(1.0)).iloc[:0])
    assert empty.verdict == "not measured"


def test_untrained_only_where_training_is_needed() -> None:
    frame = pairs(constant(20.0), flat(2.0), loss=flat(CHANCE * 0.96))
    found = decide(CLAIM, experiment(), frame)
    assert found.verdict == "untrained"
    assert math.isnan(found.equal.p_value)
    assert decide(dataclasses.replace(CLAIM, needs_training=False), experiment(), frame).verdict == "holds"


def test_untrained_seeds_are_left_out_and_named() -> None:
    frame = pairs(constant(20.0), flat(2.0), loss=lambda t, seed: CHANCE if seed == 3 else 1.0)
    found = decide(CLAIM, experiment(), frame).equal
    assert found.verdict == "holds"
    assert sorted(found.seeds) == [0, 1, 2, 4]
    assert "seeds 3 left out: untrained" in found.reason


def test_untrained_steps_are_excluded_by_the_last_full_loss_at_or_before_them() -> None:
    # Full loss at 0, 30, 60, 90 only: below the threshold from 30 on, and above it again at 60.
    at = {0: CHANCE, 30: 1.0, 60: CHANCE, 90: 1.0}
    frame = pairs(lambda t, seed: 10.0 ** (t / 10), flat(1.0))
    frame = frame[(frame["quantity"] != "full_loss") | frame["step"].isin(list(at))]
    full = frame["quantity"] == "full_loss"
    frame.loc[full, "value"] = frame.loc[full, "step"].map(at)
    found = decide(CLAIM, experiment(), frame).equal
    # Kept: 30, 40, 50 and 90, where s is 3, 4, 5 and 9.
    assert list(found.seeds.values()) == pytest.approx([4.5] * 5)


def test_without_a_chance_loss_the_first_loss_stands_in_for_it_and_the_flag_says_so() -> None:
    frame = pairs(constant(20.0), flat(2.0), loss=flat(CHANCE))
    frame = frame[frame["quantity"] != "chance_loss"]
    never = decide(CLAIM, experiment(), frame).equal
    assert never.verdict == "untrained"
    assert "stays above .95 of its first value (chance is not known)" in never.reason
    # A loss that halves after the first step, far above any chance, has left its plateau.
    full = (frame["quantity"] == "full_loss") & (frame["step"] > 0)
    halved = decide(CLAIM, experiment(), frame.assign(value=frame["value"].where(~full, 50 * CHANCE))).equal
    assert halved.verdict == "untrained"
    first = (frame["quantity"] == "full_loss") & (frame["step"] == 0)
    fallen = decide(CLAIM, experiment(), frame.assign(value=frame["value"].where(~first, 2 * CHANCE))).equal
    assert fallen.verdict == "holds"
    assert CHANCE_FLAG in fallen.flags


def test_without_a_full_loss_nothing_is_excluded_and_the_flag_says_so() -> None:
    frame = pairs(constant(20.0), flat(2.0), loss=flat(CHANCE))
    late = (frame["quantity"] == "full_loss") & (frame["step"] == 0)
    found = decide(CLAIM, experiment(), frame[(frame["quantity"] != "chance_loss") & ~late]).equal
    assert found.verdict == "holds"
    assert found.flags[0] == PLATEAU_FLAG


# ---- Windows, steps, seeds, layers


@pytest.mark.parametrize(
    ("window", "reduce", "expected"),
    [
        # Off the plateau from step 20: steps 20..90, log ratios 2..9.
        ("all", "median", 5.5),
        ("all", "mean", 5.5),
        ("early", "median", 3.0),  # 20, 30, 40
        ("late", "median", 7.5),  # of ten steps the last four: 60..90
        ("end", "median", 9.0),
    ],
)
def test_windows(window: Any, reduce: Any, expected: float) -> None:
    claim = dataclasses.replace(CLAIM, window=window, reduce=reduce)
    found = decide(claim, experiment(), pairs(lambda t, seed: 10.0 ** (t / 10), flat(1.0))).equal
    assert list(found.seeds.values()) == pytest.approx([expected] * 5)


def test_early_of_arms_that_never_train_is_for_claims_about_training_alone() -> None:
    frame = pairs(lambda t, seed: 10.0 ** (t / 10), flat(1.0), loss=flat(CHANCE))
    claim = dataclasses.replace(CLAIM, window="early")
    assert decide(claim, experiment(), frame).verdict == "untrained"
    found = decide(dataclasses.replace(claim, needs_training=False), experiment(), frame).equal
    assert list(found.seeds.values()) == pytest.approx([1.5] * 5)  # 0, 10, 20, 30


def test_early_starts_at_the_end_of_the_plateau_also_for_claims_about_training() -> None:
    claim = dataclasses.replace(CLAIM, window="early", needs_training=False)
    found = decide(claim, experiment(), pairs(lambda t, seed: 10.0 ** (t / 10), flat(1.0))).equal
    assert list(found.seeds.values()) == pytest.approx([3.0] * 5)


def test_only_steps_that_both_arms_have_are_compared() -> None:
    frame = table(
        *[run("none", seed, lambda t, s: 10.0 ** (t / 10)) for seed in range(3)],
        *[run("batch", seed, flat(1.0), stop=60) for seed in range(3)],
    )
    claim = dataclasses.replace(CLAIM, window="end")
    assert list(decide(claim, experiment(3), frame).equal.seeds.values()) == pytest.approx([5.0] * 3)


def test_a_missing_run_drops_its_seed_and_says_so() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    frame = frame[~((frame["arm"] == "batch") & (frame["seed"] == 1))]
    found = decide(CLAIM, experiment(), frame).equal
    assert found.verdict == "holds"
    assert sorted(found.seeds) == [0, 2, 3, 4]
    assert "seeds 1 left out: a run is missing" in found.reason


def layered(*factors: float) -> tuple[Claim, pd.DataFrame]:
    names = tuple(f"conv{k}" for k in range(len(factors)))
    frames = [pairs(constant(f), flat(1.0), layer=name) for name, f in zip(names, factors, strict=True)]
    claim = dataclasses.replace(CLAIM, measure=dataclasses.replace(BETA, layers=names))
    return claim, pd.concat(frames)


def test_every_layer_has_to_hold_and_the_worst_is_reported() -> None:
    claim, frame = layered(20.0, 2.0)
    found = decide(claim, experiment(), frame).equal
    assert found.verdict == "holds"
    assert found.by_layer == pytest.approx({"conv0": math.log10(20.0), "conv1": math.log10(2.0)})
    assert found.by_step is not None
    assert found.by_step.mean == pytest.approx(math.log10(2.0))
    assert "conv1" in found.reason


def test_one_failing_layer_decides_and_one_missing_layer_is_not_measured() -> None:
    claim, frame = layered(20.0, 0.5, 1.0)
    failed = decide(claim, experiment(), frame).equal
    assert failed.verdict == "fails"
    assert "conv1" in failed.reason
    claim, frame = layered(20.0, 1.0)
    assert decide(claim, experiment(), frame).verdict == "undecided"
    more = dataclasses.replace(claim, measure=dataclasses.replace(BETA, layers=("conv0", "conv7")))
    missing = decide(more, experiment(), frame).equal
    assert missing.verdict == "not measured"
    assert "conv7" in missing.reason


def test_the_p_value_of_several_layers_is_the_largest() -> None:
    def made(verdict: str, p: float) -> Decision:
        return Decision(verdict, "", (interval([0.0, 1.0]), None), p)

    layers = {"a": made("fails", 0.98), "b": made("undecided", 1.0), "c": made("holds", 0.001)}
    assert joined(layers) == ("fails", "a", 1.0)


# ---- Infinity and divergence


def test_infinite_measures_rank_and_the_median_survives_a_few() -> None:
    def spiky(step: int, seed: int) -> float:
        return (INF if step == 50 else 10.0) * (1.0 + 0.01 * seed)

    found = decide(CLAIM, experiment(), pairs(spiky, flat(1.0))).equal
    assert found.seeds[0] == pytest.approx(1.0)
    both = decide(CLAIM, experiment(), pairs(flat(INF), flat(INF)))
    assert set(both.equal.seeds.values()) == {0.0}
    always = decide(CLAIM, experiment(), pairs(flat(INF), flat(1.0)))
    assert always.verdict == "holds"
    assert always.equal.by_step is not None
    assert always.equal.by_step.lower == INF
    zero = decide(CLAIM, experiment(), pairs(flat(1.0), flat(0.0)))
    assert set(zero.equal.seeds.values()) == {INF}


def test_nan_ranks_as_infinite() -> None:
    assert decide(CLAIM, experiment(), pairs(flat(float("nan")), flat(1.0))).verdict == "holds"


def diverging(quantity: str, value: Curve, stop: int = 60) -> pd.DataFrame:
    """none stops at divergence at step 60; batch goes on to the end."""
    rows = []
    for seed in range(5):
        for arm in ("none", "batch"):
            last = stop if arm == "none" else 1000
            rows += run(arm, seed, constant(1.0), stop=last, loss=flat(1.0))
            at = {t: value(t, seed) for t in STEPS if t < last}
            rows += series(quantity, at, arm=arm, seed=seed)
        rows += series("diverged", {stop: 1.0}, arm="none", seed=seed)
    return pd.DataFrame(rows)


def test_a_diverged_run_goes_on_as_infinite_and_not_as_the_last_good_step() -> None:
    frame = diverging("test_loss", flat(0.5))
    measure = Measure("training", "test_loss", batch="")
    claim = dataclasses.replace(CLAIM, measure=measure, window="end", needs_training=False)
    found = decide(claim, experiment(), frame).equal
    assert set(found.seeds.values()) == {INF}
    assert found.verdict == "holds"
    assert "seeds 0, 1, 2, 3, 4 of none diverged" in found.reason
    late = decide(dataclasses.replace(claim, window="late"), experiment(), frame).equal
    assert set(late.seeds.values()) == {INF}  # 60, 70, 80, 90: steps that only the other arm reached
    trained = decide(dataclasses.replace(claim, needs_training=True), experiment(), frame).equal
    assert trained.verdict == "untrained"
    assert "of none diverged" in trained.reason


def test_a_diverged_run_predicts_nothing() -> None:
    measure = Measure("training", "test_accuracy", batch="")
    claim = dataclasses.replace(
        CLAIM, measure=measure, window="end", needs_training=False, scale="difference", supports="larger"
    )
    found = decide(claim, experiment(), diverging("test_accuracy", flat(0.9))).equal
    assert set(found.seeds.values()) == {0.9}
    frame = pairs(flat(1.0), flat(1.0))
    rows = [
        row
        for seed in range(5)
        for arm, value in (("none", INF), ("batch", 0.9))
        for row in series("test_accuracy", {90: value}, arm=arm, seed=seed)
    ]
    stored = decide(claim, experiment(), pd.concat([frame, pd.DataFrame(rows)])).equal
    assert set(stored.seeds.values()) == {0.9}


@pytest.mark.parametrize(("supports", "boundary"), [("larger", 0.9), ("smaller", -0.6)])
@pytest.mark.parametrize("scale", ["value", "cosine"])
def test_a_diverged_run_supports_nothing_that_is_said_of_it_alone(supports: Any, boundary: float, scale: Any) -> None:
    claim = dataclasses.replace(
        CLAIM, scale=scale, reference=None, kind="threshold", supports=supports, boundary=boundary, needs_training=False
    )
    assert decide(claim, experiment(), pairs(flat(1.0), flat(INF))).verdict == "fails"


# ---- Matched loss


def test_matched_loss_takes_away_what_speed_alone_made() -> None:
    """Beta is the same function of the loss in both arms, and batch trains faster: by step it looks smoother."""

    def speed(rate: float) -> Curve:
        return lambda t, seed: 2.0 * math.exp(-rate * (1 + 0.02 * seed) * t)

    def of_loss(rate: float) -> Curve:
        return lambda t, seed: 10.0 * speed(rate)(t, seed) ** 2

    rates = {"none": 0.005, "batch": 0.03}
    rows = [run(arm, s, of_loss(rate), loss=speed(rate)) for s in range(5) for arm, rate in rates.items()]
    frame = table(*rows)
    assert decide(CLAIM, experiment(), frame).verdict == "holds"
    matched = decide(dataclasses.replace(CLAIM, matched=True), experiment(), frame).equal
    assert matched.verdict == "undecided"
    assert matched.at_matched_loss is not None
    assert matched.at_matched_loss.mean == pytest.approx(0.0, abs=1e-9)
    assert matched.overlap is not None
    # The overlap ends where the slower run ends: 2 exp(-.005 * 1.04 * 90) in the median seed.
    assert matched.overlap == pytest.approx((2 * math.exp(-0.005 * 1.04 * 90), 2.0), rel=1e-6)


def test_matched_loss_holds_and_reports_both() -> None:
    claim = dataclasses.replace(CLAIM, matched=True)
    found = decide(claim, experiment(), pairs(constant(20.0), flat(2.0))).equal
    assert found.verdict == "holds"
    assert found.at_matched_loss is not None
    assert found.at_matched_loss.mean == pytest.approx(1.0)
    points = dataclasses.replace(claim, scale="difference", supports="larger")
    turned = decide(points, experiment(), pairs(flat(2.0), constant(20.0))).equal
    assert turned.at_matched_loss is not None
    assert turned.at_matched_loss.mean == pytest.approx(float(np.mean([constant(20.0)(0, s) for s in range(5)])) - 2.0)


def test_losses_that_do_not_overlap_leave_the_claim_undecided() -> None:
    rows = [run("none", s, constant(20.0), loss=lambda t, _: 2.0 - t / 1000) for s in range(5)]
    rows += [run("batch", s, flat(2.0), loss=lambda t, _: 1.0 - t / 1000) for s in range(5)]
    found = decide(dataclasses.replace(CLAIM, matched=True), experiment(), table(*rows)).equal
    assert found.verdict == "undecided"
    assert "do not overlap" in found.reason
    assert found.overlap is None
    assert found.material is None  # nothing is shown at equal loss, either way
    assert math.isnan(found.p_value)  # and the claim was not tested


def test_too_few_measurements_are_not_called_losses_that_do_not_overlap() -> None:
    # Both go from chance to near zero, so their losses do overlap; one falls within one measurement.
    rows = [run("none", s, constant(20.0), loss=lambda t, _: 2.3 * math.exp(-t / 30)) for s in range(5)]
    rows += [run("batch", s, flat(2.0), loss=lambda t, _: 2.3 if t < 90 else 0.5) for s in range(5)]
    found = decide(dataclasses.replace(CLAIM, matched=True), experiment(), table(*rows)).equal
    assert found.verdict == "undecided"
    assert "do not overlap" not in found.reason
    assert "measured less than twice off the plateau in 5 seeds" in found.reason


def test_the_steps_that_were_compared_are_said() -> None:
    rows = [run("none", s, constant(20.0), loss=lambda t, _: 2.3 if t < 50 else 1.0) for s in range(5)]
    rows += [run("batch", s, flat(2.0), loss=lambda t, _: 2.3 if t < 20 else 1.0) for s in range(5)]
    found = decide(CLAIM, experiment(), table(*rows)).equal
    assert found.span == (50, 90)
    assert found.left_out == (5, 10)


def test_the_loss_of_a_run_is_matched_up_to_its_divergence_only() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    marks = [row for s in range(5) for row in series("diverged", {60: 1.0}, arm="none", seed=s)]
    claim = dataclasses.replace(CLAIM, matched=True, needs_training=False)
    found = decide(claim, experiment(), pd.concat([frame, pd.DataFrame(marks)])).equal
    assert found.overlap is not None
    assert found.overlap[0] == pytest.approx(2.0 * math.exp(-0.02 * 50))


# ---- Limited by the step size


def limited(none: float | None, batch: float | None) -> pd.DataFrame:
    rows = [run("none", s, constant(20.0), curvature=none) for s in range(5)]
    return table(*rows, *[run("batch", s, flat(2.0), curvature=batch) for s in range(5)])


SMOOTH = dataclasses.replace(CLAIM, landscape=True)


@pytest.mark.parametrize(
    ("none", "batch", "expected", "flags"),
    [
        (0.5, 0.5, "holds", ()),
        (1.5, 1.4, "holds", (SIZE_FLAG,)),  # only the rougher arm
        (0.5, 1.8, "confounded", ()),  # only the smoother arm
        (1.9, 1.8, "confounded", ()),
        (INF, 0.5, "holds", (SIZE_FLAG,)),
        (None, None, "holds", (LIMIT_FLAG,)),
    ],
)
def test_curvature_limits(none: float | None, batch: float | None, expected: str, flags: tuple[str, ...]) -> None:
    found = decide(SMOOTH, experiment(), limited(none, batch)).equal
    assert found.verdict == expected
    assert found.flags == flags
    if expected == "confounded":
        assert "1.8" in found.reason
        assert math.isnan(found.p_value)
        assert found.by_step is not None  # still shown
    assert decide(CLAIM, experiment(), limited(none, batch)).verdict == "holds"  # not a landscape claim


@pytest.mark.parametrize(
    ("arm", "on", "value", "expected"),
    [
        ("batch", "full", 1.9, "confounded"),
        ("none", "full", 1.9, "holds"),  # only the rougher arm
        ("batch", "full", 1.4, "holds"),
        ("batch", "same", 1.9, "holds"),  # a mini-batch's sharpness lies above the full loss's whatever the rate
    ],
)
def test_sharpness_of_the_full_loss_limits_where_it_was_measured(
    arm: str, on: str, value: float, expected: str
) -> None:
    probe = {"probe": "hessian_eigenpairs", "variant": "hessian/largest", "batch": on}
    at = dict.fromkeys(STEPS, value)
    rows = [series("step_sharpness", at, arm=arm, seed=seed, **probe) for seed in range(5)]
    found = decide(SMOOTH, experiment(), pd.concat([limited(0.5, 0.5), table(*rows)])).equal
    assert found.verdict == expected
    assert found.flags == ((SIZE_FLAG,) if arm == "none" else ())
    if expected == "confounded":
        assert "λ₁ = 1.9" in found.reason


def test_curvature_is_read_over_the_steps_that_the_claim_compares() -> None:
    frame = limited(0.5, 0.5)
    frame.loc[(frame["probe"] == "curvature") & (frame["step"] < 70), "value"] = 1.9  # most steps, few late ones
    assert decide(SMOOTH, experiment(), frame).verdict == "confounded"
    assert decide(dataclasses.replace(SMOOTH, window="late"), experiment(), frame).verdict == "holds"


def test_the_rougher_arm_is_the_one_with_the_larger_measure_whatever_the_claim_says() -> None:
    other = dataclasses.replace(SMOOTH, supports="larger")  # "batch is rougher": fails
    assert decide(other, experiment(), limited(1.8, 0.5)).verdict == "fails"
    assert decide(other, experiment(), limited(0.5, 1.8)).verdict == "confounded"  # invalid comes first
    swapped = dataclasses.replace(SMOOTH, arm="none", reference="batch")  # "none is smoother": fails
    assert decide(swapped, experiment(), limited(1.8, 0.5)).equal.flags == (SIZE_FLAG,)


@pytest.mark.parametrize(
    ("slopes", "expected"),
    [((-1.0, 0.0), "holds"), ((0.0, -1.0), "confounded"), ((-1.24, -0.76), "confounded"), ((-0.74, -1.26), "holds")],
)
def test_slope_over_learning_rates_limits(slopes: tuple[float, float], expected: str) -> None:
    rows = []
    for seed in range(5):
        for rate in (0.03, 0.1, 0.3):
            for arm, slope, beta in zip(("none", "batch"), slopes, (20.0, 2.0), strict=True):
                value = beta * (rate / 0.1) ** slope
                rows.append(run(arm, seed, constant(value), rate=rate, curvature=None))
    found = decide(SMOOTH, experiment(), table(*rows)).equal
    assert found.verdict == expected
    assert (SIZE_FLAG in found.flags) == (slopes == (-1.0, 0.0))


def test_two_rates_give_no_slope() -> None:
    rows = [
        run(arm, seed, constant(1.0 / rate), rate=rate, curvature=None)
        for seed in range(5)
        for rate in (0.03, 0.1)
        for arm in ("none", "batch")
    ]
    assert decide(SMOOTH, experiment(), table(*rows)).equal.flags == (LIMIT_FLAG,)


# ---- Learning rates


def rated(finals: dict[tuple[str, float], float], missing: tuple[str, float, int] | None = None) -> pd.DataFrame:
    rows = []
    for (arm, rate), final in finals.items():
        for seed in range(3):
            if (arm, rate, seed) != missing:
                value = 20.0 * rate if arm == "none" else 2.0 * rate
                rows.append(run(arm, seed, constant(value), rate=rate, loss=lambda t, s, f=final: f + s * 0.01))
    return table(*rows)


FINALS = {("none", 0.03): 0.2, ("none", 0.1): 0.5, ("batch", 0.03): 0.4, ("batch", 0.1): 0.3, ("batch", 0.3): INF}


def test_best_rates_rank_non_finite_last() -> None:
    assert best_rates(rated(FINALS), experiment(3), "vgg") == {"none": 0.03, "batch": 0.1}
    finals = {("none", 0.1): INF, ("none", 0.3): INF, ("batch", 0.1): 0.5}
    assert best_rates(rated(finals), experiment(3), "vgg") == {"none": 0.1, "batch": 0.1}


def test_best_rates_take_the_median_over_seeds() -> None:
    """At .3 two seeds end lower and one much higher than at .1."""
    rows = [run("batch", s, flat(1.0), loss=flat(0.5)) for s in range(3)]
    rows += [run("batch", s, flat(1.0), rate=0.3, loss=flat(0.4 if s else INF)) for s in range(3)]
    assert best_rates(table(*rows), experiment(3), "vgg") == {"batch": 0.3}


def test_best_rates_leave_out_unfinished_runs_and_keep_diverged_ones() -> None:
    frame = rated({("none", 0.1): 0.5, ("batch", 0.1): 0.5})
    stopped = table(*[run("batch", seed, constant(1.0), rate=0.3, loss=flat(0.01), stop=50) for seed in range(3)])
    assert best_rates(pd.concat([frame, stopped]), experiment(3), "vgg")["batch"] == 0.1
    marks = [r for seed in range(3) for r in series("diverged", {50: 1.0}, arm="batch", seed=seed, learning_rate=0.3)]
    assert best_rates(pd.concat([frame, stopped, pd.DataFrame(marks)]), experiment(3), "vgg")["batch"] == 0.1
    assert best_rates(stopped, experiment(3), "vgg") == {"batch": 0.3}


def test_each_arm_at_its_best_rate_stands_beside_the_verdict() -> None:
    found = decide(CLAIM, experiment(3), rated(FINALS))
    assert (found.equal.arm_rate, found.equal.reference_rate) == (0.1, 0.1)
    assert found.best is not None
    assert (found.best.arm_rate, found.best.reference_rate) == (0.1, 0.03)
    assert found.equal.seeds[2] == pytest.approx(1.0)
    assert found.best.seeds[2] == pytest.approx(1.0 + math.log10(0.3))


def test_best_rates_that_are_the_equal_ones_are_not_decided_twice() -> None:
    found = decide(CLAIM, experiment(3), rated({("none", 0.1): 0.5, ("batch", 0.1): 0.3}))
    assert found.best is found.equal


def test_the_largest_rate_is_the_largest_of_both_arms_and_has_no_best() -> None:
    arms = (Arm("none", learning_rates=(0.03, 0.1)), Arm("batch", learning_rates=(0.03, 0.1, 0.3)))
    claim = dataclasses.replace(CLAIM, rate="largest")
    found = decide(claim, experiment(3, arms=arms), rated(FINALS))
    assert found.equal.arm_rate == 0.1
    assert found.best is None
    assert decide(dataclasses.replace(CLAIM, rate=0.03), experiment(3), rated(FINALS)).equal.arm_rate == 0.03


# ---- The table and the report


def test_holm_over_the_tested_claims_of_a_report() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    second = dataclasses.replace(CLAIM, id="B", boundary=0.98)
    absent = dataclasses.replace(CLAIM, id="C", arm="layer")
    margin = dataclasses.replace(CLAIM, id="D", kind="equivalence", boundary=5.0)
    found = decide_claims((CLAIM, second, absent, margin), experiment(), frame)
    assert [v.claim.id for v in found] == ["A-beta", "B", "C", "D"]
    assert found[1].holm_p == pytest.approx(found[1].equal.p_value)  # the largest of three
    assert math.isnan(found[2].holm_p)
    smallest = min(found[0].equal.p_value, found[3].equal.p_value)
    assert min(found[0].holm_p, found[3].holm_p) == pytest.approx(3 * smallest)
    assert expected_false_holds(found) == pytest.approx(0.025 + 0.025 + 0.05)


def test_row_order_duplicates_other_studies_and_statistics_modes_change_nothing() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    clean = decide(CLAIM, experiment(), frame).equal
    other = frame.assign(study="dln", value=7.0)
    running = frame[frame["probe"] == "gradient_path"].assign(statistics="running", value=7.0)
    stale = frame.assign(value=7.0)  # written again later: the last value stands
    mixed = pd.concat([running, stale, frame.sample(frac=1.0, random_state=0), other, running])
    assert decide(CLAIM, experiment(), mixed).equal == clean


def test_a_table_through_a_text_file_gives_the_same_verdict() -> None:
    frame = pairs(constant(20.0), lambda t, seed: INF if t > 80 else 2.0)
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert again["layer"].isna().all()  # what a text file does to empty words
    expected, found = decide(CLAIM, experiment(), frame).equal, decide(CLAIM, experiment(), again).equal
    assert found.verdict == expected.verdict == "holds"
    assert list(found.seeds.values()) == pytest.approx(list(expected.seeds.values()))


def test_categorical_columns_are_read_too() -> None:
    frame = pairs(constant(20.0), flat(2.0))
    words = {name: frame[name].astype("category") for name in ("arm", "probe", "quantity", "variant", "layer", "study")}
    assert decide(CLAIM, experiment(), frame.assign(**words)).verdict == "holds"


def test_a_frame_that_is_no_long_table_is_refused() -> None:
    with pytest.raises(UsageError, match="no column variant"):
        decide(CLAIM, experiment(), pairs(flat(1.0), flat(1.0)).drop(columns="variant"))
    with pytest.raises(UsageError, match="no study 'dln'"):
        decide(dataclasses.replace(CLAIM, study="dln"), experiment(), pairs(flat(1.0), flat(1.0)))
