"""Before training: how gradients grow and directions collapse with depth, against mean-field theory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import each_run, number
from landscape.experiment import Experiment, ProbeSpec, Spec, grid
from landscape.figures import Panel, at_end, dots, over_layers
from landscape.frames import pick
from landscape_analyses.normalizations import arms, refusals

#: Growth is taken from here on: closer to the data the normalized layers are not yet at their fixed point.
FIRST = 4
RATE = 1e-30  # of the one step that a run has to have: it moves nothing
LINEAR = {8: "linear-8", 16: "linear-16", 64: "linear-64"}  # batch size -> study
PAIR = ("none", "batch")
YANG = "Yang et al. 2019 (arXiv 1902.08129)"
DANESHMAND = "Daneshmand et al. 2020 (arXiv 2003.01652)"
SHOWN = ["none", "batch", "layer", "rms", "weight", "selu", "norm-propagation"]


def theory(study: str) -> float:
    """Growth per layer with batch normalization: pi / (pi - 1) with ReLU and large B, (B - 2) / (B - 3) without."""
    size = study.removeprefix("linear-")
    return (int(size) - 2) / (int(size) - 3) if size.isdigit() else math.pi / (math.pi - 1)


def _experiment(name: str, *, width: int, seeds: int) -> Experiment:
    norms, _ = arms("mlp", input_shape=(width,), hidden=[width])
    linear = {"activation": "identity", "init": "lecun"}
    #: Of each study: arms, width, depth, batch size and what else the network is.
    shapes = {
        "relu": (norms, width, 16, 256, {}),
        **{study: (PAIR, 2 * width, 12, size, linear) for size, study in LINEAR.items()},
        "rank-relu": (PAIR, 32, 100, 32, {}),
        "rank-linear": (PAIR, 32, 100, 32, linear),
    }
    once = partial(grid, rates=(RATE,), seeds=seeds, steps=1, probes=(ProbeSpec("signals", at=(0,)),))
    studies = []
    for study, (normalized, units, depth, batch, options) in shapes.items():
        network = Spec("mlp", {"hidden": [units] * depth} | options)
        inputs = Spec("gaussian-inputs", {"samples": batch, "shape": [units]})
        studies.append(once(study, network, inputs, normalized, batch_size=batch))
    return Experiment(name, tuple(studies))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Per run: geometric mean of the growth per layer, its log10 ratio to theory, the rank before the output layer."""
    parts = []
    for study in experiment.studies:
        rows = pick(frame, study=study.name, probe="signals", step=0)
        rows = rows.assign(depth=rows["layer"].str.extract(r"(\d+)", expand=False).astype(int)).sort_values("depth")
        back = pick(rows[rows["depth"] >= FIRST], quantity="input_gradient")
        growth = each_run(back, study, "growth", lambda own: _per_layer(own["value"].to_numpy()))
        excess = growth.assign(quantity="excess", value=np.log10(growth["value"] / theory(study.name)))
        rank = each_run(pick(rows, quantity="rank"), study, "last_rank", lambda own: own["value"].iloc[-1])
        parts += [growth, excess, rank]
    return pd.concat(parts, ignore_index=True)


