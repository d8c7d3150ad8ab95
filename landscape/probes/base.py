"""What a probe is inside a training loop: it is handed a moment of training and returns measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from landscape.errors import UsageError

Batch = Any
LossFunction = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number (or one array) and all that says what it is.

    Attributes:
        probe: which probe measured it.
        quantity: the name of the measure, as in the probe's result.
        value: a number, or an array (histograms, eigenvectors).
        layer: the layer or site, where the measure has one.
        index: the position along a sweep, where the measure has one.
        variant: which of a probe's settings: direction and window, site...
        batch: what the loss was evaluated on: "same", "held-out" or "full".
        statistics: "batch" (what batch normalization trains on) or "running" (evaluation).
        dtype: the arithmetic of the model, e.g. "float32".
        version: the version of the measure's definition.
    """

    probe: str
    quantity: str
    value: float | npt.NDArray[np.float64]
    layer: str = ""
    index: int = 0
    variant: str = ""
    batch: str = "same"
    statistics: str = "batch"
    dtype: str = "float32"
    version: int = 1


@dataclass
class Moment:
    """The moment of training that a probe sees: everything it may read, nothing it may change.

    Attributes:
        model: the network, flags and hooks as training has them.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: the mini-batch of this step.
        step: updates done so far.
        optimizer: the optimizer about to step, or None.
        learning_rate: its rate, or None where parameter groups differ or no optimizer is known.
        batches: further named batches: "held-out" (one batch), "full" (a ``Batches``), "fixed" (probe batch).
        seed: the seed of the run, for named streams.
    """

    model: nn.Module
    loss_fn: LossFunction
    batch: Batch
    step: int
    optimizer: torch.optim.Optimizer | None = None
    learning_rate: float | None = None
    batches: Mapping[str, Batch] = field(default_factory=dict)
    seed: int = 0

    def named(self, name: str) -> Batch:
        """The batch called ``name``; "same" is the mini-batch of this step.

        Raises:
            UsageError: no batch of this name was given.
        """
        if name == "same":
            return self.batch
        if name not in self.batches:
            raise UsageError(
                f"there is no batch {name!r} to measure on: pass batches={{{name!r}: ...}} to the Observer"
            )
        return self.batches[name]


class Defined(Protocol):
    """What has a name, and a version of its definition."""

    name: str
    version: int


def measurements(
    probe: Defined, values: Mapping[str, float | npt.NDArray[np.float64] | Tensor], **what: str
) -> Iterator[Measurement]:
    """A row per quantity; a tensor gives one for each of its numbers, by index.

    Args:
        probe: whose name and version the rows carry.
        values: quantities; a numpy array is one value.
        what: layer, variant, batch, statistics, dtype: the same for all rows.

    >>> from types import SimpleNamespace
    >>> probe = SimpleNamespace(name="example", version=1)
    >>> [(m.quantity, m.value, m.index) for m in measurements(probe, {"a": 1.0, "b": torch.tensor([2.0, 3.0])})]
    [('a', 1.0, 0), ('b', 2.0, 0), ('b', 3.0, 1)]
    """
    for quantity, value in values.items():
        for index, entry in enumerate(value.flatten().tolist() if isinstance(value, Tensor) else [value]):
            yield Measurement(probe.name, quantity, entry, index=index, version=probe.version, **what)


@runtime_checkable
class Probe(Protocol):
    """A probe: a name, a version of its definition, and ``measure``.

    A probe with memory (the previous activations, say) also has ``state_dict()`` and
    ``load_state_dict(state)``, of tensors and plain Python values only.
    """

    name: str
    version: int

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """Measure at this moment; must leave no trace (the probes here work inside ``preserved``)."""
        ...
