"""Recurrent networks: statistics of all time steps or of each, or of each sample; and do the steps differ?"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Verdict
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.figures import Panel, at_end, over_index, over_steps, tally

CELLS = ("rnn", "lstm", "gru")
INPUTS = ["layers.layer1.input", "layers.layer2.input"]
FIRST, SECOND = (f"{name}.linear" for name in INPUTS)
RATE = 3e-3
LAURENT = "Laurent et al. 2016 (arXiv 1510.01378)"
COOIJMANS = "Cooijmans et al. 2017 (arXiv 1603.09025)"
BA = "Ba, Kiros & Hinton 2016 (arXiv 1607.06450)"
WHERE = {
    "layer": ("each sample's units", BA),
    "batch-per-step": ("the batch at each step", COOIJMANS),
    "batch": ("the batch over all steps", LAURENT),
}
LOSS = {"probe": "training", "quantity": "full_loss"}
ACCURACY = {"probe": "training", "quantity": "test_accuracy"}


def _study(name: str, cell: str, data: Spec, arms: tuple[str, ...], *, seeds: int, steps: int, every: int) -> Study:
    return Study(
        name=name,
        model=Spec("recurrent", {"cell": cell, "layers": 2, "hidden": 32}),
        data=data,
        arms=tuple(Arm(norm) for norm in arms),
        learning_rates=(RATE,),
        primary_rate=RATE,
        seeds=tuple(range(seeds)),
        steps=steps,
        batch_size=64,
        optimizer=Spec("adam"),
        probes=(ProbeSpec("positions", every=every, options={"layers": INPUTS}),),
        evaluate_every=every,
        full_batches=4,
    )


def _experiment(name: str, *, data: Spec, seeds: int, steps: int, every: int) -> Experiment:
    arms = ("none", *WHERE)
    studies = [_study(cell, cell, data, arms, seeds=seeds, steps=steps, every=every) for cell in CELLS]
    text = _study("text", "rnn", Spec("text", {"context": 16}), ("none",), seeds=seeds, steps=2 * every, every=every)
    return Experiment(name, (*studies, text))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Faster with each normalization and cell; and time steps that differ, where they do."""
    found = [claim for cell in CELLS for claim in _faster(cell)]
    test = Measure("training", "test_accuracy", batch="")
    found.append(
        Claim(
            "R-test",
            "With batch normalization over all steps an LSTM's test accuracy ends within 3 points of that without.",
            "lstm",
            test,
            "batch",
            supports="larger",
            scale="difference",
            kind="equivalence",
            boundary=0.03,
            window="end",
            needs_training=False,
            source=LAURENT,
            published="no better generalization, in language models and speech",
            short="lstm, batch: test accuracy as without",
        )
    )
    between = Measure("positions", "between", layers=(SECOND,))
    for cell in CELLS:
        found.append(_share(f"R-differ-{cell}", cell, SECOND, "threshold", 0.05, "more than 5 % of the variance"))
        found.append(
            Claim(
                f"R-step-{cell}",
                "With statistics of each step less of the second layer's variance lies between time steps than with "
                "statistics over all steps.",
                cell,
                between,
                "batch-per-step",
                "batch",
                scale="difference",
                boundary=0.01,
                needs_training=False,
                source=COOIJMANS,
                short=f"{cell}: per step, the next layer's steps differ less",
            )
        )
    found.append(_share("R-text-1", "text", FIRST, "equivalence", 0.01, "less than 1 % of the variance"))
    return tuple(found)


def _faster(cell: str) -> Iterator[Claim]:
    for arm, (where, source) in WHERE.items():
        yield Claim(
            f"R-{cell}-{arm}",
            f"Statistics over {where} make a {cell} train faster: a lower full loss, mean over the run.",
            cell,
            Measure("training", "full_loss", batch=""),
            arm,
            reduce="mean",
            needs_training=False,
            source=source,
            published="faster convergence of the training criterion",
            short=f"{cell}: faster with {arm}",
        )


