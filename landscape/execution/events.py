"""What happens to runs while they are executed, and how it ended."""

from __future__ import annotations

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
