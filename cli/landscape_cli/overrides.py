"""What the command line changes in an experiment; every value goes through the rules of a TOML file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from typing import Any

from landscape.errors import UsageError, nearest
from landscape.experiment import Experiment
from landscape.toml import experiment_from, long_form

Plain = dict[str, Any]
#: Studies on these have no classes: --data and --lr, which are of classifiers, leave them alone.
_REGRESSIONS = ("gaussian-regression",)


def override(
    experiment: Experiment,
    *,
    norms: Sequence[str] = (),
    rates: Sequence[float] = (),
    seeds: int | None = None,
    steps: int | None = None,
    data: str | None = None,
    sets: Sequence[str] = (),
) -> Experiment:
    """The experiment with changes.

    Args:
        experiment: as it is declared.
        norms: the arms to keep or add, beside the reference (the arm without normalization, or the first).
        rates: learning rates of the classification studies (of all, if there is none).
        seeds: so many, from 0.
        steps: of every study.
        data: of the classification studies.
        sets: ``studies.NAME.FIELD=VALUE`` or, for all studies, ``FIELD=VALUE``; values as TOML writes them.

    Raises:
        UsageError: an unknown key, or everything that is wrong with the result.
    """
    plain: Plain = json.loads(json.dumps(dataclasses.asdict(experiment)))
    studies: list[Plain] = plain["studies"]
    classifying = [study for study in studies if study["data"]["name"] not in _REGRESSIONS] or studies
    for study in studies:
        if norms:
            _norms(study, norms)
        if seeds is not None:
            study["seeds"] = seeds  # the long form comes last
        if steps is not None:
            study["steps"] = steps
    for study in classifying:
        if rates:
            _rates(study, list(rates))
        if data is not None:
            study["data"] = {"name": data, "options": {}}
    for text in sets:
        _set(plain, text)
    plain["studies"] = long_form(studies)
    return experiment_from(plain, what="what the options ask for")


def _norms(study: Plain, norms: Sequence[str]) -> None:
    arms: list[Plain] = study["arms"]
    base = next((arm for arm in arms if arm["norm"] == "none"), arms[0])
    kept = [base]
    for norm in norms:
        own = [arm for arm in arms if norm and norm in (arm["norm"], arm["name"])]
        fresh: list[Plain] = [{"norm": norm, "name": "", "options": {}, "learning_rates": None}]
        kept += [arm for arm in own or fresh if arm not in kept]
    before, after = {_label(arm) for arm in arms}, [_label(arm) for arm in kept]
    for probe in study["probes"]:
        if probe["arms"] is not None:
            # A probe of the reference measures new arms as well: there is nothing to compare otherwise.
            new = [label for label in after if label not in before and _label(base) in probe["arms"]]
            probe["arms"] = [label for label in probe["arms"] if label in after] + new
    study["arms"] = kept


def _rates(study: Plain, rates: list[float]) -> None:
    if study["primary_rate"] not in rates:
        study["primary_rate"] = rates[0]
    study["learning_rates"] = rates
    for arm in study["arms"]:
        if arm["learning_rates"] is not None:
            arm["learning_rates"] = [study["primary_rate"]]


def _set(plain: Plain, text: str) -> None:
    path, equals, value = text.partition("=")
    keys = [key.strip() for key in path.strip().split(".")]
    if not equals or not all(keys):
        raise UsageError(f"--set {text}: write KEY=VALUE, as in --set steps=500 or --set studies.main.batch_size=64")
    typed = _typed(value.strip(), text)
    studies: list[Plain] = plain["studies"]
    if keys[0] == "studies":
        names = [str(study["name"]) for study in studies]
        if len(keys) < 3 or keys[1] not in names:
            hint = nearest(keys[1] if len(keys) > 1 else "", names)
            raise UsageError(f"--set {text}: write studies.NAME.FIELD=VALUE; studies: {hint}")
        studies, keys = [study for study in studies if study["name"] == keys[1]], keys[2:]
    for study in studies:
        _put(study, keys, typed, text)


def option_values(option: str, given: Sequence[str]) -> Plain:
    """The keyword arguments that ``KEY=VALUE`` words mean; values as TOML writes them.

    >>> option_values("--model-option", ["width=8", "activation=tanh"])
    {'width': 8, 'activation': 'tanh'}
    """
    values: Plain = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UsageError(f"{option} {text}: write KEY=VALUE, as in {option} width=64")
        values[key.strip()] = _typed(value.strip(), text, option)
    return values


def _put(table: Plain, keys: list[str], value: Any, text: str) -> None:
    for depth, key in enumerate(keys):
        free = depth > 0 and keys[depth - 1] == "options"
        if key not in table and not free:
            raise UsageError(f"--set {text}: there is no key {key!r}; {nearest(key, list(table))}")
        if depth == len(keys) - 1:
            table[key] = value
            return
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {text}: {'.'.join(keys[: depth + 1])} is no table with keys; set it as a whole")
        table = inner


def _typed(value: str, text: str, option: str = "--set") -> Any:
    """A value as TOML reads it; a bare word is a string, so that ``--set model=mlp`` needs no quotes."""
    try:
        found = tomllib.loads(f"value = {value}")
        if len(found) == 1:
            return found["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        if value and all(character.isalnum() or character in "-_:./" for character in value):
            return value
    raise UsageError(
        f'{option} {text}: {value!r} is no TOML value: a number, true, "text", [a, list] or {{a = "table"}}'
    )


def _label(arm: Plain) -> str:
    return str(arm["name"] or arm["norm"])
