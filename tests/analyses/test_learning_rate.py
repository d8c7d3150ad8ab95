"""Learning rates: a short real sweep, and the relative loss on numbers that are known."""

import dataclasses

import pandas as pd
import pytest

from landscape.derived import derived
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["learning-rate"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        path = dataclasses.replace(study.probes[0], at=(0, 1))
        model = dataclasses.replace(study.model, options={"depth": 8, "width": 8})
        data = dataclasses.replace(study.data, options={"limit": 64, "test_limit": 32})
        return shorter(
            study,
            15,
            model=model,
            data=data,
            learning_rates=(0.01, 0.1, 1.0, 100.0),  # at 100 nothing trains: a largest stable rate is below it
            batch_size=32,
            full_batches=1,
            evaluate_every=15,
            probes=(path,),
        )

    assert_decided(trained(ANALYSIS, cut))


def test_claims_are_well_formed():
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)


def test_the_relative_loss_stands_at_its_step_size_and_is_the_median_over_mini_batches():
    experiment = ANALYSIS.presets["quick"]()
    (study,) = experiment.studies
    parts = []
    for step, factor in ((0, 2.0), (1, 5.0), (2, 3.0)):
        rows = [("loss0", 0, 4.0), ("loss", 0, 4.0), ("loss", 6, 4.0 * factor)]
        for quantity, index, value in rows:
            row = pd.DataFrame([("none", 0.01, 0, value)], columns=["arm", "learning_rate", "seed", "value"])
            part = derived(row.assign(index=index), study, quantity)
            parts.append(part.assign(probe="gradient_path", variant="gradient/fixed", batch="same", step=step))
    for quantity, value in (("full_loss", 0.1), ("chance_loss", 2.3)):
        row = pd.DataFrame([("none", 0.01, 0, value)], columns=["arm", "learning_rate", "seed", "value"])
        parts.append(derived(row, study, quantity).assign(probe="training"))
    found = ANALYSIS.derive(experiment, pd.concat(parts))
    relative = found[found["quantity"] == "relative_loss"].set_index("learning_rate")["value"]
    assert relative[3.0] == pytest.approx(3.0)  # the seventh step size
    assert relative[0.003] == pytest.approx(1.0)
    stable = found[found["quantity"] == "largest_stable_rate"]
    assert stable["value"].tolist() == [0.01]
