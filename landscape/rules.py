"""What an experiment's values must be, beyond their types: positive rates, known names, each seed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from landscape.errors import UsageError, nearest

Place = tuple[str | int, ...]
Broken = tuple[Place, str]

_COUNTS = ("steps", "batch_size", "evaluate_every", "full_batches")
#: Beyond these a value is a slip of the hand, and even listing the runs would fill the memory.
MOST_STEPS, MOST_SEEDS = 10**9, 10**4


def broken_rules(plain: Mapping[str, Any]) -> list[Broken]:
    """Every broken rule with its place; values of a wrong type are left to the types.

    Args:
        plain: an experiment in the shape of ``dataclasses.asdict``.

    >>> broken_rules({"name": "e", "studies": [{"name": "s", "steps": -5}]})
    [(('studies', 0, 'steps'), 'must be 1 or more, not -5')]
    """
    studies = plain.get("studies")
    studies = studies if isinstance(studies, list | tuple) else []
    broken = list(_not_finite(plain, ()))
    if not studies:
        broken.append((("studies",), "there is no study: nothing to train"))
    names = [study.get("name") for study in studies if isinstance(study, dict)]
    broken += [(("studies", place, "name"), text) for place, text in _repeated(names, "study name")]
    for number, study in enumerate(studies):
        if isinstance(study, dict):
            broken += [(("studies", number, *place), message) for place, message in _study(study)]
    return broken


def _study(study: Mapping[str, Any]) -> Iterator[Broken]:
    name = study.get("name")
    if isinstance(name, str) and (not name or "/" in name or name.startswith(".")):
        yield ("name",), f"a folder is named after it, so {name!r} can't be it"
    for key in _COUNTS:
        value = study.get(key)
        if _is_int(value) and value < 1:
            yield (key,), f"must be 1 or more, not {value}"
        elif _is_int(value) and value > MOST_STEPS:
            yield (key,), f"must be {MOST_STEPS:,} or fewer, not {value}"
    yield from _rates(study.get("learning_rates"), ("learning_rates",))
    yield from _primary(study)
    yield from _seeds(study.get("seeds"))
    yield from _arms(study.get("arms"))
    yield from _probes(study)
    yield from _named(study)


def _rates(rates: Any, place: Place) -> Iterator[Broken]:
    if not isinstance(rates, list | tuple):
        return
    if not rates:
        yield place, "is empty: give at least one learning rate"
    for number, rate in enumerate(rates):
        if _is_number(rate) and not rate > 0:
            yield (*place, number), f"a learning rate (step size) must be > 0, not {rate}"
    yield from (((*place, number), text) for number, text in _repeated(rates, "learning rate"))


def _primary(study: Mapping[str, Any]) -> Iterator[Broken]:
    rate, rates = study.get("primary_rate"), study.get("learning_rates")
    if _is_number(rate) and isinstance(rates, list | tuple) and rates and rate not in rates:
        yield ("primary_rate",), f"{rate} is not one of learning_rates {list(rates)}"


def _seeds(seeds: Any) -> Iterator[Broken]:
    if _is_int(seeds) and seeds < 1:
        yield ("seeds",), f"must be 1 or more seeds (3 for a verdict, 5 are good), not {seeds}"
    elif _is_int(seeds):  # short forms are written out already, where they are not too many
        yield ("seeds",), f"must be {MOST_SEEDS:,} or fewer seeds, not {seeds}"
    if not isinstance(seeds, list | tuple):
        return
    if not seeds:
        yield ("seeds",), "is empty: give at least one seed (3 for a verdict, 5 are good)"
    for number, seed in enumerate(seeds):
        if _is_int(seed) and not 0 <= seed < 2**63:
            yield ("seeds", number), f"a seed is a whole number from 0, not {seed}"
    yield from ((("seeds", number), text) for number, text in _repeated(seeds, "seed"))


def _arms(arms: Any) -> Iterator[Broken]:
    from landscape.normalization import normalization

    if not isinstance(arms, list | tuple):
        return
    if not arms:
        yield ("arms",), 'is empty: give the normalizations to compare, as in ["none", "batch"]'
    labels = []
    for number, arm in enumerate(arms):
        arm = arm if isinstance(arm, dict) else {}
        labels.append(arm.get("name") or _own_name(arm.get("norm")))
        yield from _rates(arm.get("learning_rates"), ("arms", number, "learning_rates"))
        if isinstance(arm.get("norm"), str):
            yield from _asked(("arms", number, "norm"), normalization, arm["norm"])
    yield from (
        (("arms", number), f"{text}; give one of them another name") for number, text in _repeated(labels, "arm")
    )


def _own_name(norm: Any) -> Any:
    """What the normalization calls itself, so that "lp:1.0" is the arm "lp:1"; ``norm`` where there is none."""
    from landscape.normalization import normalization

    try:
        return normalization(norm).name if isinstance(norm, str) else norm
    except UsageError:
        return norm


def _probes(study: Mapping[str, Any]) -> Iterator[Broken]:
    from landscape.probes import build_probe

    probes, arms = study.get("probes"), study.get("arms")
    labels = [arm.get("name") or arm.get("norm") for arm in arms or () if isinstance(arm, dict)]
    for number, probe in enumerate(probes if isinstance(probes, list | tuple) else ()):
        if not isinstance(probe, dict):
            continue
        place: Place = ("probes", number)
        if _is_int(probe.get("every")) and probe["every"] < 1:
            yield (*place, "every"), f"must be 1 or more, not {probe['every']}"
        steps, at = study.get("steps"), probe.get("at")
        for moment in at if isinstance(at, list | tuple) else ():
            if _is_int(moment) and _is_int(steps) and not 0 <= moment < steps:
                yield (*place, "at"), f"there is no step {moment}: steps go from 0 to {steps - 1}"
        options = probe.get("options", {})
        if isinstance(probe.get("name"), str) and isinstance(options, dict):
            yield from _asked(place, build_probe, probe["name"], **options)
        only = probe.get("arms")
        for label in only if isinstance(only, list | tuple) else ():
            if labels and label not in labels:
                yield (*place, "arms"), f"there is no arm {label!r}: {nearest(str(label), [str(x) for x in labels])}"


def _named(study: Mapping[str, Any]) -> Iterator[Broken]:
    from landscape.data import DATA
    from landscape.models import MODELS

    for key, known in (("model", list(MODELS)), ("data", list(DATA))):
        spec = study.get(key)
        name = spec.get("name") if isinstance(spec, dict) else None
        if isinstance(name, str) and name.endswith(".py"):
            yield (
                (key,),
                f"{name!r} is a file: say which function in it, as in {name}:{'build' if key == 'model' else 'load'}",
            )
        elif isinstance(name, str) and ":" not in name and name not in known:
            yield (key,), f"there is no {key} {name!r}: {nearest(name, known)}; your own: package:function"
    loss = study.get("loss")
    if isinstance(loss, str) and loss and ":" not in loss:
        yield ("loss",), f"{loss!r} names no code: package:function or file.py:function, a loss(model, batch)"
    options = study["model"].get("options") if isinstance(study.get("model"), dict) else None
    if isinstance(options, dict) and "norm" in options:
        yield ("model", "options", "norm"), "the arms say which normalization: leave it out here"


def _asked(place: Place, function: Callable[..., object], *args: Any, **options: Any) -> Iterator[Broken]:
    """The engine's own answer to a name, where it refuses it."""
    try:
        function(*args, **options)
    except UsageError as error:
        yield place, str(error)


def _repeated(values: Any, what: str) -> Iterator[tuple[int, str]]:
    seen: list[Any] = []
    for number, value in enumerate(values):
        if value is not None and value in seen:
            yield number, f"{what} {value!r} is there twice"
        seen.append(value)


def _not_finite(value: Any, place: Place) -> Iterator[Broken]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, f"must be a finite number, not {value}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, (*place, number))


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
