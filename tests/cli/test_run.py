"""``landscape run`` from a TOML file to a PDF, again, extended, failed, stopped and dry."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from landscape.reporting import duration

Call = Callable[..., Result]

FAILING = """
import torch
from torch import nn

class Failing(nn.Sequential):
    calls = 0
    def forward(self, x):
        if torch.is_grad_enabled():
            self.calls += 1
            if self.calls > 6:
                raise RuntimeError("the seventh batch is one too many")
        return super().forward(x)

def build(input_shape, output_size, norm):
    kind = Failing if norm == "batch" else nn.Sequential
    return kind(nn.Flatten(), nn.Linear(64, output_size))
"""

ANALYSIS = """
import dataclasses
from landscape_analyses.pairs import ANALYSIS as PAIRS
from landscape.toml import parse_toml

def small():
    return parse_toml({text!r})

ANALYSIS = dataclasses.replace(PAIRS, name="mine", question="Is mine asked?", presets={{"small": small}})
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_ends_with_its_verdicts_and_its_pdf(made: Path) -> None:
    out = (made / "stdout").read_text()
    lines = out.splitlines()
    assert lines[0].split("\t")[:2] == ["claim", "verdict"]
    assert {line.split("\t")[0] for line in lines[1:6]} == {
        f"batch-{name}" for name in ("range", "pred", "beta", "loss", "acc")
    }
    assert lines[-1] == "report: runs/tiny/report.pdf"
    assert (made / "runs/tiny/report.pdf").read_bytes().startswith(b"%PDF-")
    assert json.loads((made / "runs/tiny/report.json").read_text())["title"] == "tiny: mlp on digits"
    # 20 steps, 4 sweeps of 9 passes; (4 + 2) evaluations of 4 + 1 forwards: 20 + 36 + 10 = 66 passes in 6 runs.
    assert "6 runs, 396 forward+backward passes" in (made / "stderr").read_text()


