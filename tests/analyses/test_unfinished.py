"""A folder in which nothing was measured yet, or first steps only, still has a report: words, and no verdict."""

import pytest

from landscape.probes.base import Measurement
from landscape.reporting import build_report
from landscape.store import Folder
from landscape_analyses import ANALYSES
from landscape_reports.drawing import draw

PRESETS = {name: ANALYSES[name]() for name in ANALYSES if name != "observed"}
FIRST = [Measurement("training", name, 2.3) for name in ("loss", "full_loss", "chance_loss", "test_loss")]


def none(experiment):
    return []


def one(experiment):
    return experiment.runs()[:1]


def each_arm(experiment):
    return list({(run.study.name, run.arm.label): run for run in experiment.runs()}.values())


CASES = [(name, begun) for name in PRESETS for begun in (none, one, each_arm)]


@pytest.mark.parametrize(("name", "begun"), CASES)
def test_an_unfinished_folder_has_a_report(name, begun, tmp_path):
    analysis = PRESETS[name]
    experiment = analysis.presets["quick"]()
    with Folder.open(tmp_path / "run", experiment) as folder:
        for run in begun(experiment):
            with folder.run(run) as store:
                store.append(0, run.learning_rate, FIRST)
    report = build_report(analysis, Folder.read(tmp_path / "run"))
    assert {verdict.verdict for verdict in report.verdicts} <= {"not measured"}
    assert report.answer
    assert any("Not finished" in line for line in report.failures)
    told = [id for section in report.sections for id in section.claims]
    assert sorted(told) == sorted(verdict.claim.id for verdict in report.verdicts)
    figures = [figure for section in report.sections for figure in section.figures] + [report.headline]
    for figure in figures if begun is each_arm else []:
        if figure is not None:
            draw(figure)
