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
landscape compare bert.py:build --data texts.py:load --norm rms --optimizer adamw --lr 0.001 --model-option layers=4
"""


@click.command(epilog=EXAMPLES)
@click.argument("model", metavar="PKG:MODEL")
@click.option("--data", required=True, metavar="PKG:DATA", help="The data: your own function, or a shipped name.")
@click.option("--loss", default="", metavar="PKG:LOSS", help="Your own loss(model, batch).  [default: by the data]")
@click.option("--model-option", "model_options", multiple=True, metavar="KEY=VALUE", help="An argument of PKG:MODEL.")
@click.option("--data-option", "data_options", multiple=True, metavar="KEY=VALUE", help="An argument of PKG:DATA.")
@grid_options
@click.option("--optimizer", default="sgd", show_default=True, metavar="NAME", help="One of torch.optim.")
@click.option("--probe", "probes", multiple=True, metavar="NAME", help="Measure this too; may be given often.")
@click.option("--chance-loss", type=float, metavar="X", help="Loss of guessing, for a loss of your own.")
@click.option("--batch-size", type=int, metavar="N", help="Mini-batch size.  [default: 128, or all of fewer data]")
@running_options
@debug_option
@click.pass_context
def compare(ctx: click.Context, /, model: str, **options: Any) -> None:
    """Train your own model with and without normalization, and write a PDF.

    PKG:MODEL is package:function or file.py:function. It returns an nn.Module and is called with those of norm, seed,
    input_shape and output_size that it takes; one that takes no norm is given each normalization from outside.

    PKG:DATA returns (train, test), each of them (x, y), a dict of tensors, several inputs and a target, or a torch
    Dataset. Without --loss the loss is what the model returns if it takes the labels, else cross-entropy, or the
    squared error of float targets.
    """
    again = command_again(ctx)
    stoppable(ctx, again, lambda: _compare(model, again, options))


def _compare(model: str, again: str, options: dict[str, Any]) -> int:
    """Plan, train unless it is a dry run, and report; the exit code."""
    from landscape.comparison import comparison
    from landscape.errors import UsageError
    from landscape.experiment import Spec
    from landscape.terms import OPTIONS
    from landscape_cli.overrides import option_values, override

    if options["seeds"] is not None and options["seeds"] < 1:
        raise UsageError(f"--seeds {options['seeds']}: give 1 or more (3 for a verdict, 5 are good)")
    given = {"norms": options["norms"], "rates": options["rates"], "steps": options["steps"]}
    experiment = comparison(
        model,
        options["data"],
        loss=options["loss"],
        seeds=range(options["seeds"] or 3),
        batch_size=options["batch_size"],
        optimizer=Spec(options["optimizer"]),
        model_options=option_values("--model-option", options["model_options"]),
        data_options=option_values("--data-option", options["data_options"]),
        data_dir=options["data_dir"],
        probes=options["probes"],
        chance_loss=options["chance_loss"],
        terms=OPTIONS,
        **{key: value for key, value in given.items() if value is not None and value != ()},
    )
    place = Path("runs") / f"compare-{_short(model)}"
    source = Source(shipped("pairs"), experiment, "pairs", "", place, OPTIONS)
    return carry_out(source, override(experiment, sets=options["sets"]), again, options)


def _short(model: str) -> str:
    """A folder's name for a model: ``mine.models:build`` is build."""
    where, _, name = model.rpartition(":")
    return name if name != "build" or not where else f"{Path(where).stem.rpartition('.')[2]}-build"
