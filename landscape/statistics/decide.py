"""From the long table to verdicts: each claim at equal learning rate and at each arm's best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from landscape.analysis import Claim, Comparison, Verdict
from landscape.experiment import Arm, Experiment, Study
from landscape.statistics.compare import compare, not_measured
from landscape.statistics.intervals import holm
from landscape.statistics.rule import check_claim, size_of
from landscape.statistics.runs import RunData, RunKey, cut, quantities, rate_key

if TYPE_CHECKING:
    import pandas as pd


def decide_claims(claims: Sequence[Claim], experiment: Experiment, frame: pd.DataFrame) -> tuple[Verdict, ...]:
    """Decide every claim of a report, with Holm's correction over its tested claims as a second column.

    The verdict is the claim's own test at equal learning rate; Holm's p only says how it would fare
    among all of the report's claims. The best-rate comparison is shown beside it and decides nothing.

    Args:
        claims: the claims of one report, declared before anything was run.
        experiment: its studies give arms, rates and seeds.
        frame: the long table of all runs.

    Returns:
        One verdict per claim, in their order.

    Raises:
        UsageError: a claim contradicts itself, names a study that does not exist, or the table is not one.
    """
    for claim in claims:
        check_claim(claim)
    runs = cut(frame, quantities(claims))
    best = {name: _best_rates(runs, experiment.study(name)) for name in {claim.study for claim in claims}}
    decided = [_decide(claim, experiment.study(claim.study), runs, best[claim.study]) for claim in claims]
    adjusted = holm([verdict.equal.p_value for verdict in decided])
    return tuple(dataclasses.replace(v, holm_p=p) for v, p in zip(decided, adjusted, strict=True))


def decide(claim: Claim, experiment: Experiment, frame: pd.DataFrame) -> Verdict:
    """Decide one claim by itself; ``decide_claims`` cuts the table once for many."""
    return decide_claims((claim,), experiment, frame)[0]


def best_rates(frame: pd.DataFrame, experiment: Experiment, study: str) -> dict[str, float]:
    """Each arm's best learning rate: the lowest median over seeds of the final full loss.

    A run that diverged has an infinite final loss, so that its rate ranks last; a run that stopped
    early for another reason is left out. Ties go to the smaller rate. Arms without a finished run are
    not in the answer.

    Args:
        frame: the long table.
        experiment: holds the study.
        study: its name.

    Returns:
        Arm label -> learning rate.
    """
    return _best_rates(cut(frame, quantities(())), experiment.study(study))


def expected_false_holds(verdicts: Sequence[Verdict]) -> float:
    """How many "holds" to expect if every tested claim sat exactly at its boundary: the sum of the tests' sizes."""
    return sum(size_of(v.claim) for v in verdicts if not math.isnan(v.equal.p_value))


def _best_rates(runs: Mapping[RunKey, RunData], study: Study) -> dict[str, float]:
    own = {key: run for key, run in runs.items() if key[0] == study.name}
    ends = [int(loss.steps[-1]) for run in own.values() if (loss := run.training("full_loss")) is not None]
    best: dict[str, float] = {}
    for arm in study.arms:
        ranked = []
        for rate in arm.learning_rates or study.learning_rates:
            candidates = [own.get((study.name, arm.label, rate_key(rate), seed)) for seed in study.seeds]
            finals = [_final_loss(run, max(ends, default=0)) for run in candidates if run is not None]
            finished = [loss for loss in finals if loss is not None]
            if finished:
                ranked.append((float(np.median(finished)), rate))
        if ranked:
            best[arm.label] = min(ranked)[1]
    return best


def _final_loss(run: RunData, end: int) -> float | None:
    loss = run.training("full_loss")
    if run.diverged_at is not None or (loss is not None and not math.isfinite(loss.values[-1])):
        return float("inf")
    if loss is None or loss.steps[-1] < end:
        return None
    return float(loss.values[-1])


def _decide(claim: Claim, study: Study, runs: Mapping[RunKey, RunData], best: Mapping[str, float]) -> Verdict:
    arms = {arm.label: arm for arm in study.arms}
    labels = [label for label in (claim.arm, claim.reference) if label is not None]
    absent = [label for label in labels if label not in arms]
    if absent:
        return Verdict(claim, not_measured(f"study {study.name!r} has no arm {' or '.join(absent)}"))
    compared = [arms[label] for label in labels]
    rates = [arm.learning_rates or study.learning_rates for arm in compared]
    if claim.rate == "best":
        own = tuple(best.get(arm.label, float("nan")) for arm in (compared[0], compared[-1]))
        if any(map(math.isnan, own)):
            return Verdict(claim, not_measured("an arm has no finished run to choose its best rate by"))
        found = compare(claim, study, compared, (own[0], own[1]), runs)
        return Verdict(claim, found, found)
    rate = _equal_rate(claim, study, rates)
    if rate is None:
        return Verdict(claim, not_measured("no learning rate was trained in both arms"))
    untrained = [
        a.label for a, known in zip(compared, rates, strict=True) if rate_key(rate) not in map(rate_key, known)
    ]
    if untrained:
        reason = f"{' and '.join(untrained)} was not trained at learning rate {rate:g}"
        equal = not_measured(reason, rate)
    else:
        equal = compare(claim, study, compared, (rate, rate), runs)
    return Verdict(claim, equal, _at_best(claim, study, compared, equal, runs, best))


def _equal_rate(claim: Claim, study: Study, rates: Sequence[tuple[float, ...]]) -> float | None:
    if claim.rate == "primary":
        return study.primary_rate
    if claim.rate == "largest":
        shared = set.intersection(*({rate_key(rate) for rate in known} for known in rates))
        return max(shared, default=None)
    return float(claim.rate)


def _at_best(
    claim: Claim,
    study: Study,
    compared: Sequence[Arm],
    equal: Comparison,
    runs: Mapping[RunKey, RunData],
    best: Mapping[str, float],
) -> Comparison | None:
    """The comparison of each arm at its best rate; ``equal`` itself where those are the equal rates."""
    if claim.rate == "largest" or any(arm.label not in best for arm in compared):
        return None
    own = best[compared[0].label]
    pair = (own, best[compared[-1].label])
    if all(rate_key(rate) == rate_key(equal.arm_rate) for rate in pair):
        return equal
    return compare(claim, study, compared, pair, runs)
