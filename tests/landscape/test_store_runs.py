from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd  # imported here: a test below can't read the site-packages of root
import pytest
import torch

from landscape.errors import StoreError, UsageError
from landscape.probes.base import Measurement
from landscape.store import RunStore, database


def loss(value, **others):
    return Measurement("training", "loss", value, **others)


@pytest.fixture
def store(tmp_path):
    with RunStore(tmp_path / "run") as opened:
        yield opened


def test_rows_come_back_with_all_that_says_what_they_are(store):
    one = Measurement("p", "q", 1.5, layer="fc1", index=2, variant="v", batch="full", dtype="float64", version=3)
    store.append(7, 0.25, [one])
    row = store.frame().iloc[0].to_dict()
    assert row == {
        "step": 7,
        "learning_rate_at_step": 0.25,
        "probe": "p",
        "version": 3,
        "variant": "v",
        "statistics": "batch",
        "dtype": "float64",
        "batch": "full",
        "layer": "fc1",
        "quantity": "q",
        "index": 2,
        "value": 1.5,
    }


def test_a_replayed_step_replaces_its_rows_and_keeps_the_others(store):
    store.append(0, 0.1, [loss(1.0)])
    store.append(0, None, [Measurement("p", "q", 2.0)])
    store.append(0, 0.1, [loss(3.0)])
    frame = store.frame()
    assert frame.value.tolist() == [2.0, 3.0]
    assert frame.learning_rate_at_step.tolist() == [0.1, 0.1]


def test_order_of_rows_does_not_depend_on_the_order_of_writing(tmp_path):
    rows = [(step, loss(step, index=index)) for step in (0, 10) for index in (0, 1, 2)]
    frames = []
    for number, order in enumerate((rows, rows[::-1])):
        with RunStore(tmp_path / str(number)) as store:
            for step, row in order:
                store.append(step, 0.1, [row])
        frames.append(store.frame())
    pd.testing.assert_frame_equal(*frames)
    assert frames[0][["step", "index"]].to_numpy().tolist() == [[0, 0], [0, 1], [0, 2], [10, 0], [10, 1], [10, 2]]


def test_whatever_is_not_finite_is_stored_as_infinity(store):
    values = [float("nan"), float("inf"), float("-inf")]
    store.append(0, 0.1, [loss(value, index=index) for index, value in enumerate(values)])
    assert store.frame().value.tolist() == [np.inf] * 3
    store.append(0, 0.1, [Measurement("p", "a", np.array([1.0, np.nan]))])
    assert store.arrays("p", "a").value[0].tolist() == [1.0, np.inf]


def test_arrays_keep_shape_and_bits_and_stay_out_of_the_long_table(store):
    values = np.random.default_rng(0).normal(size=(3, 2))
    store.append(4, 0.1, [Measurement("p", "a", values, layer="fc1"), Measurement("p", "b", values.T)])
    arrays = store.arrays("p", "a")
    assert arrays.layer.tolist() == ["fc1"]
    assert arrays.step.tolist() == [4]
    np.testing.assert_array_equal(arrays.value[0], values)
    assert len(store.frame()) == 0


def test_the_long_view_can_be_read_with_sqlite_alone(store):
    store.append(3, 0.1, [loss(2.0, index=1)])
    with sqlite3.connect(store.path) as connection:
        row = connection.execute('SELECT step, learning_rate, quantity, "index", value FROM long').fetchone()
    assert row == (3, 0.1, "loss", 1, 2.0)


def test_costs_are_not_in_the_table(store):
    store.put_cost("wall_s", 2)
    store.put_cost("wall_s", 3)
    assert store.costs() == {"wall_s": 3.0}
    assert len(store.frame()) == 0


def test_a_step_is_whole_or_absent(store):
    def measurements():
        yield loss(1.0)
        yield Measurement("p", "new series", 1.0)
        raise RuntimeError("the probe failed")

    with pytest.raises(RuntimeError, match="the probe failed"):
        store.append(0, 0.1, measurements())
    assert store.last_step() is None
    store.append(1, 0.1, [Measurement("p", "new series", 5.0)])
    assert store.frame().value.tolist() == [5.0]


def test_a_live_run_can_be_read(store):
    store.append(0, 0.1, [loss(1.0)])
    other = RunStore(store.folder)
    assert other.frame().value.tolist() == [1.0]
    assert other.status() == "running"
    assert other.last_step() == 0


def test_a_second_writer_is_refused_by_process_id(store):
    with pytest.raises(StoreError, match=rf"pid {os.getpid()}\) is using this run"):
        RunStore(store.folder, wait=0.0).append(0, 0.1, [])


def test_status_from_new_to_finished(tmp_path):
    store = RunStore(tmp_path / "run")
    assert store.status() == "new"
    with store:
        assert store.status() == "running"
    assert store.status() == "interrupted"
    store.fail("no reason")
    assert (store.status(), store.reason()) == ("failed", "no reason")
    with store:
        store.append(0, 0.1, [loss(1.0)])
        store.finish()
    assert store.status() == "finished"
    assert sorted(os.listdir(store.folder)) == [".lock", "measurements.sqlite", "status.json"]


