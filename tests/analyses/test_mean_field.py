"""Gradients and ranks before training: a small real run, and its numbers from the probe's own."""

import dataclasses

import pytest

from landscape.statistics.rule import check_claim
from landscape_analyses import ANALYSES
from landscape_analyses.mean_field import theory

ANALYSIS = ANALYSES["mean-field"]()


def test_the_constants():
    assert theory("relu") == pytest.approx(1.46694220692)
    assert theory("linear-8") == pytest.approx(6 / 5)
    for claim in ANALYSIS.claims(ANALYSIS.presets["quick"]()):
        check_claim(claim)


def test_a_small_run_is_decided(trained, assert_decided):
    def cut(study):
        width = 32
        options = study.model.options | {"hidden": [width] * 8}
        size = min(16, study.batch_size)
        return dataclasses.replace(
            study,
            model=dataclasses.replace(study.model, options=options),
            data=dataclasses.replace(study.data, options={"samples": size, "shape": [width]}),
            arms=tuple(arm for arm in study.arms if arm.norm in ("none", "batch", "layer")),
            batch_size=size,
            seeds=(0, 1, 2),
        )

    report = trained(ANALYSIS, cut)
    assert_decided(report)
    verdicts = {v.claim.id: v for v in report.verdicts}
    assert verdicts["M-explode"].verdict == "holds"  # 1.5 against 1 a layer: far outside what 3 seeds scatter
