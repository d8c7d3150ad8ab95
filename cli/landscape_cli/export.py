"""``landscape export``: all numbers of a folder as one table."""

from __future__ import annotations

from pathlib import Path

import click

from landscape_cli.options import debug_option, folder_argument


@click.command()
@folder_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="FILE.csv or FILE.parquet.")
@debug_option
def export(folder: Path, output: Path) -> None:
    """Write all numbers of a run folder to one table.

    One row per number: study, arm, learning_rate, seed, step, probe, version, variant, statistics, dtype, batch,
    layer, quantity, index, value.
    """
    from landscape.store import Folder

    Folder.read(folder).export(output)
    click.echo(output)
