"""Recurrent networks: statistics of all time steps or of each, or of each sample; and do the steps differ?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict, tally
from landscape.experiment import Experiment, ProbeSpec, Spec, grid
from landscape.figures import ACCURACY, CURVES, LOSS, Panel, at_end, over_index, over_steps

CELLS = ("rnn", "lstm", "gru")
INPUTS = ["layers.layer1.input", "layers.layer2.input"]
FIRST, SECOND = (f"{name}.linear" for name in INPUTS)
LAURENT = "Laurent et al. 2016 (arXiv 1510.01378)"
COOIJMANS = "Cooijmans et al. 2017 (arXiv 1603.09025)"
BA = "Ba, Kiros & Hinton 2016 (arXiv 1607.06450)"
WHERE = {
    "layer": ("each sample's units", BA),
    "batch-per-step": ("the batch at each step", COOIJMANS),
    "batch": ("the batch over all steps", LAURENT),
}


def _experiment(name: str, *, seeds: int, steps: int, every: int) -> Experiment:
    network = {cell: Spec("recurrent", {"cell": cell, "layers": 2, "hidden": 32}) for cell in CELLS}
    positions = ProbeSpec("positions", every=every, options={"layers": INPUTS})
    study = partial(
        grid, rates=(3e-3,), seeds=seeds, batch_size=64, optimizer=Spec("adam"), probes=(positions,),
        evaluate_every=every, full_batches=4,
    )  # fmt: skip
    cells = [study(cell, network[cell], "digit-rows", ("none", *WHERE), steps=steps) for cell in CELLS]
    text = study("text", network["rnn"], Spec("text", {"context": 16}), ("none",), steps=2 * every)
    return Experiment(name, (*cells, text))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Faster with each normalization and cell; and time steps that differ, where they do."""
    return tuple(_claims())


def _claims() -> Iterator[Claim]:
    claim = partial(Claim, needs_training=False)
    between = partial(claim, measure=Measure("positions", "between", layers=(SECOND,)), source=COOIJMANS)
    for cell in CELLS:
        for arm, (where, source) in WHERE.items():
            yield claim(f"R-{cell}-{arm}", f"Statistics over {where} make a {cell} train faster: a lower full loss, "
                        "mean over the run.", cell, Measure.training("full_loss"), arm, reduce="mean", source=source,
                        published="faster convergence of the training criterion",
                        short=f"{cell}: faster with {arm}")  # fmt: skip
    yield claim("R-test", "With batch normalization over all steps an LSTM's test accuracy ends within 3 points of "
                "that without.", "lstm", Measure.training("test_accuracy"), "batch", supports="larger",
                scale="difference", kind="equivalence", boundary=0.03, window="end", source=LAURENT,
                published="no better generalization, in language models and speech",
                short="lstm, batch: test accuracy as without")  # fmt: skip
    for cell in CELLS:
        yield between(f"R-differ-{cell}", "Without normalization, more than 5 % of the variance of the second layer's "
                      f"inputs lies between time steps ({cell}).", cell, arm="none", reference=None, supports="larger",
                      scale="value", kind="threshold", boundary=0.05,
                      published="statistics differ from step to step, most at the first ones",
                      short=f"{cell}, none: more than 5 % of the variance between steps, second layer")  # fmt: skip
        yield between(f"R-step-{cell}", "With statistics of each step less of the second layer's variance lies between "
                      "time steps than with statistics over all steps.", cell, arm="batch-per-step", reference="batch",
                      scale="difference", boundary=0.01,
                      short=f"{cell}: per step, the next layer's steps differ less")  # fmt: skip
    yield claim("R-text-1", "Without normalization, less than 1 % of the variance of the first layer's inputs lies "
                "between time steps (text).", "text", Measure("positions", "between", layers=(FIRST,)), "none", None,
                supports="larger", scale="value", kind="equivalence", boundary=0.01, source=COOIJMANS,
                note="The control: letters of a stationary source, so that only chance tells the positions apart.",
                short="text, none: less than 1 % of the variance between steps, first layer")  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Training by cell; then the time steps."""
    ids = [claim.id for claim in claims(experiment)]
    differ = tuple(id for id in ids if id.startswith(("R-differ", "R-step", "R-text")))
    cells = [experiment.study(cell) for cell in CELLS]
    ends = {"loss": LOSS, "accuracy": ACCURACY}
    by_time = [
        Panel(f"{what}, {layer} layer", {"probe": "positions", "quantity": quantity, "layer": key}, guide=guide)
        for what, quantity, guide in (("mean", "mean", 0.0), ("spread", "std", 1.0))
        for layer, key in (("1st", FIRST), ("2nd", SECOND))
    ]
    return (
        Section(
            "Training",
            "Normalized is W x + b, from the input (or the layer below) to the hidden state; one rate of Adam for all.",
            claims=tuple(id for id in ids if id not in differ),
            figures=tuple(over_steps(cell.name, cell, frame, CURVES, title=cell.name) for cell in cells),
            tables=tuple(at_end(f"end-{c.name}", f"{c.name}, at the end", c, frame, ends) for c in cells),
        ),
        Section(
            "Do the time steps differ?",
            "What enters the normalization, before it: outputs of the map from input to hidden state. The letters of "
            "the control come from a stationary source; its first layer sees them alone, its second the states that "
            "start at 0.",
            claims=differ,
            figures=tuple(
                over_index(f"positions-{name}", experiment.study(name), frame, by_time, x_label="time step",
                           title=title, caption="In units of all steps' spread.")
                for name, title in (("lstm", "lstm"), ("text", "control"))
            ),
        ),
    )  # fmt: skip


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The full loss of an LSTM, and how much of its second layer's variance lies between time steps."""
    share = {"probe": "positions", "quantity": "between", "layer": SECOND}
    panels = [Panel("full loss", LOSS, log=True), Panel("share between steps, 2nd layer", share)]
    return over_steps("headline", experiment.study("lstm"), frame, panels, title="LSTM")


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Which are faster."""
    faster = [v.claim.id[2:] for v in verdicts if v.claim.reduce == "mean" and v.verdict == "holds"]
    return f"{tally(verdicts)} Faster than without: {', '.join(faster) or 'none'}."


ANALYSIS = Analysis(
    name="recurrent",
    title="Normalization of recurrent networks",
    question="Do recurrent networks train faster when normalized, and must each time step have its own statistics?",
    paper=f"{LAURENT}; {COOIJMANS}; {BA}",
    presets={
        "quick": lambda: _experiment("recurrent-quick", seeds=5, steps=100, every=20),
        "standard": lambda: _experiment("recurrent-standard", seeds=8, steps=1000, every=50),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    definitions={
        "between": "share of a unit's variance that lies between time steps, less what chance adds; mean over units.",
    },
)
