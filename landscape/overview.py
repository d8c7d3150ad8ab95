"""Figures of everything that probes measured, as data: one or two per probe, whatever the probe is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Figure
from landscape.words import by_meaning, in_words, place, titled

LINES = 8  # at most so many layers in one panel
_KEYS = ("variant", "batch", "statistics")
_HIDDEN = ("step_sizes", "histogram_low", "histogram_high")  # they say where others lie
_ROUNDING = 1e-6  # values that differ by no more, relative to the largest, are one value in float32
_DECADES = 30.0  # a positive quantity that spans this factor gets a logarithmic axis


def overview(frame: pd.DataFrame) -> tuple[Figure, ...]:
    """Two figures per probe: what it sweeps, from smallest to largest value, and its other numbers, over steps.

    One line per layer where a quantity has layers (8 of them, evenly spread, where there are more); where
    there are several arms, one line per arm, the median over layers. What is the same at all steps is said in
    the caption, not drawn. Training comes first, then probes in the order of PROBES.

    Args:
        frame: the long table of an Observer, of a run or of a folder of runs.

    >>> table = pd.DataFrame({"step": [0, 10], "probe": "curvature", "variant": "", "batch": "same",
    ...     "statistics": "batch", "layer": "", "quantity": "gradient_curvature", "index": 0, "value": [2.0, 3.0]})
    >>> [(figure.name, figure.kind) for figure in overview(table)]
    [('curvature', 'lines')]
    """
    figures: list[Figure] = []
    shown = frame[~frame["quantity"].isin(_HIDDEN)]
    for probe in by_meaning(shown["probe"]):
        rows = shown[shown["probe"] == probe]
        differing = [key for key in _KEYS if rows[key].nunique() > 1]
        groups: Any = rows.groupby(differing, sort=False) if differing else [((), rows)]
        for values, own in groups:
            named = ", ".join(str(value) for value in values if value)
            figures += _figures(probe, named, own)
    return tuple(figures)


def _figures(probe: str, named: str, rows: pd.DataFrame) -> Iterator[Figure]:
    name = f"{probe} {named}".strip()
    title = f"{titled(probe)} ({named})" if named else titled(probe)
    swept = rows.groupby("quantity")["index"].max() > 0
    curves = rows[rows["quantity"].map(swept)]
    numbers = rows[~rows["quantity"].map(swept)]
    if len(curves):
        both = len(numbers) > 0
        sweep = (f"{name} sweep", f"{title}, swept") if both else (name, title)
        yield _figure(*sweep, "band", curves, "From the smallest to the largest of the values of a step.")
    if len(numbers):
        yield _figure(name, title, "lines", numbers, "One number for each step that was measured.")


def _figure(name: str, title: str, kind: str, rows: pd.DataFrame, caption: str) -> Figure:
    labelled, note = _labelled(rows)
    labelled, constant = _without_constants(labelled, compared=_several(rows))
    keys = ["panel", "arm", "seed", "x"] if "seed" in labelled else ["panel", "arm", "x"]
    if kind == "band":
        ends = labelled.groupby(keys, sort=False)["y"].agg(["min", "max"]).reset_index()
        data = ends.groupby(["panel", "arm", "x"], sort=False)[["min", "max"]].median().reset_index()
        data = data.rename(columns={"min": "low", "max": "high"})
    else:
        data = labelled.groupby(keys, sort=False)["y"].median().reset_index()
    probe = str(rows["probe"].iloc[0])
    named = {in_words(probe, quantity): place(probe, quantity) for quantity in rows["quantity"].unique()}
    panels = sorted(dict.fromkeys(data["panel"]), key=lambda panel: named[panel])
    return Figure(
        name=re.sub(r"[^\w.-]+", "-", name).strip("-"),
        kind=kind,
        frame=data,
        title=title,
        caption=f"{caption}{note}{constant}",
        alt=f"{len(panels)} panels over training steps: {', '.join(panels)}.",
        options={
            "x_label": "training step",
            "panels": panels,
            "columns": 3 if len(panels) > 2 else len(panels),
            "panel_y_log": {panel: _spans(labelled[labelled["panel"] == panel]["y"]) for panel in panels},
        },
    )


def _labelled(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Columns x, y, panel, arm and, where there are seeds, seed; and what was left out, in words."""
    probe = str(rows["probe"].iloc[0])
    panels = {quantity: in_words(probe, quantity) for quantity in rows["quantity"].unique()}
    columns = {"x": rows["step"], "y": rows["value"].astype(float), "panel": rows["quantity"].map(panels)}
    if "seed" in rows.columns and rows["seed"].nunique() > 1:
        columns["seed"] = rows["seed"]
    layers = [layer for layer in dict.fromkeys(rows["layer"]) if layer]
    shown = _spread(layers)
    note = f" {len(shown)} of {len(layers)} layers." if len(shown) < len(layers) else ""
    if _several(rows):
        note = " Median over layers." if layers else ""
        return pd.DataFrame(columns | {"arm": rows["arm"]}), note
    table = pd.DataFrame(columns | {"arm": rows["layer"].where(rows["layer"] != "", "model" if layers else "")})
    return table[rows["layer"].isin([*shown, ""])], note


def _several(rows: pd.DataFrame) -> bool:
    """Whether lines are arms, compared with one another, not layers of one."""
    return "arm" in rows.columns and rows["arm"].nunique() > 1


def _without_constants(rows: pd.DataFrame, *, compared: bool) -> tuple[pd.DataFrame, str]:
    """The lines that change, and those that do not, in words; all of them where none does.

    A diverged line (+inf throughout) is a result, and stays; so does an arm beside others that change.
    """
    lines = rows.groupby(["panel"] if compared else ["panel", "arm"], sort=False)
    low, high, count = (lines["y"].transform(what) for what in ("min", "max", "count"))
    same = (high - low <= _ROUNDING * high.abs()) & (count == lines["y"].transform("size"))
    fixed = (same | (count == 0)) & (lines["x"].transform("nunique") > 1)
    if fixed.all() or not fixed.any():
        return rows, ""
    said = []
    for panel, own in rows[fixed].groupby("panel", sort=False):
        everywhere = set(own["arm"]) == set(rows["arm"][rows["panel"] == panel])
        numbers = own["y"].map(lambda y: "not a number" if np.isnan(y) else f"{y:.4g}")
        for number, where in own.groupby(numbers, sort=False)["arm"].unique().items():
            said.append(f"{panel} {number}" + ("" if everywhere and numbers.nunique() == 1 else f" in {_few(where)}"))
    return rows[~fixed], f" Not drawn, as it is constant: {'; '.join(said)}."


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _spread(layers: Sequence[str]) -> list[str]:
    """At most LINES of them, the first and the last included."""
    if len(layers) <= LINES:
        return list(layers)
    return [layers[round(k)] for k in np.linspace(0, len(layers) - 1, LINES)]


def _spans(values: pd.Series[Any]) -> bool:
    finite = values[np.isfinite(values.astype(float))]
    return bool(len(finite) and finite.min() > 0 and finite.max() > _DECADES * finite.min())
