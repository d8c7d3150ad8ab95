"""Lines over steps, one per arm, with a band over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape_reports.panels import (
    chosen,
    diverged,
    finite,
    grid,
    legend,
    mark_diverged,
    names,
    require,
    say,
    ticks,
)
from landscape_reports.theme import ArmStyle

if TYPE_CHECKING:
    import pandas as pd


def draw(canvas: Figure, frame: pd.DataFrame, options: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> None:
    """Draw a line per arm, in small multiples by panel.

    Columns: x, y, arm; optional low, high (the band), panel, seed. With ``seed`` and without low and high
    the line is the median over seeds and the band runs from their smallest to their largest value.
    A value that is not finite ranks as +inf: it is marked at the panel's upper edge.

    Options: x_label, y_label, x_log, y_log, panel_y_log, panels (order), arms (order), panel_labels
    (panel -> y label), columns, height, share_y, guide (panel -> y of a thin horizontal line, or one number).
    """
    require(frame, "lines", ("x", "y", "arm"))
    panels = names(frame, "panel", options, "panels")
    axes = grid(canvas, panels, options)
    infinite = False
    for panel in panels:
        rows = chosen(frame, "panel", panel)
        arms = [arm for arm in styles if arm in set(rows["arm"])]
        lost = 0
        for order, arm in enumerate(arms):
            summary = _over_seeds(rows[rows["arm"] == arm])
            lost += _line(axes[panel], summary, styles[arm], order, lost)
        infinite |= lost > 0
        _guide(axes[panel], panel, options)
        drawable = finite(rows["y"], positive=axes[panel].get_yscale() == "log")
        if not np.isfinite(drawable).any():
            say(axes[panel], "no finite value" if len(rows) else "not measured")
        else:
            ticks(axes[panel])
    legend(canvas, styles, inf=infinite)


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per x: y, low, high."""
    import pandas as pd

    rows = rows.assign(y=rows["y"].astype(float).fillna(np.inf))
    if "low" in rows and "high" in rows:
        return rows.sort_values("x", kind="stable")
    if "seed" not in rows:
        return rows.sort_values("x", kind="stable").assign(low=np.nan, high=np.nan)
    grouped = rows.groupby("x", sort=True)["y"]
    return pd.DataFrame({"y": grouped.median(), "low": grouped.min(), "high": grouped.max()}).reset_index()


def _line(ax: Axes, rows: pd.DataFrame, style: ArmStyle, order: int, above: int) -> bool:
    log = ax.get_yscale() == "log"
    x = rows["x"].to_numpy(dtype=float)
    y = finite(rows["y"], positive=log)
    lost = diverged(rows["y"])
    low, high = finite(rows["low"], positive=log), finite(rows["high"], positive=log)
    high = np.where(np.isnan(high) & ~np.isnan(low) & ~lost, y, high)
    if np.isfinite(low).any():
        ax.fill_between(x, low, high, color=style.color, alpha=0.18, linewidth=0)
    every = max(1, round(len(x) / 7))
    start = (order * every // 3) % every if every > 1 else 0
    ax.plot(
        x,
        y,
        color=style.color,
        linestyle=style.linestyle,
        marker=style.marker,
        markevery=(start, every),
        markeredgecolor="white",
        markeredgewidth=0.4,
    )
    if lost.any():
        mark_diverged(ax, x[lost].tolist(), style, above)
    return bool(lost.any())


def _guide(ax: Axes, panel: Any, options: Mapping[str, Any]) -> None:
    guide = options.get("guide")
    value = guide.get(panel) if isinstance(guide, Mapping) else guide
    if value is not None:
        ax.axhline(float(value), color="#666666", linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
