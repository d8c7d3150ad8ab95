"""Where an Observer's measurements go: a sink, of which a run folder is one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from landscape.errors import UsageError
from landscape.experiment import Arm, Experiment, ProbeSpec, Spec, Study
from landscape.probes.base import Measurement
from landscape.store import Folder, RunStore, describe
from landscape.store.files import write_json, write_whole
from landscape.store.identity import differences

NAME = "observed"  # of the study, and of the analysis that draws it


@runtime_checkable
class Sink(Protocol):
    """Takes the measurements of a step: a tracker, a file, a screen. What it opens, it closes."""

    def append(self, step: int, learning_rate: float | None, measurements: Sequence[Measurement]) -> None:
        """Called once for each step that was measured, in order.

        Args:
            step: updates done before it.
            learning_rate: the optimizer's, or None where it has several or there is no optimizer.
            measurements: numbers, and arrays where a probe yields any.
        """
        ...


class RunFolder:
    """A run folder that holds one training in somebody's own loop; all commands read it like any other.

    Made when the first step comes. A folder that holds a run is gone on in after ``load_state_dict`` only:
    rows from that step on are replaced.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._folder: Folder | None = None
        self._store: RunStore | None = None
        self._earlier: dict[str, float] = {}

    def begin(self, study: Study, step: int, device: torch.device) -> None:
        """Open it for a training whose next step is ``step``.

        Raises:
            UsageError: it holds a run and this one starts over, or is another.
            StoreError: it can't be written, or another process uses it.
        """
        asked = Experiment(NAME, (study,))
        if (self.path / "experiment.json").is_file():
            asked = self._same(asked, step)
        manifest = describe(device=str(device), threads=torch.get_num_threads()) | {"analysis": NAME}
        self._folder = Folder.open(self.path, asked, manifest=manifest)
        try:
            self._store = self._folder.run(asked.runs()[0]).__enter__()
            self._store.forget(step)
            self._earlier = self._store.costs()
        except BaseException:
            self.close(None, {})
            raise

    def _same(self, asked: Experiment, step: int) -> Experiment:
        """The experiment that is there, if this training goes on with it."""
        there = Folder.read(self.path)
        (study,) = asked.studies
        steps = there.experiment.studies[0].steps
        if step == 0 and there.runs():
            raise UsageError(
                f"{self.path} holds a run already: choose another folder, or go on with that run by "
                "observer.load_state_dict(...) with the state saved in it"
            )
        asked = dataclasses.replace(asked, studies=(dataclasses.replace(study, steps=steps),))
        if differ := differences(there.experiment, asked):
            raise UsageError(
                f"{self.path} holds another run:\n  " + "\n  ".join(differ[:8]) + "\nChoose another folder"
            )
        return there.experiment

    def append(self, step: int, learning_rate: float | None, measurements: Sequence[Measurement]) -> None:
        """Write one step's measurements in one transaction."""
        assert self._store is not None
        self._store.append(step, learning_rate, measurements)

    def note(self, sentence: str) -> None:
        """Keep a warning: ``landscape show`` prints it, and the report has it under failures."""
        if self._folder is not None and sentence not in self._folder.manifest["warnings"]:
            self._folder.manifest["warnings"].append(sentence)
            write_json(self.path / "manifest.json", self._folder.manifest)

    def close(self, steps: int | None, costs: dict[str, float]) -> None:
        """Close it; ``steps`` done in all, or None where training did not come to its end."""
        with contextlib.ExitStack() as stack:
            if self._folder is not None:
                stack.callback(self._folder.close)
            if self._store is not None:
                stack.callback(self._store.close)
            folder, store = self._folder, self._store
            self._folder = self._store = None
            if folder is None or store is None:
                return
            for name, value in costs.items():
                store.put_cost(name, self._earlier.get(name, 0.0) + value)
            if steps is not None:
                (study,) = folder.experiment.studies
                ended = dataclasses.replace(folder.experiment, studies=(dataclasses.replace(study, steps=steps),))
                write_whole(self.path / "experiment.json", (ended.to_json() + "\n").encode())
                store.finish()


def study_of(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    probes: Sequence[str],
    *,
    batch_size: int,
    full_batches: int,
    seed: int,
) -> Study:
    """What is known of a training that somebody else wrote, in the words of a run folder.

    The run's rate is the largest of the optimizer's at the beginning (0 without an optimizer); those of each
    step are kept with its measurements. ``steps`` is 0 until the training has ended.
    """
    groups = [] if optimizer is None else optimizer.param_groups
    rate = max((float(group.get("initial_lr", group["lr"])) for group in groups), default=0.0)
    plain = {} if optimizer is None else {k: v for k, v in optimizer.defaults.items() if _is_plain(v) and k != "lr"}
    return Study(
        name=NAME,
        model=Spec(type(model).__name__, {"parameters": sum(p.numel() for p in model.parameters())}),
        data=Spec("the loop's own"),
        arms=(Arm("own"),),
        learning_rates=(rate,),
        primary_rate=rate,
        seeds=(seed,),
        steps=0,
        batch_size=batch_size,
        optimizer=Spec("unknown" if optimizer is None else type(optimizer).__name__, plain),
        probes=tuple(ProbeSpec(probe) for probe in probes),
        full_batches=full_batches,
    )


def _is_plain(value: object) -> bool:
    """Whether an option says something and can be written down."""
    if isinstance(value, tuple):
        return all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float | str) and value is not False
