"""The rule itself: one number per seed in, a verdict out. Pure, so that it can be calibrated on null runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from landscape.analysis import Claim, Interval
from landscape.errors import UsageError
from landscape.statistics.intervals import interval, p_above, p_below, winsorised

#: Fewer seeds than this are not a measurement.
FEWEST_SEEDS = 3
#: A log ratio's lower bound above this (a factor 1.1) is a material difference.
MATERIAL = math.log10(1.1)
#: A run that diverged beside one that did not differs by this many dex at the least.
INFINITE_DEX = 1.0


class Decision(NamedTuple):
    """What ``decide_values`` found for one layer.

    Attributes:
        verdict: "holds", "fails", "undecided" or "not measured".
        reason: why, in a few plain words.
        intervals: by step, and at matched loss (None where the claim does not ask for it).
        p_value: one-sided against the boundary (two one-sided tests for equivalence), of the worse comparison; NaN
            where one of them could not be made.
    """

    verdict: str
    reason: str
    intervals: tuple[Interval, Interval | None]
    p_value: float


def check_claim(claim: Claim) -> None:
    """Refuse a claim whose parts contradict each other.

    Raises:
        UsageError: saying which claim, what is wrong and what to write.
    """

    def refuse(what: str) -> None:
        raise UsageError(f"claim {claim.id!r}: {what}")

    alone = claim.scale in ("value", "cosine")
    if alone != (claim.reference is None):
        refuse('scale="value" and reference=None belong together: a value is compared with its boundary alone')
    if claim.kind == "threshold" and not alone:
        refuse('kind="threshold" compares a value with the boundary: write scale="value" and reference=None')
    if claim.matched and claim.reference is None:
        refuse("there is no second arm to match the loss with: matched=True needs a reference")
    if claim.kind == "equivalence" and not claim.boundary > 0.0:
        refuse(f"equivalence needs a margin: boundary > 0, not {claim.boundary:g}")
    if claim.kind == "non-inferiority" and not claim.boundary < 0.0:
        refuse(f"non-inferiority needs the tolerated loss as a negative boundary, not {claim.boundary:g}")
    if not claim.measure.layers:
        refuse('measure.layers is empty: write ("",) where there are no layers')


def level_of(claim: Claim) -> float:
    """Coverage of the interval that decides: .90 for equivalence (two one-sided tests at .05), else .95."""
    return 0.90 if claim.kind == "equivalence" else 0.95


def size_of(claim: Claim) -> float:
    """The rule's nominal rate of false "holds" at the boundary: .05 for equivalence, else .025."""
    return (1.0 - level_of(claim)) / 2.0


def decide_values(
    by_step: Mapping[int, float], at_matched_loss: Mapping[int, float] | None, claim: Claim, *, few: int = 0
) -> Decision:
    """Decide a claim from one number per seed, against the claim's boundary delta.

    holds: the lower bound is above delta by step, and (where ``claim.matched``) at matched loss too.
    fails: the upper bound is below delta on either. undecided: otherwise. not measured: fewer than 3 seeds.
    Equivalence: the 90 % interval inside -/+ delta holds, wholly outside on either comparison fails.
    A claim that asks for matched loss in fewer than 3 seeds can fail by step, but not hold.

    Infinite values are winsorised: to the largest finite magnitude among the seeds, at least 1 dex for
    log ratios, and at least twice |delta|, so that they stay on their own side of it.

    Args:
        by_step: seed -> s.
        at_matched_loss: seed -> s at matched full loss, or None; read only if ``claim.matched``.
        claim: gives kind, boundary, scale and matched.
        few: seeds that have nothing at matched loss because a run was measured less than twice off the plateau, not
            because the losses do not overlap.

    >>> from landscape.analysis import Measure
    >>> claim = Claim("x", "a is smoother", "s", Measure("p", "q"), arm="a")
    >>> decide_values({0: 0.3, 1: 0.4, 2: 0.35}, None, claim).verdict
    'holds'
    """
    floor = max(INFINITE_DEX if claim.scale == "log-ratio" else 0.0, 2.0 * abs(claim.boundary))
    level = level_of(claim)
    first = interval(winsorised(list(by_step.values()), floor), level)
    infinite = sum(math.isinf(s) for s in by_step.values())
    note = f"; {infinite} of {first.n} seeds infinite" if infinite else ""
    second: Interval | None = None
    if claim.matched:
        second = interval(winsorised(list((at_matched_loss or {}).values()), floor), level)
    found = (first, second)
    if first.n < FEWEST_SEEDS:
        return Decision("not measured", f"{first.n} seeds, and {FEWEST_SEEDS} are needed", found, float("nan"))

    places = [("by step", first)]
    if second is not None and second.n >= FEWEST_SEEDS:
        places.append(("at matched loss", second))
    p_value = max(_p_value(claim, part) for _, part in places)
    for place, part in places:
        if _outside(claim, part):
            return Decision("fails", f"{place}, {_words(claim, part, 'fails')}{note}", found, p_value)
    if second is not None and second.n < FEWEST_SEEDS:
        seeds = f"{second.n} of {first.n} seeds can be compared, and {FEWEST_SEEDS} are needed"
        why = "the arms' losses do not overlap" if not few else "an arm was measured less than twice off the plateau"
        some = f" in {few} seeds: measure more often, or train longer" if few else ""
        return Decision("undecided", f"at matched loss, {why}{some} ({seeds}){note}", found, float("nan"))
    for place, part in places:
        if not _inside(claim, part):
            return Decision("undecided", f"{place}, {_words(claim, part, 'undecided')}{note}", found, p_value)
    where = " and ".join(place for place, _ in places)
    worst = min((part for _, part in places), key=lambda part: part.lower)
    return Decision("holds", f"{where}, {_words(claim, worst, 'holds')}{note}", found, p_value)


def _inside(claim: Claim, found: Interval) -> bool:
    if claim.kind == "equivalence":
        return -claim.boundary < found.lower and found.upper < claim.boundary
    return found.lower > claim.boundary


def _outside(claim: Claim, found: Interval) -> bool:
    if claim.kind == "equivalence":
        return found.lower > claim.boundary or found.upper < -claim.boundary
    return found.upper < claim.boundary


def _p_value(claim: Claim, found: Interval) -> float:
    if claim.kind == "equivalence":
        return max(p_above(found, -claim.boundary), p_below(found, claim.boundary))
    return p_above(found, claim.boundary)


def _words(claim: Claim, found: Interval, verdict: str) -> str:
    """The interval and the boundary, in the unit that the claim is stated in."""
    turned = claim.reference is None and claim.supports == "smaller"
    low, high = sorted((claim.read(found.lower), claim.read(found.upper)))
    unit = " dex" if claim.scale == "log-ratio" else ""
    bounds = f"the {found.level * 100:.0f} % interval [{low:.3g}, {high:.3g}]{unit}"
    if claim.kind == "equivalence":
        verb = {"holds": "lies inside", "fails": "lies outside", "undecided": "crosses an edge of"}[verdict]
        return f"{bounds} {verb} the margin of +/-{claim.boundary:.3g}"
    above, below = ("below", "above") if turned else ("above", "below")
    verb = {"holds": f"lies {above}", "fails": f"lies {below}", "undecided": "contains"}[verdict]
    return f"{bounds} {verb} the boundary {claim.read(claim.boundary):.3g}"
