"""Bands from smallest to largest value along a direction, over training (Santurkar et al. 2018, figure 4)."""

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
    """Draw one translucent band per arm over the steps, with outline and hatch.

    Columns: x (step), low, high, arm; optional panel. Where ``high`` is not finite the band is open to the
    panel's upper edge and marked there.

    Options: x_label, y_label, x_log, y_log, panel_y_log, panels, arms (order), panel_labels, columns, height,
    share_y.
    """
    require(frame, "band", ("x", "low", "high", "arm"))
    panels = names(frame, "panel", options, "panels")
    axes = grid(canvas, panels, options)
    infinite = False
    for panel in panels:
        rows, ax = chosen(frame, "panel", panel), axes[panel]
        top = _limits(ax, rows)
        if top is None:
            say(ax, "no finite value" if len(rows) else "not measured")
            continue
        arms = [arm for arm in styles if arm in set(rows["arm"])]
        lost = 0
        for arm in arms:
            lost += _band(ax, rows[rows["arm"] == arm], styles[arm], lost, top)
        infinite |= lost > 0
        ticks(ax)
    legend(canvas, styles, area=True, inf=infinite)


def _limits(ax: Axes, rows: pd.DataFrame) -> float | None:
    """Set the y limits from the finite values; the upper one, or None where there is none."""
    log = ax.get_yscale() == "log"
    values = finite([*rows["low"], *rows["high"]], positive=log)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    if log:
        pad = max((high / low) ** 0.05, 1.1)
        ax.set_ylim(low / pad, high * pad)
    else:
        pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        ax.set_ylim(low - pad, high + pad)
    return ax.get_ylim()[1]


def _band(ax: Axes, rows: pd.DataFrame, style: ArmStyle, above: int, top: float) -> bool:
    log = ax.get_yscale() == "log"
    rows = rows.sort_values("x", kind="stable")
    x = rows["x"].to_numpy(dtype=float)
    lost = diverged(rows["high"])
    low = finite(rows["low"], positive=log)
    high = np.where(lost, top, finite(rows["high"], positive=log))
    if log:  # a band that touches zero reaches the lower edge
        low = np.where(np.isnan(low) & np.isfinite(high) & ~diverged(rows["low"]), ax.get_ylim()[0], low)
    ax.fill_between(x, low, high, facecolor=(style.color, 0.22), edgecolor=style.color, linewidth=0)
    ax.fill_between(x, low, high, facecolor="none", edgecolor=(style.color, 0.45), hatch=style.hatch, linewidth=0)
    for edge in (low, np.where(lost, np.nan, high)):
        ax.plot(x, edge, color=style.color, linestyle=style.linestyle, linewidth=1.0)
    if lost.any():
        mark_diverged(ax, x[lost].tolist(), style, above)
    return bool(lost.any())
