"""Batch normalization's own experiments: a short real run is decided, and the paper's table stands beside ours."""

import dataclasses

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["ioffe-szegedy"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        if study.name == "sigmoid":
            return shorter(study, 20, learning_rates=(study.primary_rate,), full_batches=1)
        small = dataclasses.replace(study.model, options={"channels": [2]})
        return shorter(study, 6, model=small, evaluate_every=3, full_batches=1)

    report = trained(ANALYSIS, cut)
    assert_decided(report)
    table = next(t for s in report.sections for t in s.tables if t.name == "paper").frame
    assert list(table["network"]) == ["Inception", "BN-Baseline", "BN-x5", "BN-x30", "BN-x5-Sigmoid"]
    assert table["ours: steps to plain's best"][0] != "not reached"


def test_claims_are_well_formed():
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
