"""The loss on a plane through the weights: filled contours on a logarithmic scale, and the path of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from landscape_reports.panels import chosen, finite, grid, names, require, say, tick, ticks
from landscape_reports.theme import ArmStyle

if TYPE_CHECKING:
    import pandas as pd

SHADES = ListedColormap(colormaps["YlGnBu"](np.linspace(0.0, 0.72, 256)), "shades")
"""From light (low) to dark (high), also in grey, and never so dark that a black line is lost."""

INK = "#A33B00"
NICE = ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
"""Steps of levels within a factor of ten, finest first."""

MOST = 13  # levels

Array = npt.NDArray[np.float64]


def draw(canvas: Figure, frame: pd.DataFrame, options: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> None:
    """Draw one plane per panel or, without that column, per arm; two abreast, each as wide as a column of text.

    Columns: x, y, value (a full grid; the numbers of rows and columns may differ); optional panel or arm. All
    planes share their levels, which are 1-2-5 steps where values are positive and span a factor of three, even
    steps otherwise. Where a value is not finite the plane is hatched.

    Options: x_label, y_label, value_label (of the colour bar), panels (order), columns, height, path (points
    (x, y), oldest first, or panel -> points): drawn from a ring to a dot; origin (False: no cross at the weights).
    """
    require(frame, "surface", ("x", "y", "value"))
    column = "panel" if "panel" in frame.columns or "arm" not in frame.columns else "arm"
    panels = names(frame, column, options, "panels")
    axes = grid(canvas, panels, {"columns": 2, "height": 3.0, **options})
    levels = _levels(finite(frame["value"]))
    drawn = None
    for panel, ax in axes.items():
        ax.grid(False)
        filled = _plane(ax, chosen(frame, column, panel), levels)
        if filled is None:
            say(ax, "no finite value")
            continue
        drawn = filled
        path = options.get("path", ())
        _path(ax, path.get(panel, ()) if isinstance(path, Mapping) else path)
        if options.get("origin", True):
            ax.plot([0], [0], marker="P", color="black", markeredgecolor="white", markersize=6.5, gid="origin")
        ticks(ax)
    if drawn is not None:
        bar = canvas.colorbar(drawn, ax=list(axes.values()), aspect=28, pad=0.015, spacing="uniform")
        bar.set_label(options.get("value_label", "loss"))
        bar.set_ticks(levels.tolist(), labels=[tick(level) for level in levels])
        bar.outline.set_linewidth(0.6)


def _levels(values: Array) -> Array:
    """Levels that hold every finite value: round numbers, by factors where that can be."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low >= 3:
        for steps in NICE:
            found = _by_factors(low, high, steps)
            if len(found) <= MOST:
                return found
        return np.geomspace(found[0], found[-1], MOST)  # more than a dozen powers of ten
    return np.asarray(MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high), dtype=np.float64)


def _by_factors(low: float, high: float, steps: Sequence[float]) -> Array:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = np.array([step * 10.0**decade for decade in decades for step in steps])
    first = max(0, int(np.searchsorted(every, low, side="right")) - 1)
    last = min(len(every) - 1, int(np.searchsorted(every, high, side="left")))
    return every[first : last + 1]


def _plane(ax: Axes, rows: pd.DataFrame, levels: Array) -> QuadContourSet | None:
    """Filled levels with lines and numbers; None where there is nothing to draw."""
    rows = rows[np.isfinite(finite(rows["x"])) & np.isfinite(finite(rows["y"]))]
    table = rows.pivot_table(index="y", columns="x", values="value", dropna=False, aggfunc="first")
    z = finite(table.to_numpy(dtype=float).ravel()).reshape(table.shape)
    if min(table.shape, default=0) < 2 or not np.isfinite(z).any():
        return None
    x, y = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
    hidden = np.ma.masked_invalid(z)
    if hidden.mask.any():
        ax.patch.set(hatch="xxxx", edgecolor="#999999", facecolor="white")
    filled = ax.contourf(x, y, hidden, levels, cmap=SHADES, norm=BoundaryNorm(levels, SHADES.N))
    lines = ax.contour(x, y, hidden, levels, colors="#333333", linewidths=0.5)
    for text in ax.clabel(lines, fmt=FuncFormatter(tick), fontsize=7, inline_spacing=2):
        text.set_path_effects([withStroke(linewidth=1.6, foreground="white", alpha=0.75)])
        text.set_clip_on(True)
    return filled


def _path(ax: Axes, points: Sequence[Sequence[float]]) -> None:
    """A line with a white edge, so that it shows on every shade: from a ring to a dot."""
    if not len(points):
        return
    x, y = np.asarray(points, dtype=np.float64).T
    edge = [withStroke(linewidth=3.2, foreground="white")]
    ax.plot(x, y, color=INK, linewidth=1.5, marker=".", markersize=4, gid="path", path_effects=edge)
    ends: tuple[tuple[int, str], ...] = ((0, "white"), (-1, INK))
    for end, face in ends:
        ax.plot(x[end], y[end], marker="o", markersize=6, markerfacecolor=face, markeredgecolor=INK, gid="end")
