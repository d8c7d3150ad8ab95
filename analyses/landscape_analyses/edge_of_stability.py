"""Full-batch gradient descent: does sharpness rise to 2 / lr and stay there, with and without normalization?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict, tally
from landscape.derived import number, per_run
from landscape.experiment import Experiment, ProbeSpec, Spec, Study, grid
from landscape.figures import ACCURACY, LOSS, Panel, at_end, over_rates, over_steps

EDGE = 2.0
#: Dex: within a quarter of 2 / lr.
MARGIN = math.log10(1.25)
EIGENPAIRS = {"probe": "hessian_eigenpairs", "variant": "hessian/largest"}
SHARPNESS = EIGENPAIRS | {"quantity": "eigenvalue"}
STEP_SHARPNESS = EIGENPAIRS | {"quantity": "step_sharpness"}
COHEN = "Cohen et al. 2021, arXiv 2103.00065"


def _experiment(name: str, model: Spec, data: Spec, *, seeds: int, steps: int, every: int) -> Experiment:
    study = grid(
        "descent", model, data, ("none", "batch"), (0.0125, 0.05, 0.2), primary_rate=0.05, seeds=seeds, steps=steps,
        batch_size=None, evaluate_every=every, loss="landscape.losses:one_hot_error",
        probes=(ProbeSpec("hessian_eigenpairs", every=every), ProbeSpec("curvature", every=every)),
    )  # fmt: skip
    return Experiment(name, (study,))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Per run: how far late sharpness is from 2 / lr, late sharpness itself, and how much it rose."""
    (study,) = experiment.studies
    numbers = {
        "edge_distance": (STEP_SHARPNESS, lambda values: math.log10(_late(values) / EDGE)),
        "late_sharpness": (SHARPNESS, _late),
        "late_step_sharpness": (STEP_SHARPNESS, _late),
        "late_step_curvature": ({"probe": "curvature", "quantity": "step_curvature"}, _late),
        "sharpening": (SHARPNESS, lambda values: math.log10(_late(values) / values.iloc[0])),
    }
    return pd.concat([per_run(frame, study, name, of, **rows) for name, (rows, of) in numbers.items()])


