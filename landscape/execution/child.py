"""What runs in a run's own process: train it, report to the parent, go when the parent is gone."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal, Protocol, TextIO

import torch

from landscape.errors import LandscapeError, StoreError, UsageError
from landscape.experiment import Run
from landscape.store import RunStore
from landscape.store.files import write_whole

TARGET = "landscape.training:train"
_PROGRESS_SECONDS = 0.1
_LOCK_SECONDS = 30.0


class Progress(Protocol):
    """What a training tells about itself (``landscape.training.Progress`` is one)."""

    @property
    def step(self) -> int:
        """Updates done so far."""
        ...

    @property
    def steps(self) -> int:
        """Updates in all."""
        ...

    @property
    def loss(self) -> float:
        """The loss now."""
        ...


@dataclass(frozen=True)
class Message:
    """From child to parent: plain data only."""

    kind: Literal["started", "progress", "warning", "finished", "failed"]
    text: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Job:
    """A run as names and data, for a process that knows nothing else."""

    run: str  # JSON
    folder: str
    device: str
    data_dir: str | None
    target: str = TARGET


def main(job: Job, channel: Connection) -> None:
    """The whole life of a child process."""
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)

    def tell(message: Message) -> None:
        try:
            channel.send(message)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)

    def tell_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        tell(Message("warning", one_line(str(message))))

    warnings.showwarning = tell_warning
    tell(carry_out(job, tell))
    channel.close()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Nothing to tidy: the store survives a kill at any instant, and the lock goes with the process.
        os._exit(1)


def carry_out(job: Job, tell: Callable[[Message], None]) -> Message:
    """Train one run into its store; the last word on it is returned, everything before is told.

    Errors of the run are its result, not the caller's: they are noted in its folder.
    """
    store = RunStore(Path(job.folder), wait=_LOCK_SECONDS)
    last = 0.0

    def progress(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS or now.step >= now.steps:
            last = time.monotonic()
            rate = getattr(now, "learning_rate", None)
            tell(Message("progress", step=now.step, steps=now.steps, loss=now.loss, learning_rate=rate))

    try:
        train = _function(job.target)
        with store:
            tell(Message("started"))
            train(Run.from_json(job.run), store, device=job.device, data_dir=job.data_dir, progress=progress)
            if store.status() != "finished":
                store.finish()
        return Message("finished")
    except LandscapeError as error:
        return _failed(store, one_line(str(error)))
    except Exception as error:
        # Whatever a model, a data set or torch raises ends this run only; the others go on.
        with suppress(StoreError):
            write_whole(store.folder / "error.txt", traceback.format_exc().encode())
        text = one_line(f"{type(error).__name__}: {error}")
        return _failed(store, f"{text} (traceback in {store.folder / 'error.txt'})")


def _failed(store: RunStore, reason: str) -> Message:
    # On a full disk even this can't be written; the parent is told in any case.
    with suppress(StoreError):
        store.fail(reason)
    return Message("failed", reason)


def one_line(text: str) -> str:
    r"""A text on one line.

    >>> one_line("a\n  b")
    'a b'
    """
    return " ".join(text.split())


def _function(target: str) -> Callable[..., None]:
    module, _, name = target.partition(":")
    try:
        found: Callable[..., None] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"can't find {target!r} to train with: {error}") from error
    return found
