"""The deep linear network: what is claimed of it, and what the report shows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from landscape.analysis import Claim, Figure, Measure, Section, Table
from landscape.experiment import Experiment
from landscape.frames import lines, medians, pick, table
from landscape_analyses.santurkar.claims import PAPER, SHALLOW, path
from landscape_analyses.santurkar.grid import PAIR
from landscape_analyses.santurkar.panels import STEPS, landscape_panels, primary


def claims() -> tuple[Claim, ...]:
    """Covariate shift, smoothness and loss of 25 linear layers."""

    def linear(id: str, statement: str, measure: Measure, **rest: Any) -> Claim:
        settings: dict[str, Any] = {"arm": "batch", "source": f"{PAPER}, figure 9", "counter_evidence": SHALLOW}
        return Claim(id, statement, "dln", measure, **(settings | rest))

    cosine = Measure("covariate_shift", "cosine", layers=("fc17.linear",))
    figure = f"{PAPER}, figure 3b"
    window = (
        "The answer depends on the learning rate, the reduction of the loss, the samples and the layer; see the table."
    )
    return (
        linear(
            "A-ICS-DLN1",
            "The standard deep linear net has almost no covariate shift: cosine above 0.9 at layer 17.",
            cosine,
            arm="none",
            reference=None,
            supports="larger",
            scale="cosine",
            kind="threshold",
            boundary=math.atanh(0.9),
            source=figure,
            counter_evidence="",
            note=window,
            needs_training=False,
        ),
        linear(
            "A-ICS-DLN2",
            "With batch normalization G′ turns away from G: cosine below 0.6 at layer 17.",
            cosine,
            reference=None,
            supports="smaller",
            scale="cosine",
            kind="threshold",
            boundary=-math.atanh(0.6),
            source=figure,
            counter_evidence="",
            note=window,
            needs_training=False,
        ),
        linear(
            "A-ICS-DLN3",
            "And yet the deep linear net with batch normalization ends at a lower loss.",
            Measure.training("full_loss"),
            window="end",
            source=figure,
            counter_evidence="",
            needs_training=False,
        ),
        linear(
            "A-lp-DLN",
            "On the deep linear net lp:1 ends at a lower loss than batch normalization.",
            Measure.training("full_loss"),
            arm="lp:1",
            reference="batch",
            window="end",
            source=f"{PAPER}, figure 13",
            counter_evidence="lp:1 leaves a larger output scale (1.25 against 1), which alone can explain it.",
            needs_training=False,
        ),
        *(
            linear(f"A-{name}-DLN", statement, path(quantity), window="all", matched=True, landscape=True)
            for name, statement, quantity in (
                ("range", "On the deep linear net the loss varies less along the gradient.", "loss_range"),
                ("pred", "On the deep linear net the gradient is more predictive.", "predictiveness"),
                ("beta", "On the deep linear net the effective smoothness is better.", "effective_smoothness"),
            )
        ),
    )


def section(experiment: Experiment, frame: pd.DataFrame) -> Section:
    """The window of learning rates, the landscape and the shift."""
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
    at_primary = primary(experiment, rows, "dln", list(PAIR))
    curves = {
        "full loss": pick(at_primary, probe="training", quantity="full_loss"),
        "cosine, layer 17": pick(at_primary, probe="covariate_shift", quantity="cosine", layer="fc17.linear"),
        "‖G′ − G‖, layer 17": pick(at_primary, probe="covariate_shift", quantity="distance", layer="fc17.linear"),
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
