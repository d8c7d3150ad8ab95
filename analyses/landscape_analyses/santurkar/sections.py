"""What the report shows: sections, figures and tables as tidy data."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from landscape.analysis import Figure, Section, Table, Verdict
from landscape.experiment import Experiment
from landscape.frames import band, lines, medians, pick, ridges, table
from landscape_analyses.santurkar.grid import PAIR

STEPS = {"x_label": "training step"}


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """Figure 4 of the paper, on the convolutional pair at the primary rate."""
    along = "Along the gradient of the same mini-batch, eight step sizes in [1/2, 4] x lr"
    return landscape_panels(experiment, frame, "conv", "headline", "The landscape along the gradient", along)


def landscape_panels(
    experiment: Experiment, frame: pd.DataFrame, study: str, name: str, title: str, along: str
) -> Figure:
    """Loss variation and gradient predictiveness as bands, effective smoothness as a line drawn as a thin band."""
    rows = _primary(experiment, frame, study, list(PAIR))
    path = pick(rows, probe="gradient_path", variant="gradient/scaled", batch="same")
    parts = [
        band(pick(path, quantity="loss"), "loss along the gradient"),
        band(pick(path, quantity="gradient_distance"), "gradient predictiveness"),
        _over_seeds(pick(path, quantity="effective_smoothness"), "effective smoothness"),
    ]
    panels = {
        "loss along the gradient": "loss, min to max",
        "gradient predictiveness": "‖g′ − g‖, min to max",
        "effective smoothness": "max beta, range of seeds",
    }
    seeds = rows["seed"].nunique()
    rate = experiment.study(study).primary_rate
    return Figure(
        name=name,
        kind="band",
        frame=pd.concat(parts, ignore_index=True),
        title=title,
        caption=(
            f"{along}, at learning rate {rate:g}. Left and middle: smallest to "
            f"largest value over the sweep, median of {seeds} seeds. Right: effective smoothness, smallest to largest "
            "over seeds. A narrower band on the left, and lower ones in the middle and on the right, are smoother."
        ),
        alt="Three panels over training steps comparing the arms with and without batch normalization: the range "
        "of the loss along the gradient, the range of gradient distances, and the effective smoothness.",
        options=STEPS | {"panel_labels": panels, "panels": list(panels), "y_log": True, "columns": 3},
    )


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """The report's sections, for the studies that this experiment has."""
    names = {study.name for study in experiment.studies}
    conv = (_training, _landscape, _shift, _activations, _noise, _norms) if "conv" in names else ()
    linear = (_linear,) if "dln" in names else ()
    builders: tuple[Callable[[Experiment, pd.DataFrame], Section], ...] = (*conv, *linear)
    return tuple(build(experiment, frame) for build in builders)


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


def _primary(experiment: Experiment, frame: pd.DataFrame, study: str, arms: list[str] | None = None) -> pd.DataFrame:
    return pick(frame, study=study, learning_rate=experiment.study(study).primary_rate, arm=arms)


def _over_seeds(rows: pd.DataFrame, panel: str) -> pd.DataFrame:
    ends = rows.groupby(["arm", "step"])["value"].agg(["min", "max"]).reset_index()
    return ends.rename(columns={"step": "x", "min": "low", "max": "high"}).assign(panel=panel)


