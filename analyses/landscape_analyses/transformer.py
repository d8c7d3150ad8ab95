"""Transformers: the normalization before or after the residual sum, others in its place, and warm-up."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import largest_stable_rate
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, dots, over_layers, over_rates, over_steps

#: Off the plateau: knowing how frequent each letter is gives .93 of the loss of guessing.
TRAINED = 0.8
XIONG = "Xiong et al. 2020 (arXiv 2002.04745)"
ZHANG = "Zhang & Sennrich 2019 (arXiv 1910.07467)"
ZHU = "Zhu et al. 2025 (arXiv 2503.10622)"
POST = {"placement": "post"}
LOSS = {"probe": "training", "quantity": "full_loss"}
STABLE = {"probe": "derived", "quantity": "largest_stable_rate"}


def _experiment(name: str, *, layers: int, features: int, seeds: int, steps: int, data: Spec) -> Experiment:
    warm = steps // 3
    study = Study(
        name="text",
        model=Spec("transformer", {"layers": layers, "features": features}),
        data=data,
        arms=(
            Arm("none"),
            Arm("layer", "pre"),
            Arm("layer", "post", POST),
            Arm("rms"),
            Arm("dynamic-tanh"),
            Arm("layer", "pre-warm", warmup=warm),
            Arm("layer", "post-warm", POST, warmup=warm),
        ),
        learning_rates=(1e-3, 1e-2, 1e-1),
        primary_rate=1e-3,
        seeds=tuple(range(seeds)),
        steps=steps,
        batch_size=16,
        optimizer=Spec("adam"),
        probes=(ProbeSpec("signals", at=(0,)),),
        evaluate_every=max(1, steps // 6),
        full_batches=4,
    )
    return Experiment(name, (study,))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The largest rate at which each arm trains."""
    return largest_stable_rate(frame, experiment.studies[0], trained=TRAINED)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Large gradients at the output after the sum; larger rates before it; others in its place; who needs warm-up."""
    last = f"layers.layer{experiment.studies[0].model.options['layers']}.network.branch.contract.linear"
    gradient = Measure("signals", "weight_gradient", layers=(last,))
    stable, loss = Measure("derived", "largest_stable_rate", batch=""), Measure("training", "full_loss", batch="")
    twice: dict[str, Any] = {"supports": "larger", "boundary": math.log10(2)}
    same: dict[str, Any] = {"kind": "equivalence", "boundary": math.log10(1.1), "window": "end", "rate": "best"}

    def claim(id: str, statement: str, short: str, measure: Measure, arm: str, base: str, **more: Any) -> Claim:
        options: dict[str, Any] = {"source": XIONG, "needs_training": False} | more
        return Claim(id, statement, "text", measure, arm, base, short=short, **options)

    return (
        claim(
            "T-init",
            "At initialization the gradient of the last layer's weights is larger with post-norm than with pre-norm.",
            "post: larger gradients near the output",
            gradient,
            "post",
            "pre",
            supports="larger",
            published="smaller by the square root of the number of layers with pre-norm",
        ),
        claim(
            "T-rate",
            "Pre-norm trains at learning rates more than twice as large as post-norm without warm-up.",
            "pre: larger rates than post",
            stable,
            "pre",
            "post",
            **twice,
        ),
        claim(
            "T-none",
            "Pre-norm trains at learning rates more than twice as large as no normalization.",
            "pre: larger rates than none",
            stable,
            "pre",
            "none",
            **twice,
        ),
        claim(
            "T-warm-post",
            "Warm-up lets post-norm train at learning rates more than twice as large.",
            "post: larger rates with warm-up",
            stable,
            "post-warm",
            "post",
            **twice,
        ),
        claim(
            "T-warm-pre",
            "Pre-norm needs no warm-up: at the best rates its loss is within 10 % of that with warm-up.",
            "pre: as good without warm-up",
            loss,
            "pre",
            "pre-warm",
            **same,
        ),
        claim(
            "T-rms",
            "Without the means (rms) the loss at the best rates is within 10 % of layer normalization's.",
            "rms: as good as layer",
            loss,
            "rms",
            "pre",
            **same | {"source": ZHANG},
        ),
        claim(
            "T-dyt",
            "With dynamic tanh in its place the loss at the best rates is within 10 % of layer normalization's.",
            "dynamic tanh: as good as layer",
            loss,
            "dynamic-tanh",
            "pre",
            **same | {"source": ZHU},
        ),
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Before training; then the rates."""
    study = experiment.studies[0]
    blocks = frame[frame["layer"].str.contains("network.branch.contract")]
    weights = {"probe": "signals", "quantity": "weight_gradient"}
    ids = tuple(claim.id for claim in claims(experiment))
    return (
        Section(
            "Gradients before training",
            "Norms of the gradients of the second map of each layer's network.",
            claims=ids[:1],
            figures=(
                over_layers(
                    "gradients",
                    study,
                    blocks,
                    [Panel("gradient of the weights", weights, log=True)],
                    step=0,
                    title="By layer, from the input on",
                    columns=1,
                ),
            ),
        ),
        Section(
            "Learning rates and warm-up",
            "Adam, at three rates a decade apart: the largest stable rate is resolved to that. Stable is what ends at "
            f"{TRAINED:g} of the loss of guessing or less; frequencies of letters alone give 0.93 of it. Warm-up is "
            "linear over the first third.",
            claims=ids[1:],
            figures=(
                over_rates(
                    "rates",
                    study,
                    frame[frame["arm"] != "none"],
                    [Panel("full loss at the end", LOSS, log=True)],
                    title="By learning rate",
                    caption="Without normalization it is off this scale (table).",
                    columns=1,
                ),
                over_steps(
                    "steps", study, frame, [Panel("full loss", LOSS, log=True)], title="At the small rate", columns=1
                ),
            ),
            tables=(at_end("end", "At the end", study, frame, {"full loss": LOSS, "largest stable rate": STABLE}),),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The largest stable rate of every arm."""
    study = experiment.studies[0]
    rates = {arm.label: study.primary_rate for arm in study.arms}
    panels = [Panel("largest stable rate", STABLE), Panel("full loss at the small rate", LOSS)]
    caption = f"A rate of 0: it trained at none. Full loss: the median over the run, at rate {study.primary_rate:g}."
    return dots("headline", study, frame, panels, rates=rates, title="Transformers on letters", caption=caption)


ANALYSIS = Analysis(
    name="transformer",
    title="Normalization of transformers",
    question="Where does a transformer's normalization belong, what can stand in its place, and who needs warm-up?",
    paper=f"{XIONG}; {ZHANG}; {ZHU}",
    presets={
        "quick": lambda: _experiment(
            "transformer-quick",
            layers=4,
            features=32,
            seeds=3,
            steps=60,
            data=Spec("text", {"context": 16, "order": 1}),
        ),
        "standard": lambda: _experiment(
            "transformer-standard", layers=12, features=128, seeds=5, steps=2000, data=Spec("text", {"context": 64})
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={
        "largest stable rate": "the largest rate of the grid at which the last full loss is finite and at most "
        f"{TRAINED:g} of the loss of guessing; 0 if there is none.",
    },
)
