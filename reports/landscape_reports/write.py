"""Write a report: the PDF, and its verdicts for machines."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from landscape.analysis import Report
from landscape.errors import StoreError
from landscape_reports.pdf import pdf_bytes

SCHEMA: Final = "landscape-report"
SCHEMA_VERSION: Final = 1


def write_report(report: Report, folder: Path, *, pdf: Path | None = None) -> Path:
    """Write ``report.json`` and ``report.pdf`` into a folder.

    Each file appears whole or not at all (written beside, then renamed). The verdicts are written first, so
    that they are there even when the PDF can't be made. A folder that can't be written gives a PDF in another place.

    Args:
        report: what to print.
        folder: a run's folder; made where it does not exist.
        pdf: another place for the PDF.

    Returns:
        The path of the PDF.

    Raises:
        StoreError: a file can't be written.
        LandscapeError: typst can't compile the report.
        UsageError: a figure can't be drawn.
    """
    target = pdf if pdf is not None else folder / "report.pdf"
    verdicts = json.dumps(report_data(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    with suppress(StoreError) if pdf is not None else nullcontext():
        _write(folder / "report.json", verdicts.encode("ascii"))
    _write(target, pdf_bytes(report))
    return target


def report_data(report: Report) -> dict[str, Any]:
    """The verdicts and settings as plain JSON data, with the version of their layout.

    Infinite numbers become "Infinity" or "-Infinity", numbers that were not measured (NaN) become null.
    """
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "title": report.title,
        "question": report.question,
        "answer": report.answer,
        "verdicts": [
            {"id": v.claim.id, "verdict": v.verdict, **_plain(dataclasses.asdict(v))} for v in report.verdicts
        ],
        "definitions": _plain(report.definitions),
        "settings": _plain(report.settings),
        "cost": _plain(report.cost),
        "failures": list(report.failures),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return float(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, (bool, int)) else str(value)


def _write(path: Path, content: bytes) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StoreError(
            f"can't write {path}: {error.strerror or error}; make room or make its folder writable, or choose another "
            "place for the PDF: landscape report DIR -o FILE.pdf"
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
