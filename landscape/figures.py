"""Figures and tables that most analyses want, declared in a line each; as data, nothing drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from landscape.analysis import Figure, Table
from landscape.experiment import Study
from landscape.frames import OUTPUTS, last_step, pick, plane, stacked, swept, table
from landscape.statistics import interval

#: The columns of the long table that pick what most figures show.
LOSS: dict[str, Any] = {"probe": "training", "quantity": "full_loss"}
ACCURACY: dict[str, Any] = {"probe": "training", "quantity": "test_accuracy"}
INTERVAL = "Mean and 95 % t interval over seeds{logs}."
OVER_SEEDS = "Median over {n} seeds; the band runs from the smallest to the largest."


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes:
        title: its title.
        rows: columns of the long table -> value (or list of values): what is drawn.
        label: of its y axis; the title if empty.
        log: whether the y axis is logarithmic.
        guide: y of a thin horizontal line (a published value, a fixed point), if any.
    """

    title: str
    rows: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    log: bool = False
    guide: float | None = None


#: How training went: over steps, and what to list of its end.
CURVES = (Panel("full loss", LOSS, log=True), Panel("test accuracy", ACCURACY))
ENDS = {"full loss": LOSS, "test accuracy": ACCURACY}
#: By layer, against the fixed point of a network that keeps its moments.
MOMENTS = (
    Panel("mean of activations", OUTPUTS | {"quantity": "mean"}, guide=0.0),
    Panel("variance of activations", OUTPUTS | {"quantity": "variance"}, guide=1.0, log=True),
)


def over_steps(
    name: str,
    study: Study,
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    title: str,
    caption: str = "",
    alt: str = "",
    rate: float | None = None,
    columns: int = 2,
) -> Figure:
    """Lines over training steps, one per arm, at one learning rate (the primary one unless given)."""
    rate = study.primary_rate if rate is None else rate
    own = pick(frame, study=study.name, learning_rate=rate)
    return _lines(
        name, study, own, panels, "step", "training step", title, f"Learning rate {rate:g}. {caption}", alt, columns
    )


def over_rates(
    name: str,
    study: Study,
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    title: str,
    caption: str = "",
    alt: str = "",
    columns: int = 2,
) -> Figure:
    """Lines over the learning rate, one per arm, at the last step."""
    own = pick(frame, study=study.name, step=study.steps)
    figure = _lines(name, study, own, panels, "learning_rate", "learning rate", title, caption, alt, columns)
    return _with(figure, x_log=True)


def over_studies(
    name: str,
    studies: Mapping[float, Study],
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    x_label: str,
    title: str,
    caption: str = "",
    alt: str = "",
    columns: int = 2,
) -> Figure:
    """Lines over a number that differs from study to study (batch size, depth), one per arm, at the last step."""
    parts = [
        pick(frame, study=study.name, learning_rate=study.primary_rate, step=study.steps).assign(number=number)
        for number, study in studies.items()
    ]
    (first, *_) = studies.values()
    rows = pd.concat(parts)
    figure = _lines(name, first, rows, panels, "number", x_label, title, caption, alt, columns)
    return _with(figure, x_log=True)


def over_layers(
    name: str,
    study: Study,
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    step: int,
    title: str,
    caption: str = "",
    alt: str = "",
    rate: float | None = None,
    columns: int = 2,
) -> Figure:
    """Lines over depth at one step, one per arm: layers in the order of their numbers, fc2 before fc10."""
    rate = study.primary_rate if rate is None else rate
    own = pick(frame, study=study.name, learning_rate=rate, step=step)
    own = pd.concat([own.iloc[:0], *(pick(own, **panel.rows) for panel in panels)]).drop_duplicates()
    depth = {layer: k + 1 for k, layer in enumerate(sorted(set(own["layer"]), key=_natural))}
    own = own.assign(depth=own["layer"].map(depth))
    return _lines(name, study, own, panels, "depth", "layer", title, f"At step {step}. {caption}", alt, columns)


def over_index(
    name: str,
    study: Study,
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    x_label: str,
    title: str,
    caption: str = "",
    alt: str = "",
    columns: int = 2,
) -> Figure:
    """Lines over the index of a quantity (time steps, bands) when last measured, at the primary rate, one per arm."""
    own = pick(frame, study=study.name, learning_rate=study.primary_rate)
    step = max(last_step(own, **panel.rows) for panel in panels)
    own = pick(own, step=step)
    return _lines(name, study, own, panels, "index", x_label, title, f"At step {step}. {caption}", alt, columns)


def _lines(
    name: str,
    study: Study,
    own: pd.DataFrame,
    panels: Sequence[Panel],
    x: str,
    x_label: str,
    title: str,
    caption: str,
    alt: str,
    columns: int,
) -> Figure:
    parts = [pick(own, **panel.rows).assign(panel=panel.title) for panel in panels]
    rows = pd.concat([own.iloc[:0].assign(panel=""), *parts], ignore_index=True)
    drawn = rows[[x, "value", "arm", "seed", "panel"]].set_axis(["x", "y", "arm", "seed", "panel"], axis=1)
    seeds = OVER_SEEDS.format(n=drawn["seed"].nunique()) if len(drawn) else ""
    said = " ".join(part for part in (caption.strip(), seeds) if part)
    titles = ", ".join(panel.title for panel in panels)
    return Figure(
        name=name,
        kind="lines",
        frame=drawn,
        title=title,
        caption=said,
        alt=alt or f"Lines over the {x_label}, one per arm: {titles}.",
        options={
            "x_label": x_label,
            "columns": min(columns, len(panels)),
            "panels": [panel.title for panel in panels],
            "panel_labels": {panel.title: panel.label or panel.title for panel in panels},
            "panel_y_log": {panel.title: panel.log for panel in panels},
            "guide": {panel.title: panel.guide for panel in panels if panel.guide is not None},
            "arms": [arm.label for arm in study.arms],
        },
    )


