"""``landscape list``: what there is to choose from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

from landscape_cli.catalogue import print_analyses
from landscape_cli.options import debug_option
from landscape_cli.output import print_table

Table = tuple[list[str], list[list[str]]]
_GIVEN = ("self", "norm", "seed", "input_shape", "output_size", "data_dir", "allow_mismatch")


@click.command(name="list")
@click.argument("what", type=click.Choice(["analyses", "norms", "models", "data", "probes"]))
@debug_option
def list_(what: str) -> None:
    """List analyses, norms, models, data or probes.

    A table in a terminal, tab-separated in a pipe. Analyses are listed with the cost of their first preset: runs,
    forward+backward passes, and the time for all of it on this machine now. A few steps of each arm are timed for that,
    which takes about ten seconds of processor time for all.
    """
    if what == "analyses":
        print_analyses()
        return
    tables: dict[str, Callable[[], Table]] = {
        "norms": _norms,
        "models": _models,
        "data": _data,
        "probes": _probes,
    }
    print_table(*tables[what]())


def _norms() -> Table:
    from landscape.normalization import NORMALIZATIONS

    return ["name", "formula", "source", "over", "needs"], [
        [norm.name, norm.formula, norm.source, norm.over, norm.needs] for norm in NORMALIZATIONS.values()
    ]


def _models() -> Table:
    from landscape.models import MODELS

    return _described(MODELS)


def _data() -> Table:
    from landscape.data import DATA

    return _described(DATA)


def _probes() -> Table:
    from landscape.probes import PROBES
    from landscape.words import about

    # A probe's file says what it measures; the class only that it does so inside a training loop.
    columns, rows = _described(PROBES)
    return columns, [[name, about(name), options] for name, _, options in rows]


def _described(functions: dict[str, Callable[..., Any]]) -> Table:
    """Name, first line of the docstring, and options with their defaults."""
    rows = []
    for name, function in functions.items():
        rows.append([name, _first(function), ", ".join(_options(function))])
    return ["name", "what", "options"], rows


def _first(documented: object) -> str:
    first = (inspect.getdoc(documented) or "").partition("\n\n")[0]
    return " ".join(first.replace("``", "").split())


def _options(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [f"{p.name}={p.default!r}" for p in parameters if p.name not in _GIVEN and p.default is not p.empty]
