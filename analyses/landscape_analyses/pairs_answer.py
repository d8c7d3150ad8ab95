"""What came out of a comparison of pairs, in sentences: decided, open and why, and what would decide it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from landscape.analysis import Verdict
from landscape.experiment import Experiment, Study
from landscape.statistics.pairs import left_plateau
from landscape.statistics.runs import RunData, RunKey, cut, quantities, rate_key

#: An arm that begins to learn after this part of the training leaves little to compare.
LATE = 0.25
#: The ends of claim ids -> what they are about.
NAMES = {
    "range": "variation of the loss",
    "pred": "change of the gradient",
    "beta": "beta",
    "beta-inv": "scale-invariant beta",
}
_TRAINING = {"full_loss": ("a lower loss", "a higher loss"), "test_accuracy": ("a higher accuracy", "a lower accuracy")}
_WHY = {
    "untrained": (
        "an arm never began to learn, did so too late, or diverged",
        "more steps (--steps) or another rate (--lr)",
    ),
    "confounded": ("the learning rate, not the landscape, sets the measures", "a smaller rate (--lr)"),
    "apart": ("too little was measured at equal loss", "more steps (--steps), or measuring more often"),
    "wide": ("the seeds do not agree well enough", "more seeds (--seeds)"),
    "not measured": ("too few runs are there", "three seeds or more (--seeds), all of their runs finished"),
}


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Arm by arm: is the landscape smoother, does training end better, and what would decide the rest."""
    several = len({verdict.claim.study for verdict in verdicts}) > 1
    arms: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        arms.setdefault((verdict.claim.study, verdict.claim.arm), []).append(verdict)
    outcomes: dict[tuple[str, str], list[str]] = {}
    for (study, arm), own in arms.items():
        outcomes.setdefault((f" in {study}" if several else "", _outcome(own)), []).append(arm)
    said = [f"With {_listed(labels)}{where}, {outcome}." for (where, outcome), labels in outcomes.items()]
    if not any(verdict.claim.landscape for verdict in verdicts):
        said.append("No measure of the landscape was recorded.")
    tries = list(dict.fromkeys(_WHY[why][1] for why in map(_why_open, verdicts) if why))
    if tries:
        said.append(f"To decide what is open, try {'; '.join(tries)}.")
    return " ".join(said)


def late_arms(experiment: Experiment, frame: pd.DataFrame) -> str:
    """Which arms began to learn late, or never: on the rest of their steps nothing is compared."""
    runs = cut(frame, quantities(()))
    several = len(experiment.studies) > 1
    said = []
    for study in experiment.studies:
        if late := list(_late(study, runs)):
            where = f"In {study.name}, at" if several else "At"
            said.append(f"{where} learning rate {study.primary_rate:g}, {_listed(late)}.")
    return " ".join(said)


def _late(study: Study, runs: dict[RunKey, RunData]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for arm in study.arms:
        place = (study.name, arm.label, rate_key(study.primary_rate))
        left = [left_plateau([run]) for key, run in runs.items() if key[:3] == place and _ended(run, study)]
        step = float(np.median([np.inf if one is None else one for one in left])) if left else 0.0
        if step > LATE * study.steps:
            what = (
                "never began to learn" if np.isinf(step) else f"began to learn only at step {step:.0f} of {study.steps}"
            )
            found.setdefault(what, []).append("no normalization" if arm.label == "none" else arm.label)
    for what, labels in found.items():
        yield f"the {'network' if len(labels) == 1 else 'networks'} with {_listed(labels)} {what}"


def _ended(run: RunData, study: Study) -> bool:
    """Whether it was trained to the end: of one that was not, or that diverged, nothing is said."""
    loss = run.training("full_loss")
    return loss is not None and int(loss.steps[-1]) >= study.steps and run.diverged_at is None


def _outcome(verdicts: Sequence[Verdict]) -> str:
    """What is known of one arm."""
    smooth = [verdict for verdict in verdicts if verdict.claim.landscape]
    trained = [verdict for verdict in verdicts if not verdict.claim.landscape]
    parts = ([_landscape(smooth)] if smooth else []) + ([_training(trained)] if trained else [])
    return "; ".join(parts)


def _landscape(verdicts: Sequence[Verdict]) -> str:
    held = [_name(verdict) for verdict in verdicts if verdict.verdict == "holds"]
    failed = [_name(verdict) for verdict in verdicts if verdict.verdict == "fails"]
    open_ = [_name(verdict) for verdict in verdicts if _why_open(verdict)]
    why = _listed(list(dict.fromkeys(_WHY[why][0] for why in map(_why_open, verdicts) if why)))
    count = len(verdicts)
    if len(held) == count:
        return f"the landscape is smoother by {f'all {count} measures' if count > 1 else 'the one measure'}"
    if len(failed) == count:
        return f"the landscape is not smoother by any of {count} measures"
    if len(open_) == count:
        return f"it is open whether the landscape is smoother, as {why}"
    parts = [f"smoother by {_listed(held)}"] if held else []
    parts += [f"not smoother by {_listed(failed)}"] if failed else []
    parts += [f"and by {_listed(open_)} it is open, as {why}"] if open_ else []
    return f"the landscape is {', '.join(parts)}"


def _training(verdicts: Sequence[Verdict]) -> str:
    shown, open_ = [], []
    for verdict in verdicts:
        better, worse = _TRAINING[verdict.claim.measure.quantity]
        if _why_open(verdict):
            open_.append(better)
        else:
            shown.append(better if verdict.verdict == "holds" else worse)
    parts = [f"training ends at {_listed(shown)}"] if shown else []
    if open_:
        parts.append(f"whether {'it' if shown else 'training'} ends at {_listed(open_)} is open")
    return ", ".join(parts)


def _why_open(verdict: Verdict) -> str:
    """A key of _WHY; "" where the claim was decided."""
    if verdict.verdict in ("holds", "fails"):
        return ""
    if verdict.verdict != "undecided":
        return verdict.verdict
    by_step, matched = verdict.equal.by_step, verdict.equal.at_matched_loss
    few = verdict.claim.matched and (matched is None or (by_step is not None and matched.n < min(3, by_step.n)))
    return "apart" if few else "wide"


def _name(verdict: Verdict) -> str:
    name = verdict.claim.id.rpartition(f"{verdict.claim.arm}-")[2]
    return NAMES.get(name, name)


def _listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