def _rate_panels(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    return lines(rows, lambda r: what + ", lr " + r["learning_rate"].map("{:g}".format))


def _training(experiment: Experiment, frame: pd.DataFrame) -> Section:
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


def _landscape(experiment: Experiment, frame: pd.DataFrame) -> Section:
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
    primary = _primary(experiment, rows, "conv")
    panels = {
        "rise above L(w)": pick(
            primary, probe="gradient_path", variant="gradient/scaled", batch="same", quantity="rise"
        ),
        "scale-invariant beta": pick(
            primary, probe="gradient_path", variant="scale-invariant/scaled", quantity="effective_smoothness"
        ),
        "lr gᵀHg / ‖g‖²": pick(primary, probe="curvature", quantity="step_curvature"),
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


def _shift(experiment: Experiment, frame: pd.DataFrame) -> Section:
    rows = pick(_primary(experiment, frame, "conv", list(PAIR)), probe="covariate_shift")
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


def _activations(experiment: Experiment, frame: pd.DataFrame) -> Section:
    rows = _primary(experiment, frame, "conv")
    shown = [arm for arm in ("none", "batch", "noisy-batch") if arm in set(rows["arm"])]
    seed = rows["seed"].min()
    arrays = frame.attrs["arrays"]("activations", "histogram")
    one = pick(_primary(experiment, arrays, "conv", shown), seed=seed)
    drift = pick(rows, probe="activations", quantity="shift_previous", arm=shown)
    return Section(
        title="Activations",
        text="Distributions at the input of the nonlinearity, the same site in every arm, on a fixed batch. Drift is "
        "the Wasserstein-1 distance between probes over the earlier standard deviation, averaged over units.",
        claims=("A-drift", "A-noisy2"),
        figures=(
            Figure(
                name="ridges",
                kind="ridgeline",
                frame=ridges(one, rows),
                title="Activations over training",
                caption=f"Density over all units at the input of the nonlinearity; seed {seed}, fixed batch.",
                alt="Ridges: the density of activations at successive training steps, one column per arm and one row "
                "per layer.",
                options={"x_label": "activation", "arms": shown},
            ),
            Figure(
                name="drift",
                kind="lines",
                frame=lines(drift, "layer"),
                title="Drift between probes",
                caption="Drift of the distributions between consecutive probes; median over seeds, band from the "
                "smallest to the largest.",
                alt="Lines over steps: drift of activation distributions for two layers and three arms.",
                options=STEPS | {"y_log": True, "y_label": "W1 / earlier std", "columns": 2, "arms": shown},
            ),
        ),
    )


def _noise(experiment: Experiment, frame: pd.DataFrame) -> Section:
    rows = _primary(experiment, frame, "conv", ["none", "batch", "noisy-batch", "noise"])
    accuracy = pick(rows, probe="training", quantity=["train_accuracy", "test_accuracy"])
    names = {"train_accuracy": "training", "test_accuracy": "test"}
    return Section(
        title="Noise after batch normalization",
        text="Noise with a random mean and scale, drawn anew at every step and layer, makes activations drift on "
        "purpose. If stability of distributions were what helps, it would hurt. 'noise' is the standard net with the "
        "same noise.",
        claims=("A-noisy1", "A-noisy1b", "A-noisy3"),
        figures=(
            Figure(
                name="noise",
                kind="lines",
                frame=lines(accuracy, lambda r: r["quantity"].map(names)),
                title="Accuracy with noise",
                caption="Median over seeds; band from the smallest to the largest.",
                alt="Lines of training and test accuracy over steps for the standard net, batch normalization and "
                "both with noise.",
                options=STEPS | {"y_label": "accuracy", "columns": 2, "share_y": True},
            ),
        ),
    )


def _norms(experiment: Experiment, frame: pd.DataFrame) -> Section:
    arms = ["none", "batch", "lp:1", "lp:2", "lp:inf"]
    rows = _primary(experiment, frame, "conv", arms)
    panels = {
        "training accuracy": pick(rows, probe="training", quantity="train_accuracy"),
        "effective smoothness": pick(
            rows, probe="gradient_path", variant="gradient/scaled", batch="same", quantity="effective_smoothness"
        ),
    }
    return Section(
        title="Other norms",
        text="Normalizing by the average lp norm instead of the standard deviation: the paper finds the same "
        "smoothing, without Gaussian-looking activations.",
        claims=("A-l1-acc", "A-l2-acc", "A-linf-acc", "A-l1-beta", "A-l2-beta", "A-linf-beta"),
        figures=(
            Figure(
                name="norms",
                kind="lines",
                frame=pd.concat([lines(r, panel) for panel, r in panels.items()], ignore_index=True),
                title="lp normalization",
                caption="Median over seeds; band from the smallest to the largest.",
                alt="Lines over steps: training accuracy and effective smoothness for five normalizations.",
                options=STEPS | {"columns": 2, "panel_y_log": {"effective smoothness": True}},
            ),
        ),
    )


def _linear(experiment: Experiment, frame: pd.DataFrame) -> Section:
    study = experiment.study("dln")
    rows = pick(frame, study="dln")
    shift = pick(rows, probe="covariate_shift", arm=list(PAIR))
    by = ["learning_rate", "arm"]
    last = pick(rows, probe="training", step=study.steps, quantity="full_loss").groupby(by)["value"].median()
    path = pick(rows, probe="gradient_path")
    columns = {
        "final loss": last,
        "cosine, layer 9": medians(pick(shift, quantity="cosine", layer="fc9.linear"), by),
        "cosine, layer 17": medians(pick(shift, quantity="cosine", layer="fc17.linear"), by),
        "‖G′ − G‖, layer 17": medians(pick(shift, quantity="distance", layer="fc17.linear"), by),
        "loss range": medians(pick(path, quantity="loss_range"), by),
        "max beta": medians(pick(path, quantity="effective_smoothness"), by),
        "lr beta": medians(pick(path, quantity="scaled_smoothness"), by),
    }
    primary = _primary(experiment, rows, "dln", list(PAIR))
    curves = {
        "full loss": pick(primary, probe="training", quantity="full_loss"),
        "cosine, layer 17": pick(primary, probe="covariate_shift", quantity="cosine", layer="fc17.linear"),
        "‖G′ − G‖, layer 17": pick(primary, probe="covariate_shift", quantity="distance", layer="fc17.linear"),
    }
    return Section(
        title="The deep linear network",
        text="25 linear layers by full-batch gradient descent on a Gaussian regression problem of each seed's own; "
        "mean over samples of the squared error. lr beta near 2 means that descent sits at the edge of stability: "
        "beta is then set by the learning rate, not by the normalization.",
        claims=(
            *("A-ICS-DLN1", "A-ICS-DLN2", "A-ICS-DLN3"),
            *("A-range-DLN", "A-pred-DLN", "A-beta-DLN", "A-lp-DLN"),
        ),
        figures=(
            landscape_panels(
                experiment,
                frame,
                "dln",
                "dln-landscape",
                "The deep linear net along its gradient",
                "Along the gradient of all samples, six step sizes in [1/100, 30] x lr",
            ),
            Figure(
                name="dln-shift",
                kind="lines",
                frame=pd.concat([lines(r, panel) for panel, r in curves.items()], ignore_index=True),
                title="Covariate shift on the deep linear net",
                caption=f"At learning rate {study.primary_rate:g}; median over seeds, band from the smallest to the "
                "largest.",
                alt="Lines over steps: loss, cosine of G and G′ and their distance at layer 17 for both arms.",
                options=STEPS
                | {
                    "columns": 3,
                    "panels": list(curves),
                    "panel_labels": {},
                    "panel_y_log": {"full loss": True, "‖G′ − G‖, layer 17": True},
                },
            ),
        ),
        tables=(
            Table(
                "window",
                "The window of learning rates: median over steps and seeds",
                table(columns).rename(columns={"learning_rate": "lr"}),
                "Range and max beta over six step sizes in [1/100, 30] x lr. lp arms are trained at the primary rate "
                "only, without probes.",
            ),
        ),
    )
