"""Whether two experiments are the same one, and what both together are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

from landscape.errors import UsageError
from landscape.experiment import Experiment, Study

_ABSENT = object()
_LONGEST = 255  # bytes of a file's name
_Number = TypeVar("_Number", int, float)


def differences(stored: Experiment, asked: Experiment) -> list[str]:
    """What keeps two experiments from sharing a folder, one line each; empty if one extends the other.

    Seeds, rates and which arms there are may differ; an arm that both have must be the same.

    >>> from landscape.experiment import Arm, Spec
    >>> one = Study("s", Spec("mlp"), Spec("blobs"), (Arm("none"),), (0.1,), 0.1, (0,), steps=5)
    >>> differences(Experiment("e", (one,)), Experiment("e", (dataclasses.replace(one, steps=9),)))
    ['s.steps: 5 stored, 9 asked']
    """
    before, now = stored.identity(), asked.identity()
    for name in before.keys() & now.keys():
        shared = before[name]["arms"].keys() & now[name]["arms"].keys()
        for study in (before[name], now[name]):
            study["arms"] = {label: arm for label, arm in study["arms"].items() if label in shared}
    return list(_compare(before, now, ""))


def _compare(before: Any, now: Any, where: str) -> Iterable[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            path = f"{where}.{key}" if where else key
            yield from _compare(before.get(key, _ABSENT), now.get(key, _ABSENT), path)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for position, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _compare(one, other, f"{where}[{position}]")
    elif before != now:
        yield f"{where}: {_words(before)} stored, {_words(now)} asked"


def _words(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def union(stored: Experiment, asked: Experiment) -> Experiment:
    """The seeds, arms and rates of both; everything else as asked."""
    return dataclasses.replace(asked, studies=tuple(_union(stored.study(study.name), study) for study in asked.studies))


def _union(stored: Study, asked: Study) -> Study:
    asked_arms = {arm.label: arm for arm in asked.arms}
    arms = []
    for arm in stored.arms:
        other = asked_arms.pop(arm.label, arm)
        rates = arm.learning_rates
        if (rates, other.learning_rates) != (None, None):
            rates = _sorted(rates or stored.learning_rates, other.learning_rates or asked.learning_rates)
        arms.append(dataclasses.replace(other, learning_rates=rates))
    return dataclasses.replace(
        asked,
        arms=(*arms, *asked_arms.values()),
        seeds=_sorted(stored.seeds, asked.seeds),
        learning_rates=_sorted(stored.learning_rates, asked.learning_rates),
    )


def _sorted(one: Iterable[_Number], other: Iterable[_Number]) -> tuple[_Number, ...]:
    return tuple(sorted(set(one) | set(other)))


def check_keys(experiment: Experiment) -> None:
    """Refuse an experiment of which two runs would share a folder, or a name that can't be one.

    Raises:
        UsageError: naming the runs.
    """
    seen: dict[str, str] = {}
    for run in experiment.runs():
        words = f"{run.study.name}, arm {run.arm.label}, rate {run.learning_rate!r}, seed {run.seed}"
        plain = run.key.isprintable() and "/" not in run.key and not run.key.startswith(".")
        if not plain or len(run.key.encode()) > _LONGEST:
            raise UsageError(f"the run ({words}) can't have a folder named {run.key!r}: rename the study or the arm")
        if run.key in seen:
            raise UsageError(
                f"two runs would share the folder {run.key!r}: ({seen[run.key]}) and ({words}); "
                "give the arms different names, each rate and seed once, and rates that differ in six digits"
            )
        seen[run.key] = words
