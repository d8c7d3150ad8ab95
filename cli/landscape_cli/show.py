"""``landscape show``: how far a folder's runs are, and what they have decided so far."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from landscape_cli.options import debug_option, folder_argument, json_option
from landscape_cli.output import print_json, print_table, print_verdicts, verdict_data


@click.command()
@folder_argument
@json_option
@debug_option
def show(folder: Path, as_json: bool) -> None:
    """Show the runs of a folder and the verdicts so far.

    Safe while it is being trained into.
    """
    from landscape.reporting import verdicts_of
    from landscape.store import Folder
    from landscape_cli.sources import analysis_named

    opened = Folder.read(folder)
    analysis, note = analysis_named(str(opened.manifest.get("analysis", "")))
    progress = opened.progress()
    if as_json:
        verdicts = verdicts_of(analysis, opened)
        runs = [{"run": p.run.key, "status": p.status, "step": p.step, "reason": p.reason} for p in progress]
        print_json({"runs": runs, "verdicts": [verdict_data(verdict) for verdict in verdicts]})
        return
    if note:
        click.echo(f"note: {note}", err=True)
    rows = [
        [p.run.key, p.status, "" if p.step is None else f"{p.step}/{p.run.study.steps}", p.reason] for p in progress
    ]
    print_table(["run", "status", "step", "reason"], rows, "Runs")
    # After the table, which names the run that can't be read.
    print_verdicts(verdicts_of(analysis, opened))
    counts = Counter(p.status for p in progress)
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    for warning in opened.warnings:
        click.echo(f"note: {warning}", err=True)
