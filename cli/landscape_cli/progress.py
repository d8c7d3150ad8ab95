"""What is seen while runs train: bars in a terminal, a line now and then elsewhere, JSON for scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from landscape_cli.output import print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from landscape.execution import Event
    from landscape.experiment import Run

Watch = Callable[["Event"], None]
EVERY_SECONDS = 10.0


@contextmanager
def watching(
    runs: Sequence[Run], seconds: Mapping[str, float] | None = None, *, quiet: bool, as_json: bool
) -> Iterator[Watch]:
    """A function to be told events; what it shows depends on where it is seen.

    Args:
        runs: what is going to be trained.
        seconds: run key -> about how long it takes: what the time left is weighed by; their steps if None.
        quiet: show nothing.
        as_json: one JSON object per event.
    """
    if as_json:
        yield _json
    elif quiet:
        yield lambda event: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with _bars(Console(stderr=True, highlight=False)) as progress:
            yield Bars(progress, runs, seconds)
    else:
        yield Lines(runs, seconds=seconds)


def _json(event: Event) -> None:
    data: dict[str, Any] = {
        "event": event.kind,
        "run": event.run.key,
        "text": event.text,
        "step": event.step,
        "steps": event.steps,
    }
    data |= {"loss": event.loss, "learning_rate": event.learning_rate}
    print_json({key: value for key, value in data.items() if value not in (None, "")})


class Tally:
    """Steps done and to do over all runs, for the time left."""

    def __init__(self, runs: Sequence[Run], seconds: Mapping[str, float] | None = None) -> None:
        self.total = {run.key: run.study.steps for run in runs}
        #: What a step of each run weighs in the time left: a step of another study may take ten times as long.
        self.weight = {key: (seconds or {}).get(key, steps) / steps for key, steps in self.total.items()}
        self.done: dict[str, int] = {}
        self.ended: dict[str, str] = {}
        self.running: dict[str, Event] = {}
        self.new = 0.0  # weighed steps done while watching
        self.began = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Count one event."""
        key = event.run.key
        before = self.done.get(key)
        if event.kind == "progress" and event.step is not None:
            self.new += self.weight[key] * max(0, event.step - before) if before is not None else 0
            self.done[key] = event.step
            self.running[key] = event
        elif event.kind == "started":
            self.running[key] = event
        elif event.kind in ("finished", "failed", "skipped"):
            self.done[key] = self.total[key]
            self.ended[key] = event.kind
            self.running.pop(key, None)
        elif event.kind == "retried":
            self.running.pop(key, None)

    @property
    def left(self) -> str:
        """Time left in words, or "" while nothing can be said."""
        from landscape.reporting import duration

        seconds = time.monotonic() - self.began
        remaining = sum(self.weight[key] * (steps - self.done.get(key, 0)) for key, steps in self.total.items())
        if not self.new or not remaining:
            return ""
        return f"about {duration(remaining * seconds / self.new)} left"


class Lines:
    """One plain line about every ten seconds, and one for what went wrong."""

    def __init__(
        self, runs: Sequence[Run], every: float = EVERY_SECONDS, seconds: Mapping[str, float] | None = None
    ) -> None:
        self.tally = Tally(runs, seconds)
        self.every = every
        self.last = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Count an event; say a line if it is time, or if it is bad news."""
        self.tally(event)
        if event.kind in ("warning", "retried", "failed"):
            click.echo(f"{event.run.key}: {event.kind}: {event.text}", err=True)
        finished = len(self.tally.ended) == len(self.tally.total) and event.kind != "skipped"
        if finished or time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            click.echo(self.line(), err=True)

    def line(self) -> str:
        """How far everything is, on one line."""
        tally = self.tally
        parts = [f"{len(tally.ended)}/{len(tally.total)} runs done"]
        for key, event in tally.running.items():
            if event.step is not None and event.loss is not None:
                parts.append(f"{key} step {event.step}/{event.steps} loss {event.loss:.4g} lr {event.learning_rate:g}")
        return "; ".join([*parts, tally.left] if tally.left else parts)


class Bars:
    """A bar per run that is going on, and one for all."""

    def __init__(self, progress: Progress, runs: Sequence[Run], seconds: Mapping[str, float] | None = None) -> None:
        self.progress = progress
        self.tally = Tally(runs, seconds)
        self.bars: dict[str, TaskID] = {}
        self.all = progress.add_task("all runs", total=sum(self.tally.total.values()), words="", rate="")

    def __call__(self, event: Event) -> None:
        """Move the bars."""
        self.tally(event)
        key = event.run.key
        if event.kind == "started":
            steps, rate = event.run.study.steps, f"lr {event.run.learning_rate:g}"
            self.bars[key] = self.progress.add_task(key, total=steps, words="", rate=rate)
        elif event.kind == "progress" and key in self.bars:
            loss = "" if event.loss is None else f"loss {event.loss:.4g}"
            self.progress.update(self.bars[key], completed=event.step or 0, words=loss)
        elif key in self.bars and event.kind in ("finished", "failed", "retried"):
            self.progress.remove_task(self.bars.pop(key))
        if event.kind in ("warning", "retried", "failed"):
            self.progress.console.print(f"{key}: {event.kind}: {event.text}", markup=False, soft_wrap=True)
        words = f"{len(self.tally.ended)}/{len(self.tally.total)} runs"
        self.progress.update(self.all, completed=sum(self.tally.done.values()), words=words)


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
