"""Every normalization there is, on one network, each at its own best learning rate, ranked in every measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Table, Verdict
from landscape.errors import UsageError
from landscape.experiment import Experiment, ProbeSpec, Spec, Study, grid
from landscape.figures import Panel, dots, over_rates, over_seeds
from landscape.frames import format_number, pick
from landscape.models import build_model
from landscape.normalization import NORMALIZATIONS
from landscape.statistics import best_rates

CHANNELS = [8, "M", 16, "M", 32]
SCALED = {"probe": "gradient_path", "variant": "gradient/scaled", "batch": "same"}
INVARIANT = SCALED | {"variant": "scale-invariant/scaled"}
END = {"probe": "training"}

#: What is ranked: title, rows, whether small is good, whether its axis is logarithmic.
TRAINING = (
    (Panel("test accuracy", END | {"quantity": "test_accuracy"}), False),
    (Panel("full loss", END | {"quantity": "full_loss"}, log=True), True),
)
LANDSCAPE = (
    (Panel("loss range", SCALED | {"quantity": "loss_range"}, log=True), True),
    (Panel("max distance", SCALED | {"quantity": "predictiveness"}, log=True), True),
    (Panel("max beta", SCALED | {"quantity": "effective_smoothness"}, log=True), True),
    (Panel("scale-invariant beta", INVARIANT | {"quantity": "effective_smoothness"}, log=True), True),
    (Panel("lr g'Hg/|g|^2", {"probe": "curvature", "quantity": "step_curvature"}), True),
)


def arms(model: str = "convnet", **options: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    """Every normalization that can stand in the network; and those that can't, with the reason."""
    known, refused = [], {}
    for name in NORMALIZATIONS:
        try:
            build_model(model, norm=name, output_size=10, **options or {"input_shape": (1, 8, 8), "channels": CHANNELS})
            known.append(name)
        except UsageError as error:
            refused[name] = str(error)
    return tuple(known), refused


def refusals(model: str = "convnet", **options: Any) -> str:
    """What a report says of those that can't stand in the network; nothing where all can."""
    refused = "; ".join(f"{name}: {why}" for name, why in arms(model, **options)[1].items())
    return f"\n\nNot in this network: {refused}" if refused else ""


def _experiment(name: str, *, steps: int, seeds: int, every: int) -> Experiment:
    multiples = {"multiples": [0.5, 2.0**0.5, 4.0]}
    along = ProbeSpec("gradient_path", every=every, options=multiples)
    invariant = ProbeSpec("gradient_path", every=every, options={"direction": "scale-invariant"} | multiples)
    study = grid(
        "digits", Spec("convnet", {"channels": CHANNELS}), "digits", arms()[0], (0.1, 0.5, 2.0), primary_rate=0.5,
        seeds=seeds, steps=steps, evaluate_every=every, probes=(along, invariant, ProbeSpec("curvature", every=every)),
    )  # fmt: skip
    return Experiment(name, (study,))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Each normalization against none, either at its own best rate: faster training, smoother landscape."""
    return tuple(claim for arm in experiment.studies[0].arms if arm.norm != "none" for claim in _claims(arm.label))


def _claims(arm: str) -> Iterator[Claim]:
    yield Claim(
        f"{arm}-loss",
        f"With {arm} normalization training ends at a lower loss than without any, either at its best learning rate.",
        "digits",
        Measure.training("full_loss"),
        arm,
        window="end",
        rate="best",
        needs_training=False,
        short=f"{arm}: lower loss at the end",
    )
    yield Claim(
        f"{arm}-beta",
        f"With {arm} normalization the effective smoothness beta is smaller than without any, either at its best rate.",
        "digits",
        Measure("gradient_path", "effective_smoothness", "gradient/scaled"),
        arm,
        matched=True,
        landscape=True,
        rate="best",
        short=f"{arm}: smaller beta",
        note="The window of step sizes follows the learning rate, so arms with different best rates are looked at over "
        "different distances.",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The ranking in training and in the landscape, and how the rates were chosen."""
    study, rates = experiment.studies[0], best_rates(frame, experiment, "digits")
    ids = [claim.id for claim in claims(experiment)]
    grid = [Panel("full loss at the end", END | {"quantity": "full_loss"}, log=True)]
    return (
        Section(
            "Training",
            "Every arm at the learning rate of three at which its median full loss is lowest at the end." + refusals(),
            claims=tuple(id for id in ids if id.endswith("-loss")),
            figures=(
                _dots("losses", study, frame, rates, TRAINING[1:]),
                over_rates("rates", study, frame, grid, title="How the rates were chosen"),
            ),
            tables=(_ranking("training", study, frame, rates, TRAINING),),
        ),
        Section(
            "The landscape along the gradient",
            "Median over the steps of a run. Smaller is smoother, but a value that the learning rate sets says little: "
            "where lr g'Hg/|g|^2 is near 2, beta is set by the rate.",
            claims=tuple(id for id in ids if id.endswith("-beta")),
            figures=tuple(
                _dots(f"landscape-{k}", study, frame, rates, part)
                for k, part in enumerate((LANDSCAPE[:3], LANDSCAPE[3:]))
            ),
            tables=(_ranking("landscape", study, frame, rates, LANDSCAPE),),
        ),
    )


