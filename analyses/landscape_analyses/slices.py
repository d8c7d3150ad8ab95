"""Slices through the landscape of residual networks: with and without shortcuts, with and without normalization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict, tally
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study, grid
from landscape.figures import ENDS, LOSS, Panel, at_end, dots, over_rates, planes
from landscape.statistics import best_rates

NORMS = ("batch", "none")
LAST = "Full loss at the end of training, each arm at its best rate."
FILTER: dict[str, Any] = {"probe": "loss_slice", "variant": "filter/2d", "batch": "full"}
WAY: dict[str, Any] = {"probe": "loss_slice", "variant": "trajectory/2d", "batch": "full"}
LI = "Li et al. 2018, arXiv 1712.09913"
MOMENTS = 10


def _experiment(name: str, data: str, *, depth: int, width: int, seeds: int, steps: int, points: int) -> Experiment:
    arms = [Arm(norm) for norm in NORMS] + [Arm(norm, f"{norm}-plain", {"shortcut": False}) for norm in NORMS]
    slices = {"dimensions": 2, "points": points, "on": "full"}
    way = (*(k * steps // MOMENTS for k in range(MOMENTS)), steps - 1)
    around = ProbeSpec("loss_slice", at=(steps - 1,), options=slices)
    along = ProbeSpec("loss_slice", at=way, options=slices | {"directions": "trajectory", "gather": MOMENTS})
    study = grid(
        "resnet", Spec("resnet", {"depth": depth, "width": width}), data, arms, (0.01, 0.1), seeds=seeds, steps=steps,
        evaluate_every=max(1, steps // 10), full_batches=1, probes=(around, along),
    )  # fmt: skip
    return Experiment(name, (study,))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Smoother with shortcuts, smoother with normalization, and a path that lies in a plane."""
    pairs = [(norm, f"{norm}-plain", f"S-shortcut-{norm}", "with shortcuts", LI) for norm in NORMS]
    pairs += [
        (f"batch{kind}", f"none{kind}", f"S-norm{kind}", "with batch normalization", "") for kind in ("", "-plain")
    ]
    return (*(claim for pair in pairs for claim in _pair(*pair)), *(_way(arm.label) for arm in _arms(experiment)))


def _arms(experiment: Experiment) -> tuple[Arm, ...]:
    return experiment.studies[0].arms


def _pair(arm: str, reference: str, id: str, words: str, source: str) -> Iterator[Claim]:
    plain: dict[str, Any] = {
        "study": "resnet",
        "arm": arm,
        "reference": reference,
        "window": "end",
        "rate": "best",
        "source": source,
        "counter_evidence": "" if source else "Yao et al. 2020 (PyHessian): normalization does not necessarily smooth",
    }
    yield Claim(
        f"{id}-rise",
        f"{arm} against {reference}: on the filter-normalized plane the loss rises less {words}.",
        measure=Measure("loss_slice", "rise", "filter/2d", "full"),
        short=f"{arm}: rises less than {reference}",
        published="without shortcuts deep networks become chaotic" if source else "",
        note="Largest loss on the plane less the loss at its middle; either arm at its best learning rate.",
        **plain,
    )
    yield Claim(
        f"{id}-concave",
        f"{arm} against {reference}: a smaller part of the filter-normalized plane curves down {words}.",
        measure=Measure("loss_slice", "concave_share", "filter/2d", "full"),
        scale="difference",
        short=f"{arm}: curves down less than {reference}",
        published="without shortcuts the plane is far from convex" if source else "",
        note="Share of second differences along the axes that are negative; a plane convex along both axes has none.",
        **plain,
    )


def _way(arm: str) -> Claim:
    return Claim(
        f"S-way-{arm}",
        f"The first two principal axes of the way of {arm} hold more than 40 % of its variance.",
        "resnet",
        Measure("loss_slice", "explained_variance", "trajectory/2d", "full", index=1),
        arm,
        None,
        supports="larger",
        scale="value",
        kind="threshold",
        boundary=0.4,
        window="end",
        needs_training=False,
        short=f"{arm}: two axes hold over 40 %",
        source=LI,
        published="40 to 90 %",
        counter_evidence="Antognini & Sohl-Dickstein 2018: so do those of a random walk in many dimensions",
        note="At the primary rate. Says that the picture shows much of the way, not that training is special.",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The numbers of the planes, and the way of training in a plane of its own."""
    (study,) = experiment.studies
    ids = [claim.id for claim in claims(experiment)]
    rates = best_rates(frame, experiment, study.name)
    panels = [
        Panel("rise on the plane", FILTER | {"quantity": "rise"}, log=True),
        Panel("share that curves down", FILTER | {"quantity": "concave_share"}),
    ]
    return (
        Section(
            "How rough the planes are",
            "Each arm at the learning rate of two that ends at the lower loss. Axes are Gaussian, each filter scaled "
            "to the norm of the weight's; coordinate 1 is a move as large as the weights. A plane shows two "
            "directions out of thousands, so a network can be rough where it does not look.",
            claims=tuple(id for id in ids if not id.startswith("S-way")),
            figures=(
                _dots(study, frame, rates, panels[:1]),
                _dots(study, frame, rates, panels[1:]),
                over_rates(
                    "rates",
                    study,
                    frame,
                    [Panel("loss at the end", LOSS, log=True)],
                    title="How the rates were chosen",
                ),
            ),
            tables=(at_end("end", "At the end of training", study, frame, ENDS),),
        ),
        Section(
            "The way of training",
            "The plane is spanned by the principal axes of the weights at eleven moments, and goes through the last.",
            claims=tuple(id for id in ids if id.startswith("S-way")),
            figures=(
                planes(
                    "way",
                    study,
                    frame,
                    WAY,
                    rates=rates,
                    title="The way of training, from the ring to the dot",
                    caption=LAST,
                ),
            ),
        ),
    )


def _dots(study: Study, frame: pd.DataFrame, rates: dict[str, float], panels: list[Panel]) -> Figure:
    return dots(str(panels[0].rows["quantity"]), study, frame, panels, rates=rates, title="Each arm at its best rate")


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The filter-normalized plane of each arm."""
    (study,) = experiment.studies
    rates = best_rates(frame, experiment, study.name)
    return planes(
        "headline",
        study,
        frame,
        FILTER,
        rates=rates,
        title="The loss on a filter-normalized plane",
        caption=f"{LAST} All planes share their levels.",
    )


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted, and for which pairs the plane rises less."""
    held = [v.claim for v in verdicts if v.claim.id.endswith("-rise") and v.verdict == "holds"]
    smoother = ", ".join(f"{claim.arm} than {claim.reference}" for claim in held) or "no pair"
    return f"{tally(verdicts)} The filter-normalized plane rises less for: {smoother}."


ANALYSIS = Analysis(
    name="slices",
    title="Slices of the landscape",
    question="Do shortcuts and normalization make slices through the landscape of a deep network smoother?",
    paper=LI,
    presets={
        "quick": lambda: _experiment("slices-quick", "digits", depth=14, width=4, seeds=5, steps=60, points=9),
        "standard": lambda: _experiment(
            "slices-standard", "cifar10", depth=56, width=1, seeds=5, steps=4000, points=25
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    definitions={
        "rise": "largest loss on the plane, coordinates -1 to 1, less the loss at the network itself.",
        "share that curves down": "share of second differences along the plane's axes that are negative.",
        "plain": "the same network without shortcuts; both have the same weights.",
    },
)
