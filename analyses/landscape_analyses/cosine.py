"""Cosine normalization (Luo et al. 2017) against batch, weight and layer normalization: images and words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, dots, over_rates, over_steps, tally
from landscape.statistics import best_rates

SOURCE = "Luo et al. 2018, arXiv 1702.05870"
NORMS = ("none", "cosine", "centered-cosine", "batch", "weight", "layer")
RIVALS = ("batch", "weight", "layer")
ACCURACY: dict[str, Any] = {"probe": "training", "quantity": "test_accuracy"}
LOSS: dict[str, Any] = {"probe": "training", "quantity": "full_loss"}
IN = "nonlinearity input"
#: The study's name, what it is in words, and the layer whose pre-activations are measured.
PLACES = (
    ("fc", "fully connected, images", "fc2.activation"),
    ("conv", "convolutional, images", "conv2.activation"),
    ("words", "fully connected, bags of words", "fc2.activation"),
)


def _experiment(name: str, data: str, width: int, channels: list[Any], *, seeds: int, steps: int) -> Experiment:
    fully = Spec("mlp", {"hidden": [width, width]})
    kinds = ((fully, data), (Spec("convnet", {"channels": channels}), data), (fully, "bag-of-words"))

    def study(name: str, model: Spec, data: str) -> Study:
        return Study(
            name=name,
            model=model,
            data=Spec(data),
            arms=tuple(Arm(norm) for norm in NORMS),
            learning_rates=(0.1, 1.0),
            primary_rate=0.1,
            seeds=tuple(range(seeds)),
            steps=steps,
            batch_size=64,
            evaluate_every=steps // 5,
            full_batches=4,
            probes=(ProbeSpec("moments", every=steps // 5),),
        )

    return Experiment(name, tuple(study(place[0], *kind) for place, kind in zip(PLACES, kinds, strict=True)))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """C-2 and C-4 in each place; the bounds and invariances, C-1, C-3 and C-5, are tests of the normalization."""
    return tuple(claim for place in PLACES for claim in _claims(*place))


def _claims(study: str, where: str, layer: str) -> list[Claim]:
    variance = Claim(
        f"C-2-{study}",
        f"The variance of pre-activations is smaller with cosine normalization than without any ({where}).",
        study,
        Measure("moments", "variance", IN, batch="fixed", layers=(layer,)),
        "cosine",
        needs_training=False,
        short=f"{study}: smaller variance of pre-activations",
        source=SOURCE,
        note="Expected: cosines lie in [-1, 1], whatever is learned.",
    )
    accuracy = [
        Claim(
            f"C-4-{study}-{arm}-{rival}",
            f"{arm} ends at a higher test accuracy than {rival}, either at its best rate ({where}).",
            study,
            Measure("training", "test_accuracy", batch=""),
            arm,
            reference=rival,
            supports="larger",
            scale="difference",
            window="end",
            rate="best",
            needs_training=False,
            short=f"{study}: {arm} above {rival}",
            source=SOURCE,
            published="lower test error than all three; the table was not found in a readable copy",
            counter_evidence="A cosine loses the length of its input, and with it what length tells.",
        )
        for arm in ("cosine", "centered-cosine")
        for rival in RIVALS
    ]
    return [variance, *accuracy]


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """One for each place."""
    grid = [Panel("full loss at the end", LOSS, log=True), Panel("test accuracy at the end", ACCURACY)]
    parts = []
    for (name, where, layer), study in zip(PLACES, experiment.studies, strict=True):
        variance: dict[str, Any] = {"probe": "moments", "quantity": "variance", "variant": IN, "layer": layer}
        panels = [Panel("test accuracy", ACCURACY), Panel(f"variance, {layer}", variance, log=True)]
        parts.append(
            Section(
                where[0].upper() + where[1:],
                "Each arm at the better of two rates for claims of accuracy, at the smaller one for the variance. The "
                "output layer is never normalized.",
                claims=tuple(claim.id for claim in _claims(name, where, layer)),
                figures=(
                    over_rates(f"rates-{name}", study, frame, grid, title="Over learning rates"),
                    over_steps(f"steps-{name}", study, frame, panels, title="While training"),
                ),
                tables=(at_end(f"end-{name}", "At the end", study, frame, {p.title: p.rows for p in grid}),),
            )
        )
    return tuple(parts)


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Test accuracy of the fully connected network, each arm at its best rate."""
    study = experiment.studies[0]
    rates, panel = best_rates(frame, experiment, study.name), Panel("test accuracy", ACCURACY | {"step": study.steps})
    return dots("headline", study, frame, [panel], rates=rates, title="Fully connected, each at its best rate")


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted."""
    return tally(verdicts)


COSINE_ANALYSIS = Analysis(
    name="cosine",
    title="Cosine normalization",
    question="Do cosines in the place of dot products train better than batch, weight and layer normalization?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment("cosine-quick", "digits", 64, [8, "M", 16], seeds=3, steps=100),
        "standard": lambda: _experiment(
            "cosine-standard", "fashion-mnist", 1000, [32, "M", 64, "M", 128], seeds=5, steps=4000
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    definitions={"best rate": "of two learning rates, the one with the lower median full loss at the end."},
)
