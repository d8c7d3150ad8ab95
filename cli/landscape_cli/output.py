"""Tables and JSON on standard output: for people in a terminal, tab-separated for pipes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from landscape.analysis import Verdict

STYLES = {"holds": "bold green", "fails": "bold red", "failed": "bold red", "finished": "green"}


def in_terminal() -> bool:
    """Whether people read standard output, not a program."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table: ruled and wrapped in a terminal, one tab-separated line per row otherwise."""
    if not in_terminal():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def print_json(value: Any) -> None:
    """One line of JSON; numbers that are not finite become words, as JSON has none."""
    click.echo(json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """The verdict table."""
    from landscape_reports.formats import effect

    rows = []
    for verdict in verdicts:
        interval = verdict.equal.by_step
        best = verdict.best.verdict if verdict.best is not None else ""
        seeds = str(interval.n) if interval is not None else "0"
        rows.append(
            [
                verdict.claim.id,
                verdict.verdict,
                effect(verdict.claim, interval),
                seeds,
                best,
                verdict.claim.short or verdict.claim.statement,
            ]
        )
    print_table(
        ["claim", "verdict", "effect [95 %; equivalences 90 %]", "seeds", "best rates", "statement"], rows, "Verdicts"
    )


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """A verdict for scripts."""
    interval = verdict.equal.by_step
    data = {"id": verdict.claim.id, "verdict": verdict.verdict, "reason": verdict.equal.reason}
    if interval is None:
        return data
    return data | {"seeds": interval.n, "mean": interval.mean, "lower": interval.lower, "upper": interval.upper}
