"""From a figure as data to a matplotlib figure, and to files that are the same bytes for the same data."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import matplotlib.figure
import matplotlib.style
import numpy as np

from landscape.analysis import Figure, Report, Section
from landscape.errors import StoreError, UsageError, nearest
from landscape.overview import overview
from landscape_reports.drawings import DRAWINGS
from landscape_reports.panels import DIVERGED, NOT_MEASURED, finite
from landscape_reports.theme import THEME, WIDTH, ArmStyle, arm_styles

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("y", "low", "high", "value", "mean", "upper", "density")


class Canvas(matplotlib.figure.Figure):
    """A matplotlib figure that a notebook shows as the result of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with _theme():
            self.savefig(buffer, format="png", dpi=144)
        return buffer.getvalue()


def draw(figure: Figure, arms: Sequence[str] = ()) -> matplotlib.figure.Figure:
    """Draw a figure at the size at which it is placed on the page.

    Args:
        figure: the figure as data. ``options["arms"]`` sets the order of its arms.
        arms: all arms of the report, so that an arm without a style of its own looks the same everywhere.

    Returns:
        A matplotlib figure; pyplot's state is not touched. An empty frame gives the words "not measured".

    Raises:
        UsageError: unknown kind, or a column is missing.
    """
    if figure.kind not in DRAWINGS:
        raise UsageError(
            f"figure {figure.name!r} has the unknown kind {figure.kind!r}; {nearest(figure.kind, list(DRAWINGS))}"
        )
    with _theme():
        canvas = Canvas()
        if is_empty(figure):
            canvas.set_size_inches(WIDTH, 0.55)
            canvas.text(0.5, 0.5, NOT_MEASURED, ha="center", va="center", fontsize=9, color="#555555")
        else:
            DRAWINGS[figure.kind](canvas, figure.frame, figure.options, _styles(figure, arms))
    return canvas


def figures(frame: pd.DataFrame) -> dict[str, matplotlib.figure.Figure]:
    """Draw everything that probes measured: one or two figures per probe, by name.

    In a notebook a figure that is the last line of a cell is shown; ``savefig`` writes it to a file.

    Args:
        frame: ``Observer.frame()``, or the table that ``landscape export`` writes.

    >>> import landscape, torch
    >>> net = torch.nn.Linear(2, 1)
    >>> probe = landscape.Observer(net, lambda m, x: m(x).square().mean(), ["curvature"])
    >>> probe.step(torch.ones(4, 2))
    >>> list(figures(probe.frame()))
    ['curvature']
    """
    return {figure.name: draw(figure) for figure in overview(frame)}


def is_empty(figure: Figure) -> bool:
    """Whether the figure has no row to draw."""
    return len(figure.frame) == 0


def caption(figure: Figure) -> str:
    """The caption, with what the drawing had to leave out: nothing measured, or values that are not finite."""
    if is_empty(figure):
        return f"{figure.caption.rstrip()} Not measured: there are no values to draw.".lstrip()
    if figure.kind not in ("forest", "spectrum") and lacks(figure):
        mark = "Hatched" if figure.kind == "surface" else "Triangles at the edge"
        return f"{figure.caption.rstrip()} {mark}: {DIVERGED}.".lstrip()
    return figure.caption


def lacks(figure: Figure) -> bool:
    """Whether a value of the figure is not finite."""
    columns = [c for c in NUMBERS if c in figure.frame.columns]
    return any(np.isnan(finite(figure.frame[c])).any() for c in columns)


def svg(figure: Figure, arms: Sequence[str] = ()) -> bytes:
    """The figure as SVG with real text; equal data give equal bytes."""
    return _saved(draw(figure, arms), "svg")


def size_mm(image: bytes) -> tuple[float, float]:
    """Width and height in millimetres of an SVG that ``svg`` made."""
    head = image[:2000].decode("utf-8", "replace")
    found = [re.search(rf'{side}="([0-9.]+)pt"', head) for side in ("width", "height")]
    width, height = (float(m.group(1)) if m else 0.0 for m in found)
    return width * 25.4 / 72, height * 25.4 / 72