def _dots(
    name: str, study: Study, frame: pd.DataFrame, rates: Mapping[str, float], part: tuple[tuple[Panel, bool], ...]
) -> Figure:
    panels = [panel for panel, _ in part]
    if part[0] in TRAINING:  # at the end; the others are medians over the steps of a run
        frame = pick(frame, step=study.steps)
    return dots(name, study, frame, panels, rates=_ordered(study, frame, rates), title="Each at its best rate")


def _ordered(study: Study, frame: pd.DataFrame, rates: Mapping[str, float]) -> dict[str, float]:
    """The arms with their rates, the highest test accuracy first."""
    last = pick(frame, study=study.name, probe="training", quantity="test_accuracy", step=study.steps)
    score = {arm: pick(last, arm=arm, learning_rate=rate)["value"].mean() for arm, rate in rates.items()}
    return {arm: rates[arm] for arm in sorted(rates, key=lambda arm: -score[arm])}


def _ranking(
    name: str, study: Study, frame: pd.DataFrame, rates: Mapping[str, float], part: tuple[tuple[Panel, bool], ...]
) -> Table:
    """A row per arm: in each measure its rank, mean and 95 % interval over seeds."""
    ordered = _ordered(study, frame, rates)
    table = pd.DataFrame({"arm": list(ordered), "lr": [f"{rate:g}" for rate in ordered.values()]})
    for panel, small in part:
        rows = pick(frame, study=study.name, **panel.rows)
        rows = pick(rows, step=study.steps) if panel.rows["probe"] == "training" else rows
        seeds = [
            pick(rows, arm=a, learning_rate=r).groupby("seed")["value"].median().tolist() for a, r in ordered.items()
        ]
        found = [over_seeds(values, log=panel.log) for values in seeds]
        rank = pd.Series([one[0] for one in found]).rank(ascending=small, method="min", na_option="bottom")
        table[panel.title] = [
            f"{place:.0f}. {format_number(one[0])} [{format_number(one[1])}, {format_number(one[2])}]"
            for place, one in zip(rank, found, strict=True)
        ]
    return Table(name, "Rank, mean and 95 % interval over seeds", table)


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Test accuracy of every arm."""
    return _dots("headline", experiment.studies[0], frame, best_rates(frame, experiment, "digits"), TRAINING[:1])


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Which train faster, which are smoother, which are both."""
    held = {
        kind: [v.claim.arm for v in verdicts if v.claim.id.endswith(kind) and v.verdict == "holds"]
        for kind in ("-loss", "-beta")
    }
    both = [arm for arm in held["-loss"] if arm in held["-beta"]]
    count = sum(v.verdict == "holds" for v in verdicts)
    return (
        f"{count} of {len(verdicts)} claims hold. Lower loss than without normalization: "
        f"{', '.join(held['-loss']) or 'none'}. Smaller beta: {', '.join(held['-beta']) or 'none'}. "
        f"Both: {', '.join(both) or 'none'}."
    )


ANALYSIS = Analysis(
    name="normalizations",
    title="Every normalization on one network",
    question="Which normalizations train this network faster, and which make its landscape smoother?",
    paper="",
    presets={
        "quick": lambda: _experiment("normalizations-quick", steps=100, seeds=5, every=20),
        "standard": lambda: _experiment("normalizations-standard", steps=400, seeds=8, every=20),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    definitions={
        "best rate": "of three learning rates, the one with the lowest median over seeds of the full loss at the end.",
        "max beta": "max over step sizes of ||grad L(w - eta g) - g|| / (eta ||g||), eta in [1/2, 4] x lr.",
    },
)
