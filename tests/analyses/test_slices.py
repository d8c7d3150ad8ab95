"""Slices: a short real run, whose planes and paths are checked for their shape and their ends."""

import dataclasses

import pytest

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["slices"]()


@pytest.fixture(scope="module")
def report(trained, shorter):
    def cut(study):
        plane, way = study.probes
        plane = dataclasses.replace(plane, at=(3,), options=plane.options | {"points": 3})
        way = dataclasses.replace(way, at=(0, 1, 2, 3), options=way.options | {"points": 3, "gather": 3})
        model = dataclasses.replace(study.model, options={"depth": 8, "width": 16})
        return shorter(study, 4, model=model, learning_rates=(0.01,), batch_size=32, probes=(plane, way))

    return trained(ANALYSIS, cut)


def test_a_short_run_is_decided(report, assert_decided):
    assert_decided(report)


def test_each_plane_is_a_full_grid_and_each_way_ends_at_the_network(report):
    (way,) = [figure for section in report.sections for figure in section.figures if figure.name == "way"]
    for figure in (report.headline, way):
        assert set(figure.frame.groupby("panel").size()) == {9}
        assert len(figure.options["panels"]) == 4
    for points in way.options["path"].values():
        assert len(points) == 4
        assert points[-1] == pytest.approx((0.0, 0.0), abs=1e-5)
        assert points[0][0] > 0.0  # the first snapshot lies on the positive side of the first axis
    middle = report.headline.frame.query("x == 0 and y == 0")
    assert len(middle) == 4


def test_claims_are_well_formed():
    found = ANALYSIS.claims(ANALYSIS.presets["quick"]())
    for claim in found:
        check_claim(claim)
    assert len({claim.id for claim in found}) == len(found) == 12
