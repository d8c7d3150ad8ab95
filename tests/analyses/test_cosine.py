"""Cosine normalization: a short real run of three kinds of network and data is decided."""

import dataclasses

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["cosine"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        options = {"channels": [2, 2]} if study.name == "conv" else {"hidden": [8, 8]}
        model = dataclasses.replace(study.model, options=options)
        return shorter(study, 5, model=model, learning_rates=(0.1,), full_batches=1)

    assert_decided(trained(ANALYSIS, cut))


def test_claims_are_well_formed_and_identical_arms_support_none():
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
        assert claim.boundary == 0.0
        assert claim.kind == "superiority"
