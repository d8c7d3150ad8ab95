"""Several analyses as one: their studies in one grid, their claims in one table, a chapter each.

A study ``relu`` of the analysis ``mean-field`` is called ``mean-field_relu`` there, its claim ``M-relu``
``mean-field/M-relu``. Each analysis still sees its own names and its own rows only.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pandas as pd

from landscape.analysis import VERDICTS, Analysis, Claim, Section, Verdict
from landscape.experiment import Experiment
from landscape.frames import pick


def book(name: str, parts: Sequence[Analysis], *, title: str, question: str) -> Analysis:
    """One analysis that holds others.

    Args:
        name: the command line's name.
        parts: the others, in the order of the chapters; their names have no underscore.
        title: the report's title.
        question: the report's question.

    Returns:
        An analysis with every preset that one of them has, of those that have it.
    """
    presets = list(dict.fromkeys(preset for part in parts for preset in part.presets))
    return Analysis(
        name=name,
        title=title,
        question=question,
        paper="; ".join(dict.fromkeys(part.paper for part in parts if part.paper)),
        presets={preset: partial(_experiment, name, parts, preset) for preset in presets},
        claims=lambda experiment: tuple(
            claim for part, own in _within(parts, experiment) for claim in _claims(part, own)
        ),
        sections=lambda experiment, frame: tuple(
            section for part, own in _within(parts, experiment) for section in _chapter(part, own, frame)
        ),
        headline=lambda experiment, frame: None,
        answer=_answer,
        definitions={f"{part.name}, {term}": text for part in parts for term, text in part.definitions.items()},
        derive=partial(_derive, parts),
    )


def _experiment(name: str, parts: Sequence[Analysis], preset: str) -> Experiment:
    """The grids of all that have the preset."""
    studies = tuple(
        dataclasses.replace(study, name=f"{part.name}_{study.name}")
        for part in parts
        if preset in part.presets
        for study in part.presets[preset]().studies
    )
    return Experiment(f"{name}-{preset}", studies)


def _within(parts: Sequence[Analysis], experiment: Experiment) -> Iterator[tuple[Analysis, Experiment]]:
    """Each analysis that has a study here, with its own experiment in its own names."""
    for part in parts:
        prefix = f"{part.name}_"
        studies = tuple(
            dataclasses.replace(study, name=study.name.removeprefix(prefix))
            for study in experiment.studies
            if study.name.startswith(prefix)
        )
        if studies:
            yield part, Experiment(part.name, studies)


def _rows(part: Analysis, own: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of one analysis, in its own names."""
    names = {f"{part.name}_{study.name}": study.name for study in own.studies}
    rows = pick(frame, study=list(names))
    return rows.assign(study=rows["study"].map(names))


def _claims(part: Analysis, own: Experiment) -> tuple[Claim, ...]:
    return tuple(
        dataclasses.replace(claim, id=f"{part.name}/{claim.id}", study=f"{part.name}_{claim.study}")
        for claim in part.claims(own)
    )


def _derive(parts: Sequence[Analysis], experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    found = [frame.iloc[:0]]
    for part, own in _within(parts, experiment):
        rows = _rows(part, own, frame)
        if part.derive is not None and len(rows):
            further = part.derive(own, rows)
            found.append(further.assign(study=f"{part.name}_" + further["study"]))
    return pd.concat(found[1:] or found, ignore_index=True)


def _chapter(part: Analysis, own: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """A section with the question and the headline figure, then the analysis's own sections below it."""
    title = part.title or part.name
    asked = f"{part.question}\n\nRe-examined: {part.paper}." if part.paper else part.question
    rows = _rows(part, own, frame)
    if rows.empty:
        ids = tuple(claim.id for claim in _claims(part, own))
        return (Section(title, f"{asked}\n\nNone of its runs has been done yet: no figure is drawn.", claims=ids),)
    rows.attrs["arrays"] = _arrays(part, own, frame)
    headline = part.headline(own, rows)
    return (
        Section(title, asked, figures=() if headline is None else (headline,)),
        *(
            dataclasses.replace(section, level=2, claims=tuple(f"{part.name}/{id}" for id in section.claims))
            for section in part.sections(own, rows)
        ),
    )


def _arrays(part: Analysis, own: Experiment, frame: pd.DataFrame) -> Callable[[str, str], pd.DataFrame]:
    stored: Callable[[str, str], pd.DataFrame] = frame.attrs["arrays"]
    return lambda probe, quantity: _rows(part, own, stored(probe, quantity))


def _answer(verdicts: Sequence[Verdict]) -> str:
    """How many claims hold, of all and of each analysis."""
    if not verdicts:
        return "No claim was decided."
    counts = Counter(verdict.verdict for verdict in verdicts)
    total = Counter(verdict.claim.id.partition("/")[0] for verdict in verdicts)
    held = Counter(verdict.claim.id.partition("/")[0] for verdict in verdicts if verdict.verdict == "holds")
    said = ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])
    each = ", ".join(f"{name} {held[name]} of {count}" for name, count in total.items())
    return f"Of {len(verdicts)} claims: {said}. Claims that hold, by analysis: {each}."
