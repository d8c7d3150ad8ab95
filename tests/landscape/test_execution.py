from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
import torch

from landscape.errors import UsageError
from landscape.execution import execute, slots
from landscape.execution.child import Job
from landscape.execution.start import start
from landscape.experiment import Run
from landscape.store import Folder

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def dummy(monkeypatch):
    """Children import the dummy training by name; their sys.path is the parent's."""
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def crash():
    import crash_training

    return crash_training


def run_all(folder, asked, target="train", **others):
    events = []
    outcome = execute(
        folder, asked.runs(), target=f"crash_training:{target}", on_event=events.append, **{"workers": 1} | others
    )
    return outcome, events


def content(path):
    """All that must be bit-identical: the exported bytes and the arrays."""
    folder = Folder.read(path)
    folder.export(path / "all.csv")
    arrays = folder.arrays("walk", "weights")
    return (path / "all.csv").read_bytes(), np.stack(arrays.value.tolist()).tobytes(), arrays.step.tolist()


@pytest.fixture
def uninterrupted(tmp_path, crash):
    with Folder.open(tmp_path / "whole", crash.experiment()) as folder:
        run_all(folder, crash.experiment(), workers=0)
    expected = content(tmp_path / "whole")
    assert expected[2] == list(range(crash.STEPS))
    return expected


def test_processes_give_the_bits_that_this_process_gives(tmp_path, crash, uninterrupted):
    with Folder.open(tmp_path / "d", crash.experiment()) as folder:
        outcome, events = run_all(folder, crash.experiment())
        again, more = run_all(folder, crash.experiment())
    assert outcome.ok
    assert [run.key for run in outcome.finished] == ["s-none-lr0.1-seed0"]
    assert (events[0].kind, events[-1].kind) == ("started", "finished")
    last = [event for event in events if event.kind == "progress"][-1]
    assert (last.step, last.steps, last.learning_rate) == (crash.STEPS, crash.STEPS, 0.1)
    assert content(tmp_path / "d") == uninterrupted
    assert [event.kind for event in more] == ["skipped"]
    assert (again.finished, again.skipped) == ((), outcome.finished)


def test_killed_at_random_instants_ends_as_if_never_killed(tmp_path, crash, uninterrupted):
    """Kill -9 from outside, 20 times over several trainings, and always the same bits at the end."""
    chance = random.Random(0)
    kills, number = 0, 0
    while kills < 20:
        with Folder.open(tmp_path / str(number), crash.experiment()) as folder:
            (run,) = crash.experiment().runs()
            store = folder.run(run)
            while store.status() != "finished":
                job = Job(run.to_json(), str(store.folder), "cpu", None, "crash_training:train_slowly")
                process, channel = start(job)
                assert channel.recv().kind == "started"
                if wait([process.sentinel], timeout=chance.uniform(0.0, 0.12)) == []:
                    process.kill()
                    kills += 1
                process.join()
                channel.close()
        assert content(tmp_path / str(number)) == uninterrupted
        number += 1


def test_dead_process_is_started_again_from_its_checkpoint(tmp_path, crash, uninterrupted):
    """Dies before the first checkpoint, in an fsync, before and after the rename of a checkpoint."""
    with Folder.open(tmp_path / "d", crash.experiment()) as folder:
        outcome, events = run_all(folder, crash.experiment(), "train_dying", data_dir=tmp_path, retries=4)
    assert outcome.ok
    assert [event.text for event in events if event.kind == "retried"] == [
        "its process was killed by SIGKILL (out of memory?)"
    ] * 4
    assert content(tmp_path / "d") == uninterrupted


def test_a_run_that_always_dies_is_given_up_and_others_are_kept(tmp_path, crash):
    asked = crash.experiment(seeds=(0, 1, 2))
    with Folder.open(tmp_path, asked) as folder:
        outcome, events = run_all(folder, asked, "train_killed", workers=2)
        assert sorted(run.seed for run in outcome.finished) == [0, 2]
        ((run, reason),) = outcome.failed
        assert run.seed == 1
        assert reason == "its process was killed by SIGKILL (out of memory?), also after 3 retries from its checkpoint"
        assert [event.kind for event in events if event.run.seed == 1].count("retried") == 3
        store = folder.run(run)
        assert (store.status(), store.reason()) == ("failed", reason)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_run_keeps_the_others(tmp_path, crash, workers, recwarn):
    asked = crash.experiment(seeds=(0, 1, 2))
    with Folder.open(tmp_path, asked) as folder:
        outcome, events = run_all(folder, asked, "train_failing", workers=workers)
        assert [run.seed for run in outcome.finished] == [0]
        reasons = {run.seed: reason for run, reason in outcome.failed}
        assert reasons[1] == "no such file"
        assert reasons[2].startswith("ZeroDivisionError: the user's model (traceback in ")
        assert {event.kind for event in events} <= {"started", "progress", "warning", "finished", "failed"}
        traceback = folder.run(asked.runs()[2]).folder / "error.txt"
        assert "in train_failing" in traceback.read_text()
    if workers:
        assert [event.text for event in events if event.kind == "warning"] == ["mind the step"]
    # A second call tries the failed ones again, and only those.
    with Folder.open(tmp_path, asked) as folder:
        again, _ = run_all(folder, asked, workers=0)
    assert [run.seed for run in again.finished] == [1, 2]


