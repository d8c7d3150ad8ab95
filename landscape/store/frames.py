"""Measurements read back as tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landscape.store.database import KEY, open_reader
from landscape.store.files import store_errors

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["step", "learning_rate_at_step", *KEY[:-1], "index", "value"]


def numbers(path: Path) -> pd.DataFrame:
    """All numbers of one database, sorted by step and then by series (in words, not by id)."""
    with store_errors(path), closing(open_reader(path)) as connection, _snapshot(connection):
        rows = connection.execute("SELECT step, series, value FROM measurement").fetchall()
        table = _Series(connection)
    values = np.array([row[2] for row in rows], dtype=np.float64)
    return table.frame([row[0] for row in rows], [row[1] for row in rows], values)


def arrays(path: Path, probe: str, quantity: str) -> pd.DataFrame:
    """The arrays of one quantity; ``value`` holds float64 arrays."""
    with store_errors(path), closing(open_reader(path)) as connection, _snapshot(connection):
        rows = connection.execute(
            "SELECT step, series, shape, data FROM array JOIN series ON series.id = array.series "
            "WHERE probe = ? AND quantity = ?",
            (probe, quantity),
        ).fetchall()
        table = _Series(connection)
    values = np.empty(len(rows), dtype=object)
    for position, (_, _, shape, data) in enumerate(rows):
        lengths = [int(length) for length in shape.split(",")]
        values[position] = np.frombuffer(data, dtype="<f8").reshape(lengths).astype(np.float64)
    return table.frame([row[0] for row in rows], [row[1] for row in rows], values)


def costs(path: Path) -> dict[str, float]:
    """The costs that a run noted."""
    with store_errors(path), closing(open_reader(path)) as connection:
        return dict(connection.execute("SELECT name, value FROM cost ORDER BY name").fetchall())


def last_step(path: Path) -> int | None:
    """The last step with measurements."""
    with store_errors(path), closing(open_reader(path)) as connection:
        found: int | None = connection.execute("SELECT max(step) FROM step").fetchone()[0]
        return found


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction, so that a live writer can't change the tables between two queries."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class _Series:
    """The series and steps of a database, to turn ids into columns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        listed = connection.execute(f"SELECT id, {', '.join(KEY)} FROM series ORDER BY {', '.join(KEY)}").fetchall()
        self.position = {row[0]: position for position, row in enumerate(listed)}
        self.columns: dict[str, npt.NDArray[Any]] = {}
        for place, name in enumerate(KEY, start=1):
            kind: type = np.int64 if name in ("version", "idx") else object
            self.columns[name] = np.array([row[place] for row in listed], dtype=kind)
        self.rates = dict(connection.execute("SELECT step, learning_rate FROM step").fetchall())

    def frame(self, steps: Sequence[int], series: Sequence[int], values: npt.NDArray[Any]) -> pd.DataFrame:
        import pandas as pd

        at = np.array(steps, dtype=np.int64)
        which = np.array([self.position[one] for one in series], dtype=np.int64)
        order = np.lexsort((which, at))
        at, which, values = at[order], which[order], values[order]
        rates = np.array([self.rates[step] for step in at.tolist()], dtype=np.float64)
        data: dict[str, npt.NDArray[Any]] = {"step": at, "learning_rate_at_step": rates}
        data |= {("index" if name == "idx" else name): column[which] for name, column in self.columns.items()}
        return pd.DataFrame(data | {"value": values})[COLUMNS]
