"""Normalization propagation (Arpit et al. 2016): moments and gradients by depth, batch size 1, the Gaussian premise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict
from landscape.derived import per_run
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, over_layers, over_steps, tally
from landscape.frames import pick

SOURCE = "Arpit et al. 2016, arXiv 1603.01431"
OUT: dict[str, Any] = {"probe": "moments", "variant": "nonlinearity output"}
IN: dict[str, Any] = {"probe": "moments", "variant": "nonlinearity input"}
LOSS: dict[str, Any] = {"probe": "training", "quantity": "full_loss"}
ACCURACY: dict[str, Any] = {"probe": "training", "quantity": "test_accuracy"}
#: What a layer is said to do to squared gradients: 1 / (1 - 1/pi) with gamma = 1, and 1 with gamma = 1/1.21.
GROWTH = {"norm-propagation": 1.0, "norm-propagation:1": 1 / (1 - 1 / math.pi)}
MOMENTS = (
    Panel("mean of activations", OUT | {"quantity": "mean"}, guide=0.0),
    Panel("variance of activations", OUT | {"quantity": "variance"}, guide=1.0, log=True),
)


def _experiment(name: str, data: str, *, width: int, depth: int, trained: int, seeds: int, steps: int) -> Experiment:
    arms = tuple(Arm(norm) for norm in ("norm-propagation", "norm-propagation:1", "none", "batch"))
    random = Study(
        name="random",
        model=Spec("mlp", {"hidden": [width] * depth}),
        data=Spec("gaussian-inputs", {"shape": [width]}),
        arms=arms,
        learning_rates=(1e-6,),
        primary_rate=1e-6,
        steps=1,
        full_batches=1,
        probes=(ProbeSpec("moments", at=(0,)), ProbeSpec("signals", at=(0,))),
        seeds=tuple(range(seeds)),
    )
    training = Study(
        name="training",
        model=Spec("mlp", {"hidden": [trained] * 6}),
        data=Spec(data),
        arms=arms,
        learning_rates=(0.03, 0.1, 0.3),
        primary_rate=0.1,
        steps=steps,
        evaluate_every=steps // 10,
        full_batches=8,
        probes=(ProbeSpec("moments", every=steps // 10, options={"on": "full"}),),
        seeds=tuple(range(seeds)),
    )
    single = Study(
        name="single",
        model=training.model,
        data=Spec(data),
        arms=tuple(arm for arm in arms if arm.norm != "batch"),
        learning_rates=(0.003,),
        primary_rate=0.003,
        steps=2 * steps,
        batch_size=1,
        evaluate_every=steps // 5,
        full_batches=128,
        seeds=tuple(range(seeds)),
    )
    return Experiment(name, (random, training, single))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The worst layer of the random networks, growth over its constant, the largest distance from a Gaussian."""
    random, training, _ = experiment.studies
    rows = [
        per_run(frame, random, "worst_mean", lambda v: v.abs().max(), **OUT, quantity="mean"),
        per_run(frame, random, "worst_variance", lambda v: (v - 1).abs().max(), **OUT, quantity="variance"),
        per_run(frame, training, "distance", lambda v: v.max(), **IN, quantity="gaussian_distance"),
    ]
    for arm, constant in GROWTH.items():
        own = pick(frame, arm=arm)
        rows.append(
            per_run(own, random, "growth", lambda v: np.exp(np.log(v).mean()), probe="signals", quantity="growth")
        )
        rows.append(rows[-1].assign(quantity="log_growth", value=np.log10(rows[-1]["value"] / constant)))
    return pd.concat(rows, ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Moments, growth, a batch of one, accuracy against batch normalization, and the premise."""

    def claim(id: str, statement: str, study: str, measure: Measure, short: str, **kind: Any) -> Claim:
        plain: dict[str, Any] = {"arm": "norm-propagation", "window": "end", "needs_training": False, "source": SOURCE}
        return Claim(id, statement, study, measure, short=short, **plain | kind)

    alone: dict[str, Any] = {"reference": None, "scale": "value"}
    worst = {q: Measure("derived", f"worst_{q}", batch="") for q in ("mean", "variance")}
    growth = Measure("derived", "log_growth", batch="")
    return (
        claim("D-2-mean", "In every layer of a random network the activations' mean is within 0.1 of 0.", "random",
              worst["mean"], "mean within 0.1 of 0 at every depth", kind="threshold", boundary=-0.1, **alone),
        claim("D-2-var", "In every layer of a random network the activations' variance is within 0.2 of 1.", "random",
              worst["variance"], "variance within 0.2 of 1 at every depth", kind="threshold", boundary=-0.2, **alone),
        claim("D-2-none", "Its variance stays nearer to 1 than that of the plain ReLU network, in the worst layer.",
              "random", worst["variance"], "variance nearer to 1 than without"),
        claim("D-3-one", "With gamma = 1 squared gradients grow by 1.467 a layer, within a factor 1.1.", "random",
              growth, "gamma = 1: growth 1.467 a layer within 1.1x", arm="norm-propagation:1", kind="equivalence",
              boundary=math.log10(1.1), **alone),
        claim("D-3", "With gamma = 1/1.21 squared gradients neither grow nor shrink, within a factor 1.1 a layer.",
              "random", growth, "gamma = 1/1.21: growth 1 a layer within 1.1x", kind="equivalence",
              boundary=math.log10(1.1), **alone),
        claim("D-4", "At batch size 1 the full loss falls below 0.95 of that of guessing.", "single",
              Measure("training", "full_loss", batch=""), "trains at batch size 1", kind="threshold",
              boundary=-0.95 * math.log(10), **alone,
              note="Batch normalization per unit is undefined there: its variance is zero, and it is refused."),
        claim("D-5", "Test accuracy ends at most 1 point below that with batch normalization, each at its best rate.",
              "training", Measure("training", "test_accuracy", batch=""), "at most 1 point below batch (test)",
              reference="batch", supports="larger", scale="difference", kind="non-inferiority", boundary=-0.01,
              rate="best", note="The paper's own numbers were not found in a readable copy."),
        claim("D-6", "While training each unit's input stays within 0.1 of a Gaussian (Kolmogorov-Smirnov, mean over "
              "units) in every layer.", "training", Measure("derived", "distance", batch=""),
              "inputs stay Gaussian while training (KS below 0.1)", kind="threshold", boundary=-0.1, **alone,
              note="Standardized by the unit's own mean and deviation; 1,024 Gaussian samples would give 0.02."),
    )  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Random networks; training; a batch of one."""
    random, training, single = experiment.studies
    ends = {name: {"probe": "derived", "quantity": name} for name in ("worst_mean", "worst_variance", "growth")}
    train = [Panel("full loss", LOSS, log=True), Panel("test accuracy", ACCURACY)]
    shape = [
        Panel(f"{title}, fc{k}", IN | {"quantity": quantity, "layer": f"fc{k}.activation"}, guide=0.0)
        for k in (1, 6)
        for title, quantity in (
            ("distance from Gaussian", "gaussian_distance"),
            ("excess kurtosis", "excess_kurtosis"),
        )
    ]
    table = {"full loss": LOSS, "test accuracy": ACCURACY}
    gap = {"largest distance from a Gaussian": {"probe": "derived", "quantity": "distance"}}
    return (
        Section(
            "Random networks",
            "Inputs are drawn from N(0, I) as the derivation assumes. Growth is the geometric mean over layers.",
            claims=("D-2-mean", "D-2-var", "D-2-none", "D-3-one", "D-3"),
            figures=(
                over_layers("growth", random, frame, [Panel("growth of squared gradients", {"probe": "signals",
                            "quantity": "growth"}, guide=1.0)], step=0, title="Growth by layer", columns=1),
            ),
            tables=(at_end("random", "The worst layer, and the growth per layer", random, frame, ends),),
        ),
        Section(
            "Training",
            "Images are standardized by one mean and deviation over all pixels, not pixel by pixel.",
            claims=("D-5", "D-6"),
            figures=(over_steps("training", training, frame, train, title="Training"),
                     over_steps("shape", training, frame, shape, title="Are the inputs of units Gaussian?")),
            tables=(at_end("training", "At the end", training, frame, table | gap),),
        ),
        Section(
            "A batch of one",
            "Batch normalization has no arm here: one value per unit has no variance.",
            claims=("D-4",),
            figures=(over_steps("single", single, frame, train, title="Batch size 1"),),
            tables=(at_end("single", "At the end", single, frame, table),),
        ),
    )  # fmt: skip


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Mean and variance by depth."""
    return over_layers("headline", experiment.studies[0], frame, MOMENTS, step=0, title="Random networks, by layer")


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted."""
    return tally(verdicts)


NORM_PROPAGATION_ANALYSIS = Analysis(
    name="norm-propagation",
    title="Normalization propagation",
    question="Does normalizing the data once, and propagating that by constants, do what batch normalization does?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment(
            "norm-propagation-quick", "digits", width=256, depth=20, trained=64, seeds=5, steps=200
        ),
        "standard": lambda: _experiment(
            "norm-propagation-standard", "fashion-mnist", width=1024, depth=20, trained=256, seeds=5, steps=4000
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    derive=derive,
    definitions={"growth": "||dL/dX||^2 at a layer's input over that at the next layer's."},
)
