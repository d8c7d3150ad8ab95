"""Normalization propagation (Arpit et al. 2016): moments and gradients by depth, batch size 1, the Gaussian premise."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import number, per_run, worst_moments
from landscape.experiment import Experiment, ProbeSpec, Spec, grid
from landscape.figures import CURVES, ENDS, MOMENTS, Panel, at_end, over_layers, over_steps
from landscape.frames import pick

SOURCE = "Arpit et al. 2016, arXiv 1603.01431"
IN: dict[str, Any] = {"probe": "moments", "variant": "nonlinearity input"}
#: What a layer is said to do to squared gradients: 1 / (1 - 1/pi) with gamma = 1, and 1 with gamma = 1/1.21.
GROWTH = {"norm-propagation": 1.0, "norm-propagation:1": 1 / (1 - 1 / math.pi)}
ARMS = (*GROWTH, "none", "batch")


def _experiment(name: str, data: str, *, width: int, trained: int, seeds: int, steps: int) -> Experiment:
    deep, six = Spec("mlp", {"hidden": [width] * 20}), Spec("mlp", {"hidden": [trained] * 6})
    gaussian = Spec("gaussian-inputs", {"shape": [width]})
    once = (ProbeSpec("moments", at=(0,)), ProbeSpec("signals", at=(0,)))
    along = (ProbeSpec("moments", every=steps // 10, options={"on": "full"}),)
    random = grid("random", deep, gaussian, ARMS, (1e-6,), seeds=seeds, steps=1, full_batches=1, probes=once)
    training = grid(
        "training", six, data, ARMS, (0.03, 0.1, 0.3), primary_rate=0.1, seeds=seeds, steps=steps,
        evaluate_every=steps // 10, full_batches=8, probes=along,
    )  # fmt: skip
    single = grid(
        "single", six, data, ARMS[:-1], (0.003,), seeds=seeds, steps=2 * steps, batch_size=1,
        evaluate_every=steps // 5, full_batches=128,
    )  # fmt: skip
    return Experiment(name, (random, training, single))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The worst layer of the random networks, growth over its constant, the largest distance from a Gaussian."""
    random, training, _ = experiment.studies
    distance = per_run(frame, training, "distance", lambda v: v.max(), **IN, quantity="gaussian_distance")
    rows = [*worst_moments(frame, random), distance]
    for arm, constant in GROWTH.items():
        own = pick(frame, arm=arm, probe="signals")
        growth = per_run(own, random, "growth", lambda v: np.exp(np.log(v).mean()), probe="signals", quantity="growth")
        rows += [growth, growth.assign(quantity="log_growth", value=np.log10(growth["value"] / constant))]
    return pd.concat(rows, ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Moments, growth, a batch of one, accuracy against batch normalization, and the premise."""
    loss, accuracy = Measure.training("full_loss"), Measure.training("test_accuracy")
    mean, variance = Measure.derived("worst_mean"), Measure.derived("worst_variance")
    growth, distance = Measure.derived("log_growth"), Measure.derived("distance")
    claim = partial(Claim, arm="norm-propagation", window="end", needs_training=False, source=SOURCE)
    below = partial(claim, reference=None, scale="value", kind="threshold")
    near = partial(claim, reference=None, scale="value", kind="equivalence", boundary=math.log10(1.1))
    moments = [
        below(f"D-2-{name}{tag}", f"With gamma = {gamma} the activations' {what} in every layer of a random network.",
              "random", measure, arm=arm, boundary=boundary, short=f"gamma = {gamma}: {what} at every depth")
        for arm, tag, gamma in (("norm-propagation", "", "1/1.21"), ("norm-propagation:1", "-one", "1"))
        for name, what, measure, boundary in (
            ("mean", "mean is within 0.1 of 0", mean, -0.1), ("var", "variance is within 0.2 of 1", variance, -0.2))
    ]  # fmt: skip
    return (
        *moments,
        claim("D-2-none", "Its variance stays nearer to 1 than that of the plain ReLU network, in the worst layer.",
              "random", variance, short="variance nearer to 1 than without"),
        near("D-3-one", "With gamma = 1 squared gradients grow by 1.467 a layer, within a factor 1.1.", "random",
             growth, arm="norm-propagation:1", short="gamma = 1: growth 1.467 a layer within 1.1x"),
        near("D-3", "With gamma = 1/1.21 squared gradients neither grow nor shrink, within a factor 1.1 a layer.",
             "random", growth, short="gamma = 1/1.21: growth 1 a layer within 1.1x"),
        below("D-4", "At batch size 1 the full loss falls below 0.95 of that of guessing.", "single", loss,
              boundary=-0.95 * math.log(10), short="trains at batch size 1",
              note="Batch normalization per unit is undefined there: its variance is zero, and it is refused."),
        claim("D-5", "Test accuracy ends at most 1 point below that with batch normalization, each at its best rate.",
              "training", accuracy, reference="batch", supports="larger", scale="difference", kind="non-inferiority",
              boundary=-0.01, rate="best", short="at most 1 point below batch (test)",
              note="The paper's own numbers were not found in a readable copy."),
        below("D-6", "While training at the primary rate each unit's input stays within 0.1 of a Gaussian (Kolmogorov-"
              "Smirnov, mean over units) in every layer.", "training", distance, boundary=-0.1,
              short="primary rate: inputs stay Gaussian while training (KS below 0.1)",
              note="Standardized by the unit's own mean and deviation; 1,024 Gaussian samples would give 0.02."),
    )  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Random networks; training; a batch of one."""
    random, training, single = experiment.studies
    growth = [Panel("growth of squared gradients", {"probe": "signals", "quantity": "growth"}, guide=1.0)]
    shape = [
        Panel(f"{title}, fc{k}", IN | {"quantity": quantity, "layer": f"fc{k}.activation"}, guide=0.0)
        for k in (1, 6)
        for title, quantity in (("distance from Gaussian", "gaussian_distance"), ("excess kurtosis", "excess_kurtosis"))
    ]
    worst = {"mean, from 0": "worst_mean", "variance, from 1": "worst_variance", "growth": "growth"}
    gap = {"largest distance from a Gaussian": number("distance")}
    return (
        Section(
            "Random networks",
            "Inputs are drawn from N(0, I) as the derivation assumes. Growth is the geometric mean over layers. The "
            "constants are made for gamma = 1; gamma = 1/1.21, meant for the gradients, shrinks what they are to keep.",
            claims=("D-2-mean", "D-2-var", "D-2-mean-one", "D-2-var-one", "D-2-none", "D-3-one", "D-3"),
            figures=(over_layers("growth", random, frame, growth, step=0, title="Growth by layer"),),
            tables=(
                at_end(
                    "random",
                    "The worst layer, and the growth per layer",
                    random,
                    frame,
                    {head: number(name) for head, name in worst.items()},
                ),
            ),
        ),
        Section(
            "Training",
            "Images are standardized by one mean and deviation over all pixels, not pixel by pixel.",
            claims=("D-5", "D-6"),
            figures=(
                over_steps("training", training, frame, CURVES, title="Training"),
                over_steps("shape", training, frame, shape, title="Are the inputs of units Gaussian?"),
            ),
            tables=(at_end("training", "At the end", training, frame, ENDS | gap),),
        ),
        Section(
            "A batch of one",
            "Batch normalization has no arm here: one value per unit has no variance.",
            claims=("D-4",),
            figures=(over_steps("single", single, frame, CURVES, title="Batch size 1"),),
            tables=(at_end("single", "At the end", single, frame, ENDS),),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Mean and variance by depth."""
    return over_layers("headline", experiment.studies[0], frame, MOMENTS, step=0, title="Random networks, by layer")


ANALYSIS = Analysis(
    name="norm-propagation",
    title="Normalization propagation",
    question="Does normalizing the data once, and propagating that by constants, do what batch normalization does?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment("norm-propagation-quick", "digits", width=256, trained=64, seeds=5, steps=200),
        "standard": lambda: _experiment(
            "norm-propagation-standard", "fashion-mnist", width=1024, trained=256, seeds=5, steps=4000
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={"growth": "||dL/dX||^2 at a layer's input over that at the next layer's."},
)
