from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from landscape.errors import StoreError, UsageError
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.probes.base import Measurement
from landscape.store import Folder, describe, manifest


def study(**others):
    plain = Study("vgg", Spec("vgg", {"depth": 11}), Spec("blobs"), (Arm("none"), Arm("batch")), (0.1,), 0.1, (0,), 5)
    return dataclasses.replace(plain, **others)


def experiment(**others):
    return Experiment("e", (study(**others),))


def fill(folder, runs, values=(1.0, 2.0)):
    for run in runs:
        with folder.run(run) as store:
            for step, value in enumerate(values):
                loss = Measurement("training", "loss", value + run.seed)
                store.append(step, run.learning_rate, [loss, Measurement("p", "a", np.array([value]))])
            store.finish()


def test_the_long_table_says_which_run_each_number_is_of(tmp_path):
    asked = experiment(seeds=(3, 1))
    with Folder.open(tmp_path / "d", asked) as folder:
        fill(folder, asked.runs())
        frame = folder.frame()
    columns = (
        "study arm learning_rate seed step probe version variant statistics dtype batch layer quantity index value"
    )
    assert frame.columns.tolist() == columns.split()
    assert frame[["arm", "seed", "step", "value"]].to_numpy().tolist() == [
        *(["batch", 1, 0, 2.0], ["batch", 1, 1, 3.0], ["batch", 3, 0, 4.0], ["batch", 3, 1, 5.0]),
        *(["none", 1, 0, 2.0], ["none", 1, 1, 3.0], ["none", 3, 0, 4.0], ["none", 3, 1, 5.0]),
    ]
    arrays = Folder.read(tmp_path / "d").arrays("p", "a")
    assert arrays.columns.tolist() == columns.split()
    assert [value.tolist() for value in arrays.value[:2]] == [[1.0], [2.0]]


def test_a_folder_without_measurements_has_an_empty_table(tmp_path):
    with Folder.open(tmp_path / "d", experiment()) as folder:
        assert folder.frame().columns[0] == "study"
        assert len(folder.frame()) == 0
        assert [one.status for one in folder.progress()] == ["new", "new"]
        empty = folder.frame().dtypes
        with folder.run(folder.experiment.runs()[0]) as store:
            store.append(0, 0.1, [Measurement("p", "a", 1.0)])
        assert empty.equals(folder.frame().dtypes)


def test_export_is_exact_and_the_same_bytes_in_any_order(tmp_path):
    values = (0.1 + 0.2, math.pi, float("nan"), 1e-300)
    for name, backwards in (("a", False), ("b", True)):
        asked = experiment(seeds=(0, 1))
        with Folder.open(tmp_path / name, asked) as folder:
            fill(folder, asked.runs()[::-1] if backwards else asked.runs(), values)
            folder.export(tmp_path / f"{name}.csv")
            folder.export(tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    exact = [0.1 + 0.2, math.pi, math.inf, 1e-300]
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert [float(line.split(",")[-1]) for line in lines[1:5]] == exact
    assert pd.read_parquet(tmp_path / "a.parquet").value[:4].tolist() == exact


def test_export_needs_a_known_suffix_and_a_folder(tmp_path):
    with Folder.open(tmp_path / "d", experiment()) as folder:
        with pytest.raises(UsageError, match=r"must end in .csv or .parquet"):
            folder.export(tmp_path / "x.xlsx")
        with pytest.raises(StoreError, match=r"x.csv: No such file.*check that the folder exists"):
            folder.export(tmp_path / "nowhere" / "x.csv")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"steps": 9}, "vgg.steps: 5 stored, 9 asked"),
        ({"model": Spec("vgg", {"depth": 13})}, "vgg.model.options.depth: 11 stored, 13 asked"),
        ({"model": Spec("vgg", {})}, "vgg.model.options.depth: 11 stored, nothing asked"),
        ({"arms": (Arm("none"), Arm("layer", "batch"))}, "vgg.arms.batch.norm: 'batch' stored, 'layer' asked"),
        ({"name": "mlp"}, "mlp: nothing stored"),
    ],
)
def test_another_experiment_is_refused_with_the_difference(tmp_path, change, difference):
    with Folder.open(tmp_path / "d", experiment()) as folder:
        fill(folder, experiment().runs())
    before = (tmp_path / "d" / "experiment.json").read_bytes()
    (tmp_path / "d-2").mkdir()
    with pytest.raises(UsageError, match="holds another experiment") as caught:
        Folder.open(tmp_path / "d", experiment(**change))
    assert difference in str(caught.value)
    assert str(caught.value).endswith(f"--out {tmp_path / 'd-3'}")
    assert (tmp_path / "d" / "experiment.json").read_bytes() == before
    Folder.open(tmp_path / "d", experiment()).close()  # the refused one has let go of the folder


