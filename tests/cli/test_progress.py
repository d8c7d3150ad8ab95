"""What is said while runs train: lines off a terminal, bars in one, time left from steps done now."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from landscape.execution import Event
from landscape.experiment import Arm, Run, Spec, Study
from landscape_cli import progress
from landscape_cli.progress import Bars, Lines, Tally


def runs() -> list[Run]:
    study = Study("s", Spec("mlp"), Spec("digits"), (Arm("none"), Arm("batch")), (0.1,), 0.1, (0,), steps=100)
    return list(study.runs())


def test_time_left_follows_the_steps_done_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    first, second = runs()
    tally = Tally([first, second])
    assert tally.left == ""
    # 40 of its steps were done before this command: they say nothing about the speed.
    for step, now in ((40, 0.0), (60, 10.0)):
        clock[0] = now
        tally(Event(first, "progress", step=step, steps=100, loss=1.0, learning_rate=0.1))
    # 20 steps in 10 s; 40 and 100 are left.
    assert tally.left == "about 1 min 10 s left"
    tally(Event(first, "finished"))
    tally(Event(second, "skipped"))
    assert tally.left == ""


def test_a_plain_line_now_and_then_and_bad_news_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    first, second = runs()
    lines = Lines([first, second])
    lines(Event(first, "started"))
    for step in range(0, 100, 10):
        clock[0] += 2.0
        lines(Event(first, "progress", step=step, steps=100, loss=0.5, learning_rate=0.1))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "0/2 runs done; s-none-lr0.1-seed0 step 40/100 loss 0.5 lr 0.1; about 40 s left",
        "0/2 runs done; s-none-lr0.1-seed0 step 90/100 loss 0.5 lr 0.1; about 24 s left",
    ]
    lines(Event(first, "finished"))
    lines(Event(second, "failed", "no luck"))
    assert capsys.readouterr().err.splitlines() == ["s-batch-lr0.1-seed0: failed: no luck", "2/2 runs done"]


def test_bars_show_what_is_running_and_odd_text_as_it_is() -> None:
    first, second = runs()
    out = io.StringIO()
    with progress._bars(Console(file=out, force_terminal=True, width=140, color_system=None)) as bars:
        watch = Bars(bars, [first, second])
        watch(Event(first, "started"))
        watch(Event(first, "progress", step=30, steps=100, loss=1.25, learning_rate=0.1))
        assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
            ("all runs", 30, 200),
            ("s-none-lr0.1-seed0", 30, 100),
        ]
        assert bars.tasks[1].fields == {"words": "loss 1.25", "rate": "lr 0.1"}
        watch(Event(first, "warning", "[red] is not markup"))
        watch(Event(first, "finished"))
        watch(Event(second, "skipped"))
        assert [(task.description, task.completed) for task in bars.tasks] == [("all runs", 200)]
        assert bars.tasks[0].fields["words"] == "2/2 runs"
    assert "[red] is not markup" in out.getvalue()
