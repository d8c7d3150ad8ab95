"""What an Observer wrote in a training loop of somebody's own: everything measured, no claim.

One training has no replicates and nothing to be compared with, so nothing is decided.
"""

from __future__ import annotations

import re

import pandas as pd

from landscape.analysis import Analysis, Figure, Section, Table, Verdict
from landscape.experiment import Experiment
from landscape.frames import format_number
from landscape.overview import overview
from landscape.words import about, by_meaning, in_words, place, titled


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """One section per probe: its figures (but the one of page one) and a table of its numbers."""
    first = headline(experiment, frame)
    frame = _numbered(frame)
    found = []
    for probe in by_meaning(frame["probe"]):
        rows = frame[frame["probe"] == probe]
        figures = tuple(figure for figure in overview(rows) if first is None or figure.name != first.name)
        found.append(Section(titled(probe), about(probe), figures=figures, tables=(_table(probe, rows),)))
    return tuple(found)


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure | None:
    """The landscape along the path, or else the first figure."""
    frame = _numbered(frame)
    path = frame[frame["probe"] == "gradient_path"]
    return next(iter(overview(path if len(path) else frame)), None)


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with layer 2 before layer 10: a run folder has them in the order of the alphabet."""

    def parts(layer: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", layer)]

    order = {layer: at for at, layer in enumerate(sorted(frame["layer"].unique(), key=parts))}
    return frame.sort_values("layer", kind="stable", key=lambda layers: layers.map(order))


def recorded(experiment: Experiment, frame: pd.DataFrame) -> str:
    """How much was measured, in a sentence."""
    if frame.empty:
        return "Nothing was recorded yet."
    probes = [titled(probe).lower() for probe in by_meaning(frame["probe"])]
    moments, steps = frame["step"].nunique(), experiment.studies[0].steps
    when = "moment" if moments == 1 else "moments"
    last = f"{steps} steps" if steps else f"a training that has not ended, up to step {frame['step'].max()}"
    return f"Recorded at {moments} {when} of {last}: {', '.join(probes)}."


def _table(probe: str, rows: pd.DataFrame) -> Table:
    """First, median, largest and last value of each quantity that is one number per step."""
    scalar = rows[(rows.groupby("quantity")["index"].transform("max") == 0) & (rows["quantity"] != "step_sizes")]
    keys = [key for key in ("variant", "batch", "layer", "quantity") if key == "quantity" or scalar[key].nunique() > 1]
    scalar = scalar.sort_values("step", kind="stable")
    scalar = scalar.sort_values("quantity", kind="stable", key=lambda q: q.map(lambda name: place(probe, name)))
    grouped = scalar.groupby(keys, sort=False)["value"]
    table = grouped.agg(["first", "median", "max", "last"]).map(format_number).reset_index()
    words = {name: in_words(probe, name) for name in table["quantity"].unique()}
    named = "; ".join(f"{said}: {name}" for name, said in words.items() if said != name)
    note = f"{_cut(len(table))} In the exported table: {named}." if named else _cut(len(table))
    table["quantity"] = table["quantity"].map(words)
    return Table(probe, "Over the steps that were measured", table.head(60), note.strip())


def _cut(rows: int) -> str:
    return f"The first 60 of {rows} rows; `landscape export` has all." if rows > 60 else ""


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """What there is."""
    return "One training decides no claim; the numbers stand for themselves."


ANALYSIS = Analysis(
    name="observed",
    title="The landscape along one training",
    question="What did the probes see in this training?",
    paper="",
    presets={},
    claims=lambda experiment: (),
    sections=sections,
    headline=headline,
    answer=answer,
    recorded=recorded,
)
