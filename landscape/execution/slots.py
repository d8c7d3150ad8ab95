"""Local slots: so many runs at a time, each in its own process; dead ones are started again."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from landscape.errors import StoreError, UsageError
from landscape.execution.child import TARGET, Job, Message, carry_out, one_line
from landscape.execution.events import Event, Outcome
from landscape.execution.start import start
from landscape.experiment import Run
from landscape.store import Folder, RunStore

_TERMINATE_SECONDS = 3.0


def available_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def execute(
    folder: Folder,
    runs: Sequence[Run],
    *,
    device: str = "cpu",
    workers: int | None = None,
    data_dir: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    retries: int = 3,
    target: str = TARGET,
) -> Outcome:
    """Train runs into a folder; those that are finished are skipped, the others continue from their checkpoint.

    Each run has a fresh process with one torch thread. One whose process dies without a word (killed,
    out of memory) is started again from its checkpoint. A failed run keeps the others going.

    Args:
        folder: opened for writing.
        runs: in the order in which they are to be started.
        device: "cpu", "cuda" (one run at a time on each GPU), "cuda:1", ...
        workers: runs at a time on the CPU, all available CPUs if None; 0 trains in this process, with
            one torch thread, which is set back afterwards.
        data_dir: where data files lie.
        on_event: told what happens, in this process.
        retries: how often a run whose process died is started again.
        target: ``module:function`` that trains one run: ``(run, store, *, device, data_dir, progress)``.

    Raises:
        UsageError: for a device that is not there or a negative number of workers.
        KeyboardInterrupt: on Ctrl-C, after all children are gone; nothing is lost.
    """
    slots = _slots(device, workers)
    finished: list[Run] = []
    skipped: list[Run] = []
    failed: list[tuple[Run, str]] = []
    todo: list[tuple[Run, Job]] = []

    def note(run: Run, message: Message) -> None:
        if message.kind == "finished":
            finished.append(run)
        elif message.kind == "failed":
            failed.append((run, message.text))
        on_event(Event(run, **asdict(message)))

    for run in runs:
        store = folder.run(run)
        try:
            done = store.status() == "finished"
        except StoreError as error:
            note(run, Message("failed", one_line(str(error))))
            continue
        if done:
            skipped.append(run)
            on_event(Event(run, "skipped"))
        else:
            place = str(store.folder.absolute())
            todo.append((run, Job(run.to_json(), place, device, str(data_dir) if data_dir else None, target)))
    if slots:
        _Pool(slots, retries, note, on_event).work(todo)
    else:
        _in_process(todo, note)
    return Outcome(tuple(finished), tuple(skipped), tuple(failed))


def _slots(device: str, workers: int | None) -> list[str]:
    """The device of each slot; none means in this process."""
    if workers is not None and workers < 0:
        raise UsageError(f"workers is {workers}; it must be 0 (in this process) or more")
    kind = device.partition(":")[0]
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"device {device!r} is asked for, but torch sees no GPU; use --device cpu")
        devices = [device] if ":" in device else [f"cuda:{index}" for index in range(count)]
        return devices if workers is None else devices[:workers]
    if workers is None:
        workers = available_cpus() if kind == "cpu" else 1
    return [device] * workers


def _in_process(todo: Iterable[tuple[Run, Job]], note: Callable[[Run, Message], None]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for run, job in todo:
            note(run, carry_out(job, partial(note, run)))
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Slot:
    """A running child."""

    run: Run
    job: Job
    device: str
    process: ForkServerProcess
    channel: Connection
    last: Message | None = None


class _Pool:
    """The children of one ``execute`` call."""

    def __init__(
        self,
        devices: Sequence[str],
        retries: int,
        note: Callable[[Run, Message], None],
        on_event: Callable[[Event], None],
    ) -> None:
        self.free = deque(devices)
        self.retries = retries
        self.note = note
        self.on_event = on_event
        self.deaths: Counter[str] = Counter()
        self.slots: list[_Slot] = []

    def work(self, todo: Iterable[tuple[Run, Job]]) -> None:
        pending = deque(todo)
        try:
            while pending or self.slots:
                while pending and self.free:
                    self._start(*pending.popleft())
                for slot in self._ready():
                    if self._listen(slot):
                        continue
                    again = self._end(slot)
                    if again is not None:
                        pending.appendleft(again)
        finally:
            self._stop()

    def _start(self, run: Run, job: Job) -> None:
        device = self.free.popleft()
        process, channel = start(Job(**asdict(job) | {"device": device}))
        self.slots.append(_Slot(run, job, device, process, channel))

    def _ready(self) -> list[_Slot]:
        handles: list[Connection | int] = [slot.channel for slot in self.slots]
        handles += [slot.process.sentinel for slot in self.slots]
        ready = wait(handles)
        return [slot for slot in self.slots if slot.channel in ready or slot.process.sentinel in ready]

    def _listen(self, slot: _Slot) -> bool:
        """Pass on what the child has said; False once it has ended."""
        # Asked first: what it says between the last message read and its end must not be lost.
        alive = slot.process.is_alive()
        try:
            while slot.channel.poll():
                message: Message = slot.channel.recv()
                slot.last = message
                if message.kind not in ("finished", "failed"):
                    self.note(slot.run, message)
        except (EOFError, OSError):
            return False
        return alive

    def _end(self, slot: _Slot) -> tuple[Run, Job] | None:
        """Free the slot of a child that has ended; returns the run if it is to be started again."""
        slot.process.join(_TERMINATE_SECONDS)
        if slot.process.is_alive():
            slot.process.kill()
            slot.process.join()
        code = slot.process.exitcode or 0
        self._drop(slot)
        if slot.last is not None and slot.last.kind in ("finished", "failed"):
            self.note(slot.run, slot.last)
            return None
        self.deaths[slot.run.key] += 1
        reason = f"its process {_death(code)}"
        if self.deaths[slot.run.key] <= self.retries:
            self.on_event(Event(slot.run, "retried", reason))
            return slot.run, slot.job
        reason += f", also after {self.retries} retries from its checkpoint"
        with suppress(StoreError):
            RunStore(Path(slot.job.folder)).fail(reason)
        self.note(slot.run, Message("failed", reason))
        return None

    def _drop(self, slot: _Slot) -> None:
        slot.channel.close()
        slot.process.close()
        self.slots.remove(slot)
        self.free.append(slot.device)

    def _stop(self) -> None:
        """End the children that are left: ask, and after a few seconds kill."""
        for slot in self.slots:
            slot.process.terminate()
        end = time.monotonic() + _TERMINATE_SECONDS
        for slot in list(self.slots):
            slot.process.join(max(0.0, end - time.monotonic()))
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            self._drop(slot)


def _death(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {code} without a word"
