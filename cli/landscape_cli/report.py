"""``landscape report``: write the PDF of a folder again; imports no code of anybody's."""

from __future__ import annotations

from pathlib import Path

import click

from landscape_cli.options import debug_option, folder_argument


@click.command()
@folder_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the PDF here.  [default: DIR/report.pdf]")
@debug_option
def report(folder: Path, output: Path | None) -> None:
    """Write the PDF of a run folder again.

    Whatever of it is finished goes in. No code of anybody's is imported.
    """
    from landscape.reporting import build_report
    from landscape.store import Folder
    from landscape_cli.sources import analysis_named
    from landscape_reports import write_report

    opened = Folder.read(folder)
    analysis, note = analysis_named(str(opened.manifest.get("analysis", "")))
    if note:
        click.echo(f"note: {note}", err=True)
    click.echo(write_report(build_report(analysis, opened), opened.path, pdf=output))
