"""A tiny deterministic training with checkpoints, and ways in which it can die. Imported by child processes."""

from __future__ import annotations

import os
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from landscape.errors import DataError
from landscape.experiment import Arm, Experiment, Spec, Study
from landscape.probes.base import Measurement

STEPS = 24


def experiment(*, seeds=(0,), arms=("none",), rates=(0.1,), steps=STEPS, name="s"):
    data = Spec("blobs")
    study = Study(name, Spec("mlp"), data, tuple(Arm(arm) for arm in arms), rates, rates[0], seeds, steps=steps)
    return Experiment("crash", (study,))


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    loss: float
    learning_rate: float


def train(run, store, *, device, data_dir, progress, pause=0.0, before=lambda step: None):
    """A noisy walk: its numbers depend on all earlier draws, so a wrong resume can't go unseen."""
    generator = torch.Generator().manual_seed(run.seed)
    weights, start = torch.zeros(4), 0
    state = store.load_checkpoint()
    if state is not None:
        weights, start = state["weights"], state["step"]
        generator.set_state(state["generator"])
    for step in range(start, run.study.steps):
        before(step)
        weights = weights - run.learning_rate * (weights - torch.randn(4, generator=generator))
        loss = float(weights.norm())
        array = Measurement("walk", "weights", weights.double().numpy())
        store.append(step, run.learning_rate, [Measurement("training", "loss", loss), array])
        if step % 3 == 2:
            store.save_checkpoint({"weights": weights, "step": step + 1, "generator": generator.get_state()})
        progress(Progress(step + 1, run.study.steps, loss, run.learning_rate))
        time.sleep(pause)


def train_slowly(run, store, **others):
    train(run, store, pause=0.004, **others)


def train_for_ever(run, store, *, data_dir, **others):
    """Tells its process id and goes on until it is ended."""
    Path(data_dir, f"{run.key}.pid").write_text(str(os.getpid()))
    train(run, store, data_dir=data_dir, pause=300.0, **others)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def train_dying(run, store, *, data_dir, **others):
    """Dies in attempt after attempt, each time at another place of the store's work."""
    attempts = Path(data_dir, "attempts")
    attempt = len(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text("x" * (attempt + 1))
    sync, rename = os.fsync, os.replace
    calls = {"sync": 0, "rename": 0}

    def dying_sync(handle):
        calls["sync"] += 1
        if attempt == 1 and calls["sync"] == 3:
            die()
        sync(handle)

    def dying_rename(source, target):
        if str(target).endswith("checkpoint.pt"):
            calls["rename"] += 1
            if attempt == 2 and calls["rename"] == 2:
                die()
            rename(source, target)
            if attempt == 3 and calls["rename"] == 2:
                die()
        else:
            rename(source, target)

    def before(step):
        if attempt == 0 and step == 2:
            die()

    os.fsync, os.replace = dying_sync, dying_rename
    train(run, store, data_dir=data_dir, before=before, **others)


def train_killed(run, store, **others):
    if run.seed == 1:
        die()
    train(run, store, **others)


def train_failing(run, store, **others):
    if run.seed == 1:
        raise DataError("no such\nfile")
    if run.seed == 2:
        raise ZeroDivisionError("the user's model")
    warnings.warn("mind the step", stacklevel=1)
    train(run, store, **others)


def train_threads(run, store, **others):
    store.append(0, None, [Measurement("x", "threads", torch.get_num_threads())])
