"""An experiment from a TOML file: strict, all errors at once, each with its place in the file.

The file holds what ``Experiment`` holds, with short forms: ``model = "mlp"`` for a table with a name,
``arms = ["none", "batch"]``, ``probes = ["gradient_path"]``, ``seeds = 5`` for 0 to 4,
``batch_size = "full"`` for full-batch descent, and a single ``[study]`` or several ``[[study]]``. It is
data: a name that points into code (``package:function``, a path) is refused unless the caller allows it.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from landscape.errors import UsageError, nearest
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.rules import MOST_SEEDS, Place, broken_rules
from landscape.tomlplaces import line_of, lines_of

_SPECS = ("model", "data", "optimizer")
_SHORT = {"arms": "norm", "probes": "name"}


def read_toml(path: Path, *, allow_code: bool = False) -> Experiment:
    """The experiment that a TOML file describes.

    Args:
        path: the file.
        allow_code: whether ``model``, ``data`` and ``loss`` may name the user's own code.

    Raises:
        UsageError: no such file, not TOML, or with everything that is wrong in it, one line each.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; `landscape init {path}` writes one to begin with"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file in UTF-8: {error}") from error
    return parse_toml(text, name=str(path), stem=path.stem, allow_code=allow_code)


def parse_toml(text: str, *, name: str = "<text>", stem: str = "experiment", allow_code: bool = False) -> Experiment:
    r"""The experiment that TOML text describes.

    Args:
        text: the TOML.
        name: what errors call it.
        stem: the experiment's name where the text gives none.
        allow_code: whether ``model``, ``data`` and ``loss`` may name the user's own code.

    Raises:
        UsageError: everything that is wrong in it, one line each.

    >>> study = 'model = "mlp"\ndata = "digits"\narms = ["none", "batch"]\nlearning_rates = [0.1]\n'
    >>> parse_toml("[study]\nseeds = 3\nsteps = 20\n" + study).study("main").seeds
    (0, 1, 2)
    """
    try:
        plain = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is not TOML: {error}") from error
    lines = lines_of(text)
    errors: list[tuple[Place, str]] = []
    if "studies" in plain or "study" not in plain:
        hint = (
            "write [[study]], not [[studies]]" if "studies" in plain else "a file has a [study], or several [[study]]"
        )
        errors.append((("studies",), hint))
    studies = plain.pop("study", plain.pop("studies", []))
    full = {"name": stem} | plain | {"studies": long_form(studies if isinstance(studies, list) else [studies])}
    if not allow_code:
        errors += _named_code(full)

    def show(place: Place, message: str) -> tuple[int, str]:
        line = line_of(place, lines) or 0
        where = f"{name}:{line}" if line else name
        return line, f"{where}: {_words(place, full)}: {message}"

    return experiment_from(full, show, errors, what=name)


def experiment_from(
    plain: Mapping[str, Any],
    show: Callable[[Place, str], tuple[int, str]] | None = None,
    errors: list[tuple[Place, str]] | None = None,
    *,
    what: str = "the experiment",
) -> Experiment:
    """A checked experiment from plain data in the shape of ``dataclasses.asdict``.

    Args:
        plain: the data.
        show: where an error sorts and its line of text, from its place and message; by its place if None.
        errors: errors found before, to be told with the others.
        what: what the message is about.

    Raises:
        UsageError: everything that is wrong, one line each.
    """
    found = [*(errors or []), *broken_rules(plain)]
    experiment, wrong = _validated(plain)
    # A rule speaks plainer than a type: of several errors at a place, the first is told.
    first: dict[Place, str] = {}
    for place, message in [*found, *wrong]:
        first.setdefault(place, message)
    if experiment is None or first:
        line = show or (lambda place, message: (0, f"{_words(place, plain)}: {message}"))
        told = [line(place, message) for place, message in sorted(first.items(), key=_order)]
        text = "\n".join(f"  {words}" for _, words in sorted(told, key=lambda one: one[0]))
        count = f"{len(first)} things are" if len(first) > 1 else "something is"
        raise UsageError(f"{count} wrong in {what}:\n{text}")
    return experiment