def test_the_same_command_again_trains_nothing_and_writes_the_same_bytes(tiny: Path, landscape: Call) -> None:
    pdf = tiny / "runs/tiny/report.pdf"
    before, runs = digest(pdf), {f: f.stat().st_mtime_ns for f in tiny.glob("runs/tiny/runs/*/measurements.sqlite")}
    pdf.unlink()
    result = landscape("run", "tiny.toml", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [event["event"] for event in events] == ["skipped"] * 6 + ["done"]
    assert digest(pdf) == before
    assert runs == {f: f.stat().st_mtime_ns for f in tiny.glob("runs/tiny/runs/*/measurements.sqlite")}


def test_more_seeds_extend_and_the_report_tells_both_commands(tiny: Path, landscape: Call) -> None:
    result = landscape("run", "tiny.toml", "--seeds", 4, "--workers", 0, "-q")
    assert result.exit_code == 0
    assert result.stderr == ""
    settings = json.loads((tiny / "runs/tiny/report.json").read_text())["settings"]
    assert settings["seeds"] == "0, 1, 2, 3"
    assert settings["run it again"] == "landscape run tiny.toml; landscape run tiny.toml --seeds 4"


def test_another_experiment_in_the_folder_is_refused_with_the_difference(tiny: Path, landscape: Call) -> None:
    result = landscape("run", "tiny.toml", "--steps", 30)
    assert result.exit_code == 2
    assert "main.steps: 20 stored, 30 asked" in result.stderr
    assert "--out runs/tiny-2" in result.stderr


def test_as_a_program_with_worker_processes(tmp_path: Path, made: Path) -> None:
    (tmp_path / "tiny.toml").write_text((made / "tiny.toml").read_text())
    done = subprocess.run(
        [sys.executable, "-c", "from landscape_cli.main import main; main()", "run", "tiny.toml", "--workers", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "6/6 runs done" in done.stderr
    # Trained in processes of their own, and in ours: the same numbers, so the same verdicts.
    assert done.stdout == (made / "stdout").read_text()


def test_a_failed_run_keeps_the_others_and_is_told(
    tmp_path: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("failing.py").write_text(FAILING)
    text = 'model = "failing.py:build"\ndata = "digits"\narms = ["none", "batch"]\nlearning_rates = [0.1]\n'
    Path("f.toml").write_text(f"[study]\n{text}seeds = 3\nsteps = 10\n")
    refused = landscape("run", "f.toml")
    assert refused.exit_code == 2
    assert "f.toml:2: study.main.model: 'failing.py:build' is code that would be run" in refused.stderr
    result = landscape("run", "f.toml", "--allow-code", "--workers", 0)
    assert result.exit_code == 1
    assert "3 of the runs failed; the others are kept:" in result.stderr
    assert "main-batch-lr0.1-seed2: RuntimeError: the seventh batch is one too many" in result.stderr
    failures = json.loads(Path("runs/f/report.json").read_text())["failures"]
    assert len([f for f in failures if "the seventh batch" in f]) == 3
    assert Path("runs/f/report.pdf").exists()
    shown = landscape("show", "runs/f")
    assert "3 failed" in shown.stdout
    assert "3 finished" in shown.stdout


def test_a_diverged_arm_is_a_result(tiny: Path, landscape: Call) -> None:
    result = landscape("run", "tiny.toml", "--lr", "1e20", "--workers", 0, "--out", "wild")
    assert result.exit_code == 0
    failures = json.loads(Path("wild/report.json").read_text())["failures"]
    assert any("main, none, learning rate 1e+20, seed 0: the loss was not finite at step" in f for f in failures)


def test_ctrl_c_says_how_to_go_on(tiny: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.execution.execute", interrupted)
    result = landscape("run", "tiny.toml", "--seeds", 5, "--set", "batch_size=64", "-q", "--workers", 1)
    assert result.exit_code == 130
    assert "nothing is lost" in result.stderr
    assert "  landscape run tiny.toml --seeds 5 --set batch_size=64" in result.stderr


def test_ctrl_c_before_training_says_how_to_go_on(tiny: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.plan.plan", interrupted)
    result = landscape("run", "tiny.toml", "--seeds", 5)
    assert result.exit_code == 130
    assert "  landscape run tiny.toml --seeds 5" in result.stderr


def test_a_damaged_database_is_named_by_show_and_made_again_once_deleted(tiny: Path, landscape: Call) -> None:
    landscape("export", "runs/tiny", "-o", "whole.csv")
    file = Path("runs/tiny/runs/main-none-lr0.1-seed0/measurements.sqlite")
    file.write_bytes(b"no database" * 1000)
    shown = landscape("show", "runs/tiny")
    assert shown.exit_code == 1
    assert "main-none-lr0.1-seed0\tfailed" in shown.stdout
    assert "main-batch-lr0.1-seed2\tfinished\t20/20" in shown.stdout
    assert f"error: {file}: " in shown.stderr
    assert "delete it and run the same command again" in shown.stderr
    assert landscape("run", "tiny.toml", "--workers", 0, "-q").exit_code == 1
    file.unlink()
    assert landscape("run", "tiny.toml", "--workers", 0, "-q").exit_code == 0
    landscape("export", "runs/tiny", "-o", "again.csv")
    assert digest(Path("again.csv")) == digest(Path("whole.csv"))


def test_a_dry_run_trains_nothing(tiny: Path, landscape: Call) -> None:
    result = landscape("run", "tiny.toml", "--dry-run", "--out", "dry", "--norm", "batch", "--norm", "layer")
    assert result.exit_code == 0
    assert "none, batch, layer" in result.stdout
    assert "9 runs, 594 forward+backward passes, about " in result.stdout
    assert not Path("dry").exists()
    plan = json.loads(landscape("run", "tiny.toml", "--dry-run", "--json").stdout)
    assert (plan["runs"], plan["passes"]) == (6, 396)
    assert plan["seconds"] > 0


def test_few_seeds_are_said_beforehand(tiny: Path, landscape: Call) -> None:
    result = landscape("run", "tiny.toml", "--seeds", 2, "--dry-run")
    assert "note: fewer than 3 seeds in main (2): its claims will be 'not measured'" in result.stderr


def test_standard_runs_tell_their_time_before_they_start(
    tiny: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.execution.execute", interrupted)
    result = landscape("run", "pairs", "--preset", "standard", "--out", "s")
    assert "10 runs, " in result.stderr
    assert " on this machine" in result.stderr


def test_a_python_file_brings_its_own_analysis(tiny: Path, landscape: Call) -> None:
    Path("mine.py").write_text(ANALYSIS.format(text=Path("tiny.toml").read_text()))
    result = landscape("run", "mine.py", "--workers", 0, "-q")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("runs/mine/report.json").read_text())["question"] == "Is mine asked?"
    Path("mine.py").write_text("raise SystemExit('report must not import this')")
    again = landscape("report", "runs/mine")
    assert again.exit_code == 0
    assert "drawn by 'pairs' instead" in again.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["santurkr"], "no analysis 'santurkr'; did you mean 'santurkar'?"),
        (["none.toml"], "none.toml: No such file or directory; `landscape init none.toml`"),
        (["none.py"], "there is no file none.py"),
        (["pairs", "--preset", "quik"], "no preset 'quik'; did you mean 'quick'?"),
        (["tiny.toml", "--preset", "quick"], "has no presets"),
        (["tiny.toml", "--lr", "-0.1"], "a learning rate (step size) must be > 0, not -0.1"),
        (["tiny.toml", "--lr", "nan"], "must be a finite number, not nan"),
        (["tiny.toml", "--seeds", "0"], "must be 1 or more seeds"),
        (["tiny.toml", "--steps", "0"], "steps: must be 1 or more, not 0"),
        (["tiny.toml", "--norm", "bacth"], "no normalization 'bacth'; did you mean 'batch'?"),
        (["tiny.toml", "--data", "digitz"], "there is no data 'digitz': did you mean 'digits'?"),
        (["tiny.toml", "--set", "stpes=3"], "there is no key 'stpes'; did you mean 'steps'?"),
        (["tiny.toml", "--set", "studies.mian.steps=3"], "studies: did you mean 'main'?"),
        (["tiny.toml", "--set", "steps"], "write KEY=VALUE"),
        (["tiny.toml", "--set", "steps="], "--set steps=: '' is no TOML value"),
        (["tiny.toml", "--set", "steps=1\nseeds=3"], "is no TOML value"),
        (["tiny.toml", "--norm", ""], "no normalization ''"),
        (["tiny.toml", "--seeds", "100000000000"], "must be 10,000 or fewer seeds"),
        (["tiny.toml", "--steps", "100000000000000000000"], "must be 1,000,000,000 or fewer"),
        (["tiny.toml", "--set", "batch_size=1"], "arm 'batch': model 'mlp' can't train with batch_size = 1"),
        (["tiny.toml", "--device", "cpu:7"], "--device cpu:7: choose auto"),
        (["raising.py"], "raising.py raises ZeroDivisionError: division by zero"),
        (["nets.py"], "nets.py defines no ANALYSIS, which `landscape run` would carry out; a network of your own goes"),
        (["leaving.py"], "leaving.py raises SystemExit: 7"),
        (["tiny.toml", "--set", "steps=[1"], "is no TOML value"),
        (["tiny.toml", "--set", "steps='x'"], "steps: should be a valid integer, not 'x'"),
        (["tiny.toml", "--set", "batch_size=5000"], "batch_size 5000 with 256 training examples"),
        (["tiny.toml", "--set", "model.options.widht=3"], "model 'mlp' has no option 'widht'"),
        (["tiny.toml", "--set", "optimizer=sgdd"], "there is no optimizer 'sgdd': did you mean 'sgd'?"),
        (["tiny.toml", "--device", "gpu"], "choose auto, cpu, cuda or cuda:N"),
        (["tiny.toml", "--device", "cuda:99"], "--device cuda:99: torch sees "),
        (["tiny.toml", "--workers", "-1"], "--workers -1"),
        (["tiny.toml", "--out", "tiny.toml"], "is a file, not a folder"),
        (["tiny.toml", "--out", "."], "holds other files"),
    ],
)
def test_usage_errors_say_what_and_what_to_do(tiny: Path, landscape: Call, words: list[str], message: str) -> None:
    Path("raising.py").write_text("1 / 0")
    Path("nets.py").write_text("def build():\n    return None\n")
    Path("leaving.py").write_text("raise SystemExit(7)")
    result = landscape("run", *words)
    assert message in result.stderr
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_missing_data_is_a_data_error(tiny: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANDSCAPE_DATA", "HF_HOME", "HF_HUB_CACHE", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tiny))
    result = landscape("run", "tiny.toml", "--data", "cifar100", "--out", "c")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "cifar100" in result.stderr
    assert not Path("c").exists()


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.0, 9.96, 59.7, 60, 3599.7, 86400)] == [
        "0.0 s",
        "10.0 s",
        "1 min",
        "1 min",
        "1 h",
        "1 d",
    ]
