"""Normalizations at batch sizes 1 to 128: where the statistics of a batch are too noisy to train and to test with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict, tally
from landscape.derived import derived, each_run, number
from landscape.experiment import Experiment, ProbeSpec, Spec, Study, grid
from landscape.figures import ACCURACY, Panel, at_end, over_steps, over_studies
from landscape.frames import RUN, pick

SIZES = (1, 2, 4, 8, 32, 128)
SMALL, LARGE = (1, 2, 4), (32, 128)
NORMS = ("batch", "batch-renorm", "group:4", "layer", "instance")
PANELS = (
    Panel("test accuracy", ACCURACY),
    Panel("test accuracy, statistics re-estimated", {"probe": "training", "quantity": "test_accuracy_reestimated"}),
    Panel("noise of the mean, in deviations", number("statistics_noise"), log=True),
    Panel("max distance of gradients, relative", number("relative_predictiveness"), log=True),
)
SANTURKAR = "a measure of Santurkar et al. 2018, arXiv 1805.11604"
WU = "Wu & He 2018, arXiv 1803.08494"
LOWER = "ResNet-50 on ImageNet at 2 images a batch: group 10.6 points lower error than batch"


def _experiment(name: str, data: str, channels: list[Any], *, seeds: int, steps: int) -> Experiment:
    noise = ProbeSpec("statistics_noise", every=steps // 4, arms=("batch", "batch-renorm"))
    path = ProbeSpec("gradient_path", every=steps // 10, options={"multiples": [0.5, 1.0, 2.0]})
    study = partial(grid, seeds=seeds, steps=steps, evaluate_every=steps // 4, probes=(noise, path))
    network = Spec("convnet", {"channels": channels})
    studies = [
        study(f"b{size}", network, data, NORMS, (0.02, 0.1), batch_size=size, full_batches=max(4, 128 // size))
        for size in SIZES
    ]
    return Experiment(name, tuple(studies))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Per run: noise of the statistics over layers and steps, predictiveness over ||g||; and the noise's power law."""
    rows = []
    for study in experiment.studies:
        own = pick(frame, study=study.name)
        noise = pick(own, probe="statistics_noise", quantity="mean_noise")
        rows.append(each_run(noise, study, "statistics_noise", lambda each: each["value"].median()))
        path = pick(own, probe="gradient_path", variant="gradient/scaled", batch="same").set_index([*RUN, "step"])
        distance, size = (path.loc[path["quantity"] == q, "value"] for q in ("predictiveness", "gradient_norm"))
        relative = (distance / size).groupby(RUN).median()
        rows.append(derived(relative.reset_index(), study, "relative_predictiveness"))
    wide = pd.concat(pick(part, quantity="statistics_noise", arm="batch") for part in rows)
    wide = wide.assign(size=np.log(wide["study"].str[1:].astype(float)), value=np.log(wide["value"]))
    wide = wide[wide.groupby(RUN)["value"].transform("size") > 1]  # a slope needs two of them
    slope = each_run(wide, study, "noise_exponent", lambda own: np.polyfit(own["size"], own["value"], 1)[0] + 0.5)
    return pd.concat([*rows, slope], ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Batch normalization against group normalization at each batch size, and the noise that tells them apart."""
    noise = Claim(
        "G8-noise",
        "The noise of a batch's mean falls as one over the root of the batch size: the exponent is -0.5 within 0.1.",
        experiment.studies[-1].name, Measure.derived("noise_exponent"), "batch", None, scale="value", window="end",
        needs_training=False, kind="equivalence", boundary=0.1,
        short="noise of statistics ~ 1/sqrt(batch size), exponent within 0.1",
    )  # fmt: skip
    return (*(claim for study in experiment.studies for claim in _claims(study)), noise)


def _claims(study: Study) -> Iterator[Claim]:
    size, rate = int(study.name[1:]), study.primary_rate
    claim = partial(Claim, study=f"b{size}", window="end", needs_training=False, source=WU)
    accuracy = partial(claim, measure=Measure.training("test_accuracy"), reference="batch", scale="difference",
                       rate="best")  # fmt: skip
    higher, at, short = partial(accuracy, supports="larger"), f"At batch size {size}", f"batch size {size}:"
    if size in SMALL:
        for arm, published in (("group:4", LOWER if size == 2 else ""), ("batch-renorm", "")):
            yield higher(f"G8-{arm.partition(':')[0]}-{size}",
                         f"{at} {arm} ends at a higher test accuracy than batch normalization.", arm=arm,
                         short=f"{short} {arm} above batch in test accuracy", published=published)  # fmt: skip
        yield claim(f"G8-pred-{size}",
                    f"{at} and rate {rate:g} the gradient is more predictive with group than with batch normalization.",
                    measure=Measure.derived("relative_predictiveness"), arm="group:4", reference="batch",
                    short=f"{short} group's gradient more predictive than batch's, rate {rate:g}", source=SANTURKAR,
                    note="Largest change of the gradient within 2 lr along it, over its own norm; same mini-batch.",
                    )  # fmt: skip
    if size in LARGE:
        yield higher(f"G8-same-{size}", f"{at} group and batch normalization end within 3 points of test accuracy.",
                     arm="group:4", kind="equivalence", boundary=0.03,
                     short=f"{short} group within 3 points of batch")  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Accuracy, noise and predictiveness over batch size; each batch size by itself."""
    ids = tuple(claim.id for claim in claims(experiment))
    noisy = tuple(id for id in ids if id == "G8-noise" or id.startswith("G8-pred"))
    tables = {panel.title: panel.rows for panel in PANELS}
    shown = [study for study in experiment.studies if study.name in ("b2", "b128")]
    accuracy = {study.name: [Panel(f"test accuracy, {study.name}", ACCURACY)] for study in shown}
    return (
        Section(
            "Accuracy",
            "Every arm makes the same number of steps, so small batches see fewer examples: compare arms at one batch "
            "size, not one arm over batch sizes. Claims compare each arm at the better of two rates. In a "
            "convolutional network a unit has many positions, so that batch normalization is defined at batch size 1: "
            "instance normalization in training, something else in the test. Test accuracy uses running statistics; "
            "re-estimated ones are averaged over the batches of the full loss.",
            claims=tuple(id for id in ids if id not in noisy),
            tables=tuple(at_end(s.name, f"At the end, {s.name}", s, frame, tables) for s in experiment.studies),
        ),
        Section(
            "Noise and predictiveness",
            "Noise is the spread of a unit's mean from mini-batch to mini-batch over its own deviation, median over "
            "layers and steps.",
            claims=noisy,
            figures=tuple(
                over_steps(f"steps-{s.name}", s, frame, accuracy[s.name], title=f"Batch size {s.name[1:]}")
                for s in shown
            ),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Everything over batch size."""
    by_size = {float(study.name[1:]): study for study in experiment.studies}
    return over_studies(
        "headline",
        by_size,
        frame,
        PANELS,
        x_label="batch size",
        title="At the end",
        caption=f"Learning rate {experiment.studies[0].primary_rate:g}.",
    )


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted, and where batch normalization breaks."""
    broken = [v.claim.study[1:] for v in verdicts if v.claim.id.startswith("G8-group") and v.verdict == "holds"]
    where = f"batch size {', '.join(broken)}" if broken else "no batch size tested"
    return f"{tally(verdicts)} Batch normalization ends below group normalization at {where}."


ANALYSIS = Analysis(
    name="batch-size",
    title="Normalization and batch size",
    question="At which batch sizes does batch normalization break, and do the others hold?",
    paper=f"{WU}; Ioffe 2017, arXiv 1702.03275 (batch renormalization)",
    presets={
        "quick": lambda: _experiment("batch-size-quick", "digits", [8, "M", 16, "M", 32], seeds=5, steps=200),
        "standard": lambda: _experiment("batch-size-standard", "cifar10", [32, "M", 64, "M", 128], seeds=5, steps=4000),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    derive=derive,
    definitions={
        "noise of the mean": "root of the variance of a unit's mean over mini-batches, over the unit's own variance.",
        "max distance of gradients, relative": "max of ||grad L(w - eta g) - g|| / ||g||, eta in [1/2, 2] x lr.",
    },
)
