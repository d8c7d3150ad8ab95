"""Two features of very different scale, standardized or not: condition and steps, in a line and in a network."""

from __future__ import annotations

from functools import partial

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import derived, number, steps_to
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, grid
from landscape.figures import LOSS, Panel, at_end, over_rates
from landscape.frames import RUN, pick, plane

LECUN = "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp, section 4.3"
TARGET = 0.01  # of the loss of the best constant


def _experiment(name: str, *, seeds: int, steps: int, scale: float) -> Experiment:
    pair = (Arm("none", "raw"), Arm("none", "standardized", data={"standardize": True}))
    largest, smallest = (
        ProbeSpec("hessian_eigenpairs", at=(0,), options={"which": which, "operator": "ggn"})
        for which in ("largest", "smallest")
    )
    around = {"dimensions": 2, "extent": 2.0, "points": 21}
    contour = ProbeSpec("loss_slice", at=(0,), options=around, arms=("raw", "standardized"))
    top = 1 / scale**2  # the largest eigenvalue is 2 scale^2, so that this is the largest stable rate
    study = partial(
        grid, data=Spec("two-features", {"scale": scale}), rates=(0.3 * top, 0.9 * top, 0.03, 0.1, 0.3),
        seeds=seeds, steps=steps, batch_size=None, evaluate_every=2,
    )  # fmt: skip
    line, network = (Spec("mlp", {"hidden": hidden, "activation": "tanh"}) for hidden in ([], [16, 16]))
    return Experiment(
        name,
        (
            study("line", line, arms=pair, probes=(largest, smallest, contour)),
            study("network", network, arms=(*pair, Arm("batch", "raw, batch")), probes=(largest,)),
        ),
    )


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Steps to the target, and the line's condition number."""
    parts = []
    for study in experiment.studies:
        chance = float(pick(frame, study=study.name, quantity="chance_loss")["value"].median())
        steps = steps_to(frame, study, "steps_to_target", TARGET * chance, below=True, quantity="full_loss")
        parts.append(steps.assign(value=steps["value"].clip(upper=study.steps)))
    rows = pick(frame, study="line", probe="hessian_eigenpairs", quantity="eigenvalue", index=0, step=0)
    largest, smallest = (pick(rows, variant=f"ggn/{end}").set_index(RUN)["value"] for end in ("largest", "smallest"))
    condition = (largest / smallest).reset_index()
    return pd.concat([*parts, derived(condition, experiment.study("line"), "condition")], ignore_index=True)


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Fewer steps where inputs are standardized; a smaller largest eigenvalue; batch normalization inside."""
    claim = partial(Claim, reference="raw", needs_training=False, source=LECUN)
    fewer = partial(
        claim, measure=Measure.derived("steps_to_target"), rate="best", window="end",
        note="Never reached counts as reached at the last step: a factor of 1 where neither arm reaches it.",
    )  # fmt: skip
    end = f"the loss falls to {TARGET:.0%} of the best constant's in fewer steps, both at best rates"
    return (
        fewer("I-line", f"With standardized inputs {end} (line).", "line", arm="standardized",
              short="line: fewer steps, standardized"),
        fewer("I-network", f"With standardized inputs {end} (network).", "network", arm="standardized",
              short="network: fewer steps, standardized"),
        claim("I-sharp", "Inside a network the largest eigenvalue (Gauss-Newton, at initialization) is smaller if "
              "inputs are standardized.", "network", Measure("hessian_eigenpairs", "eigenvalue", "ggn/largest"),
              "standardized", short="network: smaller largest eigenvalue"),
        fewer("I-batch", f"With batch normalization inside, on raw inputs, {end} (network).", "network",
              arm="raw, batch", short="network: fewer steps, raw, batch"),
    )  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The line, then the network."""
    line, network = experiment.studies
    columns = {"full loss": LOSS, "steps to target": number("steps_to_target"), "condition": number("condition")}
    end = [Panel("full loss at the end", LOSS, log=True)]
    ran = "Full-batch gradient descent; as many steps as there are: never reached."
    return (
        Section(
            "A linear model",
            "The loss is quadratic: its condition number is the square of the scale, or 1 if standardized (a bias adds "
            f"an eigenvalue of 2). Gradient descent needs steps in proportion to it. {ran}",
            claims=("I-line",),
            figures=(over_rates("rates-line", line, frame, end, title="By learning rate"),),
            tables=(at_end("end-line", "At the end", line, frame, columns),),
        ),
        Section(
            "The same inside a network",
            f"Two hidden layers of 16 tanh units on the same data. {ran}",
            claims=("I-network", "I-sharp", "I-batch"),
            figures=(over_rates("rates-network", network, frame, end, title="By learning rate"),),
            tables=(at_end("end-network", "At the end", network, frame, columns),),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The line's loss around its initial weights, raw and standardized, for one seed."""
    study = experiment.study("line")
    rows = pick(frame, study="line", probe="loss_slice", seed=study.seeds[0], learning_rate=study.primary_rate)
    return Figure(
        name="headline",
        kind="surface",
        frame=pd.concat(
            [plane(pick(rows, arm=arm.label)).assign(panel=arm.label) for arm in study.arms], ignore_index=True
        ),
        title="The loss of a linear model around its initial weights",
        caption="In the plane of its two weights, along two random directions of the weights' length; seed "
        f"{study.seeds[0]}.",
        alt="Contours of the loss: a narrow valley for raw inputs, rounder contours for standardized ones.",
        options={"x_label": "first direction", "y_label": "second direction", "value_label": "loss"},
    )


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
