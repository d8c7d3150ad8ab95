"""The report on the convolutional pair: training, the landscape along the gradient, covariate shift."""

from __future__ import annotations

import pandas as pd

from landscape.analysis import Figure, Section, Table, Verdict
from landscape.experiment import Experiment
from landscape.frames import lines, medians, pick, table
from landscape_analyses.santurkar.grid import PAIR
from landscape_analyses.santurkar.panels import STEPS, primary


def answer(verdicts: tuple[Verdict, ...]) -> str:
    """The question answered in two sentences, from the verdicts alone."""
    by_id = {v.claim.id: v for v in verdicts}
    smooth = [by_id[id] for id in ("A-range", "A-pred", "A-beta", "A-beta-inv") if id in by_id]
    groups: dict[str, list[str]] = {}
    for v in smooth:
        groups.setdefault(v.verdict, []).append(v.claim.id)
    said = "; ".join(f"{', '.join(ids)}: {verdict}" for verdict, ids in groups.items()) or "not measured"
    held = len(groups.get("holds", []))
    if smooth and held == len(smooth):
        first = (
            "Yes, on this network: every measure of smoothness along the gradient is better with batch normalization"
        )
    elif held:
        first = f"In part, on this network: {held} of {len(smooth)} measures of smoothness are better"
    else:
        first = "Not shown on this network: no measure of smoothness is established as better with batch normalization"
    counts = {
        verdict: sum(v.verdict == verdict for v in verdicts) for verdict in dict.fromkeys(v.verdict for v in verdicts)
    }
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{first} ({said}). Of all {len(verdicts)} claims: {total}."


