"""The pure rule: each verdict from hand-made seeds, and its error rates and power by simulation and closed form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from landscape.analysis import Claim, Measure
from landscape.errors import UsageError
from landscape.statistics import decide_values
from landscape.statistics.rule import check_claim

INF = float("inf")
CLAIM = Claim("c", "a is smoother", "s", Measure("p", "q"), arm="a")
EQUIVALENT = dataclasses.replace(CLAIM, kind="equivalence", boundary=0.5)


def seeds(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values))


def verdict(claim: Claim, by_step: Sequence[float], matched: Sequence[float] | None = None) -> str:
    return decide_values(seeds(by_step), None if matched is None else seeds(matched), claim).verdict


UP, DOWN, WIDE = [0.3, 0.4, 0.35], [-0.3, -0.4, -0.35], [-0.3, 0.4, 0.1]


def test_superiority_by_step() -> None:
    assert verdict(CLAIM, UP) == "holds"
    assert verdict(CLAIM, DOWN) == "fails"
    assert verdict(CLAIM, WIDE) == "undecided"
    assert verdict(CLAIM, UP[:2]) == "not measured"
    assert verdict(dataclasses.replace(CLAIM, boundary=0.6), UP) == "fails"
    assert verdict(dataclasses.replace(CLAIM, boundary=0.3), UP) == "undecided"


@pytest.mark.parametrize(
    ("by_step", "matched", "expected"),
    [
        (UP, UP, "holds"),
        (UP, WIDE, "undecided"),
        (WIDE, UP, "undecided"),
        (UP, DOWN, "fails"),
        (DOWN, UP, "fails"),
        (UP, UP[:2], "undecided"),  # no overlap in enough seeds: cannot hold
        (UP, [], "undecided"),
        (UP, [-0.3, -0.3001], "undecided"),  # nor fail on two
        (DOWN, [], "fails"),  # but can fail by step
    ],
)
def test_matched_loss_is_required_too(by_step: list[float], matched: list[float], expected: str) -> None:
    claim = dataclasses.replace(CLAIM, matched=True)
    assert verdict(claim, by_step, matched) == expected
    assert verdict(CLAIM, by_step, matched) == verdict(CLAIM, by_step)  # not read unless asked for


def test_no_overlap_is_the_reason_and_no_evidence() -> None:
    found = decide_values(seeds(UP), {}, dataclasses.replace(CLAIM, matched=True))
    assert "the arms' losses do not overlap" in found.reason
    assert math.isnan(found.p_value)  # not tested: it counts in no correction


def test_equivalence_inside_outside_and_across_the_margin() -> None:
    assert verdict(EQUIVALENT, [0.05, -0.05, 0.0]) == "holds"
    assert verdict(EQUIVALENT, [0.9, 0.95, 1.0]) == "fails"
    assert verdict(EQUIVALENT, [-0.9, -0.95, -1.0]) == "fails"
    assert verdict(EQUIVALENT, [0.4, 0.5, 0.6]) == "undecided"
    assert verdict(EQUIVALENT, [0.4, 0.3, -0.4]) == "undecided"
    matched = dataclasses.replace(EQUIVALENT, matched=True)
    assert verdict(matched, [0.05, -0.05, 0.0], [0.9, 0.95, 1.0]) == "fails"


def test_equivalence_uses_the_ninety_percent_interval() -> None:
    x = [0.0, 0.25, 0.5]  # mean .25, sd .25: 90 % half width .421, 95 % half width .621
    claim = dataclasses.replace(EQUIVALENT, boundary=0.7)
    found = decide_values(seeds(x), None, claim)
    assert found.intervals[0].level == 0.90
    assert found.verdict == "holds"
    t = scipy.stats.ttest_1samp(x, 0.7, alternative="less").pvalue
    assert found.p_value == pytest.approx(t)  # the worse of the two one-sided tests


def test_non_inferiority_and_threshold() -> None:
    tolerant = dataclasses.replace(CLAIM, kind="non-inferiority", boundary=-0.5)
    assert verdict(tolerant, [-0.1, 0.0, -0.05]) == "holds"
    assert verdict(tolerant, [-0.9, -1.0, -0.95]) == "fails"
    value = dataclasses.replace(CLAIM, kind="threshold", scale="value", reference=None, boundary=2.0)
    assert verdict(value, [2.5, 2.6, 2.4]) == "holds"
    assert verdict(value, [1.5, 1.6, 1.4]) == "fails"


def test_p_value_is_of_the_worse_comparison() -> None:
    found = decide_values(seeds(UP), seeds([0.1, 0.2, 0.3]), dataclasses.replace(CLAIM, matched=True))
    worse = scipy.stats.ttest_1samp([0.1, 0.2, 0.3], 0.0, alternative="greater").pvalue
    assert found.p_value == pytest.approx(worse)


def test_infinite_seeds() -> None:
    assert verdict(CLAIM, [INF, INF, INF]) == "holds"
    assert verdict(CLAIM, [-INF, -INF, -INF]) == "fails"
    assert verdict(CLAIM, [0.9, 1.0, INF]) == "holds"  # counts as 1 dex
    assert verdict(CLAIM, [0.3, 0.3, 0.3, 0.3, -INF]) == "undecided"  # one diverged run is not outvoted
    found = decide_values(seeds([0.2, 3.0, INF]), None, CLAIM).intervals[0]
    assert found.mean == pytest.approx((0.2 + 3.0 + 3.0) / 3)
    points = dataclasses.replace(CLAIM, scale="difference")
    assert verdict(points, [5.0, 6.0, INF]) == "holds"
    assert verdict(points, [INF, -INF, INF]) == "undecided"
    cut = decide_values(seeds([0.1, 0.2, INF]), None, points).intervals[0]
    assert cut.mean == pytest.approx(0.5 / 3)  # no dex in a difference
    # An infinite seed stays on its own side of the boundary: it can't be cut down to evidence against.
    assert verdict(dataclasses.replace(points, boundary=0.2), [0.1, 0.1, 0.1, 0.1, INF]) == "undecided"


def test_identical_arms_are_undecided() -> None:
    assert verdict(CLAIM, [0.0] * 5) == "undecided"
    assert decide_values(seeds([0.0] * 5), None, CLAIM).p_value == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": "value"}, "reference=None belong together"),
        ({"reference": None}, "reference=None belong together"),
        ({"kind": "threshold"}, 'write scale="value"'),
        ({"kind": "equivalence"}, "boundary > 0"),
        ({"kind": "non-inferiority"}, "negative boundary"),
        ({"scale": "value", "reference": None, "matched": True}, "matched=True needs a reference"),
        ({"measure": Measure("p", "q", layers=())}, "layers is empty"),
    ],
)
def test_claims_that_contradict_themselves_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_claim(dataclasses.replace(CLAIM, **changes))


# ---- Error rates and power. Rates are compared in standard errors of the simulation.


def near(rate: float, expected: float, trials: int) -> bool:
    return abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / trials)


@pytest.mark.parametrize("n", [3, 5])
def test_false_holds_at_the_boundary_of_every_kind(n: int) -> None:
    trials = 3000
    draws = np.random.default_rng(n).normal(0.0, 1.0, (trials, n))
    threshold = dataclasses.replace(CLAIM, kind="threshold", scale="value", reference=None, boundary=-4.0)
    kinds = {
        0.025: [
            CLAIM,
            dataclasses.replace(CLAIM, boundary=math.log10(2.0)),
            dataclasses.replace(CLAIM, kind="non-inferiority", boundary=-0.3),
            threshold,
        ],
        # Two one-sided tests at .05; a margin far wider than the noise leaves only the near edge.
        0.05: [dataclasses.replace(EQUIVALENT, boundary=50.0)],
    }
    for expected, claims in kinds.items():
        for claim in claims:
            held = np.mean([verdict(claim, row) == "holds" for row in (draws + claim.boundary).tolist()])
            assert near(float(held), expected, trials), (claim.kind, held)


def test_requiring_both_comparisons_never_raises_the_error_rate() -> None:
    trials, claim = 3000, dataclasses.replace(CLAIM, matched=True)
    generator = np.random.default_rng(1)
    by_step, matched = generator.normal(0, 1, (trials, 5)), generator.normal(3, 1, (trials, 5))
    # Matched loss far above the boundary, by step at it: the error is that of one test.
    held = [verdict(claim, a, b) == "holds" for a, b in zip(by_step.tolist(), matched.tolist(), strict=True)]
    assert near(float(np.mean(held)), 0.025, trials)
    both = [verdict(claim, a, b - 3) == "holds" for a, b in zip(by_step.tolist(), matched, strict=True)]
    assert np.mean(both) < 0.01  # both at the boundary: far below it


@pytest.mark.parametrize("n", [3, 5])
def test_rules_that_were_not_chosen_are_wrong_more_often(n: int) -> None:
    trials = 4000
    generator = np.random.default_rng(10 + n)
    x = generator.normal(0.0, 1.0, (trials, n))
    signs = float((x > 0).all(axis=1).mean())
    assert near(signs, 0.5**n, trials)
    chosen = generator.integers(0, n, (300, n))
    bootstrap = float((np.quantile(x[:, chosen].mean(axis=2), 0.025, axis=1) > 0).mean())
    assert bootstrap > 0.06
    one_sided = scipy.stats.ttest_1samp(x, 0.0, axis=1, alternative="greater").pvalue < 0.05
    assert near(float(one_sided.mean()), 0.05, trials)
    chosen_rule = float(np.mean([verdict(CLAIM, row) == "holds" for row in x.tolist()]))
    assert near(chosen_rule, 0.025, trials)
    assert chosen_rule < min(signs, bootstrap, float(one_sided.mean()))


@pytest.mark.parametrize(("n", "published"), [(3, 0.47), (5, 0.91)])
def test_power_at_two_standard_deviations(n: int, published: float) -> None:
    trials = 2000
    exact = scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, n - 1), n - 1, 2.0 * math.sqrt(n))  # two-sided 95 % t
    assert exact == pytest.approx(published, abs=0.005)
    draws = np.random.default_rng(n).normal(2.0, 1.0, (trials, n))
    assert near(float(np.mean([verdict(CLAIM, row) == "holds" for row in draws.tolist()])), exact, trials)
