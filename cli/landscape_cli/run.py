"""``landscape run``: train a grid, decide its claims, write the report."""

from __future__ import annotations

from typing import Any

import click

from landscape_cli.grid import carry_out, command_again, stoppable
from landscape_cli.options import debug_option, grid_options, running_options
from landscape_cli.sources import load_source

#: For click, \b keeps the lines as they are.
EXAMPLES = """\b
landscape run santurkar
landscape run pairs --norm batch --norm layer --seeds 5
landscape run mine.toml --set studies.main.steps=500
landscape run all --preset quick
"""


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="ANALYSIS|FILE.toml|FILE.py")
@click.option("--preset", help="Size of the experiment: quick, standard or paper.  [default: quick]")
@grid_options
@click.option("--data", metavar="D", help="Data of the classification studies.")
@running_options
@click.option("--allow-code", is_flag=True, help="Let a TOML file name code of yours (package:function).")
@debug_option
@click.pass_context
def run(ctx: click.Context, /, source: str, **options: Any) -> None:
    """Train pairs, decide the claims, write a PDF.

    The same command again goes on where it was stopped; once all is done, it only rewrites the report.
    """
    again = command_again(ctx)
    stoppable(ctx, again, lambda: _run(source, again, options))


def _run(source: str, again: str, options: dict[str, Any]) -> int:
    """Plan, train unless it is a dry run, and report; the exit code."""
    from landscape_cli.overrides import override

    loaded = load_source(source, options["preset"], allow_code=options["allow_code"])
    changes = {key: options[key] for key in ("norms", "rates", "seeds", "steps", "data", "sets")}
    return carry_out(loaded, override(loaded.experiment, **changes), again, options)
