"""Inputs of different scale: the closed forms of the line, and a short real run."""

import pytest

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["input-scale"]()


@pytest.fixture(scope="module")
def report(trained, shorter):
    def cut(study):
        return shorter(study, 20, learning_rates=(study.primary_rate,), evaluate_every=5)

    return trained(ANALYSIS, cut)


def test_a_short_run_is_decided(report, assert_decided):
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
    assert_decided(report)


def test_the_condition_number_is_the_square_of_the_scale(report):
    table = report.sections[0].tables[0].frame
    found = {arm: float(value) for arm, value in zip(table["arm"], table["condition"], strict=True)}
    assert found == {"raw": pytest.approx(100.0, rel=0.01), "standardized": pytest.approx(1.0, rel=0.01)}
