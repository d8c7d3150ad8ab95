"""Checkpoints: tensors and plain Python, never ahead of the measurements, read without running any code."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sqlite3
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.store import database
from landscape.store.files import store_errors, write_whole

_PLAIN = {str, bytes, int, float, bool, complex, type(None), Tensor, nn.Parameter}
_PLAIN |= {torch.dtype, torch.Size, torch.device}


class CheckpointFile:
    """The checkpoint of a run, known to the run's database by its digest.

    The database is told the new file's digest in a commit that waits for the disk, and with it for all
    earlier commits; only then is the file renamed into place. A file whose digest the database does not
    know is damaged or ahead of the measurements, and is not used.

    Args:
        path: where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept = ""  # digest of the file that lies there

    def save(self, state: dict[str, Any], connection: sqlite3.Connection) -> None:
        """Make all measurements so far durable, then replace the file."""
        data = pack(state)
        mark = digest(data)
        if database.is_wal(connection):
            database.set_durable(connection, durable=True)
        try:
            connection.execute("BEGIN IMMEDIATE")
            # Both, because a crash before the rename leaves the file before.
            rows = [("checkpoint", mark), ("checkpoint before", self._kept)]
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            database.set_durable(connection, durable=not database.is_wal(connection))
        write_whole(self.path, data)
        self._kept = mark

    def load(self, connection: sqlite3.Connection | None) -> dict[str, Any] | None:
        """The state, or None after moving a file that can't be used to ``checkpoint.pt.bad``."""
        with store_errors(self.path):
            data = self.path.read_bytes()
        mark = digest(data)
        query = "SELECT value FROM meta WHERE name IN ('checkpoint', 'checkpoint before')"
        known = [] if connection is None else connection.execute(query).fetchall()
        state = unpack(data) if (mark,) in known else None
        if state is not None:
            self._kept = mark
            return state
        bad = self.path.with_name(f"{self.path.name}.bad")
        with store_errors(self.path):
            os.replace(self.path, bad)
        warnings.warn(
            f"{self.path}: damaged, or not of the measurements beside it; moved to {bad.name}. This run starts over",
            stacklevel=3,
        )
        return None


def pack(state: dict[str, Any]) -> bytes:
    """A checkpoint as bytes.

    Raises:
        UsageError: if something in it is neither a tensor nor plain Python (it could not be read back
            with ``weights_only=True``); the message names where.
    """
    _check(state, "checkpoint")
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def unpack(data: bytes) -> dict[str, Any] | None:
    """The checkpoint that ``pack`` wrote, on the CPU, or None if it can't be read."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return state if isinstance(state, dict) else None


def digest(data: bytes) -> str:
    """SHA-256 of a checkpoint: torch.load itself does not notice a flipped bit in a tensor."""
    return hashlib.sha256(data).hexdigest()


def _check(value: Any, where: str) -> None:
    # By exact type: np.float64 is a float, yet it is not read back.
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check(key, f"{where} key {key!r}")
            _check(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for position, item in enumerate(value):
            _check(item, f"{where}[{position}]")
    elif type(value) not in _PLAIN:
        raise UsageError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}; a checkpoint holds tensors and "
            "plain Python (numbers, strings, lists, tuples, dicts) only: convert it, e.g. float(x) or torch.tensor(x)"
        )
