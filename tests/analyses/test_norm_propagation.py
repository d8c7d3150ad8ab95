"""Normalization propagation: a short real run is decided, and a batch of one is refused where it says so."""

import dataclasses

import pytest
import torch

from landscape.errors import LandscapeError
from landscape.models import build_model
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["norm-propagation"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        if study.name == "random":
            small = {"model": dataclasses.replace(study.model, options={"hidden": [32] * 4})}
            return dataclasses.replace(
                study, seeds=(0, 1, 2), data=dataclasses.replace(study.data, options={"shape": [32]}), **small
            )
        return shorter(study, 10, learning_rates=(study.primary_rate,), full_batches=2)

    assert_decided(trained(ANALYSIS, cut))


def test_claims_are_well_formed():
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)


def test_batch_normalization_of_one_example_is_refused():
    net = build_model("mlp", norm="batch", input_shape=(4,), output_size=2, hidden=[3])
    with pytest.raises((LandscapeError, ValueError)):
        net.train()(torch.ones(1, 4))
