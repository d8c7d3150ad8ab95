"""Values of categories as dots with intervals, arms side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from landscape_reports.panels import chosen, finite, legend, names, require, say, ticks, wrapped
from landscape_reports.theme import TALLEST, WIDTH, ArmStyle

if TYPE_CHECKING:
    import pandas as pd


def draw(canvas: Figure, frame: pd.DataFrame, options: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> None:
    """Draw a dot with its interval per category and arm; categories run down the page.

    Columns: category, value, low, high, arm; optional panel. Dots, not bars, so that nothing hangs on where
    zero is. A value of +inf is marked at the right edge.

    Options: x_label (of the value), x_log, categories, panels, arms (order), panel_labels (panel -> x label),
    height (inches per category).
    """
    require(frame, "bars", ("category", "value", "low", "high", "arm"))
    panels = names(frame, "panel", options, "panels")
    categories = names(frame, "category", options, "categories")
    row = float(options.get("height", max(0.26, 0.13 * len(styles) + 0.08)))
    canvas.set_size_inches(WIDTH, min(TALLEST, 0.85 + row * len(categories)))
    axes = canvas.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    infinite, room = False, WIDTH / len(panels) - 0.6
    for ax, panel in zip(axes, panels, strict=True):
        rows = chosen(frame, "panel", panel)
        if panel != "":
            ax.set_title(wrapped(panel, room))
        ax.set_xlabel(wrapped(options.get("panel_labels", {}).get(panel, options.get("x_label", "")), room))
        if options.get("x_log"):
            ax.set_xscale("log")
        infinite |= _dots(ax, rows, categories, styles)
        ax.grid(False, axis="y")
        if np.isfinite(finite(rows["value"], positive=bool(options.get("x_log")))).any():
            ticks(ax)
        else:
            say(ax, "no finite value" if len(rows) else "not measured")
        ax.set_yticks(range(len(categories)), [wrapped(c, 1.7) for c in categories])
        ax.set_ylim(len(categories) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
    legend(canvas, styles, line=False, inf=infinite)


def _dots(ax: Axes, rows: pd.DataFrame, categories: list[Any], styles: Mapping[str, ArmStyle]) -> bool:
    log = ax.get_xscale() == "log"
    step = 0.7 / max(1, len(styles))
    infinite = False
    for i in range(1, len(categories)):
        ax.axhline(i - 0.5, color="#e2e2e2", linewidth=0.5)
    for order, (arm, style) in enumerate(styles.items()):
        own = rows[rows["arm"] == arm]
        shift = (order - (len(styles) - 1) / 2) * step
        for category, value, low, high in zip(own["category"], own["value"], own["low"], own["high"], strict=True):
            y = categories.index(category) + shift
            if math.isnan(value) or value == math.inf:
                infinite = True
                _edge(ax, y, style)
                continue
            ends = finite([low, high], positive=log)
            ends = np.where(np.isnan(ends), value, ends)
            ax.plot(ends, [y, y], color=style.color, linewidth=1.4, solid_capstyle="butt")
            ax.plot(
                [value],
                [y],
                linestyle="none",
                marker=style.marker,
                markersize=5,
                color=style.color,
            )
    return infinite


def _edge(ax: Axes, y: float, style: ArmStyle) -> None:
    ax.plot(
        [0.985],
        [y],
        transform=blended_transform_factory(ax.transAxes, ax.transData),
        linestyle="none",
        marker=(3, 0, -90),
        markersize=5.5,
        markerfacecolor="white",
        markeredgecolor=style.color,
        gid="diverged",
    )
