"""The user's own code by name: ``package.module:function`` or ``path/file.py:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from landscape.errors import UsageError, nearest


def is_reference(name: str) -> bool:
    """Whether ``name`` points into somebody's code rather than being a shipped name.

    >>> is_reference("mypkg.models:build"), is_reference("vgg")
    (True, False)
    """
    return ":" in name


_LENT: dict[str, Any] = {}


@contextmanager
def lent(spec: str, found: Any) -> Iterator[str]:
    """Let ``load_object(spec)`` answer ``found`` inside the block, in this process: code that no module holds.

    >>> with lent("lent:answer", 42) as spec:
    ...     load_object(spec)
    42
    """
    _LENT[spec] = found
    try:
        yield spec
    finally:
        del _LENT[spec]


def reference_to(found: Any) -> str:
    """``package.module:name`` under which this very object can be imported anywhere, or "".

    >>> import math
    >>> reference_to(math.sqrt), reference_to(lambda: 0)
    ('math:sqrt', '')
    """
    where, name = getattr(found, "__module__", None), getattr(found, "__qualname__", "")
    holder: Any = sys.modules.get(where or "")
    for part in name.split(".") if holder is not None and where != "__main__" else [""]:
        holder = getattr(holder, part, None) if part else None
    return f"{where}:{name}" if holder is found and found is not None else ""


def load_object(spec: str) -> Any:
    """Import what ``spec`` names.

    The user's folder (the working directory, or the file's own) is appended to ``sys.path`` only here, after
    everything else, so that a file of theirs never shadows a package of ours. A file is run once per process.

    Args:
        spec: ``package.module:name`` or ``path/file.py:name``; the name may have dots.

    Raises:
        UsageError: malformed, no such module or file, no such name in it, or its import fails.

    >>> load_object("math:pi")
    3.141592653589793
    """
    if spec in _LENT:
        return _LENT[spec]
    where, _, name = spec.rpartition(":")
    well_formed = where.endswith(".py") or all(part.isidentifier() for part in where.split("."))
    if not name or not well_formed:
        raise UsageError(f"{spec!r} names no code: write package.module:function or path/file.py:function")
    module = _from_file(Path(where), spec) if where.endswith(".py") else _from_package(where, spec)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = sorted(
                key for key, value in vars(module).items() if not (key.startswith("_") or isinstance(value, ModuleType))
            )
            raise UsageError(f"{spec!r}: {where} has no {name!r}; {nearest(name, public)}")
        found = getattr(found, part)
    return found


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _from_package(where: str, spec: str) -> ModuleType:
    _append_to_path(Path.cwd())
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(error.name + ".")):
            raise UsageError(
                f"{spec!r}: there is no module {error.name!r} in this environment or in {Path.cwd()}"
            ) from error
        raise UsageError(f"{spec!r}: {where} imports {error.name!r}, which is not installed") from error
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"{spec!r}: {where} can't be imported: {error}") from error


def _from_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{spec!r}: there is no file {path} (from {Path.cwd()})")
    path = path.resolve()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    _append_to_path(path.parent)
    place = importlib.util.spec_from_file_location(name, path)
    if place is None or place.loader is None:
        raise UsageError(f"{spec!r}: {path} is no Python file")
    module = importlib.util.module_from_spec(place)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    try:
        place.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (ImportError, SyntaxError)):
            raise UsageError(f"{spec!r}: {path} can't be imported: {error}") from error
        raise
    return module
