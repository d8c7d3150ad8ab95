"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
DEBUG = "landscape.debug"


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


def debug_option(function: F) -> F:
    """``--debug``: let errors through with their traceback (as LANDSCAPE_DEBUG=1 does)."""
    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=_remember, help="Show the traceback of an error."
    )(function)


def json_option(function: F) -> F:
    """``--json``: for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="JSON for scripts, on standard output.")(function)


def folder_argument(function: F) -> F:
    """``DIR``: the folder of a run."""
    return click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))(function)


_GRID = (
    click.option("--norm", "norms", multiple=True, metavar="N", help="Compare this normalization; may be given often."),
    click.option("--lr", "rates", multiple=True, type=float, metavar="X", help="Learning rate; may be given often."),
    click.option("--seeds", type=int, metavar="N", help="Number of seeds: 0 to N-1."),
    click.option("--steps", type=int, metavar="N", help="Updates per run."),
)
_RUNNING = (
    click.option("--data-dir", type=click.Path(path_type=Path), help="Where data files lie."),
    click.option("--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda or cuda:N."),
    click.option("--workers", type=int, metavar="N", help="Runs at a time; 0 trains in this process.  [default: CPUs]"),
    click.option("--dry-run", is_flag=True, help="Print the plan, its cost and an estimated time; train nothing."),
    click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: in runs/, by name]"),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a field: steps=50, studies.main.steps=50."
    ),
    click.option("-q", "--quiet", is_flag=True, help="Nothing but the end result."),
    json_option,
)


def grid_options(function: F) -> F:
    """What is trained: ``--norm``, ``--lr``, ``--seeds``, ``--steps``."""
    return _together(function, _GRID)


def running_options(function: F) -> F:
    """How it is trained, where, and what is said: all that ``run`` and ``compare`` share beside the grid."""
    return _together(function, _RUNNING)


def _together(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        function = option(function)
    return function
