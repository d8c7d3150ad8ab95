"""A preset cut to seconds, really trained, its report built: what every analysis is tested on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from landscape.analysis import Analysis, Report
from landscape.execution import execute
from landscape.experiment import Experiment, Study
from landscape.reporting import build_report
from landscape.store import Folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Report]:
    """``trained(analysis, cut)``: the quick preset with every study replaced by ``cut(study)``, run in this process."""

    def run(analysis: Analysis, cut: Callable[[Study], Study], preset: str = "quick") -> Report:
        full = analysis.presets[preset]()
        experiment = Experiment(full.name, tuple(cut(study) for study in full.studies))
        path = tmp_path_factory.mktemp(analysis.name) / "run"
        with Folder.open(path, experiment) as folder:
            outcome = execute(folder, experiment.runs(), workers=0)
        assert outcome.ok, outcome
        return build_report(analysis, Folder.read(path))

    return run


@pytest.fixture(scope="session")
def shorter() -> Callable[..., Study]:
    """``shorter(study, steps, **changes)``."""
    return _shorter


@pytest.fixture(scope="session")
def assert_decided() -> Callable[[Report], None]:
    """``assert_decided(report)``."""
    return _assert_decided


def _shorter(study: Study, steps: int, **changes: Any) -> Study:
    """Three seeds and so many steps, everything measured at the same fractions of the way."""
    factor = steps / study.steps

    def scaled(step: int) -> int:
        return max(1, round(step * factor))

    probes = tuple(
        dataclasses.replace(
            p, every=scaled(p.every), at=None if p.at is None else tuple(round(s * factor) for s in p.at)
        )
        for p in study.probes
    )
    return dataclasses.replace(
        study,
        **{"steps": steps, "seeds": (0, 1, 2), "probes": probes, "evaluate_every": scaled(study.evaluate_every)}
        | changes,
    )


def _assert_decided(report: Report) -> None:
    """Every claim was decided, on finite numbers, and every section has what it tells of."""
    assert report.verdicts
    for verdict in report.verdicts:
        assert verdict.verdict != "not measured", (verdict.claim.id, verdict.equal.reason)
        if verdict.equal.by_step is not None:
            assert math.isfinite(verdict.equal.by_step.mean), verdict.claim.id
    told = [id for section in report.sections for id in section.claims]
    assert sorted(told) == sorted(verdict.claim.id for verdict in report.verdicts)
    for section in report.sections:
        for figure in section.figures:
            assert len(figure.frame), (section.title, figure.name)
            assert figure.caption
            assert figure.alt
    assert report.answer
    assert report.headline is None or len(report.headline.frame)