def _per_layer(gradients: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """(first / last)^(2 / layers between): how much the squared gradient grows in a layer, on its way back."""
    return float((gradients[0] / gradients[-1]) ** (2 / (len(gradients) - 1)))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Growth as theory has it, larger than without normalization; directions kept, and lost without it."""
    return tuple(_claims())


def _claims() -> Iterator[Claim]:
    claim = partial(Claim, window="end", needs_training=False)
    alone = partial(claim, reference=None, scale="value")
    without = "batch of {}: grows by {:.3f} without ReLU"
    growths = {study: (without.format(size, theory(study)), "") for size, study in LINEAR.items()}
    with_relu = ("batch: grows by pi / (pi - 1) a layer with ReLU", "1.467 at large batches")
    for study, (short, published) in ({"relu": with_relu} | growths).items():
        yield alone(f"M-{study}", f"With batch normalization the squared gradient grows by {theory(study):.4g} a "
                    "layer, within 3 %.", study, Measure.derived("excess"), "batch", supports="larger",
                    kind="equivalence", boundary=math.log10(1.03), source=YANG, short=short, published=published,
                    note="The value is log10 of the growth over the theory's, which is of infinitely wide layers.",
                    )  # fmt: skip
    yield claim("M-explode", "Gradients grow more from layer to layer with batch normalization than without, by 10 % "
                "or more.", "relu", Measure.derived("growth"), "batch", supports="larger", boundary=math.log10(1.1),
                source=YANG, short="batch: gradients grow more than with none")  # fmt: skip
    half, after = 0.5 * math.sqrt(32), "After 100 layers the rank of 32 samples in 32 units is"
    for kind in ("relu", "linear"):
        rank = partial(alone, study=f"rank-{kind}", measure=Measure.derived("last_rank"), kind="threshold")
        yield rank(f"M-rank-{kind}-batch", f"{after} above {half:.3g} with batch.", arm="batch", supports="larger",
                   boundary=half, source=DANESHMAND, short=f"{kind}, batch: directions are kept",
                   published="of order sqrt(32) = 5.66 with batch normalization",
                   note="The theorem has a constant that is not stated; half of sqrt(32) is a choice.")  # fmt: skip
        yield rank(f"M-rank-{kind}-none", f"{after} below 1.5 with none.", arm="none", boundary=-1.5,
                   source=DANESHMAND, published="1 in the limit of depth",
                   short=f"{kind}, none: one direction is left")  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Growth by depth and for every normalization; rank likewise."""
    relu, linear, rank = (experiment.study(name) for name in ("relu", "linear-8", "rank-relu"))
    ids = tuple(claim.id for claim in claims(experiment))
    ranks = tuple(id for id in ids if id.startswith("M-rank"))
    few = pick(frame, arm=SHOWN)
    back = [Panel("gradient at the layer's input", {"probe": "signals", "quantity": "input_gradient"}, log=True)]
    left = {"probe": "signals", "quantity": "rank"}
    bound, plain = Panel("rank", left, log=True, guide=math.sqrt(32)), Panel("rank", left, log=True)
    width = relu.data.options["shape"][0]
    columns = {"growth": number("growth"), "rank": number("last_rank")}
    return (
        Section(
            "How gradients grow on their way back",
            f"Growth is the geometric mean from layer {FIRST} on of the quotient of squared gradients at the inputs of "
            "two layers that follow each other. Inputs are Gaussian, nothing is trained."
            + refusals("mlp", input_shape=(width,), hidden=[width]),
            claims=tuple(id for id in ids if id not in ranks),
            figures=(
                over_layers("gradients", relu, few, back, step=0, title="With ReLU, 256 samples"),
                over_layers("linear", linear, frame, back, step=0, title="Without ReLU, 8 samples"),
            ),
            tables=(at_end("growth", "With ReLU: growth per layer, rank before the output", relu, frame, columns),),
        ),
        Section(
            "Which directions are left",
            "Rank is tr(M)^2 / ||M||^2 of the samples' second moments M = X X': 1 where all have one direction.",
            claims=ranks,
            figures=(
                over_layers(
                    "ranks", rank, frame, [bound], step=0, title="ReLU, 32 samples in 32 units (line: sqrt(32))"
                ),
                over_layers("ranks-all", relu, few, [plain], step=0, title="ReLU, 256 samples"),
            ),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Growth and rank of every normalization, with ReLU."""
    study = experiment.study("relu")
    growth, rank = number("growth"), number("last_rank")
    panels = [Panel("growth per layer", growth, log=True), Panel("rank", rank, log=True)]
    order = pick(frame, study="relu", **growth).groupby("arm")["value"].median().sort_values()
    rates = dict.fromkeys(order.index, RATE)
    caption = (
        f"Squared gradient per layer on its way back (theory for batch: {theory('relu'):.3f}); rank of 256 samples "
        "before the output layer."
    )
    return dots("headline", study, frame, panels, rates=rates, title="At initialization, with ReLU", caption=caption)


ANALYSIS = Analysis(
    name="mean-field",
    title="Gradients and ranks by depth, before training",
    question="How do gradients grow and directions collapse with depth under each normalization?",
    paper=f"{YANG}; {DANESHMAND}",
    presets={
        "quick": lambda: _experiment("mean-field-quick", width=256, seeds=5),
        "standard": lambda: _experiment("mean-field-standard", width=1024, seeds=8),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={
        "growth": "(||dL/dX_4|| / ||dL/dX_n||)^(2 / (n - 4)), X_l the input of layer l, n the output layer.",
        "rank": "tr(M)^2 / ||M||_F^2 with M = X X', X (samples, units) the input of the output layer.",
    },
)
