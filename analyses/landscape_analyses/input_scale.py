"""Two features of very different scale, standardized or not: condition and steps, in a line and in a network."""

from __future__ import annotations

import dataclasses
from functools import partial

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section
from landscape.derived import derived, number, steps_to
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, grid
from landscape.figures import LOSS, Panel, at_end, over_rates, planes
from landscape.frames import RUN, pick

PATH = {"probe": "loss_slice", "variant": "filter/2d"}
LECUN = "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp, section 4.3"
TARGET = 0.01  # of the loss of the best constant
MOMENTS = (*range(20), *range(20, 50, 5), *range(50, 101, 10))  # steps at which the path of descent has a point


def _experiment(name: str, *, seeds: int, steps: int, scale: float) -> Experiment:
    pair = (Arm("none", "raw"), Arm("none", "standardized", data={"standardize": True}))
    largest, smallest = (
        ProbeSpec("hessian_eigenpairs", at=(0,), options={"which": which, "operator": "ggn"})
        for which in ("largest", "smallest")
    )
    way = {"dimensions": 2, "points": 31, "gather": len(MOMENTS) - 1}
    contour = ProbeSpec("loss_slice", at=MOMENTS, options=way)
    top = 1 / scale**2  # the largest eigenvalue is 2 scale^2, so that this is the largest stable rate
    rates = (0.3 * top, 0.9 * top, 0.03, 0.1, 0.3)
    own = tuple(dataclasses.replace(arm, learning_rates=rates[k : k + 1]) for arm, k in zip(pair, (1, 3), strict=True))
    study = partial(
        grid, data=Spec("two-features", {"scale": scale}), rates=rates, seeds=seeds, steps=steps, batch_size=None,
        evaluate_every=2,
    )  # fmt: skip
    line, network = (Spec("mlp", {"hidden": hidden, "activation": "tanh"}) for hidden in ([], [16, 16]))
    return Experiment(
        name,
        (
            study("line", line, arms=pair, probes=(largest, smallest)),
            study("network", network, arms=(*pair, Arm("batch", "raw, batch")), probes=(largest,)),
            study("path", line, arms=own, probes=(contour,)),
        ),
    )


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Steps to the target, and the line's condition number."""
    parts = []
    for study in experiment.studies[:2]:
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
    line, network, _ = experiment.studies
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
    """The line's loss and the path of gradient descent on it, raw and standardized, for one seed."""
    study = experiment.study("path")
    rates = {arm.label: arm.learning_rates[0] for arm in study.arms if arm.learning_rates}
    caption = (
        "In the plane of the two weights along two random directions; the path's first 100 steps, from the ring to "
    )
    caption += "the dot: down a narrow valley for raw inputs, straight for standardized ones."
    title = "A linear model's loss, and the path of gradient descent"
    return planes("headline", study, frame, PATH, rates=rates, title=title, caption=caption)


ANALYSIS = Analysis(
    name="input-scale",
    title="Inputs of different scale",
    question="What does normalizing inputs do to the loss, and does normalization inside a network do it too?",
    paper=LECUN,
    presets={
        "quick": lambda: _experiment("input-scale-quick", seeds=5, steps=150, scale=10.0),
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