def _rate_panels(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    return lines(rows, lambda r: what + ", lr " + r["learning_rate"].map("{:g}".format))


def training(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """Accuracy at two learning rates."""
    study = experiment.study("conv")
    rates = sorted({study.primary_rate, max(study.learning_rates)})
    rows = pick(frame, study="conv", probe="training", arm=list(PAIR), learning_rate=rates)
    curves = [
        _rate_panels(pick(rows, quantity=quantity), what)
        for quantity, what in (("train_accuracy", "training"), ("test_accuracy", "test"))
    ]
    last = pick(frame, study="conv", probe="training", step=study.steps)
    columns = {
        what: pick(last, quantity=quantity).groupby(["arm", "learning_rate"])["value"].median()
        for what, quantity in (
            ("full loss", "full_loss"),
            ("training accuracy", "train_accuracy"),
            ("test accuracy", "test_accuracy"),
            ("test, re-estimated", "test_accuracy_reestimated"),
        )
    }
    return Section(
        title="Training",
        text="Accuracy with and without batch normalization, at the primary and the largest learning rate. Arms of "
        "one seed share initial weights, data order and probe batches.",
        claims=("A-speed", "A-acc", "A-lr"),
        figures=(
            Figure(
                name="accuracy",
                kind="lines",
                frame=pd.concat(curves, ignore_index=True),
                title="Accuracy over training",
                caption="Median over seeds; the band runs from the smallest to the largest seed. Test accuracy uses "
                "running statistics.",
                alt="Lines of training and test accuracy over steps for each arm at two learning rates.",
                options=STEPS | {"y_label": "accuracy", "columns": 2, "share_y": True},
            ),
        ),
        tables=(
            Table(
                "accuracy",
                "At the last step, median over seeds",
                table(columns).rename(columns={"learning_rate": "lr"}),
                "Re-estimated: test accuracy with statistics averaged afresh over the batches of the full loss.",
            ),
        ),
    )


def along_the_gradient(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """The measures of figure 4, and their controls."""
    study = experiment.study("conv")
    rows = pick(frame, study="conv", arm=list(PAIR))
    path = pick(rows, probe="gradient_path")

    def column(quantity: str, variant: str = "gradient/scaled", batch: str = "same") -> pd.Series:
        return medians(pick(path, quantity=quantity, variant=variant, batch=batch), ["arm", "learning_rate"])

    curvature = medians(pick(rows, probe="curvature", quantity="step_curvature"), ["arm", "learning_rate"])
    scaled = {
        "loss range": column("loss_range"),
        "rise": column("rise"),
        "max ‖g′ − g‖": column("predictiveness"),
        "max beta": column("effective_smoothness"),
        "secant slope": column("secant_slope"),
        "‖g‖": column("gradient_norm"),
        "lr beta": column("scaled_smoothness"),
        "lr gᵀHg / ‖g‖²": curvature,
    }
    other = {
        "beta, fixed window": column("effective_smoothness", "gradient/fixed"),
        "beta, scale-inv.": column("effective_smoothness", "scale-invariant/scaled"),
        "beta, random": column("effective_smoothness", "random/scaled"),
        "‖g′ − g‖, held-out": column("predictiveness", batch="held-out"),
        "beta, held-out": column("effective_smoothness", batch="held-out"),
        "turn per step": medians(pick(rows, probe="updates", quantity="angular_update"), ["arm", "learning_rate"]),
        "beta at lr, full loss": column("effective_smoothness", batch="full"),
    }
    at_primary = primary(experiment, rows, "conv")
    panels = {
        "rise above L(w)": pick(
            at_primary, probe="gradient_path", variant="gradient/scaled", batch="same", quantity="rise"
        ),
        "scale-invariant beta": pick(
            at_primary, probe="gradient_path", variant="scale-invariant/scaled", quantity="effective_smoothness"
        ),
        "lr gᵀHg / ‖g‖²": pick(at_primary, probe="curvature", quantity="step_curvature"),
    }
    return Section(
        title="The landscape along the gradient",
        text="The measures of figure 4 on the convolutional pair. A measure that is smaller at equal step and at equal "
        "loss is smoother; the tables show how the answer moves with the learning rate, the direction and the batch.",
        claims=("A-range", "A-pred", "A-beta", "A-beta-inv", "A-pred-held", "A-thm41", "A-thm42"),
        figures=(
            Figure(
                name="controls",
                kind="lines",
                frame=pd.concat([lines(rows, panel) for panel, rows in panels.items()], ignore_index=True),
                title="Controls",
                caption=f"At learning rate {study.primary_rate:g}; median over seeds, band from the smallest to the "
                "largest. Right: 2 is the largest stable step on a quadratic; an arm whose median is at or above 1.5 "
                "is limited by its step size. Middle: the largest of three step sizes.",
                alt="Lines over steps: how far the loss rises along the gradient, the scale-invariant effective "
                "smoothness, and the curvature along the gradient times the learning rate.",
                options=STEPS
                | {
                    "columns": 3,
                    "panels": list(panels),
                    "panel_labels": {},
                    "panel_y_log": {"scale-invariant beta": True},
                    "guide": {"lr gᵀHg / ‖g‖²": 2.0},
                },
            ),
        ),
        tables=(
            Table(
                "measures",
                "Along the gradient, [1/2, 4] x lr: median over steps and seeds",
                table(scaled).rename(columns={"learning_rate": "lr"}),
                "They can disagree: no single number is 'the' smoothness.",
            ),
            Table(
                "controls",
                "Other windows, directions and batches: median over steps and seeds",
                table(other).rename(columns={"learning_rate": "lr"}),
                "Three step sizes each, at the full loss one, at four steps. Fixed window: the same at every "
                "learning rate. Turn per step: angle in radians "
                "between a layer's weight before and after the step, median over layers too.",
            ),
        ),
    )


def shift(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """Definition 2.1, layer by layer."""
    rows = pick(primary(experiment, frame, "conv", list(PAIR)), probe="covariate_shift")
    names = {"relative": "relative shift", "cosine": "cosine"}
    curves = lines(pick(rows, quantity=list(names)), lambda r: r["quantity"].map(names).str.cat(r["layer"], sep=", "))
    everything = pick(frame, study="conv", probe="covariate_shift", arm=list(PAIR))
    columns = {
        what: medians(pick(everything, quantity=quantity), ["layer", "learning_rate", "arm"])
        for what, quantity in (
            ("‖G′ − G‖", "distance"),
            ("relative", "relative"),
            ("cosine", "cosine"),
            ("per distance moved", "distance_per_move"),
            ("cosine, all moved", "control_cosine"),
        )
    }
    return Section(
        title="Internal covariate shift",
        text="Definition 2.1: how much the step of the layers before i changes the gradient of layer i, on the same "
        "batch. The ideal is a distance of 0 and a cosine of 1.",
        claims=("A-ICS",),
        figures=(
            Figure(
                name="covariate-shift",
                kind="lines",
                frame=curves,
                title="Internal covariate shift",
                caption="Relative shift ‖G′ − G‖/‖G‖ and cosine of G and G′, by layer; median over seeds, band from "
                "the smallest to the largest.",
                alt="Lines over steps: relative internal covariate shift and cosine for two layers and both arms.",
                options=STEPS | {"columns": 2},
            ),
        ),
        tables=(
            Table(
                "shift",
                "Median over steps and seeds",
                table(columns).rename(columns={"learning_rate": "lr"}),
                "The raw distance mixes step length and curvature; the column per distance moved divides by how far "
                "the earlier layers went. All moved: the control, with every layer moved.",
            ),
        ),
    )
