"""What several sections draw: the three panels of the paper's figure 4."""

from __future__ import annotations

import pandas as pd

from landscape.analysis import Figure
from landscape.experiment import Experiment
from landscape.frames import band, pick
from landscape_analyses.santurkar.grid import PAIR

STEPS = {"x_label": "training step"}


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Figure 4 of the paper, on the convolutional pair at the primary rate."""
    along = "Along the gradient of the same mini-batch, eight step sizes in [1/2, 4] x lr"
    return landscape_panels(experiment, frame, "conv", "headline", "The landscape along the gradient", along)


def landscape_panels(
    experiment: Experiment, frame: pd.DataFrame, study: str, name: str, title: str, along: str
) -> Figure:
    """Loss variation and gradient predictiveness as bands, effective smoothness as a line drawn as a thin band."""
    rows = primary(experiment, frame, study, list(PAIR))
    path = pick(rows, probe="gradient_path", variant="gradient/scaled", batch="same")
    parts = [
        band(pick(path, quantity="loss"), "loss along the gradient"),
        band(pick(path, quantity="gradient_distance"), "gradient predictiveness"),
        _over_seeds(pick(path, quantity="effective_smoothness"), "effective smoothness"),
    ]
    panels = {
        "loss along the gradient": "loss, min to max",
        "gradient predictiveness": "‖g′ − g‖, min to max",
        "effective smoothness": "max beta, range of seeds",
    }
    seeds = rows["seed"].nunique()
    rate = experiment.study(study).primary_rate
    return Figure(
        name=name,
        kind="band",
        frame=pd.concat(parts, ignore_index=True),
        title=title,
        caption=(
            f"{along}, at learning rate {rate:g}. Left and middle: smallest to "
            f"largest value over the sweep, median of {seeds} seeds. Right: effective smoothness, smallest to largest "
            "over seeds. A narrower band on the left, and lower ones in the middle and on the right, are smoother."
        ),
        alt="Three panels over training steps comparing the arms with and without batch normalization: the range "
        "of the loss along the gradient, the range of gradient distances, and the effective smoothness.",
        options=STEPS | {"panel_labels": panels, "panels": list(panels), "y_log": True, "columns": 3},
    )


def primary(experiment: Experiment, frame: pd.DataFrame, study: str, arms: list[str] | None = None) -> pd.DataFrame:
    """The rows of a study at its primary rate."""
    return pick(frame, study=study, learning_rate=experiment.study(study).primary_rate, arm=arms)


def _over_seeds(rows: pd.DataFrame, panel: str) -> pd.DataFrame:
    ends = rows.groupby(["arm", "step"])["value"].agg(["min", "max"]).reset_index()
    return ends.rename(columns={"step": "x", "min": "low", "max": "high"}).assign(panel=panel)
