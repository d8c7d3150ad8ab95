"""The command ``landscape``: its commands, and how an error is told."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import click

from landscape_cli.compare import compare
from landscape_cli.doctor import doctor
from landscape_cli.export import export
from landscape_cli.init import init
from landscape_cli.listing import list_
from landscape_cli.options import DEBUG, debug_option
from landscape_cli.report import report
from landscape_cli.run import run
from landscape_cli.show import show

# The modules above import torch, pandas and the engine only inside their functions: --help is instant.


class Commands(click.Group):
    """A group that tells errors in one piece of text, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of the user's, or an unexpected one, becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("\nstopped", err=True)
            ctx.exit(130)
        except Exception as error:  # the one place where any error becomes a message
            if ctx.meta.get(DEBUG) or os.environ.get("LANDSCAPE_DEBUG", "") not in ("", "0"):
                raise
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # `landscape list norms | head`: click leaves quietly
            ctx.exit(tell(error))


def tell(error: Exception) -> int:
    """Say an error on stderr; the exit code it asks for."""
    from landscape.errors import LandscapeError

    if isinstance(error, LandscapeError):
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        click.echo(f"error: {error.filename or 'writing the output'}: {error.strerror}", err=True)
        return 1
    first = (str(error).strip().splitlines() or [""])[0]
    click.echo(f"error: {type(error).__name__}: {first}", err=True)
    click.echo("This was not foreseen: run again with --debug for the traceback.", err=True)
    return 1


#: For click, \b keeps the lines as they are.
EXAMPLES = """\b
landscape run santurkar                train, decide, and write a PDF
landscape run santurkar --dry-run      what that would cost
landscape compare net.py:build --data data.py:load    your own model, with and without
landscape init mine.toml               an experiment of your own
landscape doctor                       is this machine fit for it?
"""


@click.group(
    cls=Commands,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="landscape-smoothness", prog_name="landscape")
@debug_option
def main() -> None:
    """Does normalization smooth the loss landscape? Train pairs, measure, decide, print."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no sign for a minus still gets its table


for command in (run, compare, report, show, export, list_, init, doctor):
    main.add_command(command)
