"""Numbers of whole runs, made from their rows: steps to a level, best values, the largest rate that trains.

An analysis returns them from its ``derive``; they are rows of the long table like all others, with probe
"derived", so that claims and figures read them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from landscape.experiment import Study
from landscape.frames import OUTPUTS, RUN, pick

#: A run trained if its final full loss is at most this much of the loss of guessing.
TRAINED = 0.95


def per_run(
    frame: pd.DataFrame, study: Study, name: str, of: Callable[[pd.Series], float], **rows: Any
) -> pd.DataFrame:
    """One number per run: ``of`` its values over steps.

    Args:
        frame: the long table.
        study: whose runs.
        name: the new quantity.
        of: takes the values of a run, indexed by step, in the order of steps.
        **rows: columns of the long table that pick the series, e.g. ``quantity="full_loss"``; probe is "training"
            unless given.

    Returns:
        Rows of the long table: probe "derived", quantity ``name``, at the study's last step.
    """
    own = pick(frame, study=study.name, **{"probe": "training"} | rows)
    return each_run(own, study, name, lambda rows: of(rows.sort_values("step").set_index("step")["value"]))


def each_run(rows: pd.DataFrame, study: Study, name: str, of: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """One number per run: ``of`` its rows, as rows of the long table like those of ``per_run``."""
    found = [(*run, float(of(own))) for run, own in rows.groupby(RUN, sort=True)]
    return derived(pd.DataFrame(found, columns=[*RUN, "value"]), study, name)


def derived(values: pd.DataFrame, study: Study, name: str) -> pd.DataFrame:
    """Rows of the long table from columns arm, learning_rate, seed and value (and layer, index, where there are)."""
    plain: dict[str, Any] = {"layer": "", "index": 0}
    return values.astype({"learning_rate": "float64", "seed": "int64", "value": "float64"}).assign(
        study=study.name,
        step=study.steps,
        probe="derived",
        version=1,
        variant="",
        statistics="batch",
        dtype="float64",
        batch="",
        quantity=name,
        **{key: value for key, value in plain.items() if key not in values},
    )


def number(name: str) -> dict[str, Any]:
    """The columns of the long table that pick a derived number, for panels and tables."""
    return {"probe": "derived", "quantity": name}


def worst_moments(frame: pd.DataFrame, study: Study) -> list[pd.DataFrame]:
    """Per run, over layers: the largest distance of the activations' mean from 0, and of their variance from 1."""
    return [
        per_run(frame, study, "worst_mean", lambda v: v.abs().max(), **OUTPUTS, quantity="mean"),
        per_run(frame, study, "worst_variance", lambda v: (v - 1).abs().max(), **OUTPUTS, quantity="variance"),
    ]


def steps_to(
    frame: pd.DataFrame,
    study: Study,
    name: str,
    level: float | Mapping[int, float] | pd.Series,
    *,
    below: bool = False,
    **rows: Any,
) -> pd.DataFrame:
    """The first recorded step at which a quantity is at least (``below``: at most) a level; +inf if it never is.

    Args:
        frame: the long table.
        study: whose runs.
        name: the new quantity.
        level: one number, or one per seed (another arm's best, say), as a dictionary or a series.
        below: count down to the level instead of up.
        **rows: the series, as for ``per_run``.
    """
    parts = []
    for seed in study.seeds:
        goal = level if isinstance(level, int | float) else level.get(seed, np.nan)

        def first(values: pd.Series, goal: float = goal) -> float:
            reached = values.index[values <= goal] if below else values.index[values >= goal]
            return float(reached[0]) if len(reached) else float("inf")

        parts.append(per_run(pick(frame, seed=seed), study, name, first, **rows))
    return pd.concat(parts, ignore_index=True)


def largest_stable_rate(
    frame: pd.DataFrame,
    study: Study,
    name: str = "largest_stable_rate",
    *,
    trained: float = TRAINED,
    against: Collection[str] = (),
) -> pd.DataFrame:
    """Per arm and seed: the largest learning rate at which training stayed finite and left the loss of guessing.

    It left it where the last full loss is at most ``trained`` of it. The number stands at the study's primary rate, so
    that a claim at equal rates compares it. 0 where no rate trained; the grid of rates is what it is resolved to. An
    arm that trains at the largest rate of the grid counts with that rate, though it may train at larger ones.

    Args:
        frame: the long table.
        study: whose runs.
        name: the new quantity.
        trained: the final full loss over that of guessing at which a run counts as trained.
        against: arms that others are compared with. Where one of them trains at its largest rate of the grid, in
            one seed, how many times larger another's is can't be known, and it gets no number in any seed: leaving out
            just that seed would leave out what speaks against the other.
    """
    training = pick(frame, study=study.name, probe="training")
    chance = float(pick(training, quantity="chance_loss")["value"].median())
    last = pick(training, quantity="full_loss", step=study.steps)
    diverged = pick(training, quantity="diverged")
    lost = set(diverged.loc[diverged["value"] == 1.0, RUN].itertuples(index=False, name=None))
    rates = [
        run[1] if np.isfinite(value) and value <= trained * chance and run not in lost else 0.0
        for value, run in zip(last["value"], last[RUN].itertuples(index=False, name=None), strict=True)
    ]
    largest = last.assign(value=rates).groupby(["arm", "seed"])["value"].max().reset_index()
    tops = {arm.label: max(arm.learning_rates or study.learning_rates) for arm in study.arms}
    beyond = largest["arm"].isin(list(against)) & (largest["value"] == largest["arm"].map(tops))
    largest = largest[~largest["arm"].isin(largest.loc[beyond, "arm"])]
    return derived(largest.assign(learning_rate=study.primary_rate), study, name)
