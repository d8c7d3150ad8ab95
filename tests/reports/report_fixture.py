"""A made-up report with every verdict, every kind of figure, and the oddest text a user could write."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landscape.analysis import (
    Claim,
    Comparison,
    Figure,
    Interval,
    Measure,
    Report,
    Section,
    Table,
    Verdict,
)

ODD = '#pagebreak() *bold* _x_ $y$ <label> @ref \\ "quotes" \U0001f600'
INF = float("inf")
NAN = float("nan")

VERDICT_ROWS = [
    # id, statement, verdict, mean, half-width, matched, scale
    ("A-loss", "The loss varies less along the gradient with batch normalization.", "holds", 0.95, 0.10, 0.81),
    ("A-grad", "Gradients are more predictive with batch normalization.", "holds", 0.61, 0.09, 0.44),
    ("A-beta", "The effective smoothness is smaller with batch normalization.", "undecided", 0.36, 0.08, 0.02),
    ("A-ics", "Batch normalization does not reduce internal covariate shift.", "holds", 0.12, 0.05, NAN),
    ("A-noise", "Noise after batch normalization leaves the speed of training as it is.", "fails", -0.30, 0.12, NAN),
    ("A-speed", "Batch normalization reaches a training accuracy of 90 % in fewer steps.", "holds", 0.42, 0.11, NAN),
    ("A-lp1", "The l1 norm smooths the loss as much as batch normalization does.", "undecided", 0.03, 0.21, 0.05),
    ("A-lpinf", "The maximum norm smooths the loss as much as batch normalization.", "untrained", NAN, NAN, NAN),
    ("A-dln", "In deep linear networks batch normalization speeds up training too.", "confounded", 0.7, 0.3, 0.5),
    ("A-acc", "Batch normalization raises the test accuracy.", "holds", 0.013, 0.006, NAN),
    ("A-depth", "Without batch normalization a network of 25 layers does not train.", "not measured", NAN, NAN, NAN),
    ("A-explode", f"A claim of the user's own: {ODD}", "fails", -0.2, INF, NAN),
]


REASONS = {
    "holds": "Both intervals lie above the boundary.",
    "fails": "The interval by step lies below the boundary.",
    "undecided": "An interval contains the boundary.",
    "untrained": "No step at which both arms have left the plateau.",
    "confounded": "Both arms are limited by the step size.",
    "not measured": "No seed has both arms.",
}


def verdict(row: tuple[str, str, str, float, float, float]) -> Verdict:
    """One decided claim from a row of numbers."""
    name, statement, word, mean, half, matched = row
    measured = mean == mean
    difference = name == "A-acc"
    claim = Claim(
        id=name,
        statement=statement,
        study="main",
        measure=Measure("gradient_path", "effective_smoothness", "gradient/scaled", layers=("conv3", "conv5")),
        arm="batch",
        scale="difference" if difference else "log-ratio",
        kind="superiority",
        boundary=0.0,
        matched=matched == matched,
        landscape=True,
        source="Santurkar et al. 2018, section 3.1, figure 4c (arXiv:1805.11604)",
        counter_evidence="Yao et al. 2020 (PyHessian) find a larger Hessian spectrum with batch normalization on "
        "shallow residual networks; Ghorbani et al. 2019 find fewer outliers.",
        published="about two orders of magnitude in the figure, by eye",
        note=ODD if name == "A-explode" else "also true of identical arms at a margin below 1.0×",
    )

    def interval(centre: float) -> Interval:
        return Interval(5, centre, half / 2.776 * 5**0.5, centre - half, centre + half)

    equal = Comparison(
        0.1,
        0.1,
        word,
        REASONS[word],
        by_step=interval(mean) if measured else None,
        at_matched_loss=interval(matched) if matched == matched else None,
        seeds={s: mean + 0.02 * s for s in range(5)} if measured else {},
        p_value=0.00021 if measured else NAN,
        overlap=(0.031, 2.12) if matched == matched else None,
        material=word == "holds" if measured and not difference else None,
        flags=("the size is set by the learning rate",) if name == "A-beta" else (),
        by_layer={"conv3": mean - 0.1, "conv5": mean} if name == "A-ics" else {},
    )
    best = Comparison(0.3, 0.1, "undecided", "", by_step=interval(mean - 0.1)) if measured else None
    return Verdict(claim, equal, best if name != "A-dln" else None, holm_p=0.0023 if measured else NAN)


def bands() -> pd.DataFrame:
    """Loss and gradient distance along the direction, two panels, one arm that leaves for infinity."""
    x = np.arange(0, 200, 10)
    rows = []
    for arm, scale in (("none", 6.0), ("batch", 1.0), ("my own norm", 2.0)):
        for panel, unit in (("loss", 1.0), ("gradient distance", 4.0)):
            low = unit * (0.4 + 2 * np.exp(-x / 40))
            high = low + scale * unit * (0.3 + np.exp(-x / 60)) * (1 + 0.2 * np.sin(x))
            if arm == "my own norm":
                high = np.where(x > 150, INF, high)
            rows.append(pd.DataFrame({"x": x, "low": low, "high": high, "arm": arm, "panel": panel}))
    return pd.concat(rows, ignore_index=True)


def curves() -> pd.DataFrame:
    """Training curves over five seeds; two arms diverge, in part or wholly."""
    rng = np.random.default_rng(0)
    x = np.arange(0, 200, 5)
    rows = []
    rates = {"none": 60.0, "batch": 25.0, "noisy-batch": 30.0, "lp:1": 35.0, "my own norm": 50.0}
    for arm, tau in rates.items():
        for seed in range(5):
            for panel in ("training loss", "test accuracy"):
                decay = np.exp(-x / tau) * np.exp(rng.normal(0, 0.05, len(x)))
                y = 2.3 * decay + 0.01 if panel == "training loss" else 1 - 0.9 * np.minimum(1, decay)
                if arm == "my own norm" and panel == "training loss":
                    y = np.where(x > 120, INF, y)
                rows.append(pd.DataFrame({"x": x, "y": y, "arm": arm, "panel": panel, "seed": seed}))
    return pd.concat(rows, ignore_index=True)


def ridges() -> pd.DataFrame:
    """Densities of two layers over ten steps, two arms."""
    position = np.linspace(-4, 4, 41)
    rows = []
    for arm, drift in (("none", 0.15), ("batch", 0.0)):
        for panel in ("conv3", "conv5"):
            for i, step in enumerate(range(0, 200, 20)):
                width = 1 + drift * i
                density = np.exp(-((position - drift * i * 0.8) ** 2) / (2 * width**2)) / width
                rows.append(
                    pd.DataFrame({"step": step, "position": position, "density": density, "arm": arm, "panel": panel})
                )
    return pd.concat(rows, ignore_index=True)


def forest(verdicts: tuple[Verdict, ...]) -> pd.DataFrame:
    """The forest's frame, straight from the verdicts."""
    rows = []
    for v in verdicts:
        fold = v.claim.scale == "log-ratio"
        for group, interval in (("by step", v.equal.by_step), ("matched loss", v.equal.at_matched_loss)):
            if interval is None and group == "matched loss":
                continue
            rows.append(
                {
                    "label": v.claim.id,
                    "mean": interval.mean if interval else NAN,
                    "lower": interval.lower if interval else NAN,
                    "upper": interval.upper if interval else NAN,
                    "boundary": v.claim.boundary,
                    "verdict": v.verdict,
                    "group": group,
                    "panel": "log ratios" if fold else "differences",
                }
            )
    return pd.DataFrame(rows)


