"""What all drawings share: checked frames, small multiples, tick labels, the legend, non-finite values."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import blended_transform_factory

from landscape.errors import UsageError
from landscape_reports.formats import number, plain, prose
from landscape_reports.theme import TALLEST, WIDTH, ArmStyle

if TYPE_CHECKING:
    import pandas as pd

DIVERGED = "diverged (not finite)"
NOT_MEASURED = "not measured"


def require(frame: pd.DataFrame, kind: str, columns: Sequence[str]) -> None:
    """Check that a frame has the columns of its kind.

    Raises:
        UsageError: a column is missing.
    """
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise UsageError(
            f"a figure of kind {kind!r} lacks the column(s) {', '.join(missing)}; "
            f"it needs {', '.join(columns)} and got {', '.join(map(str, frame.columns)) or 'none'}"
        )


def names(frame: pd.DataFrame, column: str, options: Mapping[str, Any], order: str) -> list[Any]:
    """Values of a column in the order of ``options[order]``, then as they come; [""] without the column."""
    if column not in frame.columns:
        return [""]
    found = list(dict.fromkeys(frame[column].tolist()))
    first = [v for v in options.get(order, ()) if v in found]
    return first + [v for v in found if v not in first]


def chosen(frame: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """Rows with this value; all rows where the frame has no such column."""
    return frame if column not in frame.columns else frame[frame[column] == value]


def grid(canvas: Figure, panels: Sequence[Any], options: Mapping[str, Any]) -> dict[Any, Axes]:
    """Small multiples, at most three (``options["columns"]``) abreast, each with its own y label and scale.

    Options: height (inches of a panel), columns, panel_labels (panel -> y label), y_label, x_label, x_log,
    y_log, panel_y_log (panel -> bool), share_y.
    """
    columns = min(int(options.get("columns", 3)), len(panels))
    rows = math.ceil(len(panels) / columns)
    height = min(float(options.get("height", 2.15 if columns > 1 else 2.4)), (TALLEST - 0.35) / rows)
    room = WIDTH / columns - 0.6
    canvas.set_size_inches(WIDTH, 0.35 + rows * height)
    axes = canvas.subplots(rows, columns, squeeze=False, sharey=bool(options.get("share_y", False)))
    placed: dict[Any, Axes] = {}
    labels = options.get("panel_labels", {})
    for position, ax in enumerate(axes.flat):
        if position >= len(panels):
            ax.remove()
            continue
        panel = panels[position]
        placed[panel] = ax
        if panel != "":
            ax.set_title(wrapped(prose(panel), room))
        last = position + columns >= len(panels)
        if last:
            ax.set_xlabel(wrapped(options.get("x_label", ""), room))
        if panel in labels or position % columns == 0:
            ax.set_ylabel(wrapped(prose(labels.get(panel, options.get("y_label", ""))), height - 0.6))
        if options.get("x_log"):
            ax.set_xscale("log")
        if options.get("panel_y_log", {}).get(panel, options.get("y_log")):
            ax.set_yscale("log")
    return placed


def ticks(ax: Axes) -> None:
    """Plain tick labels (10⁻³, not markup) and few of them."""
    for axis, scale in ((ax.xaxis, ax.get_xscale()), (ax.yaxis, ax.get_yscale())):
        if scale == "log":
            low, high = sorted(axis.get_view_interval())
            decades = math.log10(high / low) if low > 0 else 9.0
            subs = (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0) if decades > 0.6 else tuple(range(1, 10))
            axis.set_major_locator(LogLocator(subs=subs, numticks=7))
            axis.set_minor_formatter(NullFormatter())
        else:
            axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(_Told(tick))


class _Told(FuncFormatter):
    """Labels of one axis with as many digits as tell them apart: a cosine runs from .9999996 to 1."""

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        labels: list[str] = []
        for digits in range(4, 12):
            labels = [tick(value, digits=digits) for value in values]
            if len(set(labels)) == len(labels):
                break
        return labels


def tick(value: float, _position: float | None = None, digits: int = 4) -> str:
    """A tick's label: a plain number, 10⁻³ for a power of ten."""
    text = number(float(f"{value:.{digits + 2}g}"), digits)
    return text.removeprefix("1×") if text.startswith("1×10") else text


def wrapped(text: object, inches: float, lines: int = 2) -> str:
    """Text broken into at most ``lines`` lines of a width (at the theme's size), the rest an ellipsis."""
    width = max(8, int(inches / 0.063))
    return "\n".join(textwrap.wrap(plain(text), width, max_lines=lines, placeholder=" …"))


def finite(values: Iterable[float], positive: bool = False) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values as float64, with NaN where they can't be drawn: not finite, or not positive on a log axis."""
    array = np.asarray(list(values), dtype=np.float64)
    drawable = np.isfinite(array) & ((array > 0) if positive else True)
    return np.where(drawable, array, np.nan)


def diverged(values: Iterable[float]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a value ranks as +inf: +inf and NaN, by the rule that non-finite is worst."""
    array = np.asarray(list(values), dtype=np.float64)
    lost: np.ndarray[Any, np.dtype[np.bool_]] = np.isnan(array) | (array == np.inf)
    return lost


def mark_diverged(ax: Axes, x: Sequence[float], style: ArmStyle, row: int = 0) -> Line2D:
    """Triangles at the upper edge where an arm's value is not finite; ``row`` keeps arms apart.

    The first such x is always marked, later ones as far as they don't touch.
    """
    x = x[:: max(1, math.ceil(len(x) / 8))]
    return ax.plot(
        x,
        [0.97 - 0.045 * row] * len(x),
        transform=blended_transform_factory(ax.transData, ax.transAxes),
        linestyle="none",
        marker=(3, 0, 0),
        markersize=5.5,
        markerfacecolor="white",
        markeredgecolor=style.color,
        markeredgewidth=1.0,
        gid="diverged",
    )[0]


def say(ax: Axes, words: str) -> None:
    """Words in the middle of a panel that has nothing to draw, instead of an empty frame."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.text(0.5, 0.5, plain(words), transform=ax.transAxes, ha="center", va="center", color="#555555")


def legend(
    canvas: Figure, styles: Mapping[str, ArmStyle], *, area: bool = False, line: bool = True, inf: bool = False
) -> None:
    """One legend above all panels, where it can't cover data."""
    handles: list[Any] = []  # Line2D, or two patches on top of each other
    for style in styles.values():
        if area:
            fill = Patch(facecolor=(style.color, 0.3), edgecolor=style.color)
            hatch = Patch(facecolor="none", edgecolor=style.color, hatch=style.hatch, linewidth=0)
            handles.append((fill, hatch))
        else:
            dash: Any = style.linestyle if line else "none"
            handles.append(Line2D([], [], color=style.color, marker=style.marker, linestyle=dash, markersize=4.5))
    if inf:
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=(3, 0, 0),
                markersize=5.5,
                markerfacecolor="white",
                markeredgecolor="#444444",
            )
        )
    labels = [wrapped(label, WIDTH - 0.8, 1) for label in styles] + ([DIVERGED] if inf else [])
    if len(labels) > 1:
        columns = _abreast([len(label) for label in labels])
        canvas.legend(handles, labels, loc="outside upper center", ncols=columns)


def _abreast(lengths: Sequence[int], room: float = WIDTH - 0.3) -> int:
    """The most columns of labels, filled one column after the other as matplotlib does, that fit the width."""
    for columns in range(len(lengths), 1, -1):
        widest = [max(part) for part in np.array_split(lengths, columns)]
        if sum(0.53 + 0.06 * n for n in widest) <= room:
            return columns
    return 1
