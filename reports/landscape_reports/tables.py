"""A table as the template's data."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from landscape.analysis import Table
from landscape_reports.formats import NOTHING, number, plain, prose


def table_data(table: Table) -> dict[str, Any]:
    """Title, note, column names, which columns are numbers, and rows of text."""
    frame = table.frame
    numeric = [bool(pd.api.types.is_numeric_dtype(dtype)) for dtype in frame.dtypes]
    return {
        "title": prose(table.title),
        "note": prose(table.note),
        "columns": [prose(c) for c in frame.columns],
        "numeric": numeric,
        "rows": [list(row) for row in zip(*(_column(frame.iloc[:, i]) for i in range(len(numeric))), strict=True)],
    }


def _column(values: pd.Series[Any]) -> list[str]:
    """Cells of a column: floats get as many decimals as the longest of them, so that points line up."""
    cells = [_cell(value) for value in values]
    if not pd.api.types.is_float_dtype(values.dtype) or any("×" in cell for cell in cells):
        return cells
    decimals = max((len(cell.partition(".")[2]) for cell in cells), default=0)
    shown = [f"{v:,.{decimals}f}".replace("-", "−") if math.isfinite(v) else None for v in values.astype(float)]
    return [new or old for new, old in zip(shown, cells, strict=True)]


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return NOTHING
    if isinstance(value, float):
        return number(value, 6)
    return plain(value)