def test_a_changed_probe_is_shown_by_its_place(tmp_path):
    with Folder.open(tmp_path / "d", experiment(probes=(ProbeSpec("gradient_path"), ProbeSpec("curvature")))):
        pass
    with pytest.raises(UsageError, match=r"vgg.probes\[1\].every: 10 stored, 20 asked"):
        Folder.open(tmp_path / "d", experiment(probes=(ProbeSpec("gradient_path"), ProbeSpec("curvature", every=20))))


def test_more_seeds_arms_and_rates_extend_a_folder(tmp_path):
    with Folder.open(tmp_path / "d", experiment(seeds=(0, 1), learning_rates=(0.1, 0.5))) as folder:
        fill(folder, experiment().runs())
    asked = experiment(seeds=(1, 2), arms=(Arm("layer"), Arm("none")), learning_rates=(0.3,), primary_rate=0.3)
    with Folder.open(tmp_path / "d", asked):
        pass
    (both,) = Folder.read(tmp_path / "d").experiment.studies
    assert both.seeds == (0, 1, 2)
    assert [arm.label for arm in both.arms] == ["none", "batch", "layer"]
    assert (both.learning_rates, both.primary_rate) == ((0.1, 0.3, 0.5), 0.3)
    assert len(Folder.read(tmp_path / "d").frame()) == 4


def test_an_arm_with_its_own_rates_keeps_them(tmp_path):
    Folder.open(tmp_path / "d", experiment(arms=(Arm("none"),), learning_rates=(0.1, 0.2))).close()
    Folder.open(tmp_path / "d", experiment(arms=(Arm("none", learning_rates=(0.3,)),))).close()
    (both,) = Folder.read(tmp_path / "d").experiment.studies
    assert both.arms[0].learning_rates == (0.1, 0.2, 0.3)


def test_other_data_under_the_same_name_are_refused(tmp_path):
    Folder.open(tmp_path / "d", experiment(), manifest={"data": {"vgg": "aa"}}).close()
    with pytest.raises(UsageError, match=r"vgg.data checksum: aa stored, bb asked"):
        Folder.open(tmp_path / "d", experiment(), manifest={"data": {"vgg": "bb"}})


def test_other_code_is_told_from_another_processor(tmp_path):
    def trained(losses, processor="AVX2"):
        made = {"losses": losses, "torch": "1", "cpu_capability": processor}
        Folder.open(tmp_path / "d", experiment(), manifest=made).close()

    trained({"vgg, none, seed 0": 1.0})
    trained({"vgg, none, seed 0": 1.0 + 1e-7, "vgg, batch, seed 0": 3.0})
    with pytest.raises(UsageError, match=r"vgg, none, seed 0: the loss before training was 1 and is 1\.0001 now"):
        trained({"vgg, none, seed 0": 1.0001})
    trained({"vgg, none, seed 0": 1.0001}, processor="AVX512")
    with pytest.raises(UsageError, match="was 3 and is 4 now"):  # of an arm that came the second time
        trained({"vgg, none, seed 0": 1.0, "vgg, batch, seed 0": 4.0})
    with pytest.raises(UsageError, match="was 3 and is 4 now"):
        trained({"vgg, batch, seed 0": 4.0}, processor="AVX512")
    assert Folder.read(tmp_path / "d").manifest["losses"] == {"vgg, none, seed 0": 1.0, "vgg, batch, seed 0": 3.0}


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=rf"holds other files \(thesis.tex\).*--out {tmp_path / 'run'}"):
        Folder.open(tmp_path, experiment())
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(UsageError, match=r"is a file, not a folder"):
        Folder.open(tmp_path / "thesis.tex", experiment())


def test_runs_without_their_experiment_are_refused(tmp_path):
    with Folder.open(tmp_path, experiment()) as folder:
        fill(folder, experiment().runs())
    (tmp_path / "experiment.json").unlink()
    with pytest.raises(UsageError, match=r"holds other files \(runs\)"):
        Folder.open(tmp_path, experiment())


def test_what_a_crash_at_the_start_leaves_is_taken_up(tmp_path):
    (tmp_path / "runs").mkdir()
    for name in (".lock", "manifest.json", ".experiment.json.part"):
        (tmp_path / name).write_text("")
    with Folder.open(tmp_path, experiment()) as folder:
        assert folder.warnings == []


