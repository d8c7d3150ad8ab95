"""Before training: how gradients grow and directions collapse with depth, against mean-field theory."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import derived
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, dots, over_layers
from landscape.frames import RUN, pick
from landscape_analyses.normalizations import arms

#: Growth is taken from here on: closer to the data the normalized layers are not yet at their fixed point.
FIRST = 4
RATE = 1e-30  # of the one step that a run has to have: it moves nothing
LINEAR = (8, 16, 64)  # batch sizes
YANG = "Yang et al. 2019 (arXiv 1902.08129)"
DANESHMAND = "Daneshmand et al. 2020 (arXiv 2003.01652)"
SHOWN = ["none", "batch", "layer", "rms", "weight", "selu", "norm-propagation"]
GROWTH = {"probe": "derived", "quantity": "growth"}
RANK = {"probe": "derived", "quantity": "last_rank"}


def theory(study: str) -> float:
    """Growth per layer with batch normalization: pi / (pi - 1) with ReLU and large B, (B - 2) / (B - 3) without."""
    size = study.removeprefix("linear-")
    return (int(size) - 2) / (int(size) - 3) if size.isdigit() else math.pi / (math.pi - 1)


def _study(name: str, norms: tuple[str, ...], seeds: int, *, width: int, depth: int, batch: int, linear: bool) -> Study:
    options = {"hidden": [width] * depth} | ({"activation": "identity", "init": "lecun"} if linear else {})
    return Study(
        name=name,
        model=Spec("mlp", options),
        data=Spec("gaussian-inputs", {"samples": batch, "shape": [width]}),
        arms=tuple(Arm(norm) for norm in norms),
        learning_rates=(RATE,),
        primary_rate=RATE,
        seeds=tuple(range(seeds)),
        steps=1,
        batch_size=batch,
        probes=(ProbeSpec("signals", at=(0,)),),
    )


def _experiment(name: str, *, width: int, seeds: int) -> Experiment:
    norms = arms("mlp", input_shape=(width,), hidden=[width])[0]
    pair = ("none", "batch")
    return Experiment(
        name,
        (
            _study("relu", norms, seeds, width=width, depth=16, batch=256, linear=False),
            *(_study(f"linear-{b}", pair, seeds, width=2 * width, depth=12, batch=b, linear=True) for b in LINEAR),
            _study("rank-relu", pair, seeds, width=32, depth=100, batch=32, linear=False),
            _study("rank-linear", pair, seeds, width=32, depth=100, batch=32, linear=True),
        ),
    )


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Per run: geometric mean of the growth per layer, its log10 ratio to theory, the rank before the output layer."""
    parts = []
    for study in experiment.studies:
        rows = pick(frame, study=study.name, probe="signals", step=0)
        rows = rows.assign(depth=rows["layer"].str.extract(r"(\d+)", expand=False).astype(int))
        back = rows[(rows["quantity"] == "input_gradient") & (rows["depth"] >= FIRST)].sort_values("depth")
        growth = back.groupby(RUN)["value"].agg(_per_layer).reset_index()
        excess = growth.assign(value=np.log10(growth["value"] / theory(study.name)))
        rank = rows[rows["quantity"] == "rank"].sort_values("depth").groupby(RUN)["value"].last().reset_index()
        parts += [derived(growth, study, "growth"), derived(excess, study, "excess"), derived(rank, study, "last_rank")]
    return pd.concat(parts, ignore_index=True)


