"""Self-normalizing networks: a short real run, and the domain's share against one counted by hand."""

import dataclasses

import pandas as pd

from landscape.derived import derived
from landscape.experiment import Experiment
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["self-normalizing"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        if study.name != "training":
            depth = len(study.model.options["hidden"])
            model = dataclasses.replace(study.model, options={"hidden": [16] * depth})
            return dataclasses.replace(study, model=model, seeds=(0, 1, 2))
        model = dataclasses.replace(study.model, options={"hidden": [8] * 32})
        return shorter(study, 20, model=model, full_batches=1, learning_rates=(0.01,))

    full = ANALYSIS.presets["quick"]()
    two = Experiment(full.name, (full.studies[1], full.studies[-1]))
    assert_decided(trained(dataclasses.replace(ANALYSIS, presets={"quick": lambda: two}), cut))


def test_claims_are_well_formed_and_identical_arms_support_none_that_compares():
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
        assert claim.reference is None or claim.boundary >= 0.0


def test_the_share_in_the_domain_is_counted_over_layers_and_steps():
    experiment = ANALYSIS.presets["quick"]()
    study = experiment.studies[-1]
    values = {  # (step, layer): mean, variance
        (0, "fc1.activation"): (0.0, 1.0),
        (0, "fc2.activation"): (0.2, 1.0),
        (10, "fc1.activation"): (0.05, 1.4),
        (10, "fc2.activation"): (-0.1, 0.8),
    }
    rows = [
        ("selu", 0.01, 0, step, layer, quantity, value)
        for (step, layer), both in values.items()
        for quantity, value in zip(("mean", "variance"), both, strict=True)
    ]
    names = ["arm", "learning_rate", "seed", "step", "layer", "quantity", "value"]
    frame = derived(pd.DataFrame(rows, columns=names), study, "x").assign(
        probe="moments", variant="nonlinearity output"
    )
    frame["quantity"], frame["step"] = [row[5] for row in rows], [row[3] for row in rows]
    found = ANALYSIS.derive(experiment, frame).set_index("quantity")["value"]
    assert found["in_domain"] == 3 / 4
    assert found["all_in_domain"] == 1 / 2
