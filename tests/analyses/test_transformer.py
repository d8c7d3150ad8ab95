"""Transformers: a short real run, decided; and what warm-up does to the learning rate."""

import dataclasses

import pytest
import torch

from landscape.experiment import Arm
from landscape.statistics.rule import check_claim
from landscape.training import _warm_up
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["transformer"]()


def test_a_short_run_is_decided(trained, shorter, assert_decided):
    def cut(study):
        model = dataclasses.replace(study.model, options={"layers": 2, "features": 8, "heads": 2})
        return shorter(study, 6, model=model, learning_rates=(1e-3,), full_batches=1)

    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
    assert_decided(trained(ANALYSIS, cut))


def test_warm_up_rises_in_equal_parts():
    run = next(ANALYSIS.presets["quick"]().studies[0].runs())
    run = dataclasses.replace(run, arm=Arm("layer", warmup=4), learning_rate=0.8)
    optimizer, rates = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8), []
    for step in range(6):
        _warm_up(optimizer, run, step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
