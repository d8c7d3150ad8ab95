"""The report put together from a folder made by hand: settings, cost, failures, and the same twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from landscape.experiment import Arm, Experiment, Spec, Study
from landscape.probes.base import Measurement
from landscape.reporting import build_report, cost, duration, failures, settings, title, verdicts_of
from landscape.store import Folder
from landscape_analyses import ANALYSES

STUDY = Study(
    name="s",
    model=Spec("mlp", {"hidden": [16]}),
    data=Spec("digits"),
    arms=(Arm("none"), Arm("batch", "slow", learning_rates=(0.01,))),
    learning_rates=(0.1,),
    primary_rate=0.1,
    seeds=(0, 1),
    steps=20,
    optimizer=Spec("sgd", {"momentum": 0.9}),
)
MANIFEST = {
    "torch": "9.9",
    "threads": 1,
    "data": {"s": "abc"},
    "notes": {"s": "a few JPEGs"},
    "commit": "c0ffee",
    "commands": ["landscape run x", "landscape run x --seeds 2"],
    "warnings": ["Resumed with torch 9.9, where earlier runs had 9.8."],
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """One run finished, one failed, one diverged, one that never started."""
    with Folder.open(tmp_path / "x", Experiment("e", (STUDY,)), manifest=MANIFEST) as made:
        first, second, third, _ = made.experiment.runs()
        for run in (first, second, third):
            with made.run(run) as store:
                for step in (0, 10, 20):
                    lost = run == second and step > 0
                    value = float("nan") if lost else 2.0 - step / 20
                    store.append(step, run.learning_rate, [Measurement("training", "full_loss", value, batch="")])
                store.put_cost("seconds", 30.0)
                store.put_cost("probe_seconds", 15.0)
                store.put_cost("passes", 500.0)
                store.put_cost("peak_memory_mib", 100.0 if run == first else 300.0)
                store.fail("no luck") if run == third else store.finish()
    return Folder.read(tmp_path / "x")


def test_the_answer_of_unfinished_runs_says_so_first(folder: Folder) -> None:
    answer = build_report(ANALYSES["pairs"](), folder).answer
    assert answer.startswith("Unfinished, 2 of 4 runs done: what follows may change.")  # one failed, one never began
    with folder.run(folder.experiment.runs()[3]) as store:
        store.append(0, 0.01, [Measurement("training", "full_loss", 1.0, batch="")])
        store.finish()
    with folder.run(folder.experiment.runs()[2]) as store:
        store.finish()
    assert "Unfinished" not in build_report(ANALYSES["pairs"](), Folder.read(folder.path)).answer


def test_a_title_names_what_is_compared_once() -> None:
    own = dataclasses.replace(STUDY, model=Spec("nets/mine.py:build"))
    assert title(Experiment("my", (own, dataclasses.replace(own, name="t")))) == "my: mine.py:build on digits"
    assert title(Experiment("nets/mine.py:build on digits", (own,))) == "mine.py:build on digits"
    many = tuple(dataclasses.replace(STUDY, name=name, model=Spec(name)) for name in "abcde")
    assert title(Experiment("my", many)) == "my: a on digits, b on digits and 3 more"


def test_settings_say_what_and_with_what(folder: Folder) -> None:
    said = settings(folder)
    assert said["model"] == "mlp(hidden=[16])"
    assert said["arms"] == "none, slow (batch) [learning rates 0.01]"
    assert said["optimizer"] == "sgd(momentum=0.9)"
    assert (said["data checksum"], said["data note"], said["git commit"]) == ("abc", "a few JPEGs", "c0ffee")
    assert said["run it again"] == "landscape run x; landscape run x --seeds 2"


def test_settings_of_several_studies_are_kept_apart(folder: Folder, tmp_path: Path) -> None:
    import dataclasses

    other = dataclasses.replace(STUDY, name="t", model=Spec("convnet"))
    with Folder.open(tmp_path / "y", Experiment("e", (STUDY, other))) as made:
        said = settings(made)
    assert (said["model (s)"], said["model (t)"]) == ("mlp(hidden=[16])", "convnet")


def test_cost_adds_up(folder: Folder) -> None:
    assert cost(folder) == {
        "runs": "3",
        "forward+backward passes": "1,500",
        "time of all runs": "1 min 30 s; 45 s of it probing",
        "longest run": "30 s",
        "peak memory of a run": "300 MiB",
    }


def test_every_failure_is_a_sentence(folder: Folder) -> None:
    said = failures(folder, folder.frame())
    keys = [run.key for run in folder.experiment.runs()]
    assert said == [
        f"{keys[2]} failed after step 20: no luck",
        f"Not finished: {keys[3]}. Run the same command again to finish them.",
        "s, slow, learning rate 0.01, seed 0: the loss was not finite at step 10. A result, kept.",
        "Resumed with torch 9.9, where earlier runs had 9.8.",
    ]


def test_the_report_of_a_folder_is_the_same_twice(folder: Folder) -> None:
    analysis = ANALYSES["pairs"]()
    first, second = build_report(analysis, folder), build_report(analysis, Folder.read(folder.path))
    assert first.settings == second.settings
    assert (first.cost, first.failures, first.answer) == (second.cost, second.failures, second.answer)
    for one, other in zip(first.sections, second.sections, strict=True):
        assert all(a.frame.equals(b.frame) for a, b in zip(one.figures, other.figures, strict=True))
    assert [v.verdict for v in verdicts_of(analysis, folder)] == [v.verdict for v in first.verdicts]
    assert {v.verdict for v in first.verdicts} == {"not measured"}


def test_an_empty_folder_has_a_report(tmp_path: Path) -> None:
    with Folder.open(tmp_path / "z", Experiment("e", (STUDY,))) as made:
        report = build_report(ANALYSES["pairs"](), made)
    assert report.cost == {}
    assert report.failures[0].startswith("Not finished: ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.5, "9.5 s"), (59.4, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