def _share(id: str, study: str, layer: str, kind: str, boundary: float, words: str) -> Claim:
    where = "first" if layer == FIRST else "second"
    return Claim(
        id,
        f"Without normalization, {words} of the {where} layer's inputs lies between time steps ({study}).",
        study,
        Measure("positions", "between", layers=(layer,)),
        "none",
        None,
        supports="larger",
        scale="value",
        kind="threshold" if kind == "threshold" else "equivalence",
        boundary=boundary,
        needs_training=False,
        source=COOIJMANS,
        published="statistics differ from step to step, most at the first ones" if kind == "threshold" else "",
        note=""
        if kind == "threshold"
        else "The control: letters of a stationary source, so that only chance tells the positions apart.",
        short=f"{study}, none: {words} between steps, {where} layer",
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Training by cell; then the time steps."""
    ids = [claim.id for claim in claims(experiment)]
    steps = ("R-differ", "R-step", "R-text")
    lstm, text = experiment.study("lstm"), experiment.study("text")
    curves = [Panel("full loss", LOSS, log=True), Panel("test accuracy", ACCURACY)]
    return (
        Section(
            "Training",
            "Normalized is W x + b, from the input (or the layer below) to the hidden state; one rate of Adam for all.",
            claims=tuple(id for id in ids if not id.startswith(steps)),
            figures=tuple(over_steps(c, experiment.study(c), frame, curves, title=c) for c in CELLS),
            tables=tuple(
                at_end(f"end-{c}", f"{c}, at the end", experiment.study(c), frame, {"loss": LOSS, "accuracy": ACCURACY})
                for c in CELLS
            ),
        ),
        Section(
            "Do the time steps differ?",
            "What enters the normalization, before it: outputs of the map from input to hidden state. The letters of "
            "the control come from a stationary source; its first layer sees them alone, its second the states that "
            "start at 0.",
            claims=tuple(id for id in ids if id.startswith(steps)),
            figures=(
                _by_time("positions-lstm", lstm, frame, "lstm"),
                _by_time("positions-text", text, frame, "control"),
            ),
        ),
    )


def _by_time(name: str, study: Study, frame: pd.DataFrame, title: str) -> Figure:
    panels = [
        Panel(f"{what}, {layer} layer", {"probe": "positions", "quantity": quantity, "layer": key}, guide=guide)
        for what, quantity, guide in (("mean", "mean", 0.0), ("spread", "std", 1.0))
        for layer, key in (("1st", FIRST), ("2nd", SECOND))
    ]
    return over_index(
        name,
        study,
        frame,
        panels,
        x_label="time step",
        title=title,
        caption="In units of all steps' spread.",
    )


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The full loss of every cell."""
    study = experiment.study("lstm")
    panels = [Panel("full loss", LOSS, log=True)]
    share = {"probe": "positions", "quantity": "between", "layer": SECOND}
    return over_steps("headline", study, frame, [*panels, Panel("share between steps, 2nd layer", share)], title="LSTM")


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """Which are faster."""
    faster = [v.claim.id[2:] for v in verdicts if v.claim.reduce == "mean" and v.verdict == "holds"]
    return f"{tally(verdicts)} Faster than without: {', '.join(faster) or 'none'}."


RECURRENT = Analysis(
    name="recurrent",
    title="Normalization of recurrent networks",
    question="Do recurrent networks train faster when normalized, and must each time step have its own statistics?",
    paper=f"{LAURENT}; {COOIJMANS}; {BA}",
    presets={
        "quick": lambda: _experiment("recurrent-quick", data=Spec("digit-rows"), seeds=5, steps=100, every=20),
        "standard": lambda: _experiment("recurrent-standard", data=Spec("digit-rows"), seeds=8, steps=1000, every=50),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    definitions={
        "between": "share of a unit's variance that lies between time steps, less what chance adds; mean over units.",
    },
)