def dots() -> pd.DataFrame:
    """Steps to an accuracy by learning rate; the un-normalized arm diverges at the largest."""
    rows = []
    for rate in (0.03, 0.1, 0.3, 0.5):
        for arm, factor in (("none", 3.0), ("batch", 1.0), ("my own norm", 1.6)):
            value = INF if arm == "none" and rate == 0.5 else 12 * factor / rate**0.6
            rows.append(
                {
                    "category": f"learning rate {rate:g}",
                    "value": value,
                    "low": value * 0.8,
                    "high": value * 1.25,
                    "arm": arm,
                }
            )
    return pd.DataFrame(rows)


def planes() -> pd.DataFrame:
    """Two planes of unequal sides around the same minimum; the un-normalized one is steeper and breaks at a corner."""
    x, y = np.meshgrid(np.linspace(-1, 1, 31), np.linspace(-1, 1, 25))
    rows = []
    for arm, steep in (("none", 9.0), ("batch", 2.0)):
        value = 0.02 + steep * (x**2 + 0.3 * y**2 + 0.4 * x * y + 0.5 * x**4) + 0.3 * steep * np.abs(x + y) ** 3
        if arm == "none":
            value[(x > 0.8) & (y > 0.8)] = INF
        rows.append(pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": value.ravel(), "arm": arm}))
    return pd.concat(rows, ignore_index=True)


def spectra() -> pd.DataFrame:
    """Bulks at zero with a few bumps to the right, in a band."""
    position = np.linspace(-8, 60, 500)
    rows = []
    for arm, width, bumps in (("none", 0.5, (12.0, 30.0, 55.0)), ("batch", 1.2, (9.0, 14.0))):
        density = np.exp(-np.abs(position) / width) / (2 * width)
        for bump in bumps:
            density = density + 1e-4 * np.exp(-((position - bump) ** 2) / 0.8)
        table = {"position": position, "density": density, "low": density / 1.6, "high": density * 1.6, "arm": arm}
        rows.append(pd.DataFrame(table))
    return pd.concat(rows, ignore_index=True)


def figures() -> dict[str, Figure]:
    """One figure of each kind, an empty one, and one of odd text."""
    verdicts = tuple(verdict(row) for row in VERDICT_ROWS)
    made = [
        Figure(
            "forest",
            "forest",
            forest(verdicts),
            "Every claim with its interval",
            "Mean over five seeds and 95 % interval; the vertical stroke is the boundary of the claim.",
            "Forest of twelve claims; five hold.",
            {
                "fold": {"log ratios": True},
                "panel_labels": {
                    "log ratios": "effect, in the direction of the claim",
                    "differences": "difference of test accuracy",
                },
            },
        ),
        Figure(
            "landscape",
            "band",
            bands(),
            "The landscape along the gradient",
            "Smallest to largest value over eight step sizes in [1/2, 4] × the learning rate, seed 0, same batch.",
            "Bands of loss and gradient distance over steps; the band of batch normalization is narrower.",
            {
                "x_label": "training step",
                "panel_labels": {"loss": "loss", "gradient distance": "‖∇L(w − ηg) − g‖"},
                "y_log": True,
            },
        ),
        Figure(
            "curves",
            "lines",
            curves(),
            "Training",
            "Median of five seeds; the band runs from the smallest to the largest seed.",
            "Training loss falls fastest with batch normalization.",
            {
                "x_label": "training step",
                "panel_labels": {"training loss": "loss", "test accuracy": "accuracy"},
                "panel_y_log": {"training loss": True},
            },
        ),
        Figure(
            "activations",
            "ridgeline",
            ridges(),
            "Activations over training",
            "Density of the inputs of the nonlinearity on one fixed batch, seed 0.",
            "Ridges drift without batch normalization and stay with it.",
            {"x_label": "input of the nonlinearity"},
        ),
        Figure(
            "speed",
            "bars",
            dots(),
            "Steps to 90 % training accuracy",
            "Mean of five seeds with its 95 % interval.",
            "Batch normalization needs the fewest steps at each learning rate.",
            {"x_label": "training steps", "x_log": True},
        ),
        Figure(
            "plane",
            "surface",
            planes(),
            "The loss on a plane",
            "Filter-normalized directions, seed 0, same batch; the path of training ends at the cross.",
            "Contours of the loss; the plane of batch normalization is flatter.",
            {
                "x_label": "first direction",
                "y_label": "second direction",
                "path": {"batch": [(0.9 - 0.09 * t, 0.8 - 0.008 * t * t) for t in range(11)]},
            },
        ),
        Figure(
            "spectrum",
            "spectrum",
            spectra(),
            "The Hessian's spectrum",
            "Stochastic Lanczos quadrature, ten draws; the band is their standard deviation.",
            "Densities of eigenvalues; three outliers without normalization, two with it.",
            {
                "x_label": "eigenvalue",
                "y_label": "density",
                "outliers": {"none": [12.0, 30.0, 55.0], "batch": [9.0, 14.0]},
            },
        ),
        Figure(
            "nothing",
            "lines",
            pd.DataFrame({"x": [], "y": [], "arm": []}),
            "The Hessian spectrum",
            "Largest eigenvalues.",
            "An empty figure: nothing was measured.",
        ),
        Figure(
            "odd",
            "lines",
            pd.DataFrame({"x": [0.0, 1.0] * 2, "y": [1.0, 2.0, 2.0, 3.0], "arm": ["batch"] * 2 + [ODD] * 2}),
            ODD,
            ODD,
            ODD,
            {"x_label": ODD, "y_label": "$\\frac{1}{"},
        ),
    ]
    return {figure.name: figure for figure in made}


def example() -> Report:
    """The whole report."""
    verdicts = tuple(verdict(row) for row in VERDICT_ROWS)
    drawn = figures()
    table = pd.DataFrame(
        {
            "arm": ["none", "batch", "noisy-batch", ODD],
            "learning rate": [0.1, 0.1, 0.1, 0.1],
            "train accuracy": [0.991, 1.0, 0.998, NAN],
            "test accuracy": [0.968, 0.981, 0.979, INF],
            "seeds": [5, 5, 5, 0],
        }
    )
    sections = (
        Section(
            "The landscape along the gradient",
            "At every tenth step the loss and its gradient are measured at eight points along the gradient.\n\n"
            "A narrow band means that the gradient tells what a step will do. Both comparisons are shown, "
            "at equal steps and at equal full loss.",
            ("A-loss", "A-grad", "A-beta"),
            (drawn["landscape"], drawn["nothing"]),
        ),
        Section(
            "Training",
            "How fast, and how well.",
            ("A-speed", "A-acc", "A-noise", "A-depth", "A-unknown"),
            (drawn["curves"], drawn["speed"]),
            (Table("accuracy", "Final accuracy", table, "Mean of five seeds."),),
        ),
        Section("Covariate shift", "Definition 2.1, per layer.", ("A-ics", "A-dln"), (drawn["activations"],)),
        Section(ODD, ODD, ("A-explode",), (drawn["odd"],), (Table("none", "Nothing", table.iloc[:0]),)),
    )
    return Report(
        title="How does batch normalization help optimization?",
        question="Does batch normalization make the loss landscape smoother, and is that why training is faster?",
        answer="Yes along the gradient: the loss varies 8.9 times less and gradients are 4.1 times more predictive "
        "with batch normalization. The effective smoothness is undecided once the arms are compared at equal loss, "
        "and noise put back after the normalization does slow training down here.",
        verdicts=verdicts,
        headline=drawn["landscape"],
        sections=(Section("All claims", "", (), (drawn["forest"],)), *sections),
        definitions={
            "effective smoothness": "max over step sizes of ‖∇L(w − ηg) − g‖ / (η ‖g‖), with the same mini-batch.",
            "loss range": "largest less smallest loss over eight step sizes in [1/2, 4] × the learning rate.",
        },
        settings={
            "model": "cnn 16,16,M,32,32,M,64,64 + global average pooling",
            "data": "digits, checksum sha256:6f1d…",
            "seeds": "0, 1, 2, 3, 4",
            "learning rates": "0.03, 0.1, 0.3",
            "torch": "2.13.0+cpu, 1 thread",
            "custom": ODD,
        },
        cost={"forward+backward passes": "41,200", "time": "148 s on 2 slots", "peak memory": "412 MB"},
        failures=("my own norm, learning rate 0.1, seed 3: the loss became infinite at step 121.",),
    )
