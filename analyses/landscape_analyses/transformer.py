"""Transformers: the normalization before or after the residual sum, others in its place, and warm-up."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import largest_stable_rate, number
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, grid
from landscape.figures import LOSS, Panel, at_end, dots, over_layers, over_rates, over_steps

#: Off the plateau: knowing how frequent each letter is gives .93 of the loss of guessing.
TRAINED = 0.8
XIONG = "Xiong et al. 2020 (arXiv 2002.04745)"
ZHANG = "Zhang & Sennrich 2019 (arXiv 1910.07467)"
ZHU = "Zhu et al. 2025 (arXiv 2503.10622)"
POST = {"placement": "post"}


def _experiment(name: str, text: Spec, *, layers: int, features: int, seeds: int, steps: int) -> Experiment:
    warm = steps // 3
    arms = (
        "none",
        Arm("layer", "pre"),
        Arm("layer", "post", POST),
        "rms",
        "dynamic-tanh",
        Arm("layer", "pre-warm", warmup=warm),
        Arm("layer", "post-warm", POST, warmup=warm),
    )
    study = grid(
        "text", Spec("transformer", {"layers": layers, "features": features}), text, arms, (1e-3, 1e-2, 1e-1),
        seeds=seeds, steps=steps, batch_size=16, optimizer=Spec("adam"), probes=(ProbeSpec("signals", at=(0,)),),
        evaluate_every=max(1, steps // 6), full_batches=4,
    )  # fmt: skip
    return Experiment(name, (study,))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The largest rate at which each arm trains."""
    return largest_stable_rate(frame, experiment.studies[0], trained=TRAINED, against=("none", "post"))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Large gradients at the output after the sum; larger rates before it; others in its place; who needs warm-up."""
    last = f"layers.layer{experiment.studies[0].model.options['layers']}.network.branch.contract.linear"
    gradient = Measure("signals", "weight_gradient", layers=(last,))
    claim = partial(Claim, study="text", needs_training=False, source=XIONG)
    more = partial(claim, measure=Measure.derived("largest_stable_rate"), supports="larger",
                   note="A factor of 10 is one step of the grid: how many times larger is not measured.")  # fmt: skip
    alike = partial(claim, measure=Measure.training("full_loss"), kind="equivalence", window="end", rate="best")
    same = partial(alike, boundary=math.log10(1.1))
    return (
        claim("T-init", "At initialization the gradient of the last layer's weights is larger with post-norm than with "
              "pre-norm.", measure=gradient, arm="post", reference="pre", supports="larger",
              short="post: larger gradients near the output",
              published="smaller by the square root of the number of layers with pre-norm"),
        more("T-rate", "Pre-norm trains at a larger rate of the grid than post-norm without warm-up.",
             arm="pre", reference="post", short="pre: larger rates than post"),
        more("T-none", "Pre-norm trains at a larger rate of the grid than no normalization.",
             arm="pre", reference="none", short="pre: larger rates than none"),
        more("T-warm-post", "Warm-up lets post-norm train at a larger rate of the grid.",
             arm="post-warm", reference="post", short="post: larger rates with warm-up"),
        same("T-warm-pre", "Pre-norm needs no warm-up: at the best rates its loss is within 10 % of that with warm-up.",
             arm="pre", reference="pre-warm", short="pre: as good without warm-up"),
        same("T-rms", "Without the means (rms) the loss at the best rates is within 10 % of layer normalization's.",
             arm="rms", reference="pre", short="rms: as good as layer", source=ZHANG),
        same("T-dyt", "With dynamic tanh in its place the loss at the best rates is within 10 % of layer "
             "normalization's.", arm="dynamic-tanh", reference="pre", short="dynamic tanh: as good as layer",
             source=ZHU),
    )  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Before training; then the rates."""
    (study,) = experiment.studies
    blocks = frame[frame["layer"].str.contains("network.branch.contract")]
    gradient = [Panel("gradient of the weights", {"probe": "signals", "quantity": "weight_gradient"}, log=True)]
    others, off = frame[frame["arm"] != "none"], "Without normalization it is off this scale (table)."
    end, along = [Panel("full loss at the end", LOSS, log=True)], [Panel("full loss", LOSS, log=True)]
    columns = {"full loss": LOSS, "largest stable rate": number("largest_stable_rate")}
    return (
        Section(
            "Gradients before training",
            "Norms of the gradients of the second map of each layer's network.",
            claims=("T-init",),
            figures=(over_layers("gradients", study, blocks, gradient, step=0, title="By layer, from the input on"),),
        ),
        Section(
            "Learning rates and warm-up",
            "Adam, at three rates a decade apart: the largest stable rate is resolved to that. Stable is what ends at "
            f"{TRAINED:g} of the loss of guessing or less; frequencies of letters alone give 0.93 of it. Warm-up is "
            "linear over the first third.",
            claims=("T-rate", "T-none", "T-warm-post", "T-warm-pre", "T-rms", "T-dyt"),
            figures=(
                over_rates("rates", study, others, end, title="By learning rate", caption=off),
                over_steps("steps", study, frame, along, title="At the small rate"),
            ),
            tables=(at_end("end", "At the end", study, frame, columns),),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The largest stable rate of every arm."""
    (study,) = experiment.studies
    rates = {arm.label: study.primary_rate for arm in study.arms}
    panels = [Panel("largest stable rate", number("largest_stable_rate")), Panel("full loss at the small rate", LOSS)]
    caption = f"A rate of 0: it trained at none. Full loss: the median over the run, at rate {study.primary_rate:g}."
    return dots("headline", study, frame, panels, rates=rates, title="Transformers on letters", caption=caption)


ANALYSIS = Analysis(
    name="transformer",
    title="Normalization of transformers",
    question="Where does a transformer's normalization belong, what can stand in its place, and who needs warm-up?",
    paper=f"{XIONG}; {ZHANG}; {ZHU}",
    presets={
        "quick": lambda: _experiment(
            "transformer-quick", Spec("text", {"context": 16, "order": 1}), layers=4, features=32, seeds=5, steps=60
        ),
        "standard": lambda: _experiment(
            "transformer-standard", Spec("text", {"context": 64}), layers=12, features=128, seeds=5, steps=2000
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
