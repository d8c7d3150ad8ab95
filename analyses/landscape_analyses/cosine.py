"""Cosine normalization (Luo et al. 2017) against batch, weight and layer normalization: images and words."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.experiment import Experiment, ProbeSpec, Spec, grid
from landscape.figures import ACCURACY, LOSS, Panel, at_end, dots, over_rates, over_steps
from landscape.statistics import best_rates

SOURCE = "Luo et al. 2018, arXiv 1702.05870"
NORMS = ("none", "cosine", "centered-cosine", "batch", "weight", "layer")
RIVALS = ("batch", "weight", "layer")
IN = "nonlinearity input"
#: The study's name, what it is in words, and the layer whose pre-activations are measured.
PLACES = (
    ("fc", "fully connected, images", "fc2.activation"),
    ("conv", "convolutional, images", "conv2.activation"),
    ("words", "fully connected, bags of words", "fc2.activation"),
)


def _experiment(name: str, data: str, width: int, channels: list[Any], *, seeds: int, steps: int) -> Experiment:
    fully, convolutional = Spec("mlp", {"hidden": [width, width]}), Spec("convnet", {"channels": channels})
    kinds = {"fc": (fully, data), "conv": (convolutional, data), "words": (fully, "bag-of-words")}
    study = partial(
        grid, seeds=seeds, steps=steps, batch_size=64, evaluate_every=steps // 5, full_batches=4,
        probes=(ProbeSpec("moments", every=steps // 5),),
    )  # fmt: skip
    return Experiment(name, tuple(study(place, *kind, NORMS, (0.1, 0.3, 1.0)) for place, kind in kinds.items()))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """C-2 and C-4 in each place; the bounds and invariances, C-1, C-3 and C-5, are tests of the normalization."""
    return tuple(claim for place in PLACES for claim in _claims(*place))


def _claims(study: str, where: str, layer: str) -> list[Claim]:
    claim = partial(Claim, study=study, source=SOURCE)
    variance = claim(
        f"C-2-{study}",
        f"The variance of pre-activations is smaller with cosine normalization than without any ({where}).",
        measure=Measure("moments", "variance", IN, batch="fixed", layers=(layer,)), arm="cosine", needs_training=False,
        short=f"{study}: smaller variance of pre-activations",
        note="Expected: cosines lie in [-1, 1], whatever is learned.",
    )  # fmt: skip
    accuracy = [
        claim(
            f"C-4-{study}-{arm}-{rival}",
            f"{arm} ends at a higher test accuracy than {rival}, either at its best rate ({where}).",
            measure=Measure.training("test_accuracy"), arm=arm, reference=rival, supports="larger",
            scale="difference", window="end", rate="best", short=f"{study}: {arm} above {rival}",
            published="lower test error than all three; the table was not found in a readable copy",
            counter_evidence="A cosine loses the length of its input, and with it what length tells.",
        )
        for arm in ("cosine", "centered-cosine")
        for rival in RIVALS
    ]  # fmt: skip
    return [variance, *accuracy]


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """One for each place."""
    ends = [Panel("full loss at the end", LOSS, log=True), Panel("test accuracy at the end", ACCURACY)]
    parts = []
    for (name, where, layer), study in zip(PLACES, experiment.studies, strict=True):
        variance = {"probe": "moments", "quantity": "variance", "variant": IN, "layer": layer}
        panels = [Panel("test accuracy", ACCURACY), Panel(f"variance, {layer}", variance, log=True)]
        parts.append(
            Section(
                where[0].upper() + where[1:],
                "Each arm at the best of three rates for claims of accuracy, at the smallest for the variance. The "
                "output layer is never normalized.",
                claims=tuple(claim.id for claim in _claims(name, where, layer)),
                figures=(
                    over_rates(f"rates-{name}", study, frame, ends, title="Over learning rates"),
                    over_steps(f"steps-{name}", study, frame, panels, title="While training"),
                ),
                tables=(at_end(f"end-{name}", "At the end", study, frame, {p.title: p.rows for p in ends}),),
            )
        )
    return tuple(parts)


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Test accuracy of the fully connected network, each arm at its best rate."""
    study = experiment.studies[0]
    rates, panel = best_rates(frame, experiment, study.name), Panel("test accuracy", ACCURACY | {"step": study.steps})
    return dots("headline", study, frame, [panel], rates=rates, title="Fully connected, each at its best rate")


ANALYSIS = Analysis(
    name="cosine",
    title="Cosine normalization",
    question="Do cosines in the place of dot products train better than batch, weight and layer normalization?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment("cosine-quick", "digits", 64, [8, "M", 16], seeds=5, steps=300),
        "standard": lambda: _experiment(
            "cosine-standard", "fashion-mnist", 1000, [32, "M", 64, "M", 128], seeds=5, steps=4000
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    definitions={"best rate": "of three learning rates, the one with the lowest median full loss at the end."},
)
