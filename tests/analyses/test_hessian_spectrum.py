"""The Hessian's spectrum: a short real run in both statistics modes, and the densities against their definition."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from landscape.derived import derived
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["hessian-spectrum"]()


@pytest.fixture(scope="module")
def report(trained, shorter):
    def cut(study):
        model = dataclasses.replace(study.model, options={"channels": [2]})
        short = shorter(study, 4, model=model, batch_size=32, full_batches=1)
        return dataclasses.replace(
            short, probes=tuple(p if p.at is None else dataclasses.replace(p, at=(3,)) for p in short.probes)
        )

    return trained(ANALYSIS, cut)


def test_a_short_run_is_decided(report, assert_decided):
    assert_decided(report)


def test_each_density_is_one_in_all(report):
    frame = report.headline.frame
    assert set(frame["panel"]) == {"batch statistics", "running statistics"}
    assert len(frame.groupby(["arm", "panel"])) == 4
    for _, own in frame.groupby(["arm", "panel"]):
        assert np.trapezoid(own["density"], own["position"]) == pytest.approx(1.0, abs=1e-3)
        assert (own["low"] <= own["density"]).all()
        assert (own["density"] <= own["high"]).all()
    same = frame[frame["arm"] == "none"].pivot_table(index="position", columns="panel", values="density")
    assert (same["batch statistics"] == same["running statistics"]).all()
    marks = report.headline.options["outliers"]["running statistics"]["batch"]
    assert len(marks) == 10


def test_claims_are_well_formed():
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)


def test_ratios_and_what_returns_with_running_statistics():
    experiment = ANALYSIS.presets["quick"]()
    (study,) = experiment.studies
    parts = []
    for mode, top, share in (("batch", 4.0, 0.2), ("running", 40.0, 0.9)):
        for quantity, index, value in (("eigenvalue", 0, top), ("eigenvalue", 9, 2.0), ("gradient_energy", 0, share)):
            row = pd.DataFrame([("batch", 0.1, 0, value)], columns=["arm", "learning_rate", "seed", "value"])
            part = derived(row.assign(index=index), study, quantity)
            parts.append(
                part.assign(probe="hessian_eigenpairs", variant="hessian/largest", batch="full", statistics=mode)
            )
    found = ANALYSIS.derive(experiment, pd.concat(parts)).set_index("quantity")["value"]
    assert (found["outlier_ratio_batch"], found["outlier_ratio_running"]) == (2.0, 20.0)
    assert found["outliers_return"] == pytest.approx(1.0)
    assert found["energy_returns"] == pytest.approx(0.7)
