"""Santurkar et al. 2018, "How Does Batch Normalization Help Optimization?", re-examined.

``grid`` says what is trained, ``claims`` what is decided, ``sections`` and ``controls`` what is shown; ``linear`` has
both for the deep linear network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd

from landscape.analysis import Analysis, Claim, Section
from landscape.experiment import Experiment
from landscape_analyses.santurkar import controls, linear
from landscape_analyses.santurkar.claims import SHORT, shift_claims, smoothness_claims, training_claims
from landscape_analyses.santurkar.grid import paper, quick, standard
from landscape_analyses.santurkar.panels import headline
from landscape_analyses.santurkar.sections import along_the_gradient, answer, shift, training

SECTIONS: dict[str, tuple[Callable[[Experiment, pd.DataFrame], Section], ...]] = {
    "conv": (training, along_the_gradient, shift, controls.activations, controls.noise, controls.norms),
    "dln": (linear.section,),
}
DEFINITIONS = {
    "full loss": "L_m(w): mean of the training loss over fixed mini-batches of the training size, each with its own "
    "batch statistics; an incomplete batch is dropped.",
    "loss range": "max L - min L over the sweep w - eta g, without eta = 0; eta in [1/2, 4] x lr, on the deep "
    "linear net in [1/100, 30] x lr.",
    "rise": "max(0, max L - L(w)) over the sweep: the part of the range that is not descent.",
    "predictiveness": "max over the sweep of ‖grad L(w - eta g) - g‖.",
    "effective smoothness (beta)": "max over the sweep of ‖grad L(w - eta g) - g‖ / (eta ‖g‖).",
    "scale-invariant beta": "‖D (grad L(w - eta D² g) - g)‖ / (eta ‖D g‖) with D the norms of the filters (1 for "
    "biases and affine parameters): unchanged when weights are rescaled without changing the function.",
    "secant slope": "max |L(w - eta g) - L(w)| / (eta ‖g‖): a lower bound on the local Lipschitz constant.",
    "lr beta": "learning rate times beta at the step size nearest to lr (.91 lr in the default sweep); about 2 at the "
    "edge of stability.",
    "lr gᵀHg / ‖g‖²": "learning rate times the curvature along the gradient, from one Hessian-vector product.",
    "internal covariate shift": "Definition 2.1: ‖G′ − G‖, G′ the gradient of a layer after only the layers before "
    "it took the optimizer's step, on the same batch; relative: over ‖G‖.",
    "drift": "W1 distance of each unit's distribution between consecutive probes over its earlier standard deviation, "
    "mean over units, at the input of the nonlinearity, on a fixed batch.",
    "held-out": "loss and gradient of a mini-batch of the test split, along the gradient of the training mini-batch.",
}


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Every claim that this experiment can decide: those whose study and arms it has."""
    studies = {study.name: {arm.label for arm in study.arms} for study in experiment.studies}
    declared = (*training_claims(), *smoothness_claims(experiment), *shift_claims(experiment), *linear.claims())
    return tuple(
        dataclasses.replace(claim, short=SHORT[claim.id])
        for claim in declared
        if claim.study in studies and {claim.arm, claim.reference or claim.arm} <= studies[claim.study]
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The report's sections, for the studies that this experiment has."""
    return tuple(build(experiment, frame) for study in experiment.studies for build in SECTIONS.get(study.name, ()))


ANALYSIS = Analysis(
    name="santurkar",
    title="Does batch normalization smooth the loss landscape?",
    question="Do the claims of Santurkar et al. 2018 hold on these networks?",
    paper="Santurkar, Tsipras, Ilyas, Madry 2018, How Does Batch Normalization Help Optimization? (arXiv 1805.11604)",
    presets={"quick": quick, "standard": standard, "paper": paper},
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    definitions=DEFINITIONS,
)
