"""Files that are either the old or the new one after a crash, locks, and errors that say what to do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from landscape.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_REPLACE = "restore or delete it, or use another --out"
# sqlite3's error names begin with these.
_REMEDIES = {
    "SQLITE_FULL": "the disk is full; free some space and run the same command again: nothing is lost",
    "SQLITE_CORRUPT": "the database is damaged; delete it and run the same command again: this run starts over",
    "SQLITE_NOTADB": "this is not a database; delete it and run the same command again: this run starts over",
    "SQLITE_READONLY": "the folder can't be written; make it writable or choose another place",
    "SQLITE_CANTOPEN": "it can't be opened; check that the folder exists and that you may write in it",
    "SQLITE_PERM": "you may not open it; check the folder's permissions",
    "SQLITE_BUSY": "another process holds it; wait for that process to end and run the same command again",
    "SQLITE_IOERR": "reading or writing failed; check the disk, then run the same command again",
}


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say about ``path`` into an error with a remedy.

    Raises:
        StoreError: naming the path, the cause and what to do.
    """
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        remedy = next((text for key, text in _REMEDIES.items() if name.startswith(key)), "")
        raise StoreError(f"{path}: {error}" + (f" ({remedy})" if remedy else "")) from error
    except OSError as error:
        remedy = "check that the folder exists and that you may use it"
        if error.errno in _FULL:
            remedy = _REMEDIES["SQLITE_FULL"]
        elif error.errno in _CLOSED:
            remedy = _REMEDIES["SQLITE_READONLY"]
        raise StoreError(f"{path}: {error.strerror or error} ({remedy})") from error


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in ``folder`` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a half.

    A temporary name, fsync, rename, fsync of the folder.
    """
    temporary = path.with_name(f".{path.name}.part")
    with store_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, atomically."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path, **kinds: type) -> dict[str, Any]:
    """Read a JSON file of ours, which holds an object.

    Args:
        path: the file.
        kinds: what the values of some keys have to be, where the keys are there.

    Raises:
        StoreError: if it can't be read, or isn't that.
    """
    with store_errors(path):
        text = path.read_bytes()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not valid JSON ({error}); {_REPLACE}") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path}: holds a {type(found).__name__} where an object is needed; {_REPLACE}")
    for key, kind in kinds.items():
        if key in found and not isinstance(found[key], kind):
            raise StoreError(
                f"{path}: {key!r} is a {type(found[key]).__name__}, it has to be a {kind.__name__}; {_REPLACE}"
            )
    return found


class Lock:
    """An exclusive lock on a file, held by one process and gone with it, however it dies.

    Args:
        path: the lock file; the holder's process id is written in it.
        wait: seconds to wait for another holder before giving up.
        what: what the lock guards, for the error.

    Raises:
        StoreError: if another process holds it; the message names its process id.
    """

    def __init__(self, path: Path, *, wait: float = 0.0, what: str = "this folder") -> None:
        self.path = path
        with store_errors(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        end = time.monotonic() + wait
        while not self._try():
            if time.monotonic() >= end:
                holder = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(self._handle)
                raise StoreError(
                    f"{path.parent}: another process (pid {holder}) is using {what}; "
                    "wait for it to end, stop it, or use another --out"
                )
            time.sleep(0.05)
        try:
            with store_errors(path):
                os.ftruncate(self._handle, 0)
                os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        except StoreError:
            self.release()
            raise

    def _try(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            os.close(self._handle)
            with store_errors(self.path):
                raise error
        return True

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file at ``path``."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
