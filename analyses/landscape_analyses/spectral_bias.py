"""Which frequencies are learned, and when: plain networks with each normalization, and PhaseDNN, on one function."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from landscape.analysis import Analysis, Claim, Figure, Measure, Section, Table
from landscape.derived import derived, each_run, number
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study, grid
from landscape.figures import Panel, at_end, over_index, over_steps
from landscape.frames import RUN, last_step, pick
from landscape.probes.bands import WIDEBAND

PHASE_DNN = "Cai, Li & Liu 2020, PhaseDNN (arXiv 1905.01389)"
SHIFTS = [0, 23, 137, 203]
NORMS = ("none", "batch", "layer", "weight")
LEARNED = 0.1  # of a band: the relative error at which it counts as learned
ERROR: dict[str, Any] = {"probe": "bands", "quantity": "error"}
TOTAL: dict[str, Any] = {"probe": "bands", "quantity": "total"}
BANDS = [f"{w:g}" for w in WIDEBAND]


def _experiment(
    name: str, *, seeds: int, steps: int, samples: int, width: int, small: int, rates: tuple[float, ...]
) -> Experiment:
    """``width`` and ``small`` are hidden widths of the plain network and of PhaseDNN's seven, of as many parameters."""
    phase = {"frequencies": SHIFTS, "hidden": [small, small]}
    plain = Spec("phase_dnn", {"activation": "tanh", "frequencies": [0], "hidden": [width, width]})
    parallel = Spec("phase_dnn", {"activation": "tanh"} | phase | {"form": "parallel"})
    function, bands = {"samples": samples}, {"samples": samples, "frequencies": SHIFTS}
    study = partial(
        grid, rates=rates, primary_rate=rates[-1], seeds=seeds, steps=steps, batch_size=None, optimizer=Spec("adam"),
        probes=(ProbeSpec("bands", every=steps // 50),), evaluate_every=steps // 10, accuracy=False,
    )  # fmt: skip
    together = (*NORMS, Arm("none", "PhaseDNN", options=phase))
    coupled = study("coupled", plain, Spec("wideband", function), together)
    return Experiment(name, (coupled, study("parallel", parallel, Spec("wideband", bands), (Arm("none", "parallel"),))))


def derive(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Per run: steps until each band is learned, the order of these, and how uneven the final errors are."""
    parts = []
    for study in experiment.studies:
        rows = pick(frame, study=study.name, **ERROR)
        reached = rows.assign(step=rows["step"].where(rows["value"] <= LEARNED, study.steps))
        steps = reached.groupby([*RUN, "layer", "index"])["step"].min().rename("value").reset_index()
        last = pick(rows, step=last_step(rows))
        parts += [
            derived(steps, study, "steps_to_learn"),
            each_run(last, study, "spread", lambda own: np.log10(own["value"].max() / own["value"].min())),
            each_run(last, study, "error_rank", _rank),
            each_run(steps, study, "order", _rank),
        ]
    return pd.concat(parts, ignore_index=True)


def _rank(bands: pd.DataFrame) -> float:
    """Spearman's rank correlation of the value with the band's frequency; 0 where all values are equal."""
    if bands["value"].nunique() < 2:
        return 0.0
    return float(bands["index"].rank().corr(bands["value"].rank()))


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """PhaseDNN's error against the plain network's; the order of the bands in each plain network; even errors."""
    claim = partial(Claim, window="end", needs_training=False, source=PHASE_DNN)
    alone = partial(claim, reference=None, scale="value", kind="threshold")
    even = partial(alone, measure=Measure.derived("spread"), boundary=-1.0)
    ends, order = Measure.derived("error_rank"), Measure.derived("order")
    return (
        claim("F-2", "At equal parameters and steps PhaseDNN's relative L2 error is at most a tenth of the plain "
              "network's.", "coupled", Measure("bands", "total"), "PhaseDNN", boundary=1.0,
              short="PhaseDNN: error at most a tenth",
              note="The paper's own errors, steps and rates were not found: the tenth is this project's number. Both "
              "at the points that are trained on."),
        alone("F-3-none", "The plain network's final error rises with the band's frequency (rank correlation above "
              "0.8).", "coupled", ends, "none", supports="larger", boundary=0.8,
              short="plain: error rises with frequency"),
        *(even(f"F-3-{arm}", f"PhaseDNN ({study}) learns all bands alike: its largest final error of a band is at most "
               "10 times its smallest.", study, arm=arm, short=f"PhaseDNN, {study}: even errors")
          for study, arm in (("coupled", "PhaseDNN"), ("parallel", "parallel"))),
        *(alone(f"F-4-{norm}", f"The plain network ({norm}) learns low frequencies first: rank correlation of steps to "
                "10 % error with the band's frequency above 0.8.", "coupled", order, norm, supports="larger",
                boundary=0.8, short=f"{norm}: low frequencies first",
                note="A band that is never learned counts as learned at the last step; such bands tie.")
          for norm in NORMS),
    )  # fmt: skip


def sections(experiment: Experiment, frame: pd.DataFrame) -> tuple[Section, ...]:
    """On the function itself; then PhaseDNN on its bands."""
    ids = tuple(claim.id for claim in claims(experiment) if claim.study == "coupled")
    coupled, parallel = experiment.studies
    return (
        Section(
            "The function itself",
            "One regression in full batches with Adam. The plain network has as many parameters as PhaseDNN's seven "
            "together (a normalization adds its scales and shifts).",
            claims=ids,
            figures=(_bands(coupled, frame),),
            tables=(_ends(coupled, frame),),
        ),
        Section(
            "Band by band: the parallel form",
            "Each of PhaseDNN's networks learns its own band, shifted to zero, as if alone. Errors are those of the "
            "sum of the bands, which leave out about 8 % of the function: that part is not counted here.",
            claims=("F-3-parallel",),
            figures=(_bands(parallel, frame),),
            tables=(_ends(parallel, frame),),
        ),
    )


def _bands(study: Study, frame: pd.DataFrame) -> Figure:
    panels = [Panel(f"k around {k}", ERROR | {"layer": k}, label="relative error", log=True) for k in BANDS]
    total = Panel("all k", TOTAL, label="relative error", log=True)
    return over_steps(f"bands-{study.name}", study, frame, [*panels, total], title="Error by band of frequencies")


def _ends(study: Study, frame: pd.DataFrame) -> Table:
    """At the end: the bands were last measured a few steps before it."""
    title = f"Relative errors and the step at which a band's is {LEARNED:g}; {study.steps}: never"
    columns = {"error": TOTAL} | {f"k = {k}": ERROR | {"layer": k} for k in BANDS}
    columns |= {f"step, {k}": number("steps_to_learn") | {"layer": k} for k in ("1", "203")}
    ends = frame.assign(step=frame["step"].replace(last_step(frame, **TOTAL), study.steps))
    return at_end(f"end-{study.name}", title, study, ends, columns)


def headline(experiment: Experiment, frame: pd.DataFrame) -> Figure:
    """The errors of the bands at the end, one line per arm."""
    study, panel = experiment.study("coupled"), Panel("relative error", ERROR, log=True, guide=LEARNED)
    label, title = f"number of the band: k around {', '.join(BANDS)}", "Which frequencies were learned"
    return over_index("headline", study, frame, [panel], x_label=label, title=title)


ANALYSIS = Analysis(
    name="spectral-bias",
    title="Spectral bias",
    question="Which frequencies of a function does a network learn, and does normalization or PhaseDNN change it?",
    paper=PHASE_DNN,
    presets={
        "quick": lambda: _experiment(
            "spectral-bias-quick", seeds=5, steps=1000, samples=512, width=56, small=20, rates=(0.003, 0.01)
        ),
        "standard": lambda: _experiment(
            "spectral-bias-standard", seeds=8, steps=20000, samples=2048, width=109, small=40, rates=(0.001, 0.003)
        ),
    },
    claims=claims,
    sections=sections,
    headline=headline,
    derive=derive,
    definitions={
        "steps to learn": f"the first measured step with a relative error of {LEARNED:g} in a band; the last where "
        "there is none.",
        "spread": "log10 of the largest over the smallest final error of a band.",
        "rank correlation": "Spearman's, over the five bands.",
    },
)
