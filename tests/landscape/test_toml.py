"""The TOML reader: short forms, strictness, all errors at once with their lines, code only if allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from landscape.errors import UsageError
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study, grid
from landscape.toml import experiment_from, parse_toml, read_toml

GOOD = """
name = "mine"
[study]
model = "mlp"
data = "digits"
arms = ["none", "batch"]
learning_rates = [0.1, 1]
seeds = 3
steps = 20
probes = ["gradient_path"]
"""

LONG = """
[[study]]
name = "a"
model = { name = "mlp", options = { hidden = [16] } }
data = "digits"
learning_rates = [0.1]
primary_rate = 0.1
seeds = [4, 7]
steps = 20
batch_size = 32
[study.optimizer]
name = "sgd"
options = { momentum = 0.9 }
[[study.arms]]
norm = "none"
[[study.arms]]
norm = "batch"
name = "slow"
learning_rates = [0.01]
[[study.probes]]
name = "curvature"
at = [0, 10]
arms = ["slow"]
"""


def bad(text: str, **options: bool) -> str:
    with pytest.raises(UsageError) as caught:
        parse_toml(text, name="my.toml", **options)
    return str(caught.value)


def test_short_forms_are_written_out() -> None:
    study = Study(
        name="main",
        model=Spec("mlp"),
        data=Spec("digits"),
        arms=(Arm("none"), Arm("batch")),
        learning_rates=(0.1, 1.0),
        primary_rate=0.1,
        seeds=(0, 1, 2),
        steps=20,
        probes=(ProbeSpec("gradient_path"),),
    )
    assert parse_toml(GOOD) == Experiment("mine", (study,))


def test_long_forms_hold_every_field() -> None:
    study = Study(
        name="a",
        model=Spec("mlp", {"hidden": [16]}),
        data=Spec("digits"),
        arms=(Arm("none"), Arm("batch", "slow", learning_rates=(0.01,))),
        learning_rates=(0.1,),
        primary_rate=0.1,
        seeds=(4, 7),
        steps=20,
        batch_size=32,
        optimizer=Spec("sgd", {"momentum": 0.9}),
        probes=(ProbeSpec("curvature", at=(0, 10), arms=("slow",)),),
    )
    assert parse_toml(LONG, stem="file") == Experiment("file", (study,))


def test_full_batch_descent_has_a_word() -> None:
    assert parse_toml(GOOD + 'batch_size = "full"').studies[0].batch_size is None
    assert "batch_size: should be a valid integer, not 'all'" in bad(GOOD + 'batch_size = "all"')


def test_what_is_read_survives_the_run_folder() -> None:
    read = parse_toml(LONG)
    assert Experiment.from_json(read.to_json()) == read


def test_all_errors_at_once_with_their_lines() -> None:
    text = GOOD.replace("steps = 20", 'stepz = 20\nsteps = "20"').replace("[0.1, 1]", "[-0.1, nan]")
    text = text.replace('"batch"]', '"bacth"]').replace('"mlp"', '"mpl"')
    said = bad(text)
    assert said.startswith("6 things are wrong in my.toml:")
    assert "my.toml:4: study.main.model: there is no model 'mpl': did you mean 'mlp'?" in said
    assert "my.toml:6: study.main.arms[1].norm: there is no normalization 'bacth'; did you mean 'batch'?" in said
    assert "my.toml:7: study.main.learning_rates[0]: a learning rate (step size) must be > 0, not -0.1" in said
    assert "my.toml:7: study.main.learning_rates[1]: must be a finite number, not nan" in said
    assert "my.toml:9: study.main.stepz: unknown key; did you mean 'steps'?" in said
    assert "my.toml:10: study.main.steps: should be a valid integer, not '20'" in said


def test_lines_of_repeated_tables() -> None:
    said = bad(LONG.replace('norm = "batch"', 'norm = "batchh"').replace("at = [0, 10]", "every = 0"))
    assert "my.toml:17: study.a.arms[1].norm:" in said
    assert "my.toml:22: study.a.probes[0].every: must be 1 or more, not 0" in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 20", "steps = 0", "steps: must be 1 or more, not 0"),
        ("steps = 20", "", "steps: is missing"),
        ("steps = 20", "steps = 20.5", "steps: should be a valid integer"),
        ("steps = 20", "steps = true", "steps: should be a valid integer"),
        ("seeds = 3", "seeds = 0", "seeds: must be 1 or more seeds"),
        ("seeds = 3", "seeds = []", "seeds: is empty"),
        ("seeds = 3", "seeds = [1, 1]", "seeds[1]: seed 1 is there twice"),
        ("[0.1, 1]", "[]", "learning_rates: is empty"),
        ("[0.1, 1]", "[inf]", "learning_rates[0]: must be a finite number, not inf"),
        ("[0.1, 1]", "[0.1]\nprimary_rate = 0.3", "primary_rate: 0.3 is not one of learning_rates [0.1]"),
        ('["none", "batch"]', '["none", "none"]', "arms[1]: arm 'none' is there twice"),
        (
            '["none", "batch"]',
            '["lp:1", "lp:1.0"]',
            "arms[1]: arm 'lp:1' is there twice; give one of them another name",
        ),
        ('["none", "batch"]', "[]", "arms: is empty"),
        ('["none", "batch"]', '[{ norm = "batch", lr = 3 }]', "arms[0].lr: unknown key"),
        ('"digits"', '{ name = "digits", option = {} }', "data.option: unknown key; did you mean 'options'?"),
        ('"mlp"', '{ name = "mlp", options = { x = nan } }', "model.options.x: must be a finite number"),
        ('"mlp"', '{ name = "mlp", options = { norm = "batch" } }', "model.options.norm: the arms say which"),
        ('["gradient_path"]', '["gradient_pth"]', "probes[0]: there is no probe 'gradient_pth': did you mean"),
        ('["gradient_path"]', '[{ name = "curvature", options = { x = 1 } }]', "probes[0]: probe 'curvature': "),
        ('["gradient_path"]', '[{ name = "curvature", arms = ["x"] }]', "probes[0].arms: there is no arm 'x'"),
        (
            '["gradient_path"]',
            '[{ name = "curvature", at = [20] }]',
            "probes[0].at: there is no step 20",
        ),
        ("steps = 20", f"steps = {10**30}", "steps: must be 1,000,000,000 or fewer"),
        ("seeds = 3", "seeds = 1_000_000_000", "seeds: must be 10,000 or fewer seeds, not 1000000000"),
    ],
)
def test_each_mistake_has_its_message(old: str, new: str, message: str) -> None:
    assert f"study.main.{message}" in bad(GOOD.replace(old, new))


def test_a_file_without_studies() -> None:
    assert "study: a file has a [study], or several [[study]]" in bad('name = "x"')
    assert "write [[study]], not [[studies]]" in bad("[[studies]]\nsteps = 3")
    assert "unknown key; did you mean 'name'?" in bad(GOOD.replace('name = "mine"', 'nmae = "mine"'))


def test_text_that_is_no_toml() -> None:
    assert bad("[study").startswith("my.toml is not TOML: ")
    assert bad("a = " + "[" * 3000 + "]" * 3000).startswith("my.toml is not TOML: ")


def test_code_runs_only_if_allowed(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef build(norm): pass\n")
    text = GOOD.replace('"mlp"', f'"{trap}:build"')
    assert "is code that would be run: look at it, then add --allow-code" in bad(text)
    assert parse_toml(text, allow_code=True).studies[0].model.name == f"{trap}:build"
    assert not (tmp_path / "ran").exists()  # reading never imports


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="landscape init"):
        read_toml(tmp_path / "none.toml")


def test_python_experiments_go_through_the_same_rules() -> None:
    with pytest.raises(UsageError, match=r"studies|steps: must be 1 or more, not -1"):
        experiment_from({"name": "x", "studies": [{"name": "s", "steps": -1}]})


def test_a_loss_is_code_that_needs_leave() -> None:
    text = GOOD + 'loss = "mine:loss"\n'
    assert "'mine:loss' is code that would be run" in bad(text)
    assert parse_toml(text, allow_code=True).studies[0].loss == "mine:loss"
    assert "names no code" in bad(GOOD + 'loss = "smooth"\n', allow_code=True)


def test_a_grid_is_the_short_form():
    mine = grid("main", "mlp", "digits", ["none", Arm("batch")], [0.1, 1.0], seeds=3, steps=20)
    (study,) = parse_toml(GOOD).studies
    assert dataclasses.replace(study, probes=()) == mine
    other = grid("main", Spec("mlp"), "digits", ["none"], (0.1, 1.0), seeds=1, steps=20, primary_rate=1.0, batch_size=8)
    assert (other.primary_rate, other.batch_size, other.seeds) == (1.0, 8, (0,))