def _with(figure: Figure, **options: Any) -> Figure:
    import dataclasses

    return dataclasses.replace(figure, options={**figure.options, **options})


def dots(
    name: str,
    study: Study,
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    rates: Mapping[str, float],
    title: str,
    caption: str = "",
    alt: str = "",
) -> Figure:
    """A dot with its 95 % t interval over seeds per arm, the arms down the page, each at a rate of its own.

    Args:
        name: the figure's name.
        study: whose runs.
        frame: the long table.
        panels: what is drawn; several rows per run count by their median.
        rates: arm -> learning rate; arms that are missing are not drawn.
        title: the title.
        caption: what is special.
        alt: the figure in words.
    """
    logs = "; on a logarithmic axis both of the logarithm" if any(panel.log for panel in panels) else ""
    rows = []
    for panel in panels:
        chosen = pick(frame, study=study.name, **panel.rows)
        for arm, rate in rates.items():
            seeds = pick(chosen, arm=arm, learning_rate=rate).groupby("seed")["value"].median()
            if len(seeds):
                found = over_seeds(seeds.tolist(), log=panel.log)
                rows.append((panel.title, arm, *found, "mean"))
    return Figure(
        name=name,
        kind="bars",
        frame=pd.DataFrame(rows, columns=["panel", "category", "value", "low", "high", "arm"]),
        title=title,
        caption=" ".join(part for part in (caption, INTERVAL.format(logs=logs)) if part),
        alt=alt or f"Dots with intervals, one row per arm: {', '.join(panel.title for panel in panels)}.",
        options={
            "panels": [panel.title for panel in panels],
            "panel_labels": {panel.title: panel.label or panel.title for panel in panels},
            "categories": list(rates),
            "x_log": all(panel.log for panel in panels),
        },
    )


def planes(
    name: str,
    study: Study,
    frame: pd.DataFrame,
    rows: Mapping[str, Any],
    *,
    rates: Mapping[str, float],
    title: str,
    caption: str,
) -> Figure:
    """A plane of the loss per arm, of the first seed, with the way of the weights drawn in where there is one.

    Args:
        name: the figure's name.
        study: whose runs.
        frame: the long table.
        rows: the columns that pick the rows of the probe ``loss_slice``.
        rates: arm -> learning rate, a panel each.
        title: the title.
        caption: what is special.
    """
    own = pick(frame, study=study.name, seed=min(study.seeds), **rows)
    parts, path, shares = [], {}, []
    for arm, rate in rates.items():
        run, panel = pick(own, arm=arm, learning_rate=rate), f"{arm}, rate {rate:g}"
        parts.append(plane(run).assign(panel=panel, arm=arm))
        path[panel] = list(zip(*(swept(run, way).tolist() for way in ("path_x", "path_y")), strict=True))
        shares += [f"{arm}: {share:.0%}" for share in swept(run, "explained_variance")[1:]]
    said = f"Share of the way's variance in its plane: {'; '.join(shares)}." if shares else ""
    return Figure(
        name=name,
        kind="surface",
        frame=stacked(parts),
        title=title,
        caption=f"One seed; the cross is the network where it was measured. {caption} {said}".rstrip(),
        alt=f"Contours of the loss on a plane, one per arm: {', '.join(rates)}.",
        options={"x_label": "axis 1", "y_label": "axis 2", "panels": list(path), "path": path},
    )


def over_seeds(values: Sequence[float], *, log: bool = False) -> tuple[float, float, float]:
    """Mean and 95 % t interval over seeds; with ``log`` those of the logarithm, as numbers of the measure again.

    >>> [round(x, 2) for x in over_seeds([1.0, 10.0, 100.0], log=True)]
    [10.0, 0.03, 3048.86]
    """
    if not log:
        plain = interval(values)
        return plain.mean, plain.lower, plain.upper
    found = interval([math.log10(value) if value > 0 else -math.inf for value in values])
    mean, lower, upper = (10.0**x if x < 300 else math.inf for x in (found.mean, found.lower, found.upper))
    return mean, lower, upper


def at_end(name: str, title: str, study: Study, frame: pd.DataFrame, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """Medians over seeds at the last step, a row per arm and learning rate.

    Args:
        name: the table's name.
        title: its title.
        study: whose runs.
        frame: the long table.
        columns: header -> columns of the long table that pick the rows. A quantity called "steps_to_..." that is
            infinite never came.
    """
    last = pick(frame, study=study.name, step=study.steps)
    by = ["arm", "learning_rate"]
    found = {head: pick(last, **rows).groupby(by)["value"].median() for head, rows in columns.items()}
    counts = [head for head, rows in columns.items() if str(rows.get("quantity", "")).startswith("steps_to_")]
    wide = table({head: values for head, values in found.items() if len(values)}, counts=counts)
    order = {arm.label: k for k, arm in enumerate(study.arms)}
    if len(wide):
        wide = wide.sort_values(by, key=lambda c: c.map(order) if c.name == "arm" else c)
    return Table(name, title, wide.rename(columns={"learning_rate": "lr"}))


def _natural(layer: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers by size: "fc2" before "fc10"."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", layer) if part]
