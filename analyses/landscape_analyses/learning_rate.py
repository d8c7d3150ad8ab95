"""The largest stable learning rate, and the loss along the gradient relative to where it starts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict, tally
from landscape.derived import derived, largest_stable_rate, number
from landscape.experiment import Experiment, ProbeSpec, Spec, grid
from landscape.figures import CURVES, ENDS, LOSS, Panel, at_end, over_rates, over_steps
from landscape.frames import RUN, pick

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: Equal and small: where the published gain of normalization is little.
SMALL = 0.01
PATH: dict[str, Any] = {"probe": "gradient_path", "variant": "gradient/fixed", "batch": "same"}
RELATIVE = number("relative_loss")
BJORCK = "Bjorck et al. 2018, arXiv 1806.02375"


def _experiment(name: str, data: str, *, depth: int, width: int, seeds: int, steps: int, first: int) -> Experiment:
    path = ProbeSpec("gradient_path", at=tuple(range(first)), options={"step_sizes": list(RATES)})
    study = grid(
        "sweep", Spec("resnet", {"depth": depth, "width": width}), data, ("none", "batch"), RATES, primary_rate=SMALL,
        seeds=seeds, steps=steps, evaluate_every=max(1, steps // 5), full_batches=4, probes=(path,),
    )  # fmt: skip
    return Experiment(name, (study,))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """The largest stable rate, and of the runs at the primary rate the relative loss at each step size.

    Relative loss is L(w - eta g) / L(w), median over the first mini-batches. Its row stands at learning rate eta,
    so that claims and figures compare arms at a step size as they do at a rate.
    """
    (study,) = experiment.studies
    own = pick(frame, study=study.name, learning_rate=study.primary_rate, **PATH)
    start = pick(own, quantity="loss0").set_index([*RUN, "step"])["value"].rename("start")
    sweep = pick(own, quantity="loss").join(start, on=[*RUN, "step"])
    sweep = sweep.assign(value=sweep["value"] / sweep["start"])
    sizes = dict(enumerate(next(p.options["step_sizes"] for p in study.probes if p.name == "gradient_path")))
    middle = sweep.groupby(["arm", "seed", "index"])["value"].median().reset_index()
    relative = middle.assign(learning_rate=middle["index"].map(sizes), index=0)
    return pd.concat([largest_stable_rate(frame, study, against=("none",)), derived(relative, study, "relative_loss")])


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """A larger stable rate, less growth along the gradient, and what is left at equal and at best rates."""
    claim = partial(Claim, study="sweep", arm="batch", window="end", needs_training=False, source=BJORCK)
    return (
        claim(
            "R-stable",
            "The largest learning rate at which training works is larger with batch normalization.",
            measure=Measure.derived("largest_stable_rate"),
            supports="larger",
            short="larger stable rate",
            published="ResNet-110: 0.1 with, 0.0001 without",
            counter_evidence="De & Smith 2020: of no use where the best rates are alike, at small batch sizes",
            note="Of seven rates about a factor 3 apart: finite to the end, and at most 95 % of the loss of guessing.",
        ),
        *(
            claim(
                f"R-relative-{size:g}",
                f"A step of size {size:g} along the gradient leaves less of the loss with batch normalization.",
                measure=Measure.derived("relative_loss"),
                rate=size,
                short=f"step size {size:g}: smaller relative loss",
                published="about 1 or less with; orders of magnitude more without",
                note="L(w - eta g) / L(w), median over early mini-batches, at the primary rate. The comparison at "
                "best rates is one of step sizes of those sizes.",
            )
            for size in (0.1, 1.0)
        ),
        claim(
            "R-bounded",
            "With batch normalization a step of size 0.1 along the gradient does not raise the mini-batch's loss.",
            measure=Measure.derived("relative_loss"),
            reference=None,
            scale="value",
            kind="threshold",
            boundary=-1.0,
            rate=0.1,
            short="batch, step size 0.1: relative loss below 1",
            published="about 1 or less",
        ),
        claim(
            "R-small",
            "At an equal small rate test accuracy with and without batch normalization ends within 3 points.",
            measure=Measure.training("test_accuracy"),
            supports="larger",
            scale="difference",
            kind="equivalence",
            boundary=0.03,
            rate=SMALL,
            short=f"rate {SMALL:g}: within 3 points of none in test accuracy",
            published="little gain at equal small rates",
            needs_training=True,
        ),
        claim(
            "R-best",
            "Each at its best rate, batch normalization ends at a higher test accuracy.",
            measure=Measure.training("test_accuracy"),
            supports="larger",
            scale="difference",
            rate="best",
            short="best rates: higher test accuracy",
            published="the gain comes with the larger rate",
        ),
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Rates, and the loss along the gradient."""
    (study,) = experiment.studies
    ids = [claim.id for claim in claims(experiment)]
    along = tuple(id for id in ids if id.startswith(("R-relative", "R-bounded")))
    return (
        Section(
            "Learning rates",
            "The same number of steps at every rate. A run that diverged is drawn at the upper edge.",
            claims=tuple(id for id in ids if id not in along),
            figures=(over_steps("steps", study, frame, CURVES, title="At the equal small rate"),),
            tables=(at_end("end", "At the end", study, frame, ENDS),),
        ),
        Section(
            "The loss along the gradient",
            "L(w - eta g) / L(w) on the mini-batch that g is of, over fixed step sizes eta, in the first steps of the "
            "runs at the equal small rate. Below 1 the step helps; above, it is too long.",
            claims=along,
            figures=(
                over_rates(
                    "relative",
                    study,
                    frame,
                    [Panel("L(w - eta g) / L(w)", RELATIVE, log=True, guide=1.0)],
                    title="Relative loss over step size",
                    caption="The horizontal axis is eta; the runs are those at the primary rate.",
                ),
            ),
        ),
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Loss at the end over rates, and relative loss over step sizes."""
    (study,) = experiment.studies
    panels = [
        Panel("full loss at the end", LOSS, log=True),
        Panel("relative loss along the gradient", RELATIVE, label="L(w - eta g) / L(w)", log=True, guide=1.0),
    ]
    caption = "Left: rate of the run. Right: step size eta along the gradient, early in the runs at the primary rate."
    return over_rates("headline", study, frame, panels, title="Learning rates and step sizes", caption=caption)


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Counted, and what the stable rate says."""
    by = {v.claim.id: v.verdict for v in verdicts}
    return (
        f"{tally(verdicts)} A larger stable rate with batch normalization: {by.get('R-stable', 'not measured')}; "
        f"a higher accuracy at the best rates: {by.get('R-best', 'not measured')}."
    )


ANALYSIS = Analysis(
    name="learning-rate",
    title="Normalization and the largest stable learning rate",
    question="Does batch normalization allow larger learning rates, and is that what it is good for?",
    paper=BJORCK,
    presets={
        "quick": lambda: _experiment("learning-rate-quick", "digits", depth=8, width=4, seeds=5, steps=40, first=2),
        "standard": lambda: _experiment(
            "learning-rate-standard", "cifar10", depth=56, width=1, seeds=5, steps=2000, first=10
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    derive=derive,
    definitions={
        "relative loss": "L(w - eta g) / L(w) on the mini-batch that g is of.",
        "largest stable rate": "the largest rate of the grid at which training stayed finite and left the loss of "
        "guessing.",
    },
)
