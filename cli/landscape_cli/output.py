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
_COLUMNS = ("claim", "verdict", "effect [95 %; equivalences 90 %]", "seeds", "best rates", "statement")


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


def print_verdicts(verdicts: Sequence[Verdict], *, unfinished: bool = False) -> None:
    """The verdict table, and why a claim is neither true nor false: below it, or in its last column in a pipe.

    Args:
        verdicts: decided claims.
        unfinished: runs are missing: the claims that could not be measured are one line.
    """
    waiting = [v.claim.id for v in verdicts if unfinished and v.verdict == "not measured"]
    shown = [v for v in verdicts if v.claim.id not in waiting]
    rows = [_row(verdict) for verdict in shown]
    if shown and not in_terminal():
        print_table([*_COLUMNS, "at equal loss", "reason"], rows)
    elif shown:
        matched = any(row[6] for row in rows)
        columns = [*_COLUMNS[:3], *(["at equal loss"] if matched else []), *_COLUMNS[3:]]
        print_table(columns, [[*row[:3], *(row[6:7] if matched else []), *row[3:6]] for row in rows], "Verdicts")
        reasons = _reasons(shown)
        for reason, ids in reasons.items():
            click.echo(f"{', '.join(ids)} {reason}")
        if any(" dex" in reason for reason in reasons):
            click.echo("A dex is a power of ten: 0 dex is 1x, 0.3 dex is 2x.")
    if waiting:
        some = ", ".join(waiting[:3]) + (f" and {len(waiting) - 3} more" if len(waiting) > 3 else "")
        click.echo(f"{len(waiting)} {'claim' if len(waiting) == 1 else 'claims'} not measured yet: {some}")


def _row(verdict: Verdict) -> list[str]:
    """The cells under _COLUMNS, then the effect at equal loss and the reason."""
    from landscape_reports.formats import effect

    claim, equal = verdict.claim, verdict.equal
    interval = equal.by_step
    return [
        claim.id,
        verdict.verdict,
        effect(claim, interval),
        str(interval.n) if interval is not None else "0",
        verdict.best.verdict if verdict.best is not None else "",
        claim.short or claim.statement,
        effect(claim, equal.at_matched_loss) if claim.matched and interval is not None else "",
        equal.reason,
    ]


def _reasons(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Why claims are neither true nor false -> their ids."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.verdict not in ("holds", "fails"):
            found.setdefault(f"{verdict.verdict}: {verdict.equal.reason}", []).append(verdict.claim.id)
    return found


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """A verdict for scripts."""
    interval = verdict.equal.by_step
    data = {"id": verdict.claim.id, "verdict": verdict.verdict, "reason": verdict.equal.reason}
    if interval is None:
        return data
    return data | {"seeds": interval.n, "mean": interval.mean, "lower": interval.lower, "upper": interval.upper}
