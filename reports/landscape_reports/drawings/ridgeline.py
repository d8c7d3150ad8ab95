"""Densities of activations over training, one ridge per step (Santurkar et al. 2018, figure 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from landscape_reports.formats import number
from landscape_reports.panels import chosen, finite, names, require, say, tick, wrapped
from landscape_reports.theme import TALLEST, WIDTH, ArmStyle

if TYPE_CHECKING:
    import pandas as pd

ABREAST = 4  # arms beside each other
OVERLAP = 1.7  # height of the tallest ridge in units of the distance between ridges


def draw(canvas: Figure, frame: pd.DataFrame, options: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> None:
    """Draw ridges over training: a column per arm (at most four abreast), rows of axes per panel (a layer, say).

    Columns: step, position (centre of the bin), density, arm; optional panel. Ridges of one panel share
    their scales, so that arms can be compared. Rows whose numbers are not finite are left out.

    Options: x_label, y_label ("training step"), panels, arms (order), height (inches per panel),
    scale ("panel": one density scale per panel, the default; "each": every ridge up to its own peak).
    """
    require(frame, "ridgeline", ("step", "position", "density", "arm"))
    panels = names(frame, "panel", options, "panels")
    arms = list(styles)
    steps = len(set(frame["step"].tolist()))
    columns = min(ABREAST, len(arms))
    deep = math.ceil(len(arms) / columns)  # rows of axes per panel
    height = float(options.get("height", min(3.4, 0.75 + 0.17 * steps)))
    canvas.set_size_inches(WIDTH, min(TALLEST, 0.3 + len(panels) * deep * height))
    axes = canvas.subplots(len(panels) * deep, columns, squeeze=False)
    for i, panel in enumerate(panels):
        rows = _clean(chosen(frame, "panel", panel))
        band = axes[i * deep : (i + 1) * deep].ravel()
        for ax in band[len(arms) :]:
            ax.remove()
        for j, (ax, arm) in enumerate(zip(band, arms, strict=False)):
            title = " · ".join(str(t) for t in (arm, panel) if t != "")
            ax.set_title(wrapped(title, WIDTH / columns - 0.5))
            own = rows[rows["arm"] == arm]
            if own.empty:
                say(ax, "not measured")
                continue
            _ridges(ax, own, rows, styles[arm], str(options.get("scale", "panel")))
            ax.tick_params(axis="y", labelleft=j % columns == 0)
            if i == len(panels) - 1:
                ax.set_xlabel(wrapped(options.get("x_label", ""), WIDTH / columns - 0.3))
            if j % columns == 0:
                ax.set_ylabel(wrapped(options.get("y_label", "training step"), height - 0.5))


def _clean(rows: pd.DataFrame) -> pd.DataFrame:
    keep = np.isfinite(finite(rows["position"])) & np.isfinite(finite(rows["density"]))
    clean: pd.DataFrame = rows.loc[keep]
    return clean


def _ridges(ax: Axes, own: pd.DataFrame, panel: pd.DataFrame, style: ArmStyle, scale: str) -> None:
    order = {step: i for i, step in enumerate(sorted(set(panel["step"].tolist())))}
    peak = float(panel["density"].max()) or 1.0
    steps = sorted(set(own["step"].tolist()))
    for step in reversed(steps):  # later steps lie behind, above
        rows = own[own["step"] == step].sort_values("position", kind="stable")
        x = rows["position"].to_numpy(dtype=float)
        density = rows["density"].to_numpy(dtype=float)
        top = (float(density.max()) or 1.0) if scale == "each" else peak
        base = float(order[step])
        y = base + OVERLAP * density / top
        depth = len(order) - order[step]
        ax.fill_between(x, base, y, facecolor="white", linewidth=0, zorder=2 * depth)
        ax.fill_between(x, base, y, facecolor=(style.color, 0.35), linewidth=0, zorder=2 * depth)
        ax.plot(x, y, color=style.color, linewidth=0.9, zorder=2 * depth + 1)
    every = math.ceil(len(order) / 8)
    shown = [(i, step) for step, i in order.items() if i % every == 0]
    ax.set_yticks([i for i, _ in shown], [number(float(step), 6) for _, step in shown])
    low, high = float(panel["position"].min()), float(panel["position"].max())
    pad = 0.03 * (high - low) or 0.5
    ax.set_xlim(low - pad, high + pad)
    ax.set_ylim(-0.3, len(order) - 1 + OVERLAP + 0.2)
    ax.xaxis.set_major_formatter(FuncFormatter(tick))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