def long_form(studies: list[Any]) -> list[Any]:
    """Studies with their short forms written out; what is malformed is left for the validation to name."""
    return [_long(study, len(studies)) if isinstance(study, dict) else study for study in studies]


def _long(study: dict[str, Any], count: int) -> dict[str, Any]:
    long = dict(study)
    if count == 1:
        long.setdefault("name", "main")
    for key in _SPECS:
        if isinstance(long.get(key), str):
            long[key] = {"name": long[key]}
    for key, field in _SHORT.items():
        if isinstance(long.get(key), list):
            long[key] = [{field: entry} if isinstance(entry, str) else entry for entry in long[key]]
    seeds = long.get("seeds")
    if isinstance(seeds, int) and not isinstance(seeds, bool) and 0 < seeds <= MOST_SEEDS:
        long["seeds"] = list(range(seeds))
    if long.get("batch_size") == "full":
        long["batch_size"] = None  # which TOML can't write
    rates = long.get("learning_rates")
    if isinstance(rates, list) and rates:
        long.setdefault("primary_rate", rates[0])
    return long


def _validated(plain: Mapping[str, Any]) -> tuple[Experiment | None, list[tuple[Place, str]]]:
    """pydantic's strict JSON mode: a list is a tuple, a string is no number, an unknown key is an error."""
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(plain, default=str)
        return TypeAdapter(Experiment).validate_json(text), []
    except ValidationError as error:
        return None, [_plain_error(one) for one in error.errors(include_url=False)]


def _plain_error(error: Any) -> tuple[Place, str]:
    place: Place = tuple(error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return place, f"unknown key; {nearest(str(place[-1]), _keys(place[:-1]))}"
    if error["type"] in ("missing", "missing_argument"):
        return place, "is missing"
    message = str(error["msg"]).replace("Input should be", "should be")
    return place, f"{message}, not {_shown(error['input'])}"


def _keys(place: Place) -> list[str]:
    """The keys of the table at a place."""
    last = next((part for part in reversed(place) if isinstance(part, str)), "")
    kinds: dict[str, type[Experiment | Study | Arm | ProbeSpec | Spec]] = {"studies": Study, "arms": Arm}
    kinds |= {"": Experiment, "probes": ProbeSpec} | dict.fromkeys(_SPECS, Spec)
    keys = [field.name for field in dataclasses.fields(kinds[last])]
    return [key if key != "studies" else "study" for key in keys]


def _named_code(plain: Mapping[str, Any]) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for number, study in enumerate(plain["studies"]):
        for key in (*_SPECS, "loss") if isinstance(study, dict) else ():
            name = study[key].get("name") if isinstance(study.get(key), dict) else None
            name = study.get(key) if key == "loss" else name
            if isinstance(name, str) and (":" in name or "/" in name or name.endswith(".py")):
                message = f"{name!r} is code that would be run: look at it, then add --allow-code"
                found.append((("studies", number, key), message))
    return found


def _words(place: Place, plain: Mapping[str, Any]) -> str:
    """A place as a reader writes it: ``study.digits.learning_rates[0]``."""
    words = ""
    for depth, part in enumerate(place):
        if part == "studies" and depth == 0:
            words = "study"
        elif isinstance(part, int):
            words += f".{_study_name(plain, part)}" if depth == 1 and place[0] == "studies" else f"[{part}]"
        else:
            words += f".{part}" if words else str(part)
    return words


def _study_name(plain: Mapping[str, Any], number: int) -> str:
    study = plain["studies"][number]
    name = study.get("name") if isinstance(study, dict) else None
    return name if isinstance(name, str) and name else str(number + 1)


def _order(item: tuple[Place, str]) -> list[tuple[int, int | str]]:
    return [(0, part) if isinstance(part, int) else (1, part) for part in item[0]]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
