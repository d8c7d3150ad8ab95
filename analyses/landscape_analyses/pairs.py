"""Any pair of networks: does each arm smooth the landscape, and train better, than the one without?

What a TOML file or a grid of one's own gets. Every arm is compared with "none" (or, where there is none,
with the study's first arm) on the measures that the study's probes record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Table
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.frames import band, lines, medians, pick, table
from landscape.overview import overview
from landscape_analyses.pairs_answer import answer, late_arms

SOURCE = "Santurkar et al. 2018 (arXiv 1805.11604), figure 4"
COUNTER = "Yao et al. 2020 (PyHessian): batch normalization does not necessarily smooth, least in shallow nets."
STEPS = {"x_label": "training step"}
GRADIENT = "gradient/scaled"
INVARIANT = "scale-invariant/scaled"
#: Studies whose data has no classes, so no accuracy.
REGRESSIONS = ("gaussian-regression",)

_SMOOTHNESS = (
    ("range", "the loss varies less along the gradient", "loss_range"),
    ("pred", "the gradient changes less along its own direction", "predictiveness"),
    ("beta", "the effective smoothness beta is smaller", "effective_smoothness"),
)


def reference(study: Study) -> Arm:
    """The arm that the others are compared with: the one without normalization, or the first."""
    return next((arm for arm in study.arms if arm.norm == "none"), study.arms[0])


def classifies(study: Study) -> bool:
    """Whether its data has classes, and so an accuracy."""
    return study.accuracy and study.data.name not in REGRESSIONS


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """For every arm: smoother along the gradient, and better trained, than the reference."""
    return tuple(
        claim
        for study in experiment.studies
        for arm in study.arms
        if arm.label != reference(study).label
        for claim in _claims(study, arm, f"{study.name}-" if len(experiment.studies) > 1 else "")
    )


def _claims(study: Study, arm: Arm, prefix: str) -> Iterator[Claim]:
    base = reference(study).label
    against = f"than with {base}" if base != "none" else "than without normalization"
    both = {arm.label, base}

    def named(name: str, what: str) -> tuple[str, str, str]:
        return f"{prefix}{arm.label}-{name}", f"With {arm.label}, {what} {against}.", study.name

    def measured(variant: str) -> bool:
        return any(_variant(p) == variant and (p.arms is None or both <= set(p.arms)) for p in study.probes)

    for name, what, quantity in _SMOOTHNESS if measured(GRADIENT) else ():
        measure = Measure("gradient_path", quantity, GRADIENT)
        yield _smoother(*named(name, what), measure, arm.label, base)
    if measured(INVARIANT):
        measure = Measure("gradient_path", "effective_smoothness", INVARIANT)
        what = "beta in a measure that rescaling the weights can't change is smaller"
        yield _smoother(*named("beta-inv", what), measure, arm.label, base)
    loss = Measure.training("full_loss")
    end = named("loss", "training ends at a lower loss")
    yield Claim(*end, loss, arm.label, base, window="end", needs_training=False)
    if classifies(study):
        yield Claim(
            *named("acc", "the test accuracy at the end is higher"),
            Measure.training("test_accuracy"),
            arm.label,
            base,
            supports="larger",
            scale="difference",
            window="end",
            needs_training=False,
        )


def _smoother(id: str, statement: str, study: str, measure: Measure, arm: str, base: str) -> Claim:
    return Claim(
        id,
        statement,
        study,
        measure,
        arm,
        base,
        matched=True,
        landscape=True,
        source=SOURCE,
        counter_evidence=COUNTER,
    )


def _variant(probe: ProbeSpec) -> str:
    """The variant that a probe's rows carry, if they are of the same mini-batch; else ""."""
    options = probe.options
    if probe.name != "gradient_path" or options.get("on", "same") != "same":
        return ""
    window = "scaled" if options.get("step_sizes") is None else "fixed"
    return f"{options.get('direction', 'gradient')}/{window}"


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The landscape along the gradient in the first study."""
    return _landscape_figure(experiment.studies[0], frame, "headline")


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """Two sections a study: along the gradient, and training."""
    declared = claims(experiment)
    several = len(experiment.studies) > 1
    found: list[Section] = []
    for study in experiment.studies:
        ids = {c.id: c.landscape for c in declared if c.study == study.name}
        title = f" ({study.name})" if several else ""
        smooth = tuple(id for id, landscape in ids.items() if landscape)
        if smooth:
            # The first study's figure is on page one.
            shown = () if study is experiment.studies[0] else (_landscape_figure(study, frame, "landscape"),)
            found.append(_landscape(study, frame, title, smooth, shown))
        found.append(_training(study, frame, title, tuple(id for id in ids if id not in smooth)))
        found += _others(study, frame, title)
    return tuple(found)


def _at_primary(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    return pick(frame, study=study.name, learning_rate=study.primary_rate)


def _landscape_figure(study: Study, frame: pd.DataFrame, name: str) -> Figure:
    path = pick(_at_primary(study, frame), probe="gradient_path", variant=GRADIENT, batch="same")
    panels = {
        "loss along the gradient": band(pick(path, quantity="loss"), "loss along the gradient"),
        "gradient distance": band(pick(path, quantity="gradient_distance"), "gradient distance"),
        "effective smoothness": band(pick(path, quantity="effective_smoothness"), "effective smoothness"),
    }
    return Figure(
        name=f"{name}-{study.name}",
        kind="band",
        frame=pd.concat(panels.values(), ignore_index=True),
        title="The landscape along the gradient",
        caption=f"Study {study.name}, learning rate {study.primary_rate:g}: smallest to largest value over step sizes "
        "in [1/2, 4] x the learning rate, on the same mini-batch, median over seeds; right, max beta. Lower and "
        "narrower is smoother.",
        alt="Three panels over training steps, one band per arm: loss along the gradient, distance of the gradient "
        "from the one at the start, and effective smoothness.",
        options=STEPS
        | {
            "panels": list(panels),
            "panel_labels": dict(zip(panels, ("loss", "||g' - g||", "beta"), strict=True)),
            "y_log": True,
            "columns": 3,
            "arms": [arm.label for arm in study.arms],
        },
    )


def _landscape(
    study: Study, frame: pd.DataFrame, title: str, ids: tuple[str, ...], figures: tuple[Figure, ...]
) -> Section:
    rows = pick(frame, study=study.name, probe="gradient_path", variant=GRADIENT, batch="same")
    by = ["arm", "learning_rate"]
    columns = {
        what: medians(pick(rows, quantity=quantity), by)
        for what, quantity in (
            ("loss range", "loss_range"),
            ("rise", "rise"),
            ("max distance", "predictiveness"),
            ("max beta", "effective_smoothness"),
            ("lr beta", "scaled_smoothness"),
            ("||g||", "gradient_norm"),
        )
    }
    return Section(
        title=f"Along the gradient{title}",
        text="The loss and its gradient at w - eta g, for step sizes eta from half to four times the learning rate: a "
        "landscape is smoother where they change less.",
        claims=ids,
        figures=figures,
        tables=(
            Table(
                "measures",
                "Median over steps and seeds",
                table(columns).rename(columns={"learning_rate": "lr"}),
                "lr beta near 2 means that training sits at the edge of stability: beta is then set by the learning "
                "rate.",
            ),
        ),
    )


def _others(study: Study, frame: pd.DataFrame, title: str) -> Iterator[Section]:
    """What further probes measured, drawn; no claim is about it."""
    rows = _at_primary(study, frame)
    rows = rows[~rows["probe"].isin(["training", "gradient_path", "curvature"])]
    if rows.empty:
        return
    figures = tuple(replace(figure, name=f"{figure.name}-{study.name}") for figure in overview(rows))
    yield Section(
        title=f"Further probes{title}",
        text=f"Learning rate {study.primary_rate:g}, median over seeds. No claim is decided by these.",
        figures=figures,
    )


def _training(study: Study, frame: pd.DataFrame, title: str, ids: tuple[str, ...]) -> Section:
    rows = pick(_at_primary(study, frame), probe="training")
    names = {"full_loss": "training loss"} | ({"test_accuracy": "test accuracy"} if classifies(study) else {})
    shown = pick(rows, quantity=list(names))
    last = pick(frame, study=study.name, probe="training", step=study.steps)
    columns = {
        what: values.groupby(["arm", "learning_rate"])["value"].median()
        for what, quantity in (
            ("full loss", "full_loss"),
            ("training accuracy", "train_accuracy"),
            ("test loss", "test_loss"),
            ("test accuracy", "test_accuracy"),
        )
        if len(values := pick(last, quantity=quantity))
    }
    tables: tuple[Table, ...] = ()
    if columns:
        tidy = table(columns).rename(columns={"learning_rate": "lr"})
        tables = (Table("training", "At the last step, median over seeds", tidy),)
    return Section(
        title=f"Training{title}",
        text="Arms of one seed share initial weights, data order and probe batches.",
        claims=ids,
        figures=(
            Figure(
                name=f"training-{study.name}",
                kind="lines",
                frame=lines(shown, lambda r: r["quantity"].map(names)),
                title="Training",
                caption=f"Study {study.name}, learning rate {study.primary_rate:g}. Median over seeds; the band runs "
                "from the smallest to the largest seed.",
                alt=f"Lines over training steps, one per arm: {' and '.join(names.values())}.",
                options=STEPS
                | {
                    "columns": 2,
                    "panels": list(names.values()),
                    "panel_labels": {"training loss": "full loss", "test accuracy": "accuracy"},
                    "panel_y_log": {"training loss": True},
                    "arms": [arm.label for arm in study.arms],
                },
            ),
        ),
        tables=tables,
    )


def _experiment(name: str, *, steps: int, seeds: int, every: int) -> Experiment:
    study = Study(
        name="main",
        model=Spec("convnet"),
        data=Spec("digits"),
        arms=(Arm("none"), Arm("batch")),
        learning_rates=(0.1,),
        primary_rate=0.1,
        seeds=tuple(range(seeds)),
        steps=steps,
        probes=(
            ProbeSpec("gradient_path", every=every),
            ProbeSpec("gradient_path", every=every, options={"direction": "scale-invariant"}),
            ProbeSpec("curvature", every=every),
        ),
        evaluate_every=every,
    )
    return Experiment(name, (study,))


PRESETS: dict[str, Callable[[], Experiment]] = {
    "quick": lambda: _experiment("pairs-quick", steps=100, seeds=3, every=10),
    "standard": lambda: _experiment("pairs-standard", steps=200, seeds=5, every=10),
}

ANALYSIS = Analysis(
    name="pairs",
    question="Is the loss landscape smoother, and training better, with each of these normalizations?",
    paper="The measures of Santurkar et al. 2018 (arXiv 1805.11604), on any pair of networks",
    presets=PRESETS,
    claims=claims,
    sections=sections,
    headline=headline,
    answer=answer,
    recorded=late_arms,
    definitions={
        "full loss": "L_m(w): mean of the training loss over fixed mini-batches of the training size, each with its "
        "own batch statistics; an incomplete batch is dropped.",
        "loss range": "max L - min L over the sweep w - eta g, eta in [1/2, 4] x lr, without eta = 0.",
        "max distance": "max over the sweep of ||grad L(w - eta g) - g||: gradient predictiveness.",
        "effective smoothness (beta)": "max over the sweep of ||grad L(w - eta g) - g|| / (eta ||g||).",
        "scale-invariant beta": "||D (grad L(w - eta D^2 g) - g)|| / (eta ||D g||) with D the norms of the filters (1 "
        "for biases and affine parameters): unchanged when weights are rescaled without changing the function.",
    },
)
