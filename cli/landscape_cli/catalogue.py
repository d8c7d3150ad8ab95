"""The analyses as they are listed: question, paper, arms, and the cost of the first preset on this machine."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from landscape_cli.output import in_terminal
from landscape_cli.planned import cost_line, seconds

if TYPE_CHECKING:
    from landscape.analysis import Analysis
    from landscape.plan import StudyPlan

#: Seconds of timing for each analysis; a run itself takes more.
BUDGET = 0.2
COLUMNS = ("name", "question", "paper", "presets", "arms", "runs", "passes", "seconds")


def print_analyses() -> None:
    """Each analysis as soon as its cost is known: a paragraph in a terminal, a tab-separated line in a pipe."""
    from landscape.execution import available_cpus

    workers, terminal = available_cpus(), in_terminal()
    if not terminal:
        click.echo("\t".join(COLUMNS))
    for analysis, plans in _planned():
        click.echo(_paragraph(analysis, plans, workers) if terminal else _line(analysis, plans, workers))


def _planned() -> Iterator[tuple[Analysis, tuple[StudyPlan, ...]]]:
    """Each analysis with the plan of its first preset; a book's studies have been planned as its parts'."""
    from landscape.plan import plan
    from landscape_analyses import ANALYSES

    known: dict[str, StudyPlan] = {}
    for load in ANALYSES.values():
        analysis = load()
        plans: tuple[StudyPlan, ...] = ()
        if analysis.presets:
            experiment = next(iter(analysis.presets.values()))()
            if all(study.name in known for study in experiment.studies):
                plans = tuple(known[study.name] for study in experiment.studies)
            else:
                plans = plan(experiment, timed=True, budget=BUDGET)
        known |= {f"{analysis.name}_{one.study.name}": one for one in plans}
        yield analysis, plans


def _arms(plans: tuple[StudyPlan, ...]) -> list[str]:
    return list(dict.fromkeys(arm.label for one in plans for arm in one.study.arms))


def _line(analysis: Analysis, plans: tuple[StudyPlan, ...], workers: int) -> str:
    cells = [analysis.name, analysis.question, analysis.paper, ", ".join(analysis.presets), "; ".join(_arms(plans))]
    if plans:
        cells.append(str(sum(len(list(one.study.runs())) for one in plans)))
        cells.append(f"{sum(one.total_passes for one in plans):.0f}")
        cells.append(f"{seconds(plans, workers):.0f}")
    return "\t".join(" ".join(cell.split()) for cell in cells + [""] * (len(COLUMNS) - len(cells)))


def _paragraph(analysis: Analysis, plans: tuple[StudyPlan, ...], workers: int) -> str:
    first, *others = analysis.presets or ("",)
    parts = {"paper": analysis.paper, "arms": "; ".join(_arms(plans))}
    if plans:
        parts[first] = cost_line(plans, workers)
    parts["also"] = ", ".join(others)
    fill = textwrap.TextWrapper(min(shutil.get_terminal_size().columns, 120), break_on_hyphens=False)
    fill.initial_indent, fill.subsequent_indent = "  ", "  "
    lines = [click.style(analysis.name, bold=True), fill.fill(analysis.question)]
    fill.subsequent_indent = " " * 12
    for name, text in parts.items():
        if text:
            fill.initial_indent = f"  {name:<10}"
            lines.append(fill.fill(text))
    return "\n".join(lines) + "\n"
