"""The command killed, its worker killed, and stopped by Ctrl-C: the same command again ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from landscape.store import Folder, RunStore

STEPS = 60
KILLS = 2
TOML = f"""
[study]
model = {{ name = "mlp", options = {{ hidden = [16] }} }}
data = {{ name = "digits", options = {{ limit = 256, test_limit = 64 }} }}
arms = ["none", "noisy-batch"]
learning_rates = [0.1]
seeds = 2
steps = {STEPS}
batch_size = 64
evaluate_every = 5
[study.optimizer]
name = "sgd"
options = {{ momentum = 0.9 }}
[[study.probes]]
name = "gradient_path"
every = 5
[[study.probes]]
name = "activations"
every = 5
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """What an uninterrupted run exports and says."""
    place = tmp_path_factory.mktemp("whole")
    (place / "k.toml").write_text(TOML)
    with ended(start(place, "cut")) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return exported(place / "cut"), out


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "k.toml").write_text(TOML)
    return tmp_path


def start(place: Path, out: str, workers: int = 2) -> subprocess.Popen[str]:
    """The command in a session, and so a process group, of its own."""
    (place / f"{out}-notes").mkdir(exist_ok=True)
    words = ["run", "k.toml", "--out", out, "--data-dir", f"{out}-notes", "--workers", str(workers)]
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("often_saving.py")), *words],
        cwd=place,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """No process outlives its test."""
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait for a condition; False if the command ended before."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return True


def attempts(place: Path, out: str) -> list[tuple[str, int]]:
    """Which step each attempt at a run went on from, in order."""
    file = place / f"{out}-notes" / "attempts"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def running(place: Path, out: str) -> list[Path]:
    """The folders of runs that go on and have a checkpoint."""
    folders = sorted((place / out / "runs").glob("*"))
    return [one for one in folders if (one / "checkpoint.pt").exists() and RunStore(one).status() == "running"]


def saving(place: Path, out: str, more_than: int) -> bool:
    """Whether a further attempt has begun, and a run that goes on has a checkpoint."""
    return len(attempts(place, out)) > more_than and bool(running(place, out))


def kill_a_worker(place: Path, out: str) -> bool:
    """Whether a run that goes on named its process, and that process was there to be killed."""
    for folder in running(place, out):
        with suppress(OSError, ValueError):  # it has just ended: its lock says nothing any more
            os.kill(int((folder / ".lock").read_text()), signal.SIGKILL)
            return True
    return False


def exported(folder: Path) -> bytes:
    table = folder.parent / f"{folder.name}.csv"
    Folder.read(folder).export(table)
    return table.read_bytes()


def alive(group: int) -> list[str]:
    """The processes of a session that still live, zombies left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = entry.read_text().rpartition(")")
            state, _, _, session = rest.split()[:4]
            if int(session) == group and state != "Z":
                found.append(name)
    return found


def test_killed_at_any_instant_and_run_again_ends_with_the_same_bytes(place: Path, whole: tuple[bytes, str]) -> None:
    draw = random.Random(7)
    for _ in range(KILLS):
        before = len(attempts(place, "cut"))
        with ended(start(place, "cut")) as cut:
            assert until(lambda before=before: saving(place, "cut", before), cut), cut.communicate()
            time.sleep(draw.uniform(0.0, 0.15))
            os.killpg(cut.pid, signal.SIGKILL)
            cut.communicate()
        assert cut.returncode == -signal.SIGKILL
        Folder.read(place / "cut").progress()  # a half-finished folder can be looked at
    before = len(attempts(place, "cut"))
    with ended(start(place, "cut")) as last:
        assert until(lambda: saving(place, "cut", before), last), last.communicate()
        assert until(lambda: kill_a_worker(place, "cut"), last), last.communicate()
        out, err = last.communicate()
    assert last.returncode == 0, err
    assert "retried: its process was killed by SIGKILL" in err
    # Else the kills hit nothing, or every run began anew.
    assert any(0 < step < STEPS for _, step in attempts(place, "cut"))
    assert (exported(place / "cut"), out) == whole


def test_ctrl_c_while_training_leaves_nobody_and_says_how_to_go_on(place: Path) -> None:
    with ended(start(place, "cut")) as cut:
        assert until(lambda: saving(place, "cut", 0), cut)
        os.killpg(cut.pid, signal.SIGINT)
        out, err = cut.communicate(timeout=60)
        # The forkserver goes once it sees that its last user has gone.
        end = time.monotonic() + 10
        while alive(cut.pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert alive(cut.pid) == []
    assert (cut.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "  landscape run k.toml --data-dir cut-notes --out cut" in err


def test_ctrl_c_while_the_program_still_imports_shows_no_traceback(place: Path) -> None:
    with ended(start(place, "cut")) as cut:
        assert until(lambda: len(alive(cut.pid)) > 1, cut)  # the server of child processes has begun to import
        os.killpg(cut.pid, signal.SIGINT)
        out, err = cut.communicate(timeout=60)
    assert (cut.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "run the same command again" in err
