"""Batch normalization's own experiments (Ioffe & Szegedy 2015): a sigmoid network, and Inception at high rates."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Table, Verdict
from landscape.derived import largest_stable_rate, per_run, steps_to
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, over_rates, over_steps, tally
from landscape.frames import format_number, pick

SOURCE = "Ioffe & Szegedy 2015, arXiv 1502.03167"
ACCURACY: dict[str, Any] = {"probe": "training", "quantity": "test_accuracy"}
DERIVED = {q: {"probe": "derived", "quantity": q} for q in ("steps_to_plain", "best_accuracy", "drift")}
UNIT: dict[str, Any] = {"probe": "activations", "quantity": "first_unit_percentile"}
SIGMOID = {"activation": "sigmoid", "init": "glorot"}
#: The paper's table: network, our arm, learning rate over the first, steps to 72.2 % in millions, best accuracy.
PAPER = (
    ("Inception", "none", 1, "31.0", "72.2 %"),
    ("BN-Baseline", "batch", 1, "13.3", "72.7 %"),
    ("BN-x5", "batch", 5, "2.1", "73.0 %"),
    ("BN-x30", "batch", 30, "2.7", "74.8 %"),
    ("BN-x5-Sigmoid", "batch+sigmoid", 5, "-", "69.8 %"),
)


def _experiment(name: str, data: str, channels: list[Any], *, rate: float, seeds: int, steps: int) -> Experiment:
    sigmoid = Study(
        name="sigmoid",
        model=Spec("mlp", {"hidden": [100] * 3} | SIGMOID),
        data=Spec(data),
        arms=(Arm("none"), Arm("batch")),
        learning_rates=(0.1, 0.5, 2.0),
        primary_rate=0.5,
        seeds=tuple(range(seeds)),
        steps=4 * steps,
        batch_size=60,
        evaluate_every=steps // 5,
        full_batches=4,
        probes=(ProbeSpec("activations", every=steps // 5, options={"layers": ["fc3"], "histograms": False}),),
    )
    inception = Study(
        name="inception",
        model=Spec("inception", {"channels": channels}),
        data=Spec(data),
        arms=(
            Arm("none"),
            Arm("batch"),
            Arm("none", name="none+sigmoid", options=SIGMOID, learning_rates=(5 * rate,)),
            Arm("batch", name="batch+sigmoid", options=SIGMOID, learning_rates=(5 * rate,)),
        ),
        learning_rates=(rate, 5 * rate, 30 * rate),
        primary_rate=rate,
        seeds=tuple(range(seeds)),
        steps=steps,
        batch_size=32,
        optimizer=Spec("sgd", {"momentum": 0.9}),
        evaluate_every=steps // 15,
        full_batches=4,
    )
    return Experiment(name, (sigmoid, inception))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Steps to the plain network's best accuracy, best accuracies, drift of percentiles, largest stable rates."""
    rows = []
    for study in experiment.studies:
        best = per_run(frame, study, "best_accuracy", lambda v: v.max(), quantity="test_accuracy")
        plain = pick(best, arm="none", learning_rate=study.primary_rate).set_index("seed")["value"]
        level = {int(seed): float(value) for seed, value in plain.items()}  # type: ignore[call-overload]
        rows += [best, steps_to(frame, study, "steps_to_plain", level, quantity="test_accuracy")]
    sigmoid, inception = experiment.studies
    rows.append(per_run(frame, sigmoid, "drift", lambda v: v.sum(), probe="activations", quantity="percentile_shift"))
    rows.append(largest_stable_rate(frame, inception))
    return pd.concat(rows, ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """B-1 to B-4 and B-6; the scale identities, B-5, are tests of the normalization."""
    sigmoid, inception = experiment.studies

    def claim(id: str, statement: str, study: Study, quantity: str, short: str, **kind: Any) -> Claim:
        probe = "training" if quantity.endswith("_accuracy") else "derived"
        plain: dict[str, Any] = {"arm": "batch", "window": "end", "needs_training": False, "source": SOURCE}
        return Claim(id, statement, study.name, Measure(probe, quantity, batch=""), short=short, **plain | kind)

    x5 = inception.learning_rates[1]
    alone: dict[str, Any] = {"reference": None, "scale": "value", "kind": "threshold", "rate": x5}
    return (
        claim("B-1", "The sigmoid network's test accuracy, averaged over training, is higher with batch normalization.",
              sigmoid, "test_accuracy", "sigmoid: higher test accuracy along the way", supports="larger",
              scale="difference", window="all", reduce="mean", published="figure 1a, no number printed"),
        claim("B-1-steps", "It reaches the plain network's best test accuracy in fewer steps.", sigmoid,
              "steps_to_plain", "sigmoid: fewer steps to the plain network's best"),
        claim("B-2", "The percentiles of the last hidden layer's inputs drift less than half as far with it.", sigmoid,
              "drift", "sigmoid: percentiles drift less than half as far", boundary=math.log10(2.0),
              published="figure 1b and c, one unit",
              note="In the inputs' own units, mean over units; batch normalization also sets their scale."),
        claim("B-3", "The largest rate at which Inception trains is more than 5 times as large with it.", inception,
              "largest_stable_rate", "Inception: largest stable rate more than 5x", supports="larger",
              boundary=math.log10(5.0), note="Resolved to the grid of rates x1, x5 and x30.",
              published="x30 trains; x5 without it reaches machine infinity"),
        claim("B-4-none", "Without it Inception with sigmoids stays at chance: train accuracy below 0.2.", inception,
              "train_accuracy", "Inception, sigmoid: at chance without", arm="none+sigmoid", boundary=-0.2, **alone,
              published="stays at 1/1000"),
        claim("B-4-batch", "With it Inception with sigmoids trains: train accuracy above 0.5.", inception,
              "train_accuracy", "Inception, sigmoid: trains with it", arm="batch+sigmoid", supports="larger",
              boundary=0.5, **alone, published="69.8 % on ImageNet"),
        claim("B-6", "Either at its best rate, Inception with it reaches the plain network's best in fewer steps.",
              inception, "steps_to_plain", "Inception: fewer steps, best rate each", rate="best",
              published="14.8 times fewer at x5, 11.5 at x30",
              counter_evidence="De & Smith 2020: at small batches the best rates are similar and the gain is small"),
    )  # fmt: skip


def _table(study: Study, frame: pd.DataFrame) -> Table:
    """The paper's table with our medians beside it."""
    rows = []
    for network, arm, times, steps, best in PAPER:
        own = pick(frame, study=study.name, arm=arm, learning_rate=study.learning_rates[(1, 5, 30).index(times)])
        ours = [pick(own, **DERIVED[q])["value"].median() for q in ("steps_to_plain", "best_accuracy")]
        reached = "not reached" if math.isinf(ours[0]) else format_number(ours[0])
        rows.append((network, f"x{times}", steps, best, reached, format_number(ours[1])))
    head = ["network", "lr", "paper: 10^6 steps to 72.2 %", "paper: best", "ours: steps to plain's best", "ours: best"]
    return Table("paper", "The paper's table (ImageNet) and ours", pd.DataFrame(rows, columns=head))


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The two experiments of the paper."""
    sigmoid, inception = experiment.studies
    columns = {"best test accuracy": DERIVED["best_accuracy"], "steps to plain's best": DERIVED["steps_to_plain"]}
    unit = [Panel(f"{q}th percentile of the input", UNIT | {"index": k}) for k, q in enumerate((15, 50, 85))]
    return (
        Section(
            "Three sigmoid layers of 100",
            "The paper does not state optimizer and learning rate; here SGD, weights by Glorot. Percentiles are of "
            "the first unit of the last hidden layer, on a fixed mini-batch.",
            claims=("B-1", "B-1-steps", "B-2"),
            figures=(over_steps("percentiles", sigmoid, frame, unit, title="Input of one sigmoid", columns=3),),
            tables=(at_end("sigmoid", "Of whole runs", sigmoid, frame, columns | {"drift": DERIVED["drift"]}),),
        ),
        Section(
            "Inception",
            "A small network of the same modules on small images, SGD with momentum 0.9. Steps are counted where test "
            "accuracy was recorded.",
            claims=("B-3", "B-4-none", "B-4-batch", "B-6"),
            figures=(over_rates("rates", inception, frame, [Panel("test accuracy at the end", ACCURACY)],
                                title="Inception over learning rates", columns=1),),
            tables=(_table(inception, frame), at_end("inception", "Of whole runs", inception, frame, columns)),
        ),
    )  # fmt: skip


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Test accuracy of the sigmoid network over steps, as in figure 1a."""
    panel = Panel("test accuracy", ACCURACY)
    return over_steps("headline", experiment.studies[0], frame, [panel], title="Three sigmoid layers", columns=1)


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted."""
    return tally(verdicts)


IOFFE_SZEGEDY = Analysis(
    name="ioffe-szegedy",
    title="Batch normalization's own experiments",
    question="Does batch normalization speed training up, steady the inputs of layers and allow higher rates?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment("ioffe-szegedy-quick", "digits", [4, "M", 8], rate=0.003, seeds=5, steps=150),
        "standard": lambda: _experiment(
            "ioffe-szegedy-standard", "cifar10", [16, 16, "M", 32, 32], rate=0.003, seeds=5, steps=4500
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    derive=derive,
    definitions={
        "steps to plain's best": "first recorded step with the best test accuracy that none has at the primary rate.",
        "drift": "sum over probes of how far the three percentiles moved, mean over the layer's units.",
    },
)