def test_a_run_finishes_while_somebody_reads(tmp_path):
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [loss(1.0)])
        reader = database.open_reader(store.path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM measurement").fetchall()
        store.finish()
        reader.close()
    assert store.frame().value.tolist() == [1.0]


# Checkpoints


def state(step):
    return {"step": step, "w": torch.arange(3.0) + step, "nested": [(1, "a", None), {"x": 0.1, 2: True}]}


def test_checkpoint_comes_back(store):
    assert store.load_checkpoint() is None
    store.save_checkpoint(state(1))
    store.save_checkpoint(state(2))
    store.close()
    with RunStore(store.folder) as again:
        loaded = again.load_checkpoint()
    assert loaded is not None
    assert torch.equal(loaded.pop("w"), torch.tensor([2.0, 3.0, 4.0]))
    assert loaded == {"step": 2, "nested": [(1, "a", None), {"x": 0.1, 2: True}]}


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(2), object(), {1}])
def test_what_could_not_be_read_back_is_refused_before_it_is_written(store, value):
    store.save_checkpoint(state(1))
    with pytest.raises(UsageError, match=r"checkpoint\['probes'\]\[0\] is a .*tensors and plain Python"):
        store.save_checkpoint({"probes": [value]})
    assert store.load_checkpoint()["step"] == 1


def test_optimizer_and_model_state_are_allowed(store):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    store.save_checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    loaded = store.load_checkpoint()
    optimizer.load_state_dict(loaded["optimizer"])
    assert torch.equal(loaded["model"]["0.weight"], model[0].weight)


def damage(kind, path):
    data = bytearray(path.read_bytes())
    if kind == "half":
        data = data[: len(data) // 2]
    elif kind == "empty":
        data = bytearray()
    else:
        # A bit inside the tensor: torch.load does not notice it.
        at = data.index(np.arange(3, dtype="<f4").tobytes()) + 2
        data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["half", "empty", "bit"])
def test_damaged_checkpoint_is_moved_aside_and_the_run_starts_over(tmp_path, kind):
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [loss(1.0)])
        store.save_checkpoint(state(0))
    damage(kind, store.folder / "checkpoint.pt")
    with RunStore(store.folder) as store:
        with pytest.warns(UserWarning, match=r"moved to checkpoint.pt.bad. This run starts over"):
            assert store.load_checkpoint() is None
        assert (store.folder / "checkpoint.pt.bad").exists()
        assert store.load_checkpoint() is None
        store.append(0, 0.1, [loss(1.0)])
        store.save_checkpoint(state(5))
        assert store.load_checkpoint()["step"] == 5


def test_checkpoint_ahead_of_the_measurements_is_not_used(tmp_path):
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [loss(1.0)])
        store.save_checkpoint(state(0))
        store.finish()
    early = store.path.read_bytes()
    with RunStore(store.folder) as store:
        store.append(1, 0.1, [loss(2.0)])
        store.save_checkpoint(state(1))
        store.append(2, 0.1, [loss(2.0)])
        store.save_checkpoint(state(2))
        store.finish()
    store.path.write_bytes(early)
    with RunStore(store.folder) as store, pytest.warns(UserWarning, match="not of the measurements beside it"):
        assert store.load_checkpoint() is None


# When things go wrong


@contextmanager
def failing_sync(monkeypatch, number):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


def test_disk_full_while_writing_a_checkpoint_keeps_the_old_one(store, monkeypatch):
    store.append(0, 0.1, [loss(1.0)])
    store.save_checkpoint(state(1))
    with (
        failing_sync(monkeypatch, errno.ENOSPC),
        pytest.raises(StoreError, match=r"checkpoint.pt: No space left.*free some space"),
    ):
        store.save_checkpoint(state(2))
    assert sorted(path.name for path in store.folder.glob("*.pt*")) == ["checkpoint.pt"]
    assert not list(store.folder.glob(".*.part"))
    assert store.load_checkpoint()["step"] == 1
    store.save_checkpoint(state(3))
    assert store.load_checkpoint()["step"] == 3


def test_disk_full_at_the_lock_is_told_and_holds_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = RunStore(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="the disk is full; free some space"):
            store.append(0, 0.1, [])
    store.append(0, 0.1, [])


def test_disk_full_while_appending_keeps_the_steps_before(tmp_path, monkeypatch):
    original = database.open_writer

    def small(path):
        connection = original(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 10}")
        return connection

    monkeypatch.setattr(database, "open_writer", small)
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [loss(1.0)])
        with pytest.raises(StoreError, match=r"measurements.sqlite: database or disk is full .*free some space"):
            store.append(1, 0.1, [loss(2.0), Measurement("p", "a", np.zeros(10_000))])
        store.append(2, 0.1, [loss(3.0)])
    assert store.frame().step.tolist() == [0, 2]


