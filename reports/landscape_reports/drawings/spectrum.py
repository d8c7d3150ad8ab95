"""Densities of eigenvalues on a logarithmic axis, with the eigenvalues that stand outside the bulk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from matplotlib.transforms import blended_transform_factory

from landscape_reports.panels import chosen, finite, grid, legend, names, require, say, tick, ticks
from landscape_reports.theme import ArmStyle

if TYPE_CHECKING:
    import pandas as pd

DECADES = 7.0  # of density below the largest, beyond which nothing is drawn


def draw(canvas: Figure, frame: pd.DataFrame, options: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> None:
    """Draw a density per arm, in small multiples by panel.

    Columns: position (eigenvalue), density, arm; optional low, high (the band over draws or seeds), panel. The
    density's axis is logarithmic; rows whose numbers are not finite or not positive are left out, and so is
    what lies seven decades below the largest. Eigenvalues below zero are shown as such.

    Options: x_label, y_label, outliers (arm -> eigenvalues, or panel -> arm -> eigenvalues): marked in a row for
    each arm at the top; x_linear (eigenvalues up to this size are spaced evenly, larger ones by factors, on
    both sides of zero; without it all of them evenly), panels, arms (order), panel_labels, columns, height.
    """
    require(frame, "spectrum", ("position", "density", "arm"))
    panels = names(frame, "panel", options, "panels")
    plain = {key: value for key, value in options.items() if key not in ("x_log", "y_log", "panel_y_log")}
    axes = grid(canvas, panels, {"columns": 2, "height": 2.7, **plain})
    for panel, ax in axes.items():
        rows = chosen(frame, "panel", panel)
        density = finite(rows["density"], positive=True)
        drawable = np.isfinite(density) & np.isfinite(finite(rows["position"]))
        if not drawable.any():
            say(ax, "no finite value" if len(rows) else "not measured")
            continue
        top = float(density[drawable].max())
        ax.set_yscale("log")
        found = options.get("outliers", {})
        marked = found.get(panel, {}) if any(isinstance(v, Mapping) for v in found.values()) else found
        arms = [arm for arm in styles if arm in set(rows["arm"])]
        for order, arm in enumerate(arms):
            _density(ax, rows[drawable & (rows["arm"] == arm).to_numpy()], styles[arm], top * 10**-DECADES)
            _outliers(ax, marked.get(arm, ()), styles[arm], order)
        _limits(ax, top, density[drawable], sum(1 for arm in arms if len(marked.get(arm, ()))))
        ticks(ax)
        if "x_linear" in options:
            _both_sides(ax, float(options["x_linear"]))
        ax.axvline(0.0, color="#666666", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    legend(canvas, styles, area=False)


def _density(ax: Axes, rows: pd.DataFrame, style: ArmStyle, floor: float) -> None:
    rows = rows.sort_values("position", kind="stable")
    x = rows["position"].to_numpy(dtype=float)
    if {"low", "high"} <= set(rows.columns):
        low = np.maximum(np.nan_to_num(finite(rows["low"]), nan=floor), floor)
        high = finite(rows["high"], positive=True)
        high = np.where(high >= floor, high, np.nan)
        ax.fill_between(x, low, high, facecolor=(style.color, 0.22), linewidth=0)
    y = rows["density"].to_numpy(dtype=float)
    shown = np.where(y >= floor, y, np.nan)
    every = max(1, len(x) // 6)
    ax.plot(x, shown, color=style.color, linestyle=style.linestyle, marker=style.marker, markevery=every)


def _outliers(ax: Axes, values: Sequence[float], style: ArmStyle, order: int) -> None:
    """Marks in a row of the arm's own, each on a hair line down to the axis."""
    numbers = [float(v) for v in values if np.isfinite(v)]
    if not numbers:
        return
    along = blended_transform_factory(ax.transData, ax.transAxes)
    height = 0.95 - 0.07 * order
    ax.vlines(numbers, 0.0, height, transform=along, color=style.color, linewidth=0.5, alpha=0.6)
    ax.plot(
        numbers,
        [height] * len(numbers),
        transform=along,
        linestyle="none",
        marker=style.marker,
        markersize=5,
        color=style.color,
        markeredgecolor="white",
        markeredgewidth=0.4,
        gid="outlier",
    )


def _limits(ax: Axes, top: float, density: np.ndarray[Any, np.dtype[np.float64]], rows: int) -> None:
    """Room above the densities for the rows of marks."""
    low = max(float(density.min()), top * 10**-DECADES)
    decades = max(1.0, np.log10(top / low))
    ax.set_ylim(low / 1.5, top * 10 ** (decades * (0.06 + 0.1 * rows)))


def _both_sides(ax: Axes, linear: float) -> None:
    """Even spacing up to ``linear``, factors of ten beyond it, on both sides of zero."""
    left, right = ax.get_xlim()
    ax.set_xscale("symlog", linthresh=linear, linscale=0.6)
    largest = max(abs(left), abs(right))
    powers = [linear * 10.0**k for k in range(1 + max(0, int(np.floor(np.log10(max(largest / linear, 1.0))))))]
    ax.set_xlim(left, right)
    at = [-p for p in reversed(powers)] + [0.0] + powers
    ax.xaxis.set_major_locator(FixedLocator([p for p in at if left <= p <= right]))
    ax.xaxis.set_major_formatter(FuncFormatter(tick))
