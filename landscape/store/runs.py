"""One run on disk: its measurements, its checkpoint and its status."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

import numpy as np

from landscape.errors import StoreError
from landscape.probes.base import Measurement
from landscape.store import database, frames
from landscape.store.checkpoints import CheckpointFile
from landscape.store.files import Lock, is_locked, read_json, store_errors, sync_folder, write_json

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["new", "running", "interrupted", "finished", "failed"]


class RunStore:
    """The folder of one run, ``DIR/runs/<key>``.

    Writing opens it when first needed and locks it, so that two processes can't write one run; reading
    needs neither. Use it as a context manager to write. What is appended is safe against a killed
    process at once, and against power loss from the next checkpoint on: ``save_checkpoint`` first makes
    the measurements durable, so a checkpoint is never ahead of them, and a replayed step replaces its rows.

    Args:
        folder: made if missing, when first written to.
        wait: seconds to wait for another process that still writes this run.

    >>> from tempfile import mkdtemp
    >>> with RunStore(Path(mkdtemp()) / "run") as store:
    ...     store.append(0, 0.1, [Measurement("training", "loss", 2.5)])
    ...     store.save_checkpoint({"step": 1})
    ...     store.finish()
    >>> store.status(), store.frame().value.tolist(), store.load_checkpoint()
    ('finished', [2.5], {'step': 1})
    """

    def __init__(self, folder: Path, *, wait: float = 1.0) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "measurements.sqlite"
        self._checkpoint = CheckpointFile(self.folder / "checkpoint.pt")
        self._status = self.folder / "status.json"
        self._wait = wait
        self._lock: Lock | None = None
        self._connection: sqlite3.Connection | None = None
        self._series: dict[tuple[str | int, ...], int] = {}

    def __enter__(self) -> Self:
        self._open()
        if self.status() != "finished":
            write_json(self._status, {"status": "running", "pid": os.getpid()})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            with store_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.folder / ".lock", wait=self._wait, what="this run")
            try:
                self._connection = database.open_writer(self.path)
                with store_errors(self.folder):
                    sync_folder(self.folder)
            except StoreError:
                self.close()
                raise
        return self._connection

    def close(self) -> None:
        """Close the database and let go of the lock; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._series = {}
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def append(self, step: int, learning_rate: float | None, measurements: Iterable[Measurement]) -> None:
        """Add a step's measurements in one transaction; rows that are there already are replaced.

        Args:
            step: updates done so far.
            learning_rate: the rate at this step, if it is known.
            measurements: numbers, or arrays (kept as float64). Whatever is not finite is stored as +inf.

        Raises:
            StoreError: if the disk is full, the folder read-only or the database damaged. Nothing of this
                step is then stored, everything before is.
        """
        connection = self._open()
        numbers: list[tuple[int, int, float]] = []
        arrays: list[tuple[int, int, str, bytes]] = []
        with store_errors(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    "INSERT INTO step VALUES (?, ?) ON CONFLICT(step) DO UPDATE SET "
                    "learning_rate = coalesce(excluded.learning_rate, learning_rate)",
                    (step, learning_rate),
                )
                for one in measurements:
                    series = self._series_of(connection, one)
                    value = np.asarray(one.value, dtype=np.float64)
                    value = np.where(np.isfinite(value), value, np.inf)
                    if value.ndim == 0:
                        numbers.append((step, series, float(value)))
                    else:
                        shape = ",".join(map(str, value.shape))
                        arrays.append((step, series, shape, value.astype("<f8").tobytes()))
                connection.executemany("INSERT OR REPLACE INTO measurement VALUES (?, ?, ?)", numbers)
                connection.executemany("INSERT OR REPLACE INTO array VALUES (?, ?, ?, ?)", arrays)
                connection.execute("COMMIT")
            except BaseException:
                # Also on Ctrl-C and on an error of the measurements' generator: a step is whole or absent.
                self._series = {}
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def forget(self, step: int) -> None:
        """Delete the measurements of this step and later ones, before a training is gone on with from here."""
        connection = self._open()
        with store_errors(self.path):
            connection.execute("BEGIN IMMEDIATE")
            for table in ("measurement", "array", "step"):
                connection.execute(f"DELETE FROM {table} WHERE step >= ?", (step,))
            connection.execute("COMMIT")

    def _series_of(self, connection: sqlite3.Connection, one: Measurement) -> int:
        key = (
            *(one.probe, one.version, one.variant, one.statistics, one.dtype),
            *(one.batch, one.layer, one.quantity, one.index),
        )
        if not self._series:
            rows = connection.execute(f"SELECT id, {', '.join(database.KEY)} FROM series")
            self._series = {tuple(row[1:]): row[0] for row in rows}
        found = self._series.get(key)
        if found is None:
            columns, marks = ", ".join(database.KEY), ", ".join("?" * len(key))
            found = connection.execute(f"INSERT INTO series({columns}) VALUES ({marks})", key).lastrowid
            assert found is not None
            self._series[key] = found
        return found

    def put_cost(self, name: str, value: float) -> None:
        """Note a wall time or memory use; costs are not exported and not part of bit-identity."""
        with store_errors(self.path):
            self._open().execute("INSERT OR REPLACE INTO cost VALUES (?, ?)", (name, float(value)))

    def costs(self) -> dict[str, float]:
        """What ``put_cost`` noted."""
        return frames.costs(self.path) if self.path.exists() else {}

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, after making all measurements so far durable.

        Args:
            state: tensors and plain Python only.

        Raises:
            UsageError: if something else is in it.
            StoreError: if it can't be written; the old checkpoint is then still there.
        """
        connection = self._open()
        with store_errors(self.path):
            self._checkpoint.save(state, connection)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None if there is none that can be used.

        A half or damaged one, or one that is not of these measurements, is moved to
        ``checkpoint.pt.bad`` with a warning: the run starts over and replaces its rows.
        """
        if not self._checkpoint.path.exists():
            return None
        with store_errors(self.path):
            if self._connection is not None:
                return self._checkpoint.load(self._connection)
            if not self.path.exists():
                return self._checkpoint.load(None)
            with closing(database.open_reader(self.path)) as connection:
                return self._checkpoint.load(connection)

    def finish(self) -> None:
        """Fold everything into one database file, then mark the run as finished."""
        self._fold()
        write_json(self._status, {"status": "finished"})

    def fail(self, reason: str) -> None:
        """Mark the run as failed; its measurements and checkpoint are kept."""
        if self._connection is not None:
            # If the disk is full, they stay in the log, and the status may still find room.
            with suppress(StoreError):
                self._fold()
        with store_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._status, {"status": "failed", "reason": reason})

    def _fold(self) -> None:
        connection = self._open()
        with store_errors(self.path):
            database.set_durable(connection, durable=True)
            connection.execute("PRAGMA busy_timeout=1000")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError as error:
                # Somebody is reading: the rows stay in the log beside it, from where they are read as well.
                if not error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                    raise
            connection.close()
            self._connection = None
            self._series = {}

    def status(self) -> Status:
        """How the run stands: "interrupted" is one that was running and whose process is gone."""
        if not self._status.exists():
            return "new"
        found = read_json(self._status, status=str, reason=str).get("status", "")
        status = next((known for known in get_args(Status) if known == found), None)
        if status is None:
            raise StoreError(
                f"{self._status}: there is no status {found!r}; delete it and run the same command again: "
                "this run goes on from its checkpoint, or starts over"
            )
        if status == "running" and not is_locked(self.folder / ".lock"):
            return "interrupted"
        # Whoever deleted a damaged database, as the error asks for, wants this run again.
        return "new" if status == "finished" and not self.path.exists() else cast(Status, status)

    def reason(self) -> str:
        """Why the run failed, or ""."""
        return str(read_json(self._status).get("reason", "")) if self._status.exists() else ""

    def last_step(self) -> int | None:
        """The last step that has measurements, or None."""
        return frames.last_step(self.path) if self.path.exists() else None

    def frame(self) -> pd.DataFrame:
        """All numbers as a long table, sorted by step and then by what they are.

        Columns: step, learning_rate_at_step, probe, version, variant, statistics, dtype, batch, layer,
        quantity, index, value.
        """
        return frames.numbers(self.path)

    def arrays(self, probe: str, quantity: str) -> pd.DataFrame:
        """The arrays of one quantity: the columns of ``frame`` with the array in ``value``."""
        return frames.arrays(self.path, probe, quantity)
