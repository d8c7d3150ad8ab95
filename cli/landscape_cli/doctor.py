"""``landscape doctor``: is this machine and this installation fit for measuring?"""

from __future__ import annotations

from pathlib import Path

import click

from landscape_cli.options import debug_option


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs will be written.  [default: runs]"
)
@debug_option
@click.pass_context
def doctor(ctx: click.Context, out: Path) -> None:
    """Check that this machine measures right, in seconds.

    Versions, closed forms, the no-trace promise, the PDF engine and the disk.
    """
    from landscape_cli.checks import CHECKS, facts, writable

    for name, value in facts().items():
        click.echo(f"      {name}: {value}")
    failed = 0
    for name, check in (*CHECKS.items(), (f"{out} can be written", lambda: writable(out))):
        try:
            problem = check()
        except Exception as error:  # a check that raises is a check that failed; the others still run
            problem = f"{type(error).__name__}: {error}"
        failed += bool(problem)
        click.echo(f"FAIL  {name}: {problem}" if problem else f"ok    {name}")
    click.echo(f"{failed} of the checks failed" if failed else "all is well")
    ctx.exit(1 if failed else 0)
