"""Two features of very different scale, standardized or not: condition and steps, in a line and in a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import derived, steps_to
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, over_rates
from landscape.frames import RUN, pick

LECUN = "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp, section 4.3"
TARGET = 0.01  # of the loss of the best constant
STANDARD = {"standardize": True}
LOSS = {"probe": "training", "quantity": "full_loss"}
STEPS = {"probe": "derived", "quantity": "steps_to_target"}
CONDITION = {"probe": "derived", "quantity": "condition"}
POINTS = 21


def _experiment(name: str, *, seeds: int, steps: int, scale: float) -> Experiment:
    raw, standard, inside = Arm("none", "raw"), Arm("none", "standardized", data=STANDARD), Arm("batch", "raw, batch")
    eigenvalues = tuple(
        ProbeSpec("hessian_eigenpairs", at=(0,), options={"which": which, "operator": "ggn"})
        for which in ("largest", "smallest")
    )
    contour = ProbeSpec(
        "loss_slice", at=(0,), options={"dimensions": 2, "extent": 2.0, "points": POINTS}, arms=("raw", "standardized")
    )
    top = 1 / scale**2  # the largest eigenvalue is 2 scale^2, so that this is the largest stable rate

    def study(name: str, hidden: list[int], arms: tuple[Arm, ...], probes: tuple[ProbeSpec, ...]) -> Study:
        return Study(
            name=name,
            model=Spec("mlp", {"hidden": hidden, "activation": "tanh"}),
            data=Spec("two-features", {"scale": scale}),
            arms=arms,
            learning_rates=(0.3 * top, 0.9 * top, 0.03, 0.1, 0.3),
            primary_rate=0.3 * top,
            seeds=tuple(range(seeds)),
            steps=steps,
            batch_size=None,
            probes=probes,
            evaluate_every=2,
        )

    line = study("line", [], (raw, standard), (*eigenvalues, contour))
    network = study("network", [16, 16], (raw, standard, inside), eigenvalues[:1])
    return Experiment(name, (line, network))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Steps to the target, and the line's condition number."""
    parts = []
    for study in experiment.studies:
        chance = float(pick(frame, study=study.name, quantity="chance_loss")["value"].median())
        steps = steps_to(frame, study, "steps_to_target", TARGET * chance, below=True, quantity="full_loss")
        parts.append(steps.assign(value=steps["value"].clip(upper=study.steps)))
    line = experiment.study("line")
    rows = pick(frame, study="line", probe="hessian_eigenpairs", quantity="eigenvalue", index=0, step=0)
    wide = rows.pivot_table(index=RUN, columns="variant", values="value")
    wide = wide.reindex(columns=["ggn/largest", "ggn/smallest"])
    ratio = (wide["ggn/largest"] / wide["ggn/smallest"]).rename("value").reset_index()
    return pd.concat([*parts, derived(ratio, line, "condition")], ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Fewer steps where inputs are standardized; a smaller largest eigenvalue; batch normalization inside."""
    found = [_steps(study, "standardized") for study in ("line", "network")]
    found.append(
        Claim(
            "I-sharp",
            "Inside a network the largest eigenvalue (Gauss-Newton, at initialization) is smaller if inputs are "
            "standardized.",
            "network",
            Measure("hessian_eigenpairs", "eigenvalue", "ggn/largest"),
            "standardized",
            "raw",
            needs_training=False,
            source=LECUN,
            short="network: smaller largest eigenvalue",
        )
    )
    return (*found, _steps("network", "raw, batch"))


def _steps(study: str, arm: str) -> Claim:
    what = "With standardized inputs" if arm == "standardized" else "With batch normalization inside, on raw inputs,"
    return Claim(
        f"I-{study}" if arm == "standardized" else "I-batch",
        f"{what} the loss falls to {TARGET:.0%} of the best constant's in fewer steps, both at best rates ({study}).",
        study,
        Measure("derived", "steps_to_target", batch=""),
        arm,
        "raw",
        rate="best",
        window="end",
        needs_training=False,
        source=LECUN,
        note="Never reached counts as reached at the last step: a factor of 1 where neither arm reaches it.",
        short=f"{study}: fewer steps, {arm}",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The line, then the network."""
    columns = {"full loss": LOSS, "steps to target": STEPS, "condition": CONDITION}
    rates = [Panel("full loss at the end", LOSS, log=True)]
    ids = [claim.id for claim in claims(experiment)]
    texts = {
        "line": "The loss is quadratic: its condition number is the square of the scale, or 1 if standardized (a "
        "bias adds an eigenvalue of 2). Gradient descent needs steps in proportion to it.",
        "network": "Two hidden layers of 16 tanh units on the same data.",
    }
    return tuple(
        Section(
            {"line": "A linear model", "network": "The same inside a network"}[study.name],
            f"{texts[study.name]} Full-batch gradient descent; as many steps as there are: never reached.",
            claims=tuple(id for id in ids if (id == "I-line") == (study.name == "line")),
            figures=(over_rates(f"rates-{study.name}", study, frame, rates, title="By learning rate", columns=1),),
            tables=(at_end(f"end-{study.name}", "At the end", study, frame, columns),),
        )
        for study in experiment.studies
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The line's loss around its initial weights, raw and standardized, for one seed."""
    study = experiment.study("line")
    rows = pick(frame, study="line", probe="loss_slice", seed=study.seeds[0], learning_rate=study.primary_rate)
    parts = [_plane(pick(rows, arm=arm.label), arm.label) for arm in study.arms]
    return Figure(
        name="headline",
        kind="surface",
        frame=pd.concat(parts, ignore_index=True),
        title="The loss of a linear model around its initial weights",
        caption="In the plane of its two weights, along two random directions of the weights' length; seed "
        f"{study.seeds[0]}.",
        alt="Contours of the loss: a narrow valley for raw inputs, rounder contours for standardized ones.",
        options={"x_label": "first direction", "y_label": "second direction", "value_label": "loss"},
    )


def _plane(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    ordered = rows.sort_values("index")
    one: dict[str, Any] = {q: pick(ordered, quantity=q)["value"].to_numpy() for q in ("x", "y", "loss")}
    x, y = np.meshgrid(one["x"], one["y"], indexing="ij")
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": one["loss"], "panel": arm})


ANALYSIS = Analysis(
    name="input-scale",
    title="Inputs of different scale",
    question="What does normalizing inputs do to the loss, and does normalization inside a network do it too?",
    paper=LECUN,
    presets={
        "quick": lambda: _experiment("input-scale-quick", seeds=3, steps=150, scale=10.0),
        "standard": lambda: _experiment("input-scale-standard", seeds=8, steps=2000, scale=30.0),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={
        "steps to target": f"the first evaluated step (every 2) with a full loss of {TARGET:g} of the best constant's; "
        "the last where there is none.",
        "condition": "largest over smallest eigenvalue of the Gauss-Newton matrix at initialization, in a linear model "
        "the Hessian.",
    },
)
