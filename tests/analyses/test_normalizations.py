"""Every normalization ranked: a short real run of a few arms, and the ranking against one made by hand."""

import pytest

from landscape.analysis import VERDICTS
from landscape.normalization import NORMALIZATIONS
from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES
from landscape_analyses.normalizations import arms

ANALYSIS = ANALYSES["normalizations"]()


def test_every_name_of_the_list_has_an_arm_or_a_reason():
    known, refused = arms()
    assert set(known) | set(refused) == set(NORMALIZATIONS)
    assert not set(known) & set(refused)
    assert {arm.label for arm in ANALYSIS.presets["quick"]().studies[0].arms} == set(known)
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)


@pytest.fixture(scope="module")
def report(trained, shorter):
    def cut(study):
        chosen = [arm for arm in study.arms if arm.norm in ("none", "batch", "weight")]
        return shorter(study, 10, arms=tuple(chosen), learning_rates=(0.1, 0.5), batch_size=32, full_batches=2)

    return trained(ANALYSIS, cut)


def test_a_short_run_is_decided(report, assert_decided):
    assert_decided(report)
    assert {v.verdict for v in report.verdicts} <= set(VERDICTS)
    assert all(v.best is v.equal for v in report.verdicts)  # decided at each arm's best rate


def test_the_ranking_puts_the_smallest_first(report):
    table = next(t for s in report.sections for t in s.tables if t.name == "training").frame
    assert set(table["arm"]) == {"none", "batch", "weight"}
    place = table["full loss"].str.partition(".")[0].astype(int)
    value = table["full loss"].str.extract(r"\. (\S+) \[")[0].astype(float)
    assert value[place.sort_values().index].is_monotonic_increasing
    score = table["test accuracy"].str.extract(r"\. (\S+) \[")[0].astype(float)
    assert score.is_monotonic_decreasing  # the table runs from the best test accuracy down
