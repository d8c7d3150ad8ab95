"""``landscape init``: a TOML file to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from landscape_cli.options import debug_option

TEMPLATE = """\
# An experiment for `landscape run FILE.toml`. It runs as it is, in less than a minute.
# Every value is checked before anything is trained, and all errors are told at once.

[study]                             # or several [[study]], each with a name
model = "mlp"                       # `landscape list models`; with options: [study.model] below
data = "digits"                     # `landscape list data`
arms = ["none", "batch"]            # what is compared: `landscape list norms`
learning_rates = [0.1]              # every arm is trained at each
# primary_rate = 0.1                # the rate that decides; the first if left out
seeds = 3                           # seeds 0 to 2: 3 for a verdict, 5 are good
steps = 60                          # updates per run
batch_size = 128                    # or "full" for full-batch descent
evaluate_every = 10                 # full loss and accuracies every so many steps

# [study.model]                     # in place of model = "mlp"
# name = "mlp"
# options = { hidden = [64, 64] }

# [study.optimizer]                 # any of torch.optim; plain SGD if left out
# name = "sgd"
# options = { momentum = 0.9 }

# [[study.arms]]                    # in place of arms = [...], where arms differ in more than the norm
# norm = "batch"
# name = "batch, slow"
# learning_rates = [0.01]

[[study.probes]]                    # `landscape list probes`
name = "gradient_path"              # loss and gradient along the gradient: variation, predictiveness, smoothness
every = 10

[[study.probes]]
name = "gradient_path"              # the same, unchanged by rescaling the weights
every = 10
options = { direction = "scale-invariant" }

[[study.probes]]
name = "curvature"                  # is training at the edge of stability?
every = 10
"""


@click.command()
@click.argument("file", metavar="FILE.toml", type=click.Path(path_type=Path))
@debug_option
def init(file: Path) -> None:
    """Write a commented TOML file to begin with.

    It runs as it is; another file of that name is never written over.
    """
    from landscape.errors import StoreError, UsageError

    if file.suffix != ".toml":
        example = file.with_suffix(".toml") if file.name else "mine.toml"
        raise UsageError(f"{file}: the name must end in .toml, as in {example}")
    try:
        with open(file, "x", encoding="utf-8") as out:
            out.write(TEMPLATE)
    except FileExistsError:
        raise UsageError(f"{file} is there already and is kept: choose another name") from None
    except OSError as error:
        raise StoreError(f"{file} can't be written: {error.strerror or error}") from error
    click.echo(f"wrote {file}; next: landscape run {shlex.quote(str(file))}")