def test_damaged_checkpoint_in_a_child_is_told_and_the_run_starts_over(tmp_path, crash, uninterrupted):
    with Folder.open(tmp_path / "d", crash.experiment()) as folder:
        run_all(folder, crash.experiment(), workers=0)
        store = folder.run(crash.experiment().runs()[0])
        (store.folder / "checkpoint.pt").write_bytes(b"half")
        (store.folder / "status.json").write_text('{"status": "running"}')
        _, events = run_all(folder, crash.experiment())
    assert ["moved to checkpoint.pt.bad" in event.text for event in events if event.kind == "warning"] == [True]
    assert content(tmp_path / "d") == uninterrupted


def test_a_status_that_can_not_be_read_fails_its_run_only(tmp_path, crash):
    asked = crash.experiment(seeds=(0, 1))
    with Folder.open(tmp_path, asked) as folder:
        store = folder.run(asked.runs()[0])
        store.folder.mkdir()
        (store.folder / "status.json").write_text("{")
        outcome, _ = run_all(folder, asked, workers=0)
    assert [run.seed for run in outcome.finished] == [1]
    assert "status.json: not valid JSON" in outcome.failed[0][1]


def test_one_thread_in_every_path_and_the_callers_back(tmp_path, crash):
    asked = crash.experiment(seeds=(0,), arms=("none", "batch"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Folder.open(tmp_path, asked) as folder:
            execute(folder, asked.runs()[:1], workers=0, target="crash_training:train_threads")
            assert torch.get_num_threads() == 2
            execute(folder, asked.runs()[1:], workers=1, target="crash_training:train_threads")
            assert folder.frame().value.tolist() == [1.0, 1.0]
    finally:
        torch.set_num_threads(before)
    assert "PYTHONSAFEPATH" not in os.environ


def test_target_that_is_not_there(tmp_path, crash):
    with Folder.open(tmp_path, crash.experiment()) as folder:
        outcome, _ = run_all(folder, crash.experiment(), "trian", workers=0)
    assert "can't find 'crash_training:trian'" in outcome.failed[0][1]


def test_slots():
    assert slots._slots("cpu", None) == ["cpu"] * slots.available_cpus()
    assert slots._slots("cpu", 0) == []
    with pytest.raises(UsageError, match="workers is -1"):
        slots._slots("cpu", -1)


def test_slots_on_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert slots._slots("cuda", None) == ["cuda:0", "cuda:1"]
    assert slots._slots("cuda", 8) == ["cuda:0", "cuda:1"]
    assert slots._slots("cuda", 1) == ["cuda:0"]
    assert slots._slots("cuda:1", None) == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no GPU; use --device cpu"):
        slots._slots("cuda", None)


# The parent: an unguarded script, as somebody would write it.

SCRIPT = """
import os, sys
sys.path.insert(0, {here!r})
print("script", flush=True)
import crash_training
from landscape.execution import execute
from landscape.store import Folder

asked = crash_training.experiment(seeds=(0, 1))
try:
    with Folder.open({out!r}, asked) as folder:
        outcome = execute(folder, asked.runs(), workers=2, data_dir={data!r}, target="crash_training:{target}")
        print("ok" if outcome.ok else outcome.failed, __spec__, os.path.basename(__file__))
except KeyboardInterrupt:
    import multiprocessing
    print("interrupted, children left:", len(multiprocessing.active_children()))
"""


def script(tmp_path, target):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(here=str(HERE), out=str(tmp_path / "d"), data=str(tmp_path), target=target))
    pipe = subprocess.PIPE
    # Its own process group, so that Ctrl-C can be sent as a terminal does.
    return subprocess.Popen([sys.executable, path], stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def pids(tmp_path):
    """The process ids of both children, once both train."""
    texts = [path.read_text() for path in tmp_path.glob("*.pid")]
    return [int(text) for text in texts] if len(texts) == 2 and all(texts) else []


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Nobody may have waited for it yet.
    return Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_an_unguarded_script_runs_once(tmp_path):
    process = script(tmp_path, "train")
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("script\nok None script.py\n", "")


def test_children_go_with_a_killed_parent_and_the_runs_resume(tmp_path, crash):
    process = script(tmp_path, "train_for_ever")
    children = until(lambda: pids(tmp_path))
    process.kill()
    process.communicate()
    until(lambda: all(is_gone(pid) for pid in children))
    asked = crash.experiment(seeds=(0, 1))
    for out, expected in (("d", 2), ("whole", 2)):
        with Folder.open(tmp_path / out, asked) as folder:
            outcome, _ = run_all(folder, asked, workers=0)
            assert len(outcome.finished) == expected
    assert content(tmp_path / "d") == content(tmp_path / "whole")


def test_ctrl_c_ends_the_children_and_comes_back_to_the_caller(tmp_path, crash):
    process = script(tmp_path, "train_for_ever")
    children = until(lambda: pids(tmp_path))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err) == ("script\ninterrupted, children left: 0\n", "")
    assert all(is_gone(pid) for pid in children)
    assert {one.status for one in Folder.read(tmp_path / "d").progress()} == {"interrupted"}


def test_children_get_data_only(crash):
    """A run goes through JSON unchanged, so that a child trains what was asked."""
    (run,) = crash.experiment().runs()
    assert Run.from_json(run.to_json()) == run


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="signal masks are read from /proc")
def test_ctrl_c_is_held_back_from_the_server_while_it_imports():
    code = (
        "from multiprocessing import forkserver; from landscape.execution import prepare; prepare(); "
        "print(open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    masks = dict(line.split(":") for line in done.stdout.splitlines() if line.startswith(("SigBlk", "SigIgn")))
    assert any(int(mask, 16) >> (signal.SIGINT - 1) & 1 for mask in masks.values()), masks