def _per_layer(gradients: pd.Series) -> float:
    """(first / last)^(2 / layers between): how much the squared gradient grows in a layer, on its way back."""
    values = gradients.to_numpy()
    return float((values[0] / values[-1]) ** (2 / (len(values) - 1)))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Growth as theory has it, larger than without normalization; directions kept, and lost without it."""
    found = [_as_theory("M-relu", "relu", "batch: grows by pi / (pi - 1) a layer with ReLU", "1.467 at large batches")]
    found += [
        _as_theory(
            f"M-linear-{b}", f"linear-{b}", f"batch of {b}: grows by {theory(f'linear-{b}'):.3f} without ReLU", ""
        )
        for b in LINEAR
    ]
    found.append(
        Claim(
            "M-explode",
            "Gradients grow more from layer to layer with batch normalization than without, by 10 % or more.",
            "relu",
            Measure("derived", "growth", batch=""),
            "batch",
            supports="larger",
            boundary=math.log10(1.1),
            window="end",
            needs_training=False,
            source=YANG,
            short="batch: gradients grow more than with none",
        )
    )
    for kind in ("relu", "linear"):
        found += [_rank(kind, "batch", 0.5 * math.sqrt(32), "larger"), _rank(kind, "none", 1.5, "smaller")]
    return tuple(found)


def _as_theory(id: str, study: str, short: str, published: str) -> Claim:
    return Claim(
        id,
        f"With batch normalization the squared gradient grows by {theory(study):.4g} a layer, within 3 %.",
        study,
        Measure("derived", "excess", batch=""),
        "batch",
        None,
        supports="larger",
        scale="value",
        kind="equivalence",
        boundary=math.log10(1.03),
        window="end",
        needs_training=False,
        source=YANG,
        published=published,
        note="The value is log10 of the growth over the theory's, which is of infinitely wide layers.",
        short=short,
    )


def _rank(kind: str, arm: str, boundary: float, supports: str) -> Claim:
    larger = supports == "larger"
    return Claim(
        f"M-rank-{kind}-{arm}",
        f"After 100 layers the rank of 32 samples in 32 units is {'above' if larger else 'below'} {boundary:.3g} "
        f"with {arm}.",
        f"rank-{kind}",
        Measure("derived", "last_rank", batch=""),
        arm,
        None,
        supports="larger" if larger else "smaller",
        scale="value",
        kind="threshold",
        boundary=boundary if larger else -boundary,
        window="end",
        needs_training=False,
        source=DANESHMAND,
        published="of order sqrt(32) = 5.66 with batch normalization" if larger else "1 in the limit of depth",
        note="The theorem has a constant that is not stated; half of sqrt(32) is a choice." if larger else "",
        short=f"{kind}, {arm}: {'directions are kept' if larger else 'one direction is left'}",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Growth by depth and for every normalization; rank likewise."""
    relu, linear, rank = (experiment.study(name) for name in ("relu", "linear-8", "rank-relu"))
    ids = [claim.id for claim in claims(experiment)]
    few = pick(frame, arm=SHOWN)
    back = {"probe": "signals", "quantity": "input_gradient"}
    ranks = {"probe": "signals", "quantity": "rank"}
    refused = "; ".join(f"{name}: {why}" for name, why in _refused(relu).items())
    return (
        Section(
            "How gradients grow on their way back",
            f"Growth is the geometric mean from layer {FIRST} on of the quotient of squared gradients at the inputs of "
            "two layers that follow each other. Inputs are Gaussian, nothing is trained."
            + (f"\n\nNot in this network: {refused}" if refused else ""),
            claims=tuple(id for id in ids if not id.startswith("M-rank")),
            figures=(
                over_layers(
                    "gradients",
                    relu,
                    few,
                    [Panel("gradient at the layer's input", back, log=True)],
                    step=0,
                    title="With ReLU, 256 samples",
                    columns=1,
                ),
                over_layers(
                    "linear",
                    linear,
                    frame,
                    [Panel("gradient at the layer's input", back, log=True)],
                    step=0,
                    title="Without ReLU, 8 samples",
                    columns=1,
                ),
            ),
            tables=(
                at_end(
                    "growth",
                    "With ReLU: growth per layer, rank before the output",
                    relu,
                    frame,
                    {"growth": GROWTH, "rank": RANK},
                ),
            ),
        ),
        Section(
            "Which directions are left",
            "Rank is tr(M)^2 / ||M||^2 of the samples' second moments M = X X': 1 where all have one direction.",
            claims=tuple(id for id in ids if id.startswith("M-rank")),
            figures=(
                over_layers(
                    "ranks",
                    rank,
                    frame,
                    [Panel("rank", ranks, log=True, guide=math.sqrt(32))],
                    step=0,
                    title="ReLU, 32 samples in 32 units",
                    caption="The thin line is sqrt(32).",
                    columns=1,
                ),
                over_layers(
                    "ranks-all",
                    relu,
                    few,
                    [Panel("rank", ranks, log=True)],
                    step=0,
                    title="ReLU, 256 samples",
                    columns=1,
                ),
            ),
        ),
    )


def _refused(study: Study) -> dict[str, str]:
    width = study.data.options["shape"][0]
    return arms("mlp", input_shape=(width,), hidden=[width])[1]


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Growth and rank of every normalization, with ReLU."""
    study = experiment.study("relu")
    rows = pick(frame, study="relu", **GROWTH).groupby("arm")["value"].median().sort_values()
    return dots(
        "headline",
        study,
        frame,
        [Panel("growth per layer", GROWTH, log=True), Panel("rank", RANK, log=True)],
        rates=dict.fromkeys(rows.index, RATE),
        title="At initialization, with ReLU",
        caption=f"Squared gradient per layer on its way back (theory for batch: {theory('relu'):.3f}); rank of 256 "
        "samples before the output layer.",
    )


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
