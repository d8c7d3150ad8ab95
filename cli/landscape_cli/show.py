"""``landscape show``: how far a folder's runs are, and what they have decided so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from landscape_cli.options import debug_option, folder_argument, json_option
from landscape_cli.output import print_json, print_table, print_verdicts, verdict_data

if TYPE_CHECKING:
    from landscape.store import RunProgress


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
        decided = verdicts_of(analysis, opened)
        runs = [{"run": p.run.key, "status": p.status, "step": p.step, "reason": p.reason} for p in progress]
        print_json({"runs": runs, "verdicts": [verdict_data(verdict) for verdict in decided]})
        return
    if note:
        click.echo(f"note: {note}", err=True)
    counts = Counter(p.status for p in progress)
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    _print_runs(progress)
    # After the table, which names the run that can't be read.
    if verdicts := verdicts_of(analysis, opened):
        print_verdicts(verdicts, unfinished=counts["finished"] < len(progress))
    for warning in opened.warnings:
        click.echo(f"note: {warning}", err=True)


def _print_runs(progress: Sequence[RunProgress]) -> None:
    """A row for each run that has begun; the others as one number for each study."""
    begun = [p for p in progress if p.status != "new"]
    if begun:
        rows = [[p.run.key, p.status, _step(p), p.reason] for p in begun]
        print_table(["run", "status", "step", "reason"], rows, "Runs")
    for study, count in Counter(p.run.study.name for p in progress if p.status == "new").items():
        click.echo(f"{study}: {count} {'run' if count == 1 else 'runs'} not begun")


def _step(progress: RunProgress) -> str:
    """How far a run is; a loop of somebody's own does not say how far it will go."""
    from landscape.recording import NAME

    steps = progress.run.study.steps
    if progress.step is None:
        return ""
    if progress.run.study.name == NAME and progress.status == "finished":
        return f"{steps}/{steps}"  # measured before some of its updates, so its last measurement is of an earlier step
    return f"{progress.step}/{steps}" if steps else str(progress.step)
