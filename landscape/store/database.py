"""One SQLite file per run: its tables, how it is opened for writing and for reading."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from landscape.errors import StoreError
from landscape.store.files import store_errors

VERSION = "1"
KEY = ("probe", "version", "variant", "statistics", "dtype", "batch", "layer", "quantity", "idx")

# (step, series) in this order without a rowid appends at the end of one b-tree: 11x faster than (series, step).
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series(
  id INTEGER PRIMARY KEY, probe TEXT NOT NULL, version INTEGER NOT NULL, variant TEXT NOT NULL,
  statistics TEXT NOT NULL, dtype TEXT NOT NULL, batch TEXT NOT NULL, layer TEXT NOT NULL,
  quantity TEXT NOT NULL, idx INTEGER NOT NULL,
  UNIQUE(probe, version, variant, statistics, dtype, batch, layer, quantity, idx));
CREATE TABLE IF NOT EXISTS step(step INTEGER PRIMARY KEY, learning_rate REAL);
CREATE TABLE IF NOT EXISTS measurement(
  step INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series(id), value REAL NOT NULL,
  PRIMARY KEY(step, series)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS array(
  step INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series(id), shape TEXT NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY(step, series));
CREATE TABLE IF NOT EXISTS cost(name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS long AS
  SELECT m.step AS step, t.learning_rate AS learning_rate, s.probe AS probe, s.version AS version,
    s.variant AS variant, s.statistics AS statistics, s.dtype AS dtype, s.batch AS batch, s.layer AS layer,
    s.quantity AS quantity, s.idx AS "index", m.value AS value
  FROM measurement m JOIN series s ON s.id = m.series LEFT JOIN step t ON t.step = m.step;
"""

# File systems on which shared memory or locks don't hold between machines, so that WAL is unsafe.
_REMOTE = re.compile(
    r"nfs\d?|cifs|smb\w*|afs|9p|virtiofs|ceph|lustre|gpfs|beegfs|glusterfs|orangefs|pvfs2|ocfs2|gfs2|drvfs|fuse\..*|fuse"
)


def is_local(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether ``path`` lies on a local disk, where write-ahead logging is safe.

    Linux: the type of the innermost mount of ``/proc/mounts`` above the path; network, cluster and
    FUSE file systems are not local. Elsewhere there is no such table and the path is taken as local.

    >>> from tempfile import gettempdir
    >>> isinstance(is_local(Path(gettempdir())), bool)
    True
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return True
    target = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Spaces in mount points are written \040.
        point = Path(re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields[1]))
        # A later mount on the same point covers the earlier one.
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return _REMOTE.fullmatch(kind) is None


def open_writer(path: Path) -> sqlite3.Connection:
    """Open or create a run's database for its one writer.

    On a local disk: WAL with synchronous=NORMAL, which a killed process can't hurt and which readers
    can read live; ``RunStore.save_checkpoint`` makes it durable against power loss. Elsewhere: a
    TRUNCATE journal with synchronous=FULL.

    Raises:
        StoreError: if it is damaged, of another version, or can't be written.
    """
    with store_errors(path):
        if not path.exists():
            _create(path)
        connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        try:
            _check(connection, path)
            mode = "WAL" if is_local(path.parent) else "TRUNCATE"
            if connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=TRUNCATE")
            set_durable(connection, durable=not is_wal(connection))
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (VERSION,))
            _check_version(connection, path)
        except (sqlite3.Error, OSError, StoreError):
            connection.close()
            raise
    return connection


def _create(path: Path) -> None:
    """A database without rows, there at once: no reader ever sees half of one, whenever its writer dies."""
    part = path.with_name(f".{path.name}.part")
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)
    with closing(sqlite3.connect(part, isolation_level=None)) as connection:
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}INSERT INTO meta VALUES ('version', '{VERSION}');COMMIT;")
    os.replace(part, path)


def is_wal(connection: sqlite3.Connection) -> bool:
    """Whether the database has a write-ahead log."""
    return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def set_durable(connection: sqlite3.Connection, *, durable: bool) -> None:
    """Whether the next commits wait until the disk has them."""
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a run's database for reading, also while it is written, also in a read-only folder.

    Raises:
        StoreError: if it is missing, damaged, of another version, or was left by a running writer in a
            folder that can't be written (its log can't be read there).
    """
    with store_errors(path):
        if not path.is_file():
            raise StoreError(f"{path}: no measurements here; run `landscape run` first")
        address = path.resolve().as_uri()
        connection = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=10.0, isolation_level=None)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            log = path.with_name(path.name + "-wal")
            if os.path.exists(log) and os.path.getsize(log):
                raise StoreError(
                    f"{path}: its log {log.name} can't be read in a read-only folder; "
                    "copy the whole folder to where you may write, and read that"
                ) from None
            connection = sqlite3.connect(f"{address}?immutable=1", uri=True, isolation_level=None)
        try:
            _check_version(connection, path)
        except (sqlite3.Error, StoreError):
            connection.close()
            raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a damaged database before anything is added to it."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(
            f"{path}: the database is damaged ({' '.join(found.split())}); delete it and run the same command again: "
            "this run starts over, the others are kept"
        )


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone() if known else None
    if row is None or row[0] != VERSION:
        found = "no version" if row is None else f"version {row[0]}"
        raise StoreError(
            f"{path}: {found} where version {VERSION} of the measurements is needed; "
            "read it with the landscape version that wrote it"
        )
