"""The plan of an experiment, said before it is run: what, how often, how many passes, how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from landscape_cli.output import print_json, print_table

if TYPE_CHECKING:
    from landscape.experiment import Experiment
    from landscape.plan import StudyPlan

FEWEST_SEEDS = 3


def print_plan(plans: Sequence[StudyPlan], workers: int, *, as_json: bool) -> None:
    """What a dry run shows."""
    rows = [_row(one) for one in plans]
    if as_json:
        total = {"runs": sum(row["runs"] for row in rows), "passes": sum(row["passes"] for row in rows)}
        print_json({"studies": rows} | total | {"seconds": seconds(plans, workers), "workers": workers})
        return
    columns = ["study", "model", "data", "arms", "learning rates", "seeds", "steps", "runs", "passes"]
    print_table(columns, [[_cell(row[column]) for column in columns] for row in rows], "Plan")
    click.echo(cost_line(plans, workers))


def _row(one: StudyPlan) -> dict[str, Any]:
    study = one.study
    return {
        "study": study.name,
        "model": study.model.name,
        "data": study.data.name,
        "arms": [arm.label for arm in study.arms],
        "learning rates": list(study.learning_rates),
        "seeds": list(study.seeds),
        "steps": study.steps,
        "runs": len(list(study.runs())),
        "passes": round(one.total_passes),
    }


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def seconds(plans: Sequence[StudyPlan], workers: int) -> float | None:
    """Estimated seconds of everything, with so many runs at a time; None where not timed."""
    each = [one.seconds for one in plans if one.seconds is not None]
    return sum(each) / max(1, workers) if len(each) == len(plans) else None


def cost_line(plans: Sequence[StudyPlan], workers: int) -> str:
    """The cost on one line."""
    from landscape.reporting import duration

    runs = sum(len(list(one.study.runs())) for one in plans)
    passes = sum(one.total_passes for one in plans)
    line = f"{runs:,} runs, {passes:,.0f} forward+backward passes"
    estimate = seconds(plans, workers)
    if estimate is not None:
        at_once = "one at a time" if workers <= 1 else f"{workers} at a time"
        line += f", about {duration(estimate)} on this machine ({at_once})"
    return line


def few_seeds(experiment: Experiment) -> str:
    """What to say beforehand of studies that can't have a verdict, or ""."""
    few = [study for study in experiment.studies if len(study.seeds) < FEWEST_SEEDS]
    if not few:
        return ""
    named = ", ".join(f"{study.name} ({len(study.seeds)})" for study in few)
    return f"fewer than {FEWEST_SEEDS} seeds in {named}: its claims will be 'not measured'"
