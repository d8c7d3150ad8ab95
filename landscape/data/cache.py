"""A folder of results that are slow to make again: each file carries the checksum of its content.

The cache only saves time. A folder that can't be written and a file that is damaged both lead to the same
result as no cache, made anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

_DIGEST = 32  # bytes of a SHA-256 at the head of a file


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/landscape, or ~/.cache/landscape."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "landscape"


def cached(key: str, make: Callable[[], bytes]) -> bytes:
    """The bytes stored under ``key``; if there are none, or damaged ones, those of ``make``, which are stored.

    Files are written under a temporary name and renamed, so that processes that make the same entry at the
    same time don't harm each other.

    Args:
        key: a file name; it must name everything that ``make`` depends on.
        make: called if the entry is missing or damaged; its errors pass through.
    """
    path = cache_folder() / key
    content = _load(path)
    if content is None:
        content = make()
        _store(path, content)
    return content


def _load(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            digest, content = file.read(_DIGEST), file.read()
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == digest else None


def _store(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        warnings.warn(
            f"decoded data could not be kept in {path.parent} ({error.strerror or error}); every process decodes it "
            "again. Set XDG_CACHE_HOME to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
