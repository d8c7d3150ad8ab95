"""Probes inside anybody's training loop: measured where training is, with nothing of it changed."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from landscape.errors import StoreError, UsageError, warn
from landscape.objective import Batch, Batches, LossFunction, Objective, batch_size
from landscape.parameters import Parameters, Selection, only
from landscape.precision import cast, in_dtype
from landscape.preserve import preserved, unwrapped
from landscape.probes import Measurement, Moment, Probe, build_probe
from landscape.recording import RunFolder, Sink, study_of
from landscape.schedules import Schedule, schedule
from landscape.stepping import learning_rate, stepping_optimizer
from landscape.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

B = TypeVar("B")


@dataclass(frozen=True)
class Scheduled:
    """A probe with its own schedule.

    Attributes:
        probe: the probe, or its name.
        every: measure every so many steps; or at these steps; or a ``Schedule``.
    """

    probe: Probe | str
    every: int | Iterable[int] | Schedule = 10


class Observer(AbstractContextManager["Observer"]):
    """Measure the landscape while a model trains; the training is the same, bit for bit, with and without.

    ``step(batch)`` goes between ``loss.backward()`` and ``optimizer.step()``. ``watch(loader)`` needs the
    optimizer and measures by itself, just before each ``optimizer.step()``, on the latest batch.

    Args:
        model: the model that is trained.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        probes: names of PROBES, probe objects, or ``Scheduled`` ones; or one name.
        every: when to measure with probes that bring no schedule: every so many steps; at these steps (a
            collection); or a schedule: ``Logarithmic()``, ``Budget(0.1)`` (at most 10 % of training time).
        optimizer: gives the learning rate (default step sizes) and the step of covariate_shift.
        to: where measurements go as well: a folder (a run folder, for ``landscape show``, ``report``, ``export``),
            any ``Sink``, or several of them.
        batches: further named batches that probes use: "held-out", "full", "fixed".
        parameters: restrict w to a name pattern or predicate (one block, LoRA).
        dtype: measure on a copy of the model in this arithmetic (float32 for bfloat16 weights, say).
        seed: of the probes' own random directions.
        strict: raise when a probe or a sink fails; otherwise it is recorded, warned about once, and left out from
            then on.

    Raises:
        UsageError: an unknown probe, ``every`` < 1, or ``parameters`` that match nothing.
        ProbeError: no trainable parameters, or a model that can't be probed in one process on one device.

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
        every: int | Iterable[int] | Schedule = 10,
        optimizer: torch.optim.Optimizer | None = None,
        to: Sink | Path | str | list[Sink | Path | str] | None = None,
        batches: Mapping[str, Batch] | None = None,
        parameters: Selection = None,
        dtype: torch.dtype | None = None,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self._device = Parameters(model, parameters).device
        learning_rate(optimizer)
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.batches, self.parameters, self.dtype = batches or {}, parameters, dtype
        self.seed, self.strict = seed, strict
        common = schedule(every)
        self.probes: dict[str, Probe] = {}
        self._schedules: list[tuple[Schedule, list[str]]] = []
        for probe in [probes] if isinstance(probes, str) else probes:
            self._add(probe, common)
        self.steps = 0
        self.failures: dict[str, str] = {}
        self._sinks = _sinks(to)
        self._rows: list[tuple[int, float | None, Measurement]] = []
        self._form, self._checked = "", False
        self._seconds: dict[str, float] = {}

    def _add(self, given: str | Probe | Scheduled, common: Schedule) -> None:
        """A probe under its label, the second of a name as "name#2": one that fails leaves the others measuring."""
        when = schedule(given.every) if isinstance(given, Scheduled) else common
        probe = given.probe if isinstance(given, Scheduled) else given
        probe = build_probe(probe) if isinstance(probe, str) else probe
        count = sum(other.name == probe.name for other in self.probes.values())
        label = f"{probe.name}#{count + 1}" if count else probe.name
        self.probes[label] = probe
        for known, labels in self._schedules:
            if known is when:
                labels.append(label)
                return
        self._schedules.append((when, [label]))

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
        inner = stepping_optimizer(self.optimizer)
        if not hasattr(inner, "_optimizer_step_pre_hooks"):
            raise UsageError(
                f"{type(inner).__name__} calls no hooks before its step: call observer.step(batch) in the loop, after "
                "backward() and before the optimizer's step"
            )
        self._use("watch")
        current: list[B] = []

        def before_step(*_: Any) -> None:
            if current:
                self._measure(current.pop(), ())

        handle = inner.register_step_pre_hook(before_step)
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
        """Steps done, what probes remember and what schedules took; goes into the user's own checkpoint."""
        return {
            "steps": self.steps,
            "probes": [_state_of(probe) for probe in self.probes.values()],
            "schedules": [_state_of(when) for when, _ in self._schedules],
            "failures": dict(self.failures),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; measurements made before are in the run folder, not in the state."""
        self.steps, self.failures = state["steps"], dict(state["failures"])
        kept: Any = zip(
            [*self.probes.values(), *(when for when, _ in self._schedules)],
            [*state["probes"], *state["schedules"]],
            strict=True,
        )
        for one, memory in kept:
            if memory is not None:
                one.load_state_dict(memory)

    def close(self, *, finished: bool = True) -> None:
        """Close the run folders that ``to`` named; a ``with`` block does it by itself.

        Args:
            finished: whether training came to its end; otherwise the run stays "interrupted".
        """
        if "began" in self._seconds:
            self._seconds["seconds"] = time.perf_counter() - self._seconds.pop("began")
            self._seconds["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for sink in self._sinks:
            if isinstance(sink, RunFolder):
                sink.close(self.steps if finished else None, self._seconds)
        self._seconds = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finished=kind is None)

    def _use(self, form: str) -> None:
        if self._form not in ("", form):
            raise UsageError("use either watch(loader) or step(batch), not both: each step would be measured twice")
        self._form = form

    def _begin(self, batch: Batch) -> None:
        """Before the first step of this process: run folders are opened."""
        self._seconds = {"began": time.perf_counter(), "probe_seconds": 0.0}
        folders = [sink for sink in self._sinks if isinstance(sink, RunFolder)]
        if not folders:
            return
        full = self.batches.get("full")
        study = study_of(
            self.model,
            self.optimizer,
            list(self.probes),
            batch_size=batch_size(batch),
            full_batches=len(full) if isinstance(full, Batches) else 0,
            seed=self.seed,
        )
        for folder in folders:
            folder.begin(study, self.steps, self._device)

    def _measure(self, batch: Batch, also: Iterable[Measurement]) -> None:
        if not self._seconds:
            self._begin(batch)
        rows = list(also)
        rate = learning_rate(self.optimizer)
        for when, labels in self._schedules:
            wanted = when.due(self.steps)
            left = [label for label in labels if label not in self.failures]
            if wanted and left:
                start = time.perf_counter()
                rows += self._measured(left, batch, rate)
                seconds = time.perf_counter() - start
                self._seconds["probe_seconds"] += seconds
                if hasattr(when, "spent"):
                    when.spent(self.steps, seconds)
        if rows:
            self._record(rate, rows)
        self.steps += 1

    def _measured(self, labels: list[str], batch: Batch, rate: float | None) -> list[Measurement]:
        """What these probes measure now."""
        rows: list[Measurement] = []
        try:
            with self._moment(batch, rate) as moment:
                if not self._checked:
                    self._check_repeatable(moment)
                for label in labels:
                    rows += self._run(label, moment)
        except Exception as error:  # of the copy in another arithmetic
            if self.strict:
                raise
            for label in labels:
                if label not in self.failures:
                    self._failed(label, f"probe {label!r}", error)
        return rows

    @contextmanager
    def _moment(self, batch: Batch, rate: float | None) -> Iterator[Moment]:
        """What probes see: the model itself or its copy in another arithmetic, the chosen parameters trainable."""
        model, optimizer, batches = self.model, self.optimizer, self.batches
        if self.dtype is not None:
            model, optimizer = in_dtype(unwrapped(model), optimizer, self.dtype)
            batch = cast(batch, self.dtype)
            batches = {name: cast(one, self.dtype) for name, one in batches.items()}
        with only(model, self.parameters):
            yield Moment(model, self.loss_fn, batch, self.steps, optimizer, rate, batches, seed=self.seed)

    def _run(self, label: str, moment: Moment) -> list[Measurement]:
        if self.strict:
            return list(self.probes[label].measure(moment))
        try:
            return list(self.probes[label].measure(moment))
        except Exception as error:  # whatever a user's model throws must not stop the user's training
            self._failed(label, f"probe {label!r}", error)
            return []

    def _record(self, rate: float | None, rows: list[Measurement]) -> None:
        if not any(isinstance(sink, RunStore) for sink in self._sinks):  # else they are read from there
            self._rows.extend((self.steps, rate, row) for row in rows)
        for sink in list(self._sinks):
            try:
                sink.append(self.steps, rate, rows)
            except Exception as error:  # a full disk or a tracker that is down: the same
                if self.strict:
                    raise
                self._sinks.remove(sink)
                self._failed(type(sink).__name__, f"writing to {type(sink).__name__}", error)
                if isinstance(sink, RunFolder):
                    with suppress(StoreError):
                        sink.close(None, {})

    def _failed(self, label: str, what: str, error: Exception) -> None:
        """Recorded, told once, left out from then on."""
        self.failures[label] = f"{type(error).__name__}: {error}"
        said = f"{what} failed at step {self.steps} and is left out from now on: {self.failures[label]}"
        for sink in self._sinks:
            if isinstance(sink, RunFolder):
                with suppress(StoreError):  # the next append meets the same, and says so
                    sink.note(said)
        warn(f"{said}. Training goes on; strict=True raises instead")

    def _check_repeatable(self, moment: Moment) -> None:
        """Evaluate twice: what differs is state that no snapshot could put back, and the user must know."""
        self._checked = True
        try:
            with preserved(moment.model) as snapshot:
                objective = Objective(moment.model, self.loss_fn, snapshot)
                first, second = objective.value(moment.batch), objective.value(moment.batch)
        except Exception:  # the probe itself will meet the same error, and report it
            if self.strict:
                raise
            return
        if not torch.equal(first, second) and bool(torch.isfinite(first) & torch.isfinite(second)):
            warn(
                f"{type(self.model).__name__} gave two losses ({float(first):.9g}, {float(second):.9g}) at the same "
                "weights, batch, buffers and random state: its forward keeps Python state that probes can't put "
                "back, or its device is not deterministic. Differences of this size in a measure mean nothing"
            )


def _sinks(to: Sink | Path | str | list[Sink | Path | str] | None) -> list[Sink]:
    """The sinks that ``to`` means; a path is a run folder."""
    if to is None:
        return []
    several = list(to) if isinstance(to, list | tuple) else [to]  # a list has an append too
    for one in several:
        if not isinstance(one, str | Path | Sink):
            raise UsageError(f"to={one!r}: give a folder, or an object with append(step, learning_rate, measurements)")
    return [RunFolder(one) if isinstance(one, str | Path) else one for one in several]


def _state_of(one: object) -> Any:
    return one.state_dict() if hasattr(one, "state_dict") else None
