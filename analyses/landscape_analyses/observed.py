"""What an Observer wrote in a training loop of somebody's own: everything measured, no claim.

One training has no replicates and nothing to be compared with, so nothing is decided.
"""

from __future__ import annotations

import pandas as pd

from landscape.analysis import Analysis, Figure, Section, Table, Verdict
from landscape.experiment import Experiment
from landscape.frames import format_number
from landscape.overview import overview


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """One section per probe: its figures and a table of its numbers."""
    figures: dict[str, list[Figure]] = {}
    for figure in overview(frame):
        figures.setdefault(figure.name.partition(" ")[0], []).append(figure)
    return tuple(
        Section(probe, "", figures=tuple(own), tables=(_table(probe, frame[frame["probe"] == probe]),))
        for probe, own in figures.items()
    )


def _table(probe: str, rows: pd.DataFrame) -> Table:
    """First, median, largest and last value of each quantity that is one number per step."""
    scalar = rows[(rows.groupby("quantity")["index"].transform("max") == 0) & (rows["quantity"] != "step_sizes")]
    keys = [key for key in ("variant", "batch", "layer", "quantity") if key == "quantity" or scalar[key].nunique() > 1]
    grouped = scalar.sort_values("step", kind="stable").groupby(keys, sort=False)["value"]
    columns = grouped.agg(["first", "median", "max", "last"])
    table = columns.map(format_number).reset_index()
    return Table(probe, "Over the steps that were measured", table.head(60), _cut(len(table)))


def _cut(rows: int) -> str:
    return f"The first 60 of {rows} rows; `landscape export` has all." if rows > 60 else ""


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """What there is."""
    return "Measured in a training loop of one's own. One training decides no claim; the numbers stand for themselves."


ANALYSIS = Analysis(
    name="observed",
    title="The landscape along one training",
    question="What did the probes see in this training?",
    paper="",
    presets={},
    claims=lambda experiment: (),
    sections=sections,
    headline=lambda experiment, frame: None,
    answer=answer,
)