def test_reading_what_is_not_a_run_folder(tmp_path):
    with pytest.raises(UsageError, match="no such folder; give the folder that `landscape run` wrote"):
        Folder.read(tmp_path / "x")
    with pytest.raises(UsageError, match=r"no experiment.json in it"):
        Folder.read(tmp_path)
    for text in ("{", '{"name": "x"}'):
        (tmp_path / "experiment.json").write_text(text)
        with pytest.raises(StoreError, match=r"experiment.json: not an experiment of this version"):
            Folder.read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", '{"warnings": 3}', '{"data": []}', '{"notes": 3}', '{"commands": 3}'])
def test_a_damaged_manifest_is_told_with_a_remedy(tmp_path, text):
    Folder.open(tmp_path / "d", experiment()).close()
    (tmp_path / "d" / "manifest.json").write_text(text)
    for look in (lambda: Folder.read(tmp_path / "d"), lambda: Folder.open(tmp_path / "d", experiment())):
        with pytest.raises(StoreError, match=r"manifest\.json: .*restore or delete it"):
            look()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"name": "e", "studies": []}', b'{"name": "e"}'])
def test_a_damaged_experiment_is_told(tmp_path, content):
    Folder.open(tmp_path / "d", experiment()).close()
    (tmp_path / "d" / "experiment.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"experiment\.json: not an experiment of this version"):
        Folder.read(tmp_path / "d")


def test_two_at_once_are_refused_by_process_id(tmp_path):
    with Folder.open(tmp_path, experiment()):
        code = (
            "import sys; from pathlib import Path; from landscape.errors import StoreError\n"
            "from landscape.store.files import Lock\n"
            "try: Lock(Path(sys.argv[1]))\n"
            "except StoreError as error: print(error)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code, tmp_path / ".lock"], capture_output=True, text=True, check=True
        )
        assert f"another process (pid {os.getpid()}) is using this folder" in told.stdout
        Folder.read(tmp_path)  # looking is allowed
    Folder.open(tmp_path, experiment()).close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": (Arm("lp:1"), Arm("lp1"))}, "two runs would share the folder 'vgg-lp1-lr0.1-seed0'"),
        ({"learning_rates": (0.1, 0.1000000001)}, "two runs would share"),
        ({"seeds": (1, 1)}, "two runs would share"),
        ({"name": "a/b"}, "can't have a folder named 'a/b-none-lr0.1-seed0'"),
        ({"name": "a\nb"}, r"can't have a folder named 'a\\nb-none"),
        ({"name": "é" * 127}, "can't have a folder named 'é"),
    ],
)
def test_runs_that_can_not_have_a_folder_of_their_own(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        Folder.open(tmp_path / "d", experiment(**change))
    assert not (tmp_path / "d").exists()


def test_progress_shows_a_broken_run_beside_the_others(tmp_path):
    asked = experiment()
    with Folder.open(tmp_path, asked) as folder:
        fill(folder, asked.runs())
        broken, whole = asked.runs()[0], asked.runs()[1]
        folder.run(broken).path.write_bytes(b"nonsense" * 1000)
    progress = {one.run.key: one for one in Folder.read(tmp_path).progress()}
    assert (progress[whole.key].status, progress[whole.key].step) == ("finished", 1)
    assert progress[broken.key].status == "failed"
    assert "delete it and run the same command again" in progress[broken.key].reason


def test_manifest_and_a_resume_elsewhere(tmp_path):
    here = describe(data={"vgg": "aa"})
    assert here["threads"] == 1
    Folder.open(tmp_path, experiment(), manifest=here).close()
    with Folder.open(tmp_path, experiment(), manifest=here) as folder:
        assert folder.warnings == []
    other = here | {"torch": "9.9", "threads": 4, "python": "9"}
    for _ in range(2):  # said once, however often it is resumed
        with Folder.open(tmp_path, experiment(), manifest=other) as folder:
            assert folder.warnings == [
                f"Resumed with torch 9.9, where earlier runs had {here['torch']}: they may differ in the last digits.",
                "Resumed with torch threads 4, where earlier runs had 1: they may differ in the last digits.",
            ]
    stored = json.loads((tmp_path / "manifest.json").read_text())
    assert (stored["torch"], stored["data"]) == (here["torch"], {"vgg": "aa"})
    assert Folder.read(tmp_path).warnings == folder.warnings


def test_commit_of_a_checkout_is_read_without_git(tmp_path):
    assert manifest.commit(tmp_path) == ""
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\nabc refs/heads/main\n")
    assert manifest.commit(tmp_path) == "abc"
    (git / "refs" / "heads" / "main").write_text("def\n")
    assert manifest.commit(tmp_path) == "def"
    (git / "HEAD").write_text("123\n")
    assert manifest.commit(tmp_path) == "123"