@pytest.mark.parametrize("content", ["text", "cut", "scrambled"])
def test_damaged_database_is_refused_with_a_remedy(tmp_path, content):
    with RunStore(tmp_path / "run") as store:
        for step in range(200):
            store.append(step, 0.1, [loss(step, index=index) for index in range(20)])
        store.finish()
    data = bytearray(store.path.read_bytes())
    if content == "text":
        data[:] = b"not a database at all, " * 100
    elif content == "cut":
        del data[len(data) // 2 :]
    else:
        data[8192:20480] = bytes(12288)
    store.path.write_bytes(data)
    with (
        pytest.raises(StoreError, match=r"measurements.sqlite.*delete it and run the same command again"),
        RunStore(store.folder),
    ):
        pass
    os.remove(store.path)
    with RunStore(store.folder) as again:  # the remedy works
        again.append(0, 0.1, [loss(1.0)])


def test_a_run_whose_damaged_database_was_deleted_is_trained_again(tmp_path):
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [Measurement("p", "q", 1.0)])
        store.finish()
    store.path.unlink()
    assert store.status() == "new"


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"status": 3}', '{"status": "odd"}', "\udcff", "[" * 100_000]
)
def test_a_damaged_status_is_told_with_a_remedy(tmp_path, text):
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [Measurement("p", "q", 1.0)])
    (store.folder / "status.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StoreError, match=r"status\.json: .*delete it"):
        store.status()


def test_whenever_a_writer_dies_at_its_start_there_is_a_whole_database_or_none(tmp_path, monkeypatch):
    def dead(source, target):
        raise OSError(errno.EIO, "gone")

    store = RunStore(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dead)
        with pytest.raises(StoreError, match="gone"):
            store.append(0, 0.1, [])
    assert not store.path.exists()
    with store:
        store.append(0, 0.1, [Measurement("p", "q", 1.0)])
    assert store.frame().value.tolist() == [1.0]
    assert [file.name for file in store.folder.glob(".measurements*")] == []


def test_another_version_of_the_table_is_refused(tmp_path):
    with RunStore(tmp_path / "run") as store:
        store._open().execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(StoreError, match="version 99 where version 1"):
        store.frame()


def test_no_measurements_yet(tmp_path):
    with pytest.raises(StoreError, match="no measurements here"):
        RunStore(tmp_path).frame()


@pytest.fixture
def read_only():
    """Makes a folder unwritable for us, who are perhaps root, whom permissions don't bind."""
    # Not below tmp_path, which is closed to anybody but its owner.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        yield root, unwritable


@contextmanager
def unwritable(folder):
    folder.chmod(0o555)
    for path in folder.iterdir():
        path.chmod(0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


def test_finished_run_is_read_in_a_read_only_folder(read_only):
    root, locked = read_only
    with RunStore(root / "a run #1?") as store:
        store.append(0, 0.1, [loss(1.0)])
        store.finish()
    with locked(store.folder):
        assert store.frame().value.tolist() == [1.0]
        assert store.status() == "finished"
        with pytest.raises(StoreError, match=r"a run #1\?.*make it writable"):
            store.append(1, 0.1, [])


def test_interrupted_run_in_a_read_only_folder_says_to_copy(read_only):
    root, locked = read_only
    with RunStore(root / "run") as store:
        store.append(0, 0.1, [loss(1.0)])
        files = {path.name: path.read_bytes() for path in store.folder.glob("measurements*")}
    copy = root / "copy"
    copy.mkdir()
    for name in ("measurements.sqlite", "measurements.sqlite-wal"):
        (copy / name).write_bytes(files[name])
    with locked(copy), pytest.raises(StoreError, match="copy the whole folder"):
        RunStore(copy).frame()
    assert RunStore(copy).last_step() == 0


@pytest.mark.parametrize(
    ("mounts", "local"),
    [
        ("/dev/sda / ext4 rw 0 0\n", True),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {folder} nfs4 rw 0 0\n", False),
        ("server:/x / nfs rw 0 0\n/dev/sda {folder} xfs rw 0 0\n", True),
        ("/dev/sda / ext4 rw 0 0\nssh {folder} fuse.sshfs rw 0 0\n", False),
        ("/dev/sda {folder} ext4 rw 0 0\nshare {folder} cifs rw 0 0\n", False),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {folder}er nfs4 rw 0 0\n", True),
    ],
)
def test_local_and_network_folders(tmp_path, mounts, local):
    folder = tmp_path / "with space"
    folder.mkdir()
    table = tmp_path / "mounts"
    table.write_text(mounts.format(folder=str(folder).replace(" ", "\\040")))
    assert database.is_local(folder, mounts=table) is local


def test_on_a_network_folder_there_is_no_log(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "is_local", lambda path: False)
    with RunStore(tmp_path / "run") as store:
        store.append(0, 0.1, [loss(1.0)])
        store.save_checkpoint(state(1))
        assert not list(store.folder.glob("*-wal"))
        assert store.load_checkpoint()["step"] == 1
        store.finish()
    assert store.frame().value.tolist() == [1.0]
