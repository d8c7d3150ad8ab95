"""One claim at one pair of learning rates: seeds paired, layers joined, invalid comparisons named first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from landscape.analysis import Claim, Comparison
from landscape.experiment import Arm, Study
from landscape.statistics.layers import decide_seeds, joined, measured
from landscape.statistics.limits import Limit, step_size_limit
from landscape.statistics.pairs import SeedValue, seed_value
from landscape.statistics.rule import FEWEST_SEEDS, MATERIAL
from landscape.statistics.runs import RunData, RunKey, rate_key

SIZE_FLAG = "the size is set by the learning rate"
PLATEAU_FLAG = "untrained steps not looked for: no full loss was recorded from the first step on"
CHANCE_FLAG = "the loss of guessing is not known: a run counts as trained where its loss is below .95 of its first"
LIMIT_FLAG = "step-size limit not checked: no curvature, and fewer than 3 learning rates"

Pair = tuple[RunData, RunData | None]
Values = dict[str, dict[int, SeedValue]]


def not_measured(reason: str, rate: float = float("nan")) -> Comparison:
    """A comparison that could not be made."""
    return Comparison(rate, rate, "not measured", reason)


def compare(
    claim: Claim,
    study: Study,
    compared: Sequence[Arm],
    rates: tuple[float, float],
    runs: Mapping[RunKey, RunData],
) -> Comparison:
    """Decide a claim between two arms, each at its own learning rate.

    In this order: not measured (fewer than 3 seeds have both runs and the measure in every layer),
    untrained (fewer than 3 seeds keep a step off the plateau), confounded (step-size-limited), then the
    rule: holds if every layer holds, fails if any layer fails. The worst layer's numbers are reported.

    Args:
        claim: the claim.
        study: gives the seeds, and the rates of the slope.
        compared: the arm, and the reference unless the claim compares with nothing.
        rates: learning rate of the arm and of the reference.
        runs: all runs.
    """
    pairs, without = _pairs(study, compared, rates, runs)
    left_out = _note(without, "left out: a run is missing") + _divergence(compared, pairs)
    if len(pairs) < FEWEST_SEEDS:
        have = "1 seed has" if len(pairs) == 1 else f"{len(pairs) or 'no'} seeds have"
        return Comparison(*rates, "not measured", f"{have} every run, {FEWEST_SEEDS} are needed{left_out}")
    values = {
        layer: {seed: seed_value(claim, layer, *pair) for seed, pair in pairs.items()} for layer in claim.measure.layers
    }
    for layer, by_seed in values.items():
        present = [value for value in by_seed.values() if value.state != "missing"]
        if len(present) < FEWEST_SEEDS:
            reason = f"{_absence(claim, layer, len(present), pairs)}{left_out}"
            return Comparison(*rates, "not measured", reason)
    for layer, by_seed in values.items():
        on_plateau = [seed for seed, value in by_seed.items() if value.state == "untrained"]
        if len(by_seed) - len(on_plateau) - _count(by_seed, "missing") < FEWEST_SEEDS:
            above = "the chance loss" if _all(pairs, "chance_known") else "its first value (chance is not known)"
            whose = _stuck(compared, [pairs[seed] for seed in on_plateau])
            reason = f"the full loss{whose} stays above .95 of {above} in seeds {_listed(on_plateau)}"
            return Comparison(*rates, "untrained", f"{reason}{_in_layer(layer)}{left_out}")
    return _decided(claim, study, compared, rates, runs, pairs, values, left_out)


def _decided(
    claim: Claim,
    study: Study,
    compared: Sequence[Arm],
    rates: tuple[float, float],
    runs: Mapping[RunKey, RunData],
    pairs: Mapping[int, Pair],
    values: Values,
    left_out: str,
) -> Comparison:
    """The rule over layers, then the step-size-limited rule over it."""
    decisions = {layer: decide_seeds(claim, by_seed) for layer, by_seed in values.items()}
    verdict, layer, p_value = joined(decisions)
    decision, used = decisions[layer], measured(values[layer])
    reason = decision.reason + _in_layer(layer) + left_out
    for state, why in (("untrained", "untrained"), ("missing", "no measurement in the window")):
        dropped = {seed for by_seed in values.values() for seed, v in by_seed.items() if v.state == state}
        reason += _note(dropped, f"left out: {why}")
    flags = [] if _all(pairs, "chance_known") else [CHANCE_FLAG]
    flags = flags if _all(pairs, "plateau_known") else [PLATEAU_FLAG]
    if claim.landscape:
        spans = {seed: value.span for seed, value in used.items() if value.span is not None}
        limits = [
            step_size_limit(claim, study, arm, rate, runs, spans) for arm, rate in zip(compared, rates, strict=False)
        ]
        confounded, flag = _confounded(claim, limits, decision.intervals[0].mean)
        flags += [flag] if flag else []
        if confounded:
            verdict, reason, p_value = "confounded", confounded + left_out, float("nan")
    overlaps = [value.overlap for value in used.values() if value.overlap is not None]
    lower = [part.lower for d in decisions.values() for part in d.intervals if part is not None]
    return Comparison(
        *rates,
        verdict=verdict,
        reason=reason,
        by_step=decision.intervals[0],
        at_matched_loss=decision.intervals[1],
        seeds={seed: value.by_step for seed, value in used.items()},
        p_value=p_value,
        overlap=_median_range(overlaps),
        span=_whole_range([value.span for value in used.values() if value.span is not None]),
        left_out=_left_out([value.left_out for value in used.values()]),
        material=_material(claim, verdict, lower),
        flags=tuple(flags),
        by_layer={name: d.intervals[0].mean for name, d in decisions.items() if name},
    )


def _pairs(
    study: Study, compared: Sequence[Arm], rates: tuple[float, float], runs: Mapping[RunKey, RunData]
) -> tuple[dict[int, Pair], list[int]]:
    """Seed -> (arm's run, reference's run), and the seeds that lack one."""
    pairs: dict[int, Pair] = {}
    without = []
    for seed in study.seeds:
        keys = [(study.name, a.label, rate_key(rate), seed) for a, rate in zip(compared, rates, strict=False)]
        found = [run for key in keys if (run := runs.get(key)) is not None]
        if len(found) < len(keys):
            without.append(seed)
        else:
            pairs[seed] = (found[0], found[1] if len(found) > 1 else None)
    return pairs, without


def _confounded(claim: Claim, limits: Sequence[Limit], mean: float) -> tuple[str, str]:
    """(reason if confounded, flag): which arm's smoothness is set by its step size.

    Only the rougher arm limited (the one with the larger measure): the direction stands, the size is
    flagged. The smoother one, or both: confounded. One arm alone can't be confounded with another.
    """
    if not any(limit.limited for limit in limits):
        return "", "" if all(limit.checked for limit in limits) else LIMIT_FLAG
    if len(limits) == 1:
        return "", SIZE_FLAG
    arm, reference = limits
    rougher = None
    if mean != 0.0 and not math.isnan(mean):
        rougher = reference if (mean > 0.0) == (claim.supports == "smaller") else arm
    limited = [limit for limit in limits if limit.limited]
    if len(limited) == 1 and limited[0] is rougher:
        return "", SIZE_FLAG
    which = "both arms are" if len(limited) == 2 else f"the smoother arm, {limited[0].arm}, is"
    numbers = "; ".join(limit.words() for limit in limited)
    return f"{which} limited by the step size ({numbers})", ""


def _material(claim: Claim, verdict: str, lower: Sequence[float]) -> bool | None:
    """Whether every lower bound exceeds a factor 1.1; None where that is no question."""
    if claim.scale != "log-ratio" or claim.kind == "equivalence" or verdict == "confounded":
        return None
    if any(math.isnan(bound) for bound in lower):  # no interval at matched loss: nothing is shown either way
        return None
    return all(bound > MATERIAL for bound in lower)


def _median_range(overlaps: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The median over seeds of either end."""
    if not overlaps:
        return None
    low, high = np.median(np.array(overlaps), axis=0)
    return float(low), float(high)