def _late(values: pd.Series) -> float:
    """Median over the last third of the measured steps."""
    return float(np.median(values.iloc[-(-2 * len(values) // 3) :]))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Each arm at the edge at each rate, progressive sharpening, and what is then left of a comparison."""
    (study,) = experiment.studies
    labels = [arm.label for arm in study.arms]
    return (
        *(claim for arm in labels for claim in _claims(study, arm)),
        *(_same(arm) for arm in labels if arm != "none"),
    )


def _claims(study: Study, arm: str) -> Iterator[Claim]:
    ends = partial(Claim, study=study.name, arm=arm, window="end", needs_training=False, source=COHEN)
    alone = partial(ends, reference=None, scale="value", supports="larger")
    for rate in study.learning_rates:
        yield alone(
            f"E-edge-{arm}-{rate:g}",
            f"{arm}: descent at rate {rate:g} ends at sharpness 2 / lr, within a factor 1.25.",
            measure=Measure.derived("edge_distance"),
            kind="equivalence",
            boundary=MARGIN,
            rate=rate,
            short=f"{arm}, rate {rate:g}: late sharpness is 2/lr within a factor 1.25",
            published="hovers at, or just above, 2 / lr, with batch normalization too",
            note="log10 of lr times the largest eigenvalue over 2. Below it where training was too short.",
        )
    low = min(study.learning_rates)
    yield alone(
        f"E-sharpening-{arm}",
        f"{arm}: at the smallest rate sharpness ends higher than it began.",
        measure=Measure.derived("sharpening"),
        rate=low,
        short=f"{arm}, rate {low:g}: sharpness rises",
        published="progressive sharpening, until 2 / lr is reached",
        note="log10 of late over initial sharpness.",
    )


def _same(arm: str) -> Claim:
    return Claim(
        f"E-same-{arm}",
        f"At the same rate late sharpness with {arm} normalization is that without, within a factor 1.25.",
        "descent",
        Measure.derived("late_sharpness"),
        arm,
        kind="equivalence",
        boundary=MARGIN,
        window="end",
        needs_training=False,
        short=f"{arm}: as sharp as none at the same rate, within a factor 1.25",
        source=COHEN,
        counter_evidence="Santurkar et al. 2018: a smaller effective beta with batch normalization",
        note="What is to be expected where both are at the edge: then the rate, not the network, sets sharpness.",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Sharpness at each rate, and training."""
    (study,) = experiment.studies
    ids = [claim.id for claim in claims(experiment)]
    table = {
        "late sharpness": number("late_sharpness"),
        "log10 of it over 2/lr": number("edge_distance"),
        "late lr g'Hg/|g|^2": number("late_step_curvature"),
        "loss": LOSS,
        "test accuracy": ACCURACY,
    }
    return (
        Section(
            "Sharpness against 2 / lr",
            "Sharpness is the largest eigenvalue of the Hessian of the loss over all training data. Late is the median "
            "over the last third of the steps measured. The thin line is 2 / lr.",
            claims=tuple(id for id in ids if not id.startswith("E-same")),
            figures=tuple(_sharpness(study, frame, rate) for rate in study.learning_rates),
            tables=(at_end("late", "Late in training", study, frame, table),),
        ),
        Section(
            "What it means for comparisons",
            "Where both arms sit at 2 / lr, a comparison of sharpness at equal rate compares the rate with itself. "
            "Curvature along the gradient, lr g'Hg / ||g||^2, is at most lr times sharpness.",
            claims=tuple(id for id in ids if id.startswith("E-same")),
            figures=(
                over_steps(
                    "curvature",
                    study,
                    frame,
                    [
                        Panel("lr g'Hg/|g|^2", {"probe": "curvature", "quantity": "step_curvature"}, guide=EDGE),
                        Panel("test accuracy", ACCURACY),
                    ],
                    title="Along the gradient",
                ),
            ),
        ),
    )


def _sharpness(study: Study, frame: pd.DataFrame, rate: float) -> Figure:
    panels = [Panel("sharpness", SHARPNESS, log=True, guide=EDGE / rate), Panel("loss", LOSS, log=True)]
    return over_steps(
        f"rate-{rate:g}", study, frame, panels, rate=rate, title=f"Rate {rate:g}: 2 / lr is {EDGE / rate:g}"
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Late lr times sharpness, and the loss at the end, over rates."""
    (study,) = experiment.studies
    late = number("late_step_sharpness")
    panels = [Panel("late lr x sharpness", late, log=True, guide=EDGE), Panel("loss at the end", LOSS, log=True)]
    caption = "The thin line is the edge of stability, sharpness 2 / lr."
    return over_rates("headline", study, frame, panels, title="Late sharpness over learning rates", caption=caption)


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Who is at the edge, at which rates."""
    at = [v.claim for v in verdicts if v.claim.id.startswith("E-edge") and v.verdict == "holds"]
    arms = dict.fromkeys(claim.arm for claim in at)
    found = "; ".join(f"{arm} at {', '.join(f'{c.rate:g}' for c in at if c.arm == arm)}" for arm in arms)
    return f"{tally(verdicts)} At the edge of stability (rates): {found or 'no arm at any rate'}."


ANALYSIS = Analysis(
    name="edge-of-stability",
    title="The edge of stability",
    question="Does full-batch descent raise sharpness to 2 / lr and hold it there, with and without normalization?",
    paper=COHEN,
    presets={
        "quick": lambda: _experiment(
            "edge-of-stability-quick",
            Spec("mlp", {"hidden": [32, 32], "activation": "tanh", "init": "lecun"}),
            Spec("digits", {"limit": 256}),
            seeds=5,
            steps=600,
            every=40,
        ),
        "standard": lambda: _experiment(
            "edge-of-stability-standard",
            Spec("mlp", {"hidden": [200, 200], "activation": "tanh", "init": "lecun"}),
            Spec("cifar10", {"limit": 5000}),
            seeds=5,
            steps=6000,
            every=100,
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    derive=derive,
    definitions={
        "sharpness": "largest eigenvalue of the Hessian of the loss over all training data, by Lanczos.",
        "loss": "square loss: mean over samples of the squared distance of the outputs from the one-hot label.",
        "edge of stability": "sharpness 2 / lr: on a quadratic, descent with a larger one diverges.",
    },
)
