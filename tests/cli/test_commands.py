"""report, show, export, list, init and doctor; how errors are told; help that is complete and instant."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import Result

from landscape.analysis import Claim, Comparison, Interval, Measure, Verdict
from landscape.store import Folder
from landscape_analyses import ANALYSES
from landscape_cli.main import main
from landscape_cli.output import print_verdicts

Call = Callable[..., Result]


def test_report_writes_the_same_bytes_where_it_is_told(tiny: Path, landscape: Call) -> None:
    result = landscape("report", "runs/tiny", "-o", "other.pdf")
    assert (result.exit_code, result.stdout) == (0, "other.pdf\n")
    assert Path("other.pdf").read_bytes() == Path("runs/tiny/report.pdf").read_bytes()


def test_show_tells_runs_and_verdicts(tiny: Path, landscape: Call) -> None:
    text = landscape("show", "runs/tiny").stdout
    assert "main-batch-lr0.1-seed0\tfinished\t20/20\t" in text
    assert "6 finished" in text
    shown = json.loads(landscape("show", "runs/tiny", "--json").stdout)
    written = json.loads(Path("runs/tiny/report.json").read_text())["verdicts"]
    assert {v["id"]: v["verdict"] for v in shown["verdicts"]} == {v["id"]: v["verdict"] for v in written}
    assert {run["status"] for run in shown["runs"]} == {"finished"}


def test_show_of_an_unfinished_run_is_short(tiny: Path, landscape: Call) -> None:
    for run in Path("runs/tiny/runs").glob("main-batch-*"):
        shutil.rmtree(run)
    lines = landscape("show", "runs/tiny").stdout.splitlines()
    assert lines[0] == "3 new, 3 finished"
    assert [line.split("\t")[1:3] for line in lines if line.startswith("main-")] == [["finished", "20/20"]] * 3
    assert "main: 3 runs not begun" in lines
    assert lines[-1] == "5 claims not measured yet: batch-range, batch-pred, batch-beta and 2 more"
    assert len(lines) == 7
    whole = json.loads(landscape("show", "runs/tiny", "--json").stdout)
    assert (len(whole["runs"]), len(whole["verdicts"])) == (6, 5)


CLAIM = Claim("A", "it is smoother", "s", Measure("p", "q"), arm="batch", matched=True)
WIDE = Comparison(
    0.1,
    0.1,
    "undecided",
    "at matched loss, the 95 % interval [-0.1, 0.5] dex contains the boundary 0",
    Interval(3, 1.5, 0.5, 0.2, 2.8),
    Interval(3, 0.2, 0.1, -0.1, 0.5),
)
VERDICTS = [
    Verdict(CLAIM, WIDE),
    Verdict(replace(CLAIM, id="B"), WIDE),
    Verdict(
        replace(CLAIM, id="C", matched=False), replace(WIDE, verdict="holds", reason="by step", at_matched_loss=None)
    ),
]


def test_verdicts_in_a_pipe_have_the_reason_last(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdicts(VERDICTS)
    header, first, _, last = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header[-2:] == ["at equal loss", "reason"]
    assert first[-2:] == ["1.58× [0.79, 3.16]", WIDE.reason]
    assert last[-2:] == ["", "by step"]


def test_verdicts_in_a_terminal_say_below_why_they_are_open(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landscape_cli.output.in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    print_verdicts(VERDICTS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"A, B undecided: {WIDE.reason}", "A dex is a power of ten: 0 dex is 1x, 0.3 dex is 2x."]
    assert "at equal loss" in next(line for line in lines if "claim" in line)
    print_verdicts(VERDICTS[2:])
    assert "at equal loss" not in capsys.readouterr().out


def test_export_writes_every_number(tiny: Path, landscape: Call) -> None:
    assert landscape("export", "runs/tiny", "-o", "all.csv").exit_code == 0
    with open("all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    frame = Folder.read("runs/tiny").frame()
    assert [float(row["value"]) for row in rows] == frame["value"].tolist()
    assert landscape("export", "runs/tiny", "-o", "all.parquet").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "nowhere"], "nowhere: no such folder; give the folder that `landscape run` wrote"),
        (["show", "."], "no experiment.json in it"),
        (["export", "runs/tiny", "-o", "all.xlsx"], "the name must end in .csv or .parquet"),
        (["init", "tiny.toml"], "tiny.toml is there already and is kept"),
        (["init", "mine.txt"], "must end in .toml, as in mine.toml"),
        (["init", "."], "must end in .toml, as in mine.toml"),
        (["shwo", "runs/tiny"], "No such command 'shwo'. Did you mean 'show'?"),
        (["list", "norm"], "'norm' is not one of"),
        (["show", "runs/tiny", "--jsn"], "No such option"),
        (["export", "runs/tiny"], "Missing option"),
    ],
)
def test_usage_errors(tiny: Path, landscape: Call, words: list[str], message: str) -> None:
    result = landscape(*words)
    assert message in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize(("target", "encoding", "code"), [("/dev/null", "latin-1", 0), ("/dev/full", "utf-8", 1)])
def test_an_output_that_takes_not_every_sign_or_nothing(tiny: Path, target: str, encoding: str, code: int) -> None:
    words = ["-c", "from landscape_cli.main import main; main()", "show", "runs/tiny"]
    with open(target, "w") as out:
        done = subprocess.run(
            [sys.executable, *words],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        )
    assert done.returncode == code
    assert done.stderr == ("error: writing the output: No space left on device\n" if code else "")


def test_a_corrupt_database_is_one_clear_error(tiny: Path, landscape: Call) -> None:
    Path("runs/tiny/runs/main-none-lr0.1-seed1/measurements.sqlite").write_bytes(b"no database at all" * 99)
    result = landscape("report", "runs/tiny")
    assert result.exit_code == 1
    assert "main-none-lr0.1-seed1" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pdf_that_cannot_be_written(tiny: Path, landscape: Call) -> None:
    Path("plain").write_text("")
    result = landscape("report", "runs/tiny", "-o", "plain/x.pdf")
    assert result.exit_code == 1
    assert "error: can't write plain/x.pdf" in result.stderr


@pytest.mark.parametrize(
    ("what", "columns", "row"),
    [
        ("norms", ["name", "formula", "source", "over", "needs"], "batch"),
        ("models", ["name", "what", "options"], "mlp"),
        ("data", ["name", "what", "options"], "digits"),
        ("probes", ["name", "what", "options"], "gradient_path"),
    ],
)
def test_lists_are_tab_separated_in_a_pipe(landscape: Call, what: str, columns: list[str], row: str) -> None:
    lines = [line.split("\t") for line in landscape("list", what).stdout.splitlines()]
    assert lines[0] == columns
    assert row in [line[0] for line in lines]
    assert {len(line) for line in lines} == {len(columns)}
    assert all(line[1] for line in lines)


def test_analyses_are_listed_with_what_they_cost(landscape: Call) -> None:
    head, *rows = [line.split("\t") for line in landscape("list", "analyses").stdout.splitlines()]
    assert head == ["name", "question", "paper", "presets", "arms", "runs", "passes", "seconds"]
    listed = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(listed) == list(ANALYSES)
    plan = json.loads(landscape("run", "slices", "--dry-run", "--json").stdout)
    assert listed["slices"]["runs"] == str(plan["runs"])
    assert listed["slices"]["passes"] == str(plan["passes"])
    assert listed["slices"]["arms"].split("; ") == plan["studies"][0]["arms"]
    assert listed["observed"]["passes"] == ""  # it trains nothing
    papers = [row for name, row in listed.items() if name not in ("pairs", "observed", "all")]
    assert all(float(row["seconds"]) > 0 for row in papers)
    assert int(listed["all"]["runs"]) == sum(int(row["runs"]) for row in papers)


def test_init_writes_a_file_that_runs(tmp_path: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert landscape("init", "my.toml").exit_code == 0
    assert tomllib.loads(Path("my.toml").read_text())["study"]["arms"] == ["none", "batch"]
    plan = json.loads(landscape("run", "my.toml", "--dry-run", "--json").stdout)
    assert plan["runs"] == 6
    assert plan["passes"] < 3000  # of a small MLP, about a millisecond each
    # What is commented out is right, too: each block put in, in place of the line that it replaces.
    text = Path("my.toml").read_text()
    for line in text.splitlines():
        if line.startswith("# ") and ("=" in line or line.startswith("# [")):
            text = text.replace(line, line[2:])
    for short in ("model", "arms"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{short} ="))
    Path("full.toml").write_text(text)
    result = landscape("run", "full.toml", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["studies"][0]["arms"] == ["batch, slow"]


def test_doctor_is_well_and_leaves_nothing_behind(
    tmp_path: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = landscape("doctor")
    assert result.exit_code == 0, result.stdout
    assert result.stdout.count("\nok    ") == 6
    assert "torch: " in result.stdout
    assert not list(tmp_path.iterdir())


def test_doctor_finds_a_wrong_measure(tmp_path: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module = importlib.import_module("landscape.probes.gradient_path")
    monkeypatch.setattr(module, "norm", lambda blocks: 1.01 * sum(b.square().sum() for b in blocks).sqrt())
    result = landscape("doctor", "--out", tmp_path)
    assert result.exit_code == 1
    assert "FAIL  gradient path" in result.stdout
    assert "1 of the checks failed" in result.stdout


def test_doctor_finds_a_folder_that_is_a_file(tmp_path: Path, landscape: Call) -> None:
    (tmp_path / "file").write_text("")
    result = landscape("doctor", "--out", tmp_path / "file" / "runs")
    assert result.exit_code == 1
    assert "is a file" in result.stdout


def test_an_unforeseen_error_is_one_line_and_debug_shows_the_rest(
    tiny: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("deep\ninside")

    monkeypatch.setattr("landscape.store.Folder.read", broken)
    result = landscape("show", "runs/tiny")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: ZeroDivisionError: deep",
        "This was not foreseen: run again with --debug for the traceback.",
    ]
    for words in (["show", "runs/tiny", "--debug"], ["--debug", "show", "runs/tiny"]):
        assert isinstance(landscape(*words).exception, ZeroDivisionError)
    monkeypatch.setenv("LANDSCAPE_DEBUG", "1")
    assert isinstance(landscape("show", "runs/tiny").exception, ZeroDivisionError)


def test_ctrl_c_anywhere_is_130(tiny: Path, landscape: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.store.Folder.read", stopped)
    assert landscape("show", "runs/tiny").exit_code == 130


def test_help_imports_neither_torch_nor_pandas() -> None:
    heavy = ["torch", "pandas", "numpy", "matplotlib", "typst", "rich", "pydantic", "landscape"]
    code = (
        "import sys\nfrom landscape_cli.main import main\n"
        "for words in (['--help'], ['run', '--help'], ['--version']):\n"
        "    main(words, standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "landscape, version 0.1.0" in done.stdout


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_and_option_has_help(name: str) -> None:
    command = main.commands[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