def all_figures(report: Report) -> list[tuple[Figure, tuple[str, ...]]]:
    """Every figure of a report, the headline first, with the arms among which its arms are told apart."""
    return [(figure, all_arms(part)) for part in _chapters(report) for figure in _figures(part)]


def _chapters(report: Report) -> list[Report]:
    """The chapters of a book, each with its own claims and figures; another report is one chapter."""
    if all(section.level == 1 for section in report.sections):
        return [report]
    chapters: list[list[Section]] = []
    for section in report.sections:
        if section.level == 1:
            chapters.append([])
        chapters[-1].append(section)
    told = [{id for section in chapter for id in section.claims} for chapter in chapters]
    return [dataclasses.replace(report, sections=(), verdicts=())] + [
        dataclasses.replace(
            report,
            headline=None,
            sections=tuple(chapter),
            verdicts=tuple(verdict for verdict in report.verdicts if verdict.claim.id in ids),
        )
        for chapter, ids in zip(chapters, told, strict=True)
    ]


def _figures(report: Report) -> list[Figure]:
    head = [report.headline] if report.headline is not None else []
    return head + [figure for section in report.sections for figure in section.figures]


def all_arms(report: Report) -> tuple[str, ...]:
    """Every arm of a report in the order in which it comes: claims first, then figures."""
    labels: list[str] = []
    for verdict in report.verdicts:
        labels += [arm for arm in (verdict.claim.reference, verdict.claim.arm) if arm is not None]
    for figure in _figures(report):
        labels += _arms(figure)
    return tuple(dict.fromkeys(labels))


def save_figures(report: Report, folder: Path, *, format: Literal["svg", "png", "pdf"] = "svg") -> list[Path]:
    """Write each figure of a report to its own file, for a paper or a talk.

    Args:
        report: the report.
        folder: made where it does not exist.
        format: "svg" (text stays text), "pdf", or "png" at 300 dots per inch.

    Returns:
        The paths, in the order of the report: ``<number>-<name>.<format>``.

    Raises:
        StoreError: the folder can't be written.
        UsageError: unknown format, or a figure that can't be drawn.
    """
    if format not in ("svg", "png", "pdf"):
        raise UsageError(f"unknown figure format {format!r}; {nearest(format, ['svg', 'png', 'pdf'])}")
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for position, (figure, arms) in enumerate(all_figures(report), start=1):
            safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", figure.name).strip("-.") or "figure"
            path = folder / f"{position:02d}-{safe}.{format}"
            path.write_bytes(_saved(draw(figure, arms), format))
            paths.append(path)
    except OSError as error:
        raise StoreError(
            f"can't write figures to {folder}: {error.strerror or error}; choose another folder"
        ) from error
    return paths


def _saved(canvas: matplotlib.figure.Figure, format: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
    with _theme():
        canvas.savefig(buffer, format=format, metadata=metadata, dpi=300 if format == "png" else "figure")
    return buffer.getvalue()


@contextmanager
def _theme() -> Iterator[None]:
    """Our settings over matplotlib's defaults, whatever the user's own style is."""
    with matplotlib.style.context(["default", dict(THEME)]):
        yield


def _arms(figure: Figure) -> list[str]:
    listed = [str(arm) for arm in figure.options.get("arms", ())]
    if "arm" not in figure.frame.columns:
        return listed
    found = list(dict.fromkeys(figure.frame["arm"].tolist()))
    return [arm for arm in listed if arm in found] + [arm for arm in found if arm not in listed]


def _styles(figure: Figure, arms: Sequence[str]) -> dict[str, ArmStyle]:
    own = _arms(figure)
    styles = arm_styles([*arms, *own])
    return {arm: styles[arm] for arm in own}
