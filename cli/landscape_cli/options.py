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
