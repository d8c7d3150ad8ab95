"""Recurrent networks: a short real run, decided."""

import pytest

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES

ANALYSIS = ANALYSES["recurrent"]()


@pytest.fixture(scope="module")
def report(trained, shorter):
    return trained(ANALYSIS, lambda study: shorter(study, 5, full_batches=1, batch_size=32))


def test_a_short_run_is_decided(report, assert_decided):
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)
    assert_decided(report)


def test_the_rows_of_an_image_differ_and_the_letters_of_a_stationary_source_do_not(report):
    """Not an outcome of training: the data say so."""
    figures = {figure.name: figure.frame for section in report.sections for figure in section.figures}
    spread = {
        name: figures[name].query("panel == 'mean, 1st layer' and arm == 'none'")["y"].max()
        for name in ("positions-lstm", "positions-text")
    }
    assert spread["positions-lstm"] > spread["positions-text"]
