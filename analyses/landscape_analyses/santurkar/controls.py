"""The report on the paper's other arms: activations, noise after normalization, other norms."""

from __future__ import annotations

import pandas as pd

from landscape.analysis import Figure, Section
from landscape.experiment import Experiment
from landscape.frames import lines, pick, ridges
from landscape_analyses.santurkar.panels import STEPS, primary


def activations(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """Distributions over training, with noise and without."""
    rows = primary(experiment, frame, "conv")
    shown = [arm for arm in ("none", "batch", "noisy-batch") if arm in set(rows["arm"])]
    seed = rows["seed"].min()
    arrays = frame.attrs["arrays"]("activations", "histogram")
    one = pick(primary(experiment, arrays, "conv", shown), seed=seed)
    drift = pick(rows, probe="activations", quantity="shift_previous", arm=shown)
    return Section(
        title="Activations",
        text="Distributions at the input of the nonlinearity, the same site in every arm, on a fixed batch. Drift is "
        "the Wasserstein-1 distance between probes over the earlier standard deviation, averaged over units.",
        claims=("A-drift", "A-noisy2"),
        figures=(
            Figure(
                name="ridges",
                kind="ridgeline",
                frame=ridges(one, rows),
                title="Activations over training",
                caption=f"Density over all units at the input of the nonlinearity; seed {seed}, fixed batch.",
                alt="Ridges: the density of activations at successive training steps, one column per arm and one row "
                "per layer.",
                options={"x_label": "activation", "arms": shown},
            ),
            Figure(
                name="drift",
                kind="lines",
                frame=lines(drift, "layer"),
                title="Drift between probes",
                caption="Drift of the distributions between consecutive probes; median over seeds, band from the "
                "smallest to the largest.",
                alt="Lines over steps: drift of activation distributions for two layers and three arms.",
                options=STEPS | {"y_log": True, "y_label": "W1 / earlier std", "columns": 2, "arms": shown},
            ),
        ),
    )


def noise(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """Whether noise after batch normalization hurts."""
    rows = primary(experiment, frame, "conv", ["none", "batch", "noisy-batch", "noise"])
    accuracy = pick(rows, probe="training", quantity=["train_accuracy", "test_accuracy"])
    names = {"train_accuracy": "training", "test_accuracy": "test"}
    return Section(
        title="Noise after batch normalization",
        text="Noise with a random mean and scale, drawn anew at every step and layer, makes activations drift on "
        "purpose. If stability of distributions were what helps, it would hurt. 'noise' is the standard net with the "
        "same noise.",
        claims=("A-noisy1", "A-noisy1b", "A-noisy3"),
        figures=(
            Figure(
                name="noise",
                kind="lines",
                frame=lines(accuracy, lambda r: r["quantity"].map(names)),
                title="Accuracy with noise",
                caption="Median over seeds; band from the smallest to the largest.",
                alt="Lines of training and test accuracy over steps for the standard net, batch normalization and "
                "both with noise.",
                options=STEPS | {"y_label": "accuracy", "columns": 2, "share_y": True},
            ),
        ),
    )


def norms(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """The average lp norm instead of the standard deviation."""
    arms = ["none", "batch", "lp:1", "lp:2", "lp:inf"]
    rows = primary(experiment, frame, "conv", arms)
    panels = {
        "training accuracy": pick(rows, probe="training", quantity="train_accuracy"),
        "effective smoothness": pick(
            rows, probe="gradient_path", variant="gradient/scaled", batch="same", quantity="effective_smoothness"
        ),
    }
    return Section(
        title="Other norms",
        text="Normalizing by the average lp norm instead of the standard deviation: the paper finds the same "
        "smoothing, without Gaussian-looking activations.",
        claims=("A-l1-acc", "A-l2-acc", "A-linf-acc", "A-l1-beta", "A-l2-beta", "A-linf-beta"),
        figures=(
            Figure(
                name="norms",
                kind="lines",
                frame=pd.concat([lines(r, panel) for panel, r in panels.items()], ignore_index=True),
                title="lp normalization",
                caption="Median over seeds; band from the smallest to the largest.",
                alt="Lines over steps: training accuracy and effective smoothness for five normalizations.",
                options=STEPS | {"columns": 2, "panel_y_log": {"effective smoothness": True}},
            ),
        ),
    )
