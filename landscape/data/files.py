"""Where data files lie, and whether they are the published ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from landscape.data.base import mismatch
from landscape.errors import DataError


@dataclass(frozen=True)
class Layout:
    """One way in which a data set is laid out in files.

    Attributes:
        name: e.g. "python pickles".
        folders: folders under a root, glob patterns allowed; "." is the root itself, "" the root only where
            the user named it, for file names that alone don't say which data set they hold.
        files: for each file that is needed the names it may have, best first; glob patterns allowed.
    """

    name: str
    folders: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Found:
    """Files that were found.

    Attributes:
        layout: the name of the layout.
        files: the paths of each needed file, sorted; several where a pattern matched several.
        notes: says so where they were not in the folder that was asked for.
    """

    layout: str
    files: dict[str, list[Path]]
    notes: list[str]


def roots(data_dir: Path | None) -> list[tuple[Path, bool]]:
    """The folders searched, in order, each with whether the user named it.

    data_dir, $LANDSCAPE_DATA, ./data, ~/data, Keras' ($KERAS_HOME or ~/.keras)/datasets, and the Hugging Face
    hub's cache ($HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub).

    Raises:
        DataError: data_dir or $LANDSCAPE_DATA is not a folder.
    """
    named = []
    for where, folder in (("--data-dir", data_dir), ("$LANDSCAPE_DATA", os.environ.get("LANDSCAPE_DATA"))):
        if folder:
            path = _expanded(folder)
            if not os.path.isdir(path):
                raise DataError(f"{where} is {path}, which is not a folder")
            named.append((path, True))
    keras = _expanded(os.environ.get("KERAS_HOME") or "~/.keras") / "datasets"
    hugging_face = _expanded(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    hub = _expanded(os.environ.get("HF_HUB_CACHE") or hugging_face)
    return [*named, *((path, False) for path in (Path("data"), _expanded("~/data"), keras, hub))]


def own_path(name: str, path: str, data_dir: Path | None) -> Path:
    """A file or folder of the user's: ``path`` as it is, or in one of the folders of data files.

    Raises:
        DataError: there is none; the message lists where it was looked for.
    """
    candidates = [_expanded(path), *(root / path for root, _ in roots(data_dir))]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise DataError(f"data {name!r}: there is no {path}; looked for {', '.join(map(str, candidates))}")


def read_text(name: str, file: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        DataError: it can't be read, or is something else.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"data {name!r}: {file} is not UTF-8 text ({error}); convert it, e.g. with iconv") from error
    except OSError as error:
        raise DataError(f"data {name!r}: {file} can't be read: {error.strerror}") from error


def find(name: str, layouts: tuple[Layout, ...], data_dir: Path | None) -> Found:
    """The first folder that holds all files of one of the layouts.

    Args:
        name: of the data set, for messages.
        layouts: tried in this order in each root.
        data_dir: searched first.

    Raises:
        DataError: none does; the message lists the folders searched, the files expected, and what a folder
            that holds only some of them lacks.
    """
    searched = roots(data_dir)
    incomplete = []
    for root, named in searched:
        for layout in layouts:
            for folder in _folders(root, layout, named):
                files = {role: _match(folder, names) for role, names in layout.files.items()}
                lacking = [layout.files[role][0] for role, paths in files.items() if not paths]
                if not lacking:
                    notes = _elsewhere(folder, data_dir)
                    return Found(layout.name, files, notes)
                if len(lacking) < len(files):
                    incomplete.append(f"{folder} lacks {', '.join(lacking)}")
    lines = [
        f"data {name!r} was not found. Nothing is downloaded; put its files into a folder and name it by --data-dir."
    ]
    lines += ["Searched:", *(f"  {path}" for path, _ in searched), "Expected in one of them, one of:"]
    for layout in layouts:
        folders = ", ".join(folder or "the folder named by --data-dir" for folder in layout.folders)
        lines.append(f"  {layout.name}: {', '.join(names[0] for names in layout.files.values())} (in {folders})")
    lines += [f"Incomplete: {line}" for line in incomplete]
    raise DataError("\n".join(lines))


def read(path: Path) -> bytes:
    """The bytes of a data file.

    Raises:
        DataError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error


def verify(path: Path, content: bytes, published: Mapping[str, str], *, allow: bool) -> list[str]:
    """Compare a file with its published checksum, MD5 (32 digits) or SHA-256, by its name.

    Args:
        path: the file.
        content: its bytes.
        published: file name to checksum; names not listed are not checked here.
        allow: note a difference instead of refusing it.

    Returns:
        Notes: empty, or one that says what differs.

    Raises:
        DataError: the checksums differ and ``allow`` is false.
    """
    expected = published.get(path.name)
    if expected is None:
        return []
    kind = "md5" if len(expected) == 32 else "sha256"
    actual = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if actual == expected:
        return []
    return mismatch(f"{path.name} has {kind} {actual}, the published file has {expected}", allow=allow)


def _expanded(folder: str | Path) -> Path:
    return Path(os.path.expanduser(folder))


def _folders(root: Path, layout: Layout, named: bool) -> list[Path]:
    folders = []
    for pattern in layout.folders:
        if pattern not in ("", "."):
            folders += sorted(root.glob(pattern))
        elif named or pattern == ".":
            folders.append(root)
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


def _match(folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        if paths := sorted(path for path in folder.glob(name) if os.path.isfile(path)):
            return paths
    return []


def _elsewhere(folder: Path, data_dir: Path | None) -> list[str]:
    if data_dir is None or folder.is_relative_to(_expanded(data_dir)):
        return []
    return [f"not found in {data_dir}; taken from {folder}"]