def _whole_range(spans: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """From the first of the first steps to the last of the last."""
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def _left_out(counts: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Steps left out and all steps of the seed that lost most; None where none was left out."""
    most = max(counts, default=(0, 0))
    return most if most[0] else None


def _count(by_seed: Mapping[int, SeedValue], state: str) -> int:
    return sum(value.state == state for value in by_seed.values())


def _all(pairs: Mapping[int, Pair], known: str) -> bool:
    """Whether every run knows it."""
    return all(getattr(run, known) for pair in pairs.values() for run in pair if run is not None)


def _absence(claim: Claim, layer: str, present: int, pairs: Mapping[int, Pair]) -> str:
    """What is missing, and under which other names there is something."""
    m = claim.measure
    wanted = f"{m.probe}/{m.quantity} (variant {m.variant!r}, batch {m.batch!r}, layer {layer!r}, index {m.index})"
    others = {
        f"(variant {key[2]!r}, batch {key[3]!r}, layer {key[4]!r})"
        for pair in pairs.values()
        for run in pair
        if run is not None
        for key in run.series
        if key[:2] == (m.probe, m.quantity) and key[2:] != (m.variant, m.batch, layer, m.index)
    }
    there = f"; there is {', '.join(sorted(others)[:4])}" if others and not present else ""
    return f"{wanted} was measured in {present} seeds, and {FEWEST_SEEDS} are needed{there}"


def _stuck(compared: Sequence[Arm], pairs: Sequence[Pair]) -> str:
    """Of which arms a run never left the plateau."""
    found = []
    for place, arm in enumerate(compared):
        runs = [run for pair in pairs if (run := pair[place]) is not None]
        losses = [(run, loss.steps) for run in runs if (loss := run.training("full_loss")) is not None]
        if any(not run.trained(steps).any() for run, steps in losses):
            found.append(arm.label)
    return f" of {' and '.join(found)}" if found else " of one arm or the other"


def _divergence(compared: Sequence[Arm], pairs: Mapping[int, Pair]) -> str:
    """Which arms diverged, in which seeds: a result, whatever the verdict."""
    notes = ""
    for place, arm in enumerate(compared):
        runs = {seed: pair[place] for seed, pair in pairs.items()}
        diverged = [seed for seed, run in runs.items() if run is not None and run.diverged_at is not None]
        notes += _note(diverged, f"of {arm.label} diverged")
    return notes


def _note(seeds: Sequence[int] | set[int], what: str) -> str:
    return f"; seeds {_listed(seeds)} {what}" if seeds else ""


def _in_layer(layer: str) -> str:
    return f" (layer {layer})" if layer else ""


def _listed(seeds: Sequence[int] | set[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))
