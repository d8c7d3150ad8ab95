"""Figures of everything that probes measured, as data: one or two per probe, whatever the probe is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Figure

LINES = 8  # at most so many layers in one panel
_KEYS = ("variant", "batch", "statistics")
_HIDDEN = ("step_sizes", "histogram_low", "histogram_high")  # they say where others lie
_DECADES = 30.0  # a positive quantity that spans this factor gets a logarithmic axis


def overview(frame: pd.DataFrame) -> tuple[Figure, ...]:
    """Two figures per probe: what it sweeps, from smallest to largest value, and its other numbers, over steps.

    One line per layer where a quantity has layers (8 of them, evenly spread, where there are more); where
    there are several arms, one line per arm, the median over layers.

    Args:
        frame: the long table of an Observer, of a run or of a folder of runs.

    >>> table = pd.DataFrame({"step": [0, 10], "probe": "curvature", "variant": "", "batch": "same",
    ...     "statistics": "batch", "layer": "", "quantity": "gradient_curvature", "index": 0, "value": [2.0, 3.0]})
    >>> [(figure.name, figure.kind) for figure in overview(table)]
    [('curvature', 'lines')]
    """
    figures: list[Figure] = []
    for probe, rows in frame[~frame["quantity"].isin(_HIDDEN)].groupby("probe", sort=False):
        differing = [key for key in _KEYS if rows[key].nunique() > 1]
        groups: Any = rows.groupby(differing, sort=False) if differing else [((), rows)]
        for values, own in groups:
            named = ", ".join(str(value) for value in values if value)
            figures += _figures(str(probe), f"{probe} ({named})" if named else str(probe), own)
    return tuple(figures)


def _figures(probe: str, title: str, rows: pd.DataFrame) -> Iterator[Figure]:
    swept = rows.groupby("quantity")["index"].max() > 0
    curves = rows[rows["quantity"].map(swept)]
    numbers = rows[~rows["quantity"].map(swept)]
    if len(curves):
        name = f"{title} sweep" if len(numbers) else title
        yield _figure(name, "band", curves, f"{probe}: from the smallest to the largest value along its sweep.")
    if len(numbers):
        yield _figure(title, "lines", numbers, f"{probe}: its measures over training.")


def _figure(name: str, kind: str, rows: pd.DataFrame, caption: str) -> Figure:
    labelled, note = _labelled(rows)
    keys = ["panel", "arm", "seed", "x"] if "seed" in labelled else ["panel", "arm", "x"]
    if kind == "band":
        ends = labelled.groupby(keys, sort=False)["y"].agg(["min", "max"]).reset_index()
        data = ends.groupby(["panel", "arm", "x"], sort=False)[["min", "max"]].median().reset_index()
        data = data.rename(columns={"min": "low", "max": "high"})
    else:
        data = labelled.groupby(keys, sort=False)["y"].median().reset_index()
    panels = list(dict.fromkeys(data["panel"]))
    return Figure(
        name=name,
        kind=kind,
        frame=data,
        title=name,
        caption=f"{caption}{note}",
        alt=f"{len(panels)} panels over training steps: {', '.join(panels)}.",
        options={
            "x_label": "training step",
            "panels": panels,
            "columns": 3 if len(panels) > 2 else len(panels),
            "panel_y_log": {panel: _spans(rows[rows["quantity"] == panel]["value"]) for panel in panels},
        },
    )


def _labelled(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Columns x, y, panel, arm and, where there are seeds, seed; and what was left out, in words."""
    several = "arm" in rows.columns and rows["arm"].nunique() > 1
    columns = {"x": rows["step"], "y": rows["value"], "panel": rows["quantity"]}
    if "seed" in rows.columns and rows["seed"].nunique() > 1:
        columns["seed"] = rows["seed"]
    layers = [layer for layer in dict.fromkeys(rows["layer"]) if layer]
    shown = _spread(layers)
    note = f" {len(shown)} of {len(layers)} layers." if len(shown) < len(layers) else ""
    if several:
        note = " Median over layers." if layers else ""
        return pd.DataFrame(columns | {"arm": rows["arm"]}), note
    table = pd.DataFrame(columns | {"arm": rows["layer"].where(rows["layer"] != "", "model" if layers else "")})
    return table[rows["layer"].isin([*shown, ""])], note


def _spread(layers: Sequence[str]) -> list[str]:
    """At most LINES of them, the first and the last included."""
    if len(layers) <= LINES:
        return list(layers)
    return [layers[round(k)] for k in np.linspace(0, len(layers) - 1, LINES)]


def _spans(values: pd.Series[Any]) -> bool:
    finite = values[np.isfinite(values.astype(float))]
    return bool(len(finite) and finite.min() > 0 and finite.max() > _DECADES * finite.min())
