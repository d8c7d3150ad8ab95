"""The examples run as they stand, from an empty folder, and say what they found."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from landscape.store import Folder

EXAMPLES = Path(__file__).parent.parent / "examples"


def _run(name, folder, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "error:::landscape", str(EXAMPLES / name), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _numbers(text):
    """Lines that are a step and finite numbers, by step."""
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if len(row) > 1 and row[0].isdigit()]
    return {int(step): [float(value) for value in values] for step, *values in rows}


def test_the_list_of_examples_is_the_one_tested():
    tested = {"own_loop.py", "read_run_folder.py", "dict_batches.py", "lightning_trainer.py", "hugging_face_trainer.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested | {"own_analysis.py"}


def test_an_analysis_of_ones_own_is_short_and_decided(tmp_path):
    text = (EXAMPLES / "own_analysis.py").read_text()
    assert len(text.splitlines()) < 60
    command = [Path(sys.executable).with_name("landscape"), "run", EXAMPLES / "own_analysis.py", "--workers", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    verdicts = [line.split("\t")[:2] for line in done.stdout.splitlines() if line.startswith("D-")]
    assert [claim for claim, _ in verdicts] == ["D-shallow", "D-deep+layer"]
    assert all(verdict != "not measured" for _, verdict in verdicts)
    assert next(tmp_path.glob("runs/*/report.pdf")).read_bytes().startswith(b"%PDF")


def test_own_loop_writes_a_folder_that_another_example_reads(tmp_path):
    found = _numbers(_run("own_loop.py", tmp_path))
    assert sorted(found) == [0, 8, 16, 24]
    assert all(0 < value < 1e4 for (value,) in found.values())
    assert len(Folder.read(tmp_path / "runs" / "own-loop").frame()) > 200
    text = _run("read_run_folder.py", tmp_path, "runs/own-loop")
    assert "observed-own-lr0.1-seed0 finished 24" in text
    assert "4 histograms of activations" in text
    paths = [tmp_path / line for line in text.splitlines() if line.startswith("figures/")]
    assert len(paths) == 6  # a sweep and its numbers for gradient_path and activations; one each for the other two
    assert all(matplotlib.image.imread(path).shape[1] > 500 for path in paths)


def test_dict_batches(tmp_path):
    found = _numbers(_run("dict_batches.py", tmp_path))
    assert sorted(found) == [0, 1, 2, 3, 6, 10, 18, 32, 56]


@pytest.mark.parametrize(
    ("name", "steps"), [("lightning_trainer.py", [0, 4, 8, 12]), ("hugging_face_trainer.py", [0, 5, 10])]
)
def test_other_peoples_trainers(tmp_path, name, steps):
    pytest.importorskip("lightning")
    pytest.importorskip("tensorboard")
    assert sorted(_numbers(_run(name, tmp_path))) == steps
    assert len(list((tmp_path / "runs").iterdir())) > 0
