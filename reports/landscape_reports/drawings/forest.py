"""The forest of verdicts: every claim's effect with its interval, against its boundary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from landscape_reports.formats import plain
from landscape_reports.panels import chosen, finite, names, require, tick, wrapped
from landscape_reports.theme import TALLEST, WIDTH, ArmStyle, verdict_style

if TYPE_CHECKING:
    import pandas as pd

GROUPS = {"by step": ("o", "#222222", "#222222"), "matched loss": ("D", "white", "#222222")}
SPREAD = 0.17  # half the distance between the two intervals of a row


def draw(canvas: Figure, frame: pd.DataFrame, options: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> None:
    """Draw one row per claim: interval by step (filled) and at matched loss (open), boundary, verdict.

    Columns: label, mean, lower, upper, boundary, verdict, group ("by step" or "matched loss"); optional
    panel (claims of another unit get axes of their own). A row without a finite mean says so; an interval
    that reaches infinity ends in an arrow at the edge.

    Options: x_label, panel_labels (panel -> x label), panels, fold (True: values are log10 ratios, ticks in
    x-fold; or panel -> bool), height (inches per row).
    """
    require(frame, "forest", ("label", "mean", "lower", "upper", "boundary", "verdict", "group"))
    panels = names(frame, "panel", options, "panels")
    counts = [len(set(chosen(frame, "panel", p)["label"])) for p in panels]
    row = float(options.get("height", 0.235))
    canvas.set_size_inches(WIDTH, min(TALLEST, 0.35 + sum(0.5 + row * n for n in counts)))
    axes = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=[n + 0.8 for n in counts])[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        fold = options.get("fold", False)
        as_fold = bool(fold.get(panel, False)) if isinstance(fold, Mapping) else bool(fold)
        if panel != "":
            ax.set_title(wrapped(panel, WIDTH - 2))
        label = options.get("panel_labels", {}).get(panel, options.get("x_label", ""))
        ax.set_xlabel(wrapped(label, WIDTH - 3))
        _panel(ax, chosen(frame, "panel", panel), as_fold)
    groups = [g for g in GROUPS if g in set(frame["group"])]
    canvas.legend(
        handles=[_handle(g) for g in groups]
        + [Line2D([], [], color="#A33B00", marker="|", linestyle="none", markersize=8, label="boundary")],
        loc="outside upper center",
        ncols=3,
    )


def _handle(group: str) -> Line2D:
    marker, face, edge = GROUPS[group]
    return Line2D([], [], color=edge, marker=marker, markerfacecolor=face, markersize=4.5, label=group)


def _panel(ax: Axes, rows: pd.DataFrame, as_fold: bool) -> None:
    labels = list(dict.fromkeys(rows["label"].tolist()))
    edges = _limits(ax, rows)
    for i, label in enumerate(labels):
        own = rows[rows["label"] == label]
        ax.axhspan(i - 0.5, i + 0.5, color="#f4f4f4" if i % 2 else "white", linewidth=0, zorder=0)
        boundary = float(own["boundary"].iloc[0])
        if math.isfinite(boundary):
            ax.plot([boundary] * 2, [i - 0.42, i + 0.42], color="#A33B00", linewidth=1.1, zorder=2)
        both = len(own) > 1
        drawn = False
        for group, mean, lower, upper in zip(own["group"], own["mean"], own["lower"], own["upper"], strict=True):
            shift = 0.0 if not both else -SPREAD if group == "by step" else SPREAD
            drawn |= _interval(ax, i + shift, (float(lower), float(mean), float(upper)), str(group), edges)
        if not drawn:
            ax.text(sum(edges) / 2, i, "not measured", ha="center", va="center", color="#555555")
    ax.set_yticks(range(len(labels)), [wrapped(label, 2.2) for label in labels])
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    _verdicts(ax, labels, rows)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    if as_fold:
        _fold_ticks(ax)
    else:
        ax.xaxis.set_major_formatter(FuncFormatter(tick))


def _verdicts(ax: Axes, labels: list[Any], rows: pd.DataFrame) -> None:
    """The verdict of each row, with its sign, at the right."""
    words = [str(rows[rows["label"] == label]["verdict"].iloc[0]) for label in labels]
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(labels)), [plain(f"{verdict_style(w).sign} {w}") for w in words])
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    for text, word in zip(right.get_yticklabels(), words, strict=True):
        style = verdict_style(word)
        text.set_color(style.border if style.filled else "#444444")
        text.set_fontweight("bold" if style.filled else "normal")


def _limits(ax: Axes, rows: pd.DataFrame) -> tuple[float, float]:
    values = finite([*rows["mean"], *rows["lower"], *rows["upper"], *rows["boundary"]])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (-1.0, 1.0)
    pad = 0.06 * (high - low) or 0.5
    ax.set_xlim(low - pad, high + pad)
    return low - pad, high + pad


def _interval(ax: Axes, y: float, values: tuple[float, float, float], group: str, edges: tuple[float, float]) -> bool:
    lower, mean, upper = values
    if math.isnan(mean):
        return False
    marker, face, edge = GROUPS.get(group, GROUPS["by step"])
    ends = [min(max(v, edges[0]), edges[1]) if not math.isnan(v) else mean for v in (lower, upper)]
    ax.plot(ends, [y, y], color=edge, linewidth=1.2, zorder=3, solid_capstyle="butt")
    inset = 0.007 * (edges[1] - edges[0])
    for end, raw, arrow in ((edges[0] + inset, lower, "<"), (edges[1] - inset, upper, ">")):
        if math.isinf(raw):
            ax.plot([end], [y], marker=arrow, color=edge, markersize=4, zorder=4)
    if math.isfinite(mean):
        ax.plot([mean], [y], marker=marker, markerfacecolor=face, markeredgecolor=edge, markersize=4.3, zorder=5)
    return True


def _fold_ticks(ax: Axes) -> None:
    low, high = ax.get_xlim()
    factors: tuple[float, ...] = (1.0,) if high - low > 3 else (1.0, 3.0) if high - low > 2.2 else (1.0, 2.0, 5.0)
    if high - low < 0.5:
        factors = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    at = [
        math.log10(f) + e
        for e in range(math.floor(low), math.ceil(high) + 1)
        for f in factors
        if low <= math.log10(f) + e <= high
    ]
    ax.set_xticks(at)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{tick(10**value)}×"))
