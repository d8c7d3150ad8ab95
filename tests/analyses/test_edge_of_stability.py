"""The edge of stability: a short real descent, and the derived numbers on sharpness that is known."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from landscape.derived import derived
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["edge-of-stability"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        model = dataclasses.replace(study.model, options={"hidden": [8], "activation": "tanh", "init": "lecun"})
        data = dataclasses.replace(study.data, options={"limit": 32})
        short = shorter(study, 20, model=model, data=data, learning_rates=(0.05,), evaluate_every=5)
        return dataclasses.replace(short, probes=tuple(dataclasses.replace(p, every=5) for p in short.probes))

    report = trained(ANALYSIS, cut)
    assert_decided(report)
    assert {figure.name for s in report.sections for figure in s.figures} == {"rate-0.05", "curvature"}


def test_claims_are_well_formed():
    found = ANALYSIS.claims(ANALYSIS.presets["quick"]())
    for claim in found:
        check_claim(claim)
    assert len({claim.id for claim in found}) == len(found)


def test_sharpness_that_rises_tenfold_to_the_edge_has_distance_zero_and_sharpening_one():
    experiment = ANALYSIS.presets["quick"]()
    (study,) = experiment.studies
    rate, steps = 0.05, np.arange(0, 90, 10)
    late = 2.0 / rate
    parts = []
    for step in steps:
        value = late if step >= 60 else late / 10
        for probe, quantity, number in (
            ("hessian_eigenpairs", "eigenvalue", value),
            ("hessian_eigenpairs", "step_sharpness", rate * value),
            ("curvature", "step_curvature", 1.0),
        ):
            row = pd.DataFrame([("none", rate, 0, number)], columns=["arm", "learning_rate", "seed", "value"])
            variant = "hessian/largest" if probe == "hessian_eigenpairs" else ""
            parts.append(derived(row, study, quantity).assign(probe=probe, variant=variant, step=step))
    found = ANALYSIS.derive(experiment, pd.concat(parts)).set_index("quantity")["value"]
    assert found["edge_distance"] == pytest.approx(0.0, abs=1e-12)
    assert found["late_sharpness"] == pytest.approx(late)
    assert found["sharpening"] == pytest.approx(math.log10(10))
