"""``landscape run all``: two analyses cut to seconds, run as one book, seen unfinished, and finished."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import landscape_analyses
from landscape.analysis import Analysis
from landscape.execution import execute
from landscape.experiment import Experiment, Study
from landscape.reporting import build_report
from landscape.store import Folder
from landscape_reports.drawing import all_figures
from landscape_reports.write import report_data

Call = Callable[..., Result]


def cut(analysis: Analysis, change: Callable[[Study], Study]) -> Analysis:
    def quick() -> Experiment:
        full = analysis.presets["quick"]()
        return Experiment(full.name, tuple(change(study) for study in full.studies))

    return dataclasses.replace(analysis, presets={"quick": quick})


def narrow(study: Study) -> Study:
    options = study.model.options | {"hidden": [8] * 5}
    size = min(16, study.batch_size or 16)
    return dataclasses.replace(
        study,
        model=dataclasses.replace(study.model, options=options),
        data=dataclasses.replace(study.data, options={"samples": size, "shape": [8]}),
        arms=tuple(arm for arm in study.arms if arm.norm in ("none", "batch")),
        batch_size=size,
        seeds=(0, 1, 2),
    )


def short(study: Study) -> Study:
    rates, probes = (study.primary_rate,), study.probes
    if study.name == "path":  # its plane comes after 100 steps
        soon = {"at": (0, 1, 2), "options": probes[0].options | {"gather": 2, "points": 5}}
        probes = (dataclasses.replace(probes[0], **soon),)
    return dataclasses.replace(study, steps=4, seeds=(0, 1, 2), learning_rates=rates, evaluate_every=2, probes=probes)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with two small analyses and the book installed."""
    small = {
        name: cut(landscape_analyses.ANALYSES[name](), change)
        for name, change in (("mean-field", narrow), ("input-scale", short))
    }
    shelf: dict[str, Any] = {name: (lambda one=one: one) for name, one in small.items()}
    shelf["all"] = landscape_analyses.ANALYSES["all"]
    monkeypatch.setattr(landscape_analyses, "ANALYSES", shelf)
    monkeypatch.setattr("landscape.plan.TIMING_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(folder: Path) -> dict[str, Any]:
    """Claim -> what was decided at equal rates."""
    report = json.loads((folder / "report.json").read_text())
    return {verdict["id"]: verdict["equal"] for verdict in report["verdicts"]}


def test_a_book_has_every_claim_and_number_of_its_analyses_and_goes_on(here: Path, landscape: Call) -> None:
    plan = landscape("run", "all", "--dry-run", "--json")
    assert plan.exit_code == 0, plan.output
    studies = [row["study"] for row in json.loads(plan.stdout)["studies"]]
    assert {"mean-field_relu", "mean-field_rank-linear", "input-scale_line"} < set(studies)
    assert not list(here.iterdir())

    result = landscape("run", "all", "--workers", 0, "-q")
    assert result.exit_code == 0, result.output
    folder = here / "runs/all-quick"
    found = numbers(folder)
    assert found == alone(here)
    assert any(verdict["by_step"] is not None for verdict in found.values())
    assert_a_chapter_each(folder)

    # Half of it lost: the book still opens, and the same command makes the same numbers again.
    for lost in folder.glob("runs/input-scale_network-*"):
        shutil.rmtree(lost)
    shown = landscape("show", folder, "--json")
    assert shown.exit_code == 0, shown.output
    verdicts = {verdict["id"]: verdict["verdict"] for verdict in json.loads(shown.stdout)["verdicts"]}
    assert verdicts["input-scale/I-network"] == "not measured"
    assert verdicts["mean-field/M-explode"] == found["mean-field/M-explode"]["verdict"] != "not measured"
    assert landscape("export", folder, "-o", "all.csv").exit_code == 0
    assert "\nmean-field_relu,batch," in (here / "all.csv").read_text()
    again = landscape("run", "all", "--workers", 0, "--json")
    events = [json.loads(line)["event"] for line in again.stdout.splitlines()]
    assert events.count("skipped") == 3 * (6 * 2 + 2 + 2)  # seeds x (studies x arms of mean-field + line and path)
    assert numbers(folder) == found


@pytest.mark.usefixtures("here")
def test_in_a_terminal_an_analysis_is_a_paragraph(landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape_cli.catalogue.in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    listed = landscape("list", "analyses").stdout
    paragraphs = {text.splitlines()[0]: text.splitlines()[1:] for text in listed.strip().split("\n\n")}
    assert list(paragraphs) == ["mean-field", "input-scale", "all"]
    assert "  arms      none; batch" in paragraphs["mean-field"]
    runs = {name: next(line for line in lines if line.startswith("  quick")) for name, lines in paragraphs.items()}
    counts = [int(line.split()[1]) for line in runs.values()]
    assert counts[2] == counts[0] + counts[1] == 3 * 6 * 2 + 3 * (2 + 3 + 2)
    assert all("about" in " ".join(lines) for lines in paragraphs.values())
    assert max(len(line) for lines in paragraphs.values() for line in lines) <= 60


def alone(here: Path) -> dict[str, Any]:
    """The same of each analysis run by itself, in its own names."""
    found: dict[str, Any] = {}
    for name in ("mean-field", "input-scale"):
        analysis = landscape_analyses.ANALYSES[name]()
        experiment = analysis.presets["quick"]()
        with Folder.open(here / name, experiment) as folder:
            assert execute(folder, experiment.runs(), workers=0).ok
            data = report_data(build_report(analysis, folder))
        found |= {f"{name}/{verdict['id']}": verdict["equal"] for verdict in data["verdicts"]}
    return found


def assert_a_chapter_each(folder: Path) -> None:
    report = build_report(landscape_analyses.ANALYSES["all"](), Folder.read(folder))
    titles = [landscape_analyses.ANALYSES[name]().title for name in ("mean-field", "input-scale")]
    assert [section.title for section in report.sections if section.level == 1] == titles
    told = [id for section in report.sections for id in section.claims]
    assert sorted(told) == sorted(verdict.claim.id for verdict in report.verdicts)
    for section in report.sections:
        for figure in section.figures:
            assert len(figure.frame), (section.title, figure.name)
    among = {figure.name: set(arms) for figure, arms in all_figures(report)}  # an arm looks the same in its chapter
    assert among["gradients"] & {"batch", "raw"} == {"batch"}
    assert among["rates-line"] & {"batch", "raw"} == {"raw"}
