"""Inputs of different scale: the closed forms of the line, and a short real run."""

import dataclasses
import itertools

import pytest

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["input-scale"]()


@pytest.fixture(scope="module")
def report(trained, shorter):
    def cut(study):
        if study.name == "path":
            return dataclasses.replace(study, steps=101, seeds=(0, 1, 2))  # it ends with step 100
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


def test_the_path_is_that_of_gradient_descent(report):
    """Straight on standardized inputs; on raw ones, above half the largest stable rate, to and fro."""
    paths = report.headline.options["path"]
    assert {panel.partition(",")[0]: len(path) for panel, path in paths.items()} == {"raw": 32, "standardized": 32}
    assert all(path[-1] == pytest.approx((0.0, 0.0), abs=1e-9) for path in paths.values())  # the plane goes through w
    lengths = [
        sum(abs(a - b) for a, b in itertools.pairwise(p)) for p in ([x for x, _ in path] for path in paths.values())
    ]
    direct = [abs(path[0][0]) for path in paths.values()]
    assert lengths[0] > 3 * direct[0]  # raw: to and fro
    assert lengths[1] < 1.5 * direct[1]  # standardized: straight
