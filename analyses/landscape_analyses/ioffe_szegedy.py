"""Batch normalization's own experiments (Ioffe & Szegedy 2015): a sigmoid network, and Inception at high rates."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Table
from landscape.derived import largest_stable_rate, number, per_run, steps_to
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study, grid
from landscape.figures import ACCURACY, Panel, at_end, over_rates, over_steps
from landscape.frames import format_number, pick

SOURCE = "Ioffe & Szegedy 2015, arXiv 1502.03167"
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
    three, modules = Spec("mlp", {"hidden": [100] * 3} | SIGMOID), Spec("inception", {"channels": channels})
    inputs = ProbeSpec("activations", every=steps // 5, options={"layers": ["fc3"], "histograms": False})
    with_sigmoid = partial(Arm, options=SIGMOID, learning_rates=(rate, 5 * rate))
    sigmoid = grid(
        "sigmoid", three, data, ("none", "batch"), (0.5, 2.0, 8.0), primary_rate=2.0, seeds=seeds, steps=4 * steps,
        batch_size=60, evaluate_every=steps // 5, full_batches=4, probes=(inputs,),
    )  # fmt: skip
    inception = grid(
        "inception", modules, data,
        ("none", "batch", with_sigmoid("none", name="none+sigmoid"), with_sigmoid("batch", name="batch+sigmoid")),
        (rate, 5 * rate, 30 * rate), seeds=seeds, steps=steps, batch_size=32,
        optimizer=Spec("sgd", {"momentum": 0.9}), evaluate_every=steps // 15, full_batches=4,
    )  # fmt: skip
    return Experiment(name, (sigmoid, inception))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Steps to the plain network's best accuracy, best accuracies, drift of percentiles, largest stable rates."""
    rows = []
    for study in experiment.studies:
        best = per_run(frame, study, "best_accuracy", lambda v: v.max(), quantity="test_accuracy")
        plain = pick(best, arm="none", learning_rate=study.primary_rate).set_index("seed")["value"]
        rows += [best, steps_to(frame, study, "steps_to_plain", plain, quantity="test_accuracy")]
    sigmoid, inception = experiment.studies
    rows.append(per_run(frame, sigmoid, "drift", lambda v: v.sum(), probe="activations", quantity="percentile_shift"))
    rows.append(largest_stable_rate(frame, inception, against=("none",)))
    return pd.concat(rows, ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """B-1 to B-4 and B-6; the scale identities, B-5, are tests of the normalization."""
    accuracy, trained = Measure.training("test_accuracy"), Measure.training("train_accuracy")
    steps, drift, stable = (Measure.derived(name) for name in ("steps_to_plain", "drift", "largest_stable_rate"))
    claim = partial(Claim, arm="batch", window="end", needs_training=False, source=SOURCE)
    alone = partial(claim, reference=None, scale="value", kind="threshold", rate="best")
    return (
        claim("B-1", "The sigmoid network's test accuracy, averaged over training, is higher with batch normalization.",
              "sigmoid", accuracy, supports="larger", scale="difference", window="all", reduce="mean",
              short="sigmoid: higher test accuracy along the way", published="figure 1a, no number printed"),
        claim("B-1-steps", "It reaches the plain network's best test accuracy in fewer steps.", "sigmoid", steps,
              short="sigmoid: fewer steps to the plain network's best"),
        claim("B-2", "The percentiles of the last hidden layer's inputs drift less than half as far with it.",
              "sigmoid", drift, boundary=math.log10(2.0), short="sigmoid: percentiles drift less than half as far",
              published="figure 1b and c, one unit",
              note="In the inputs' own units, mean over units; batch normalization also sets their scale."),
        claim("B-3", "The largest rate at which Inception trains is more than 5 times as large with it.",
              "inception", stable, supports="larger", boundary=math.log10(5.0),
              short="Inception: largest stable rate more than 5x", note="Resolved to the grid of rates x1, x5 and x30.",
              published="x30 trains; x5 without it reaches machine infinity"),
        alone("B-4-none", "Without it Inception with sigmoids stays at chance, at the better of x1 and x5: train "
              "accuracy below 0.2.", "inception", trained, arm="none+sigmoid", boundary=-0.2,
              short="Inception, sigmoid: at chance without", published="stays at 1/1000"),
        alone("B-4-batch", "With it Inception with sigmoids trains, at the better of x1 and x5: train accuracy above "
              "0.5.", "inception", trained, arm="batch+sigmoid", supports="larger", boundary=0.5,
              short="Inception, sigmoid: trains with it", published="69.8 % on ImageNet"),
        claim("B-6", "Either at its best rate, Inception with it reaches the plain network's best in fewer steps.",
              "inception", steps, rate="best", short="Inception: fewer steps, best rate each",
              published="2.3 times fewer at x1, 14.8 at x5, 11.5 at x30",
              counter_evidence="De & Smith 2020: at small batches the best rates are similar and the gain is small"),
    )  # fmt: skip


def _table(study: Study, frame: pd.DataFrame) -> Table:
    """The paper's table with our medians beside it."""
    rows = []
    for network, arm, times, steps, best in PAPER:
        own = pick(frame, study=study.name, arm=arm, learning_rate=study.learning_rates[(1, 5, 30).index(times)])
        ours = [pick(own, **number(name))["value"].median() for name in ("steps_to_plain", "best_accuracy")]
        reached = "not reached" if math.isinf(ours[0]) else format_number(ours[0])
        rows.append((network, f"x{times}", steps, best, reached, format_number(ours[1])))
    head = ["network", "lr", "paper: 10^6 steps to 72.2 %", "paper: best", "ours: steps to plain's best", "ours: best"]
    return Table("paper", "The paper's table (ImageNet) and ours", pd.DataFrame(rows, columns=head))


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The two experiments of the paper."""
    sigmoid, inception = experiment.studies
    columns = {"best test accuracy": number("best_accuracy"), "steps to plain's best": number("steps_to_plain")}
    unit = {"probe": "activations", "quantity": "first_unit_percentile"}
    percentiles = [Panel(f"{q}th percentile of the input", unit | {"index": k}) for k, q in enumerate((15, 50, 85))]
    end = [Panel("test accuracy at the end", ACCURACY)]
    return (
        Section(
            "Three sigmoid layers of 100",
            "The paper does not state optimizer and learning rate; here SGD, weights by Glorot. Percentiles are of "
            "the first unit of the last hidden layer, on a fixed mini-batch.",
            claims=("B-1", "B-1-steps", "B-2"),
            figures=(over_steps("percentiles", sigmoid, frame, percentiles, title="Input of one sigmoid", columns=3),),
            tables=(at_end("sigmoid", "Of whole runs", sigmoid, frame, columns | {"drift": number("drift")}),),
        ),
        Section(
            "Inception",
            "A small network of the same modules on small images, SGD with momentum 0.9; rate x1 is near the plain "
            "network's best. Steps are counted where test "
            "accuracy was recorded.",
            claims=("B-3", "B-4-none", "B-4-batch", "B-6"),
            figures=(over_rates("rates", inception, frame, end, title="Inception over learning rates"),),
            tables=(_table(inception, frame), at_end("inception", "Of whole runs", inception, frame, columns)),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Test accuracy of the sigmoid network over steps, as in figure 1a."""
    panel = Panel("test accuracy", ACCURACY)
    return over_steps("headline", experiment.studies[0], frame, [panel], title="Three sigmoid layers")


ANALYSIS = Analysis(
    name="ioffe-szegedy",
    title="Batch normalization's own experiments",
    question="Does batch normalization speed training up, steady the inputs of layers and allow higher rates?",
    paper=SOURCE,
    presets={
        "quick": lambda: _experiment("ioffe-szegedy-quick", "digits", [4, "M", 8], rate=0.1, seeds=5, steps=300),
        "standard": lambda: _experiment(
            "ioffe-szegedy-standard", "cifar10", [16, 16, "M", 32, 32], rate=0.02, seeds=5, steps=4500
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={
        "steps to plain's best": "first recorded step with the best test accuracy that none has at the primary rate.",
        "drift": "sum over probes of how far the three percentiles moved, mean over the layer's units.",
    },
)
