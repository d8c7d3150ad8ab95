"""What happens to runs while they are executed, and how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from landscape.experiment import Run

Kind = Literal["started", "progress", "warning", "retried", "finished", "failed", "skipped"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a run.

    Attributes:
        run: the run.
        kind: "started", "progress", "warning", "retried" (its process died), "finished", "failed", or
            "skipped" (it was finished before).
        text: one line: the warning, or why it was retried or failed.
        step: updates done so far, for progress.
        steps: updates in all, for progress.
        loss: the loss now, for progress.
        learning_rate: the rate now, for progress.
    """

    run: Run
    kind: Kind
    text: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How an execution ended.

    Attributes:
        finished: runs that finished now.
        skipped: runs that were finished before.
        failed: runs that failed, and why in one line.
    """

    finished: tuple[Run, ...]
    skipped: tuple[Run, ...]
    failed: tuple[tuple[Run, str], ...]

    @property
    def ok(self) -> bool:
        """Whether no run failed."""
        return not self.failed


def endings(count: int) -> Callable[[Event], None]:
    """What to tell events of ``count`` runs: a line on standard error for each run that has ended, and how.

    Args:
        count: runs in all.
    """
    ended = 0

    def say(event: Event) -> None:
        nonlocal ended
        if event.kind in ("finished", "failed", "skipped"):
            ended += 1
            how = "was there already" if event.kind == "skipped" else event.kind
            why = f": {event.text}" if event.text else ""
            print(f"{ended}/{count} {event.run.key} {how}{why}", file=sys.stderr, flush=True)

    return say
