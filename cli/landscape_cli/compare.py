"""``landscape compare``: one's own model with and without each normalization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from landscape_cli.grid import carry_out, command_again, stoppable
from landscape_cli.options import debug_option, grid_options, running_options
from landscape_cli.sources import Source, shipped

#: For click, \b keeps the lines as they are.
EXAMPLES = """\b
landscape compare mine.models:build --data mine.data:load --norm batch --norm layer
landscape compare model.py:Net --data digits --loss losses.py:smooth --lr 0.05 --seeds 5
"""


@click.command(epilog=EXAMPLES)
@click.argument("model", metavar="PKG:MODEL")
@click.option("--data", required=True, metavar="PKG:DATA", help="The data: your own function, or a shipped name.")
@click.option("--loss", default="", metavar="PKG:LOSS", help="Your own loss(model, batch).  [default: by the data]")
@grid_options
@click.option("--batch-size", type=int, metavar="N", help="Mini-batch size.  [default: 128, or all of fewer data]")
@running_options
@debug_option
@click.pass_context
def compare(ctx: click.Context, /, model: str, **options: Any) -> None:
    """Train your own model with and without normalization, and write a PDF.

    PKG:MODEL is package:function or file.py:function. It returns an nn.Module and is called with those of norm, seed,
    input_shape and output_size that it takes; one that takes no norm is given each normalization from outside.
    """
    again = command_again(ctx)
    stoppable(ctx, again, lambda: _compare(model, again, options))


def _compare(model: str, again: str, options: dict[str, Any]) -> int:
    """Plan, train unless it is a dry run, and report; the exit code."""
    from landscape.comparison import comparison
    from landscape.errors import UsageError
    from landscape_cli.overrides import override

    if options["seeds"] is not None and options["seeds"] < 1:
        raise UsageError(f"--seeds {options['seeds']}: give 1 or more (3 for a verdict, 5 are good)")
    given = {"norms": options["norms"], "rates": options["rates"], "steps": options["steps"]}
    experiment = comparison(
        model,
        options["data"],
        loss=options["loss"],
        seeds=range(options["seeds"] or 3),
        batch_size=options["batch_size"],
        data_dir=options["data_dir"],
        **{key: value for key, value in given.items() if value is not None and value != ()},
    )
    place = Path("runs") / f"compare-{_short(model)}"
    source = Source(shipped("pairs"), experiment, "pairs", "", place)
    return carry_out(source, override(experiment, sets=options["sets"]), again, options)


def _short(model: str) -> str:
    """A folder's name for a model: ``mine.models:build`` is build."""
    where, _, name = model.rpartition(":")
    return name if name != "build" or not where else f"{Path(where).stem.rpartition('.')[2]}-build"
