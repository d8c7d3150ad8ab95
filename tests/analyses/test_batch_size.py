"""Batch sizes: a short real run, and the noise's exponent on numbers that follow the law."""

import dataclasses

import pandas as pd
import pytest

from landscape.derived import derived
from landscape.experiment import Experiment
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["batch-size"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        model = dataclasses.replace(study.model, options={"channels": [8, "M", 8]})
        arms = tuple(arm for arm in study.arms if arm.norm in ("batch", "batch-renorm", "group:4"))
        return shorter(study, 10, arms=arms, model=model, full_batches=2, learning_rates=(study.primary_rate,))

    full = ANALYSIS.presets["quick"]()
    two = Experiment(full.name, (full.studies[1], full.studies[-2]))
    assert_decided(trained(dataclasses.replace(ANALYSIS, presets={"quick": lambda: two}), cut))


def test_claims_are_well_formed_at_every_batch_size():
    found = ANALYSIS.claims(ANALYSIS.presets["quick"]())
    for claim in found:
        check_claim(claim)
    assert {claim.study for claim in found} == {"b1", "b2", "b4", "b32", "b128"}


def test_noise_that_is_one_over_the_root_of_the_batch_size_has_an_exponent_of_minus_a_half():
    experiment = ANALYSIS.presets["quick"]()
    parts = []
    for study in experiment.studies:
        noise = pd.DataFrame(
            [("batch", 0.05, 0, 3.0 * study.batch_size**-0.5)], columns=["arm", "learning_rate", "seed", "value"]
        )
        rows = {"mean_noise": noise, "predictiveness": noise, "gradient_norm": noise}
        for quantity, values in rows.items():
            path = quantity != "mean_noise"
            part = derived(values, study, quantity)
            part["probe"], part["batch"] = ("gradient_path", "same") if path else ("statistics_noise", "full")
            part["variant"] = "gradient/scaled" if path else ""
            parts.append(part)
    found = ANALYSIS.derive(experiment, pd.concat(parts))
    (exponent,) = found[found["quantity"] == "noise_exponent"]["value"]
    assert exponent == pytest.approx(0.0, abs=1e-12)  # kept as the distance from -0.5
    assert set(found[found["quantity"] == "relative_predictiveness"]["value"]) == {1.0}
