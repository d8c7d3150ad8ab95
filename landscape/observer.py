"""Probes inside anybody's training loop: measured where training is, with nothing of it changed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from landscape.errors import UsageError
from landscape.objective import Batch, LossFunction, Objective
from landscape.preserve import preserved
from landscape.probes import Measurement, Moment, Probe, build_probe
from landscape.stepping import learning_rate
from landscape.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

B = TypeVar("B")


@dataclass(frozen=True)
class Scheduled:
    """A probe with its own schedule.

    Attributes:
        probe: the probe.
        every: measure every so many steps.
        at: measure at these steps instead, if given.
    """

    probe: Probe
    every: int = 10
    at: frozenset[int] | None = None

    def due(self, step: int) -> bool:
        """Whether to measure after ``step`` updates."""
        return step % self.every == 0 if self.at is None else step in self.at


class Observer(AbstractContextManager["Observer"]):
    """Measure the landscape while a model trains; the training is the same, bit for bit, with and without.

    ``step(batch)`` goes between ``loss.backward()`` and ``optimizer.step()``. ``watch(loader)`` needs the
    optimizer and measures by itself, just before each ``optimizer.step()``.

    Args:
        model: the model that is trained.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        probes: names of PROBES, probe objects, or ``Scheduled`` ones.
        every: measure every so many steps, for probes that bring no schedule.
        optimizer: gives the learning rate (default step sizes) and the step of covariate_shift.
        to: a folder, or an open ``RunStore``, to write measurements to as well.
        batches: further named batches that probes use: "held-out", "full", "fixed".
        seed: of the probes' own random directions.
        strict: raise when a probe fails; otherwise it is recorded, warned about once, and left out from then on.

    Raises:
        UsageError: an unknown probe, or ``every`` < 1.

    >>> net = nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> loss_fn = lambda model, x: model(x).square().mean()
    >>> with Observer(net, loss_fn, ["gradient_path"], every=1, optimizer=sgd) as obs:
    ...     for x in obs.watch(torch.ones(2, 4, 2)):
    ...         sgd.zero_grad(); loss_fn(net, x).backward(); sgd.step()
    >>> sorted(obs.frame().step.unique().tolist())
    [0, 1]
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        probes: Sequence[str | Probe | Scheduled],
        *,
        every: int = 10,
        optimizer: torch.optim.Optimizer | None = None,
        to: RunStore | Path | str | None = None,
        batches: Mapping[str, Batch] | None = None,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        if every < 1:
            raise UsageError(f"every={every}: measure every 1, 2, 3... steps")
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.probes = [self._scheduled(probe, every) for probe in probes]
        self.batches, self.seed, self.strict = batches or {}, seed, strict
        self.steps = 0
        self.failures: dict[str, str] = {}
        self._labels = _distinct([scheduled.probe.name for scheduled in self.probes])
        self._store = RunStore(Path(to)) if isinstance(to, str | Path) else to
        self._owns_store = isinstance(to, str | Path)
        self._rows: list[tuple[int, float | None, Measurement]] = []
        self._form = ""
        self._checked = False

    @staticmethod
    def _scheduled(probe: str | Probe | Scheduled, every: int) -> Scheduled:
        if isinstance(probe, Scheduled):
            return probe
        return Scheduled(build_probe(probe) if isinstance(probe, str) else probe, every)

    def step(self, batch: Batch, *, also: Iterable[Measurement] = ()) -> None:
        """Measure what is due at this step, then count it.

        Args:
            batch: the mini-batch of this step.
            also: further measurements to record with this step.
        """
        self._use("step")
        self._measure(batch, also)

    def watch(self, loader: Iterable[B]) -> Iterator[B]:
        """The batches of ``loader``, each measured just before the optimizer steps on it.

        Raises:
            UsageError: no optimizer was given, or ``step`` was called by hand as well.
        """
        if self.optimizer is None:
            raise UsageError("watch() measures just before the optimizer steps: pass optimizer= to the Observer")
        self._use("watch")
        current: list[B] = []

        def before_step(*_: Any) -> None:
            if current:
                self._measure(current.pop(), ())

        handle = self.optimizer.register_step_pre_hook(before_step)
        try:
            for batch in loader:
                current[:] = [batch]
                yield batch
        finally:
            handle.remove()

    def frame(self) -> pd.DataFrame:
        """All measurements so far, one row per number: step, learning_rate and the fields of ``Measurement``."""
        import dataclasses

        import pandas as pd

        names = [field.name for field in dataclasses.fields(Measurement)]
        rows = [
            {"step": step, "learning_rate": rate} | {name: getattr(row, name) for name in names}
            for step, rate, row in self._rows
            if not hasattr(row.value, "shape")
        ]
        columns = ["step", "learning_rate", *(name for name in names if name != "value"), "value"]
        return pd.DataFrame(rows, columns=columns)

    def state_dict(self) -> dict[str, Any]:
        """Steps done and what probes remember; goes into the user's own checkpoint."""
        probes = [p.probe.state_dict() if hasattr(p.probe, "state_dict") else None for p in self.probes]
        return {"steps": self.steps, "probes": probes, "failures": dict(self.failures)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; measurements made before are in the run folder, not in the state."""
        self.steps, self.failures = state["steps"], dict(state["failures"])
        for scheduled, kept in zip(self.probes, state["probes"], strict=True):
            if kept is not None:
                scheduled.probe.load_state_dict(kept)  # type: ignore[attr-defined]  # it had a state_dict

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owns_store and self._store is not None:
            if kind is None:
                self._store.finish()
            self._store.close()

    def _use(self, form: str) -> None:
        if self._form not in ("", form):
            raise UsageError("use either watch(loader) or step(batch), not both: each step would be measured twice")
        self._form = form

    def _measure(self, batch: Batch, also: Iterable[Measurement]) -> None:
        rows = list(also)
        due = {
            label: scheduled.probe
            for label, scheduled in zip(self._labels, self.probes, strict=True)
            if scheduled.due(self.steps) and label not in self.failures
        }
        rate = learning_rate(self.optimizer)
        if due:
            if not self._checked:
                self._check_repeatable(batch)
            moment = Moment(
                self.model, self.loss_fn, batch, self.steps, self.optimizer, rate, self.batches, seed=self.seed
            )
            for label, probe in due.items():
                rows.extend(self._run(label, probe, moment))
        if rows:
            if self._store is None or self._owns_store:
                self._rows.extend((self.steps, rate, row) for row in rows)
            if self._store is not None:
                self._store.append(self.steps, rate, rows)
        self.steps += 1

    def _run(self, label: str, probe: Probe, moment: Moment) -> list[Measurement]:
        if self.strict:
            return list(probe.measure(moment))
        try:
            return list(probe.measure(moment))
        except Exception as error:  # whatever a user's model throws must not stop the user's training
            self.failures[label] = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"probe {label!r} failed at step {moment.step} and is left out from now on: "
                f"{self.failures[label]}. Training goes on; strict=True raises instead",
                stacklevel=4,
            )
            return []

    def _check_repeatable(self, batch: Batch) -> None:
        """Evaluate twice: what differs is state that no snapshot could put back, and the user must know."""
        self._checked = True
        with preserved(self.model) as snapshot, torch.no_grad():
            try:
                objective = Objective(self.model, self.loss_fn, snapshot)
                first, second = objective.value(batch), objective.value(batch)
            except Exception:  # the probe itself will meet the same error, and report it
                if self.strict:
                    raise
                return
        if not torch.equal(first, second) and bool(torch.isfinite(first) & torch.isfinite(second)):
            warnings.warn(
                f"{type(self.model).__name__} gave two losses ({float(first):.9g}, {float(second):.9g}) at the same "
                "weights, batch, buffers and random state: its forward keeps Python state that probes can't put "
                "back, or its device is not deterministic. Differences of this size in a measure mean nothing",
                stacklevel=5,
            )


def _distinct(names: Sequence[str]) -> list[str]:
    """Probes by name, the second of a name as "name#2": one that fails leaves the others measuring."""
    return [
        name if names[:k].count(name) == 0 else f"{name}#{names[:k].count(name) + 1}" for k, name in enumerate(names)
    ]
