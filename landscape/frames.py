"""From the long table to the tidy frames that figures and tables want; no statistics are decided here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

RUN = ["arm", "learning_rate", "seed"]
#: The columns of the long table that pick moments of what leaves each layer's nonlinearity.
OUTPUTS: dict[str, Any] = {"probe": "moments", "variant": "nonlinearity output"}


def pick(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows whose columns equal (or, given a list or tuple, are one of) these values.

    >>> pick(pd.DataFrame({"arm": ["none", "batch"], "value": [1.0, 2.0]}), arm="batch").value.tolist()
    [2.0]
    """
    keep = np.ones(len(frame), dtype=bool)
    for column, value in equal.items():
        if value is None:
            continue
        wanted = value if isinstance(value, list | tuple) else [value]
        keep &= frame[column].isin(wanted).to_numpy()
    return frame[keep]


def last_step(frame: pd.DataFrame, **equal: Any) -> int:
    """The last step of the rows that ``pick`` finds; 0 where there are none."""
    steps = pick(frame, **equal)["step"]
    return int(steps.max()) if len(steps) else 0


def stacked(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; an empty one where there are none."""
    found = list(parts)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def swept(run: pd.DataFrame, quantity: str) -> npt.NDArray[np.float64]:
    """One run's values of a quantity along its sweep, in the order of the index."""
    return pick(run, quantity=quantity).sort_values("index")["value"].to_numpy(dtype=np.float64)


def plane(run: pd.DataFrame) -> pd.DataFrame:
    """Columns x, y, value: the loss on the plane of one run's rows of the probe ``loss_slice``."""
    x, y = np.meshgrid(swept(run, "x"), swept(run, "y"), indexing="ij")
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": swept(run, "loss")})


def lines(frame: pd.DataFrame, panel: str | Callable[[pd.DataFrame], pd.Series] = "") -> pd.DataFrame:
    """Columns x (step), y, arm, seed, panel: what the "lines" drawing wants.

    Args:
        frame: rows of the long table, one quantity (or one per panel).
        panel: a constant, the name of a column, or a function of the rows.
    """
    panels: Any = panel
    if callable(panel):
        panels = panel(frame) if len(frame) else ""  # no words can be made of no rows
    elif panel in frame.columns:
        panels = frame[panel]
    return pd.DataFrame(
        {"x": frame["step"], "y": frame["value"], "arm": frame["arm"], "seed": frame["seed"], "panel": panels}
    ).reset_index(drop=True)


def band(frame: pd.DataFrame, panel: str = "") -> pd.DataFrame:
    """Columns x, low, high, arm, panel: smallest and largest value along the sweep, median over seeds."""
    if frame.empty:
        return pd.DataFrame(columns=["x", "low", "high", "arm", "panel"])
    ends = frame.groupby([*RUN, "step"])["value"].agg(["min", "max"]).reset_index()
    middle = ends.groupby(["arm", "step"])[["min", "max"]].median().reset_index()
    return middle.rename(columns={"step": "x", "min": "low", "max": "high"}).assign(panel=panel)


def ridges(histograms: pd.DataFrame, frame: pd.DataFrame, steps: int = 9) -> pd.DataFrame:
    """Columns step, position, density, arm, panel (the layer) from stored histograms of one run per arm.

    Args:
        histograms: arrays of "histogram", one run per arm.
        frame: the long table, for histogram_low and histogram_high.
        steps: at most so many steps, evenly spread.
    """
    if histograms.empty:
        return pd.DataFrame(columns=["step", "position", "density", "arm", "panel"])
    keys = [*RUN, "step", "layer"]
    ends = pick(frame, probe="activations", quantity=["histogram_low", "histogram_high"])
    wide = ends.pivot_table(index=keys, columns="quantity", values="value", aggfunc="first").reset_index()
    rows = histograms.merge(wide, on=keys)
    known = sorted(rows["step"].unique())
    shown = {known[round(k)] for k in np.linspace(0, len(known) - 1, min(steps, len(known)))}
    parts = []
    for row in rows[rows["step"].isin(shown)].to_dict("records"):
        density = np.asarray(row["value"], dtype=float)
        edges = np.linspace(float(row["histogram_low"]), float(row["histogram_high"]), len(density) + 1)
        parts.append(
            pd.DataFrame(
                {
                    "step": row["step"],
                    "position": (edges[:-1] + edges[1:]) / 2,
                    "density": density,
                    "arm": row["arm"],
                    "panel": row["layer"],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def medians(frame: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Median over the steps of each run, then over seeds: one number per group of ``by``."""
    per_run = frame.groupby([*by, "seed"])["value"].median()
    middle: pd.Series = per_run.groupby(level=list(range(len(by)))).median()
    return middle


def table(columns: dict[str, pd.Series], digits: int = 3, *, counts: Collection[str] = ()) -> pd.DataFrame:
    """Several series over the same groups as one table of rounded text; what is missing is a dash.

    Args:
        columns: header -> values.
        digits: significant digits.
        counts: headers of steps that were counted until something happened: +inf is "never" there.
    """
    wide = pd.concat(columns, axis=1).reset_index() if columns else pd.DataFrame()
    for name in columns:
        said = [format_number(value, digits) for value in wide[name]]
        wide[name] = [
            "never" if name in counts and np.isinf(v) else text for v, text in zip(wide[name], said, strict=True)
        ]
    return wide


def format_number(value: float, digits: int = 3) -> str:
    """A number at so many significant digits: "diverged" for +inf, a dash for what was not measured.

    >>> format_number(0.012345), format_number(-20123.0), format_number(float("inf")), format_number(float("nan"))
    ('0.0123', '−20,100', 'diverged', '-')
    """
    if np.isnan(value):
        return "-"
    if np.isinf(value):
        return "diverged"
    rounded = float(f"{value:.{digits}g}")
    text = f"{rounded:,.0f}" if 10**digits <= abs(rounded) < 1e6 else f"{rounded:.{digits}g}"
    return f"−{text[1:]}" if text.startswith("-") else text
