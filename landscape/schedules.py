"""When to measure: every so many steps, at given steps, ever more seldom, or within a share of training time."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from landscape.errors import UsageError


@runtime_checkable
class Schedule(Protocol):
    """Says at which steps to measure.

    One with memory also has ``state_dict()`` and ``load_state_dict(state)``, of plain Python values, and
    one that goes by time has ``spent(step, seconds)``, which it is told after each measurement.
    """

    def due(self, step: int) -> bool:
        """Whether to measure after ``step`` updates; asked once per step, in order."""
        ...


class _Every:
    """Every so many steps, step 0 included."""

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise UsageError(f"every={steps}: measure every 1, 2, 3... steps")
        self.steps = steps

    def due(self, step: int) -> bool:
        """Whether the step is a multiple."""
        return step % self.steps == 0


class _At:
    """At these steps and no others."""

    def __init__(self, steps: Iterable[int]) -> None:
        self.steps = frozenset(steps)

    def due(self, step: int) -> bool:
        """Whether the step is one of them."""
        return step in self.steps


class Logarithmic:
    """At step 0 and at round(10^(k/n)) for k = 0, 1, 2...: n a decade, as often at the start as ever after.

    Args:
        per_decade: n.

    >>> [step for step in range(200) if Logarithmic(4).due(step)]
    [0, 1, 2, 3, 6, 10, 18, 32, 56, 100, 178]
    """

    def __init__(self, per_decade: int = 10) -> None:
        if per_decade < 1:
            raise UsageError(f"Logarithmic({per_decade}): measure 1, 2, 3... times per decade")
        self.per_decade = per_decade

    def due(self, step: int) -> bool:
        """Whether the step is one of the sequence."""
        if step < 1:
            return step == 0
        nearest = round(self.per_decade * math.log10(step))
        return any(round(10 ** (k / self.per_decade)) == step for k in (nearest - 1, nearest, nearest + 1))


class Budget:
    """As often as a share of training time allows: time spent measuring <= share x time spent training.

    The first step is always measured; what that costs is earned before the next one. So the bound holds
    whenever a measurement begins, one more like the last included. Which steps it took depends on the
    machine: they are in ``steps`` and in the state, and ``every=budget.steps`` takes the same again.

    Args:
        share: e.g. 0.1 for at most 10 % on top of training.
        clock: seconds; another one for tests.

    Attributes:
        steps: the steps that were measured.
        training: seconds of training so far, measuring excluded.
        measuring: seconds of measuring so far.

    >>> budget = Budget(0.1)
    >>> budget.due(0)
    True
    >>> budget.spent(0, 60.0)  # ten minutes of training will pay for that
    >>> budget.due(1), budget.steps
    (False, [0])
    """

    def __init__(self, share: float = 0.1, *, clock: Callable[[], float] = time.perf_counter) -> None:
        if not 0.0 < share < math.inf:
            raise UsageError(f"Budget({share}): give the share of training time that measuring may add, e.g. 0.1")
        self.share, self._clock = share, clock
        self.steps: list[int] = []
        self.training = self.measuring = 0.0
        self._last = 0.0
        self._since: float | None = None

    def due(self, step: int) -> bool:
        """Whether another measurement like the last one is paid for."""
        now = self._clock()
        if self._since is not None:
            self.training += now - self._since
        self._since = now
        return not self.steps or self.measuring + self._last <= self.share * self.training

    def spent(self, step: int, seconds: float) -> None:
        """Note a measurement; its time is not time of training."""
        self.steps.append(step)
        self.measuring += seconds
        self._last = seconds
        self._since = self._clock()

    def state_dict(self) -> dict[str, Any]:
        """The steps taken and the times."""
        return {
            "steps": list(self.steps),
            "training": self.training,
            "measuring": self.measuring,
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on; the time since then does not count."""
        self.steps = list(state["steps"])
        self.training, self.measuring, self._last = state["training"], state["measuring"], state["last"]
        self._since = None


def schedule(every: int | Iterable[int] | Schedule) -> Schedule:
    """What ``every`` means: a number is every so many steps, a collection these steps, a schedule itself.

    Raises:
        UsageError: a number below 1, or what is no step.

    >>> [[step for step in range(10) if schedule(every).due(step)] for every in (4, {1, 5})]
    [[0, 4, 8], [1, 5]]
    """
    if isinstance(every, Schedule):
        return every
    if isinstance(every, int):
        return _Every(every)
    steps: list[Any] = list(every) if hasattr(every, "__iter__") else [every]  # the letters of a text are no steps
    if not all(hasattr(step, "__index__") for step in steps):
        raise UsageError(f"every={every!r}: give a number of steps, a collection of steps, or a schedule")
    return _At(map(operator.index, steps))
