"""The loss that is probed: one scalar function of w, the same at every evaluation of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.parameters import Blocks, Parameters, Selection, dense, differentiate
from landscape.preserve import Snapshot, set_statistics, unwrapped
from landscape.referred import referred

Batch = Any
LossFunction = Callable[[nn.Module, Batch], Tensor]
STATISTICS = ("batch", "running")
_AS_IT_IS = nullcontext()
T = TypeVar("T")


def wants_graph(error: RuntimeError) -> bool:
    """Whether torch said that there is no graph to differentiate."""
    return "does not require grad and does not have a grad_fn" in str(error)


class Batches(Sequence[Batch]):
    """Several mini-batches whose mean loss is the function probed: L_m(w), each batch by itself.

    For a network with batch statistics the mean over batches of the training size m is the full
    loss; one pass with the statistics of all data would be another function.

    Args:
        batches: the mini-batches.
        weights: weight of each; its number of examples if None.

    Raises:
        UsageError: there is none; one is empty; weights are missing, or no weights.

    >>> len(Batches([torch.zeros(4, 2), torch.zeros(2, 2)]))
    2
    """

    def __init__(self, batches: Sequence[Batch], weights: Sequence[float] | None = None) -> None:
        if not batches:
            raise UsageError("Batches needs at least one batch")
        self.batches = list(batches)
        sizes = [float(batch_size(batch)) for batch in self.batches] if weights is None else list(weights)
        for number, batch in enumerate(self.batches):
            lengths = list(_lengths(batch))
            if weights is None and not lengths and len(self.batches) > 1:
                raise UsageError(
                    f"how many examples batch {number} has can't be seen in a {type(batch).__name__}, and batches are "
                    "weighted by it: pass Batches([...], weights=[...])"
                )
            if lengths and not any(lengths):
                raise UsageError(
                    f"batch {number} of {len(self.batches)} is empty, and its loss no number: leave it out"
                )
        if len(sizes) != len(self.batches) or min(sizes) < 0 or sum(sizes) <= 0:
            raise UsageError(f"weights must be {len(self.batches)} non-negative numbers, not all zero: got {weights}")
        self.weights = [size / sum(sizes) for size in sizes]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: Any) -> Any:
        return self.batches[index]


def as_batches(batches: Batch) -> Batches:
    """``Batches`` as they are, a list as several mini-batches, anything else as one.

    Raises:
        UsageError: a list of tensors, which could be several mini-batches or one ``[x, label]``.

    >>> [len(as_batches(b)) for b in [(torch.zeros(4, 2), torch.zeros(4)), [(torch.zeros(4, 2), torch.zeros(4))] * 3]]
    [1, 3]
    """
    if isinstance(batches, Batches):
        return batches
    if not isinstance(batches, list):
        return Batches([batches], [1.0])
    if any(isinstance(part, Tensor) for part in batches):
        raise UsageError(
            "a list of tensors could be several mini-batches or one [x, label]: pass Batches([...]) for several, "
            "a tuple (x, label) for one"
        )
    return Batches(batches)


def tensors_of(batch: Batch) -> Iterator[Tensor]:
    """Every tensor of a nest of dicts, lists, tuples and dataclasses, in order."""
    return (leaf for leaf in _leaves(batch) if isinstance(leaf, Tensor))


def _leaves(batch: Batch) -> Iterator[Any]:
    """What a nest holds, in order."""
    if isinstance(batch, Mapping):
        for value in batch.values():
            yield from _leaves(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from _leaves(value)
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for field in dataclasses.fields(batch):
            yield from _leaves(getattr(batch, field.name))
    else:
        yield batch


def mapped(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The same nest with every tensor changed; whatever is not a tensor stays.

    >>> mapped({"x": torch.ones(2), "name": "a"}, torch.neg)
    {'x': tensor([-1., -1.]), 'name': 'a'}
    """
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Batches):
        return Batches([mapped(part, change) for part in batch.batches], batch.weights)
    if isinstance(batch, Mapping):
        kind: Any = type(batch)
        return kind({key: mapped(value, change) for key, value in batch.items()})
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(value, change) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(value, change) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {field.name: mapped(getattr(batch, field.name), change) for field in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **fields)
    return batch


def batch_size(batch: Batch) -> int:
    """Examples in a batch: the leading dimension of its first tensor or array that has one (1 where there is none).

    >>> batch_size({"temperature": torch.tensor(0.5), "x": torch.zeros(8, 2)})
    8
    """
    return next(_lengths(batch), 1)


def _lengths(batch: Batch) -> Iterator[int]:
    """Leading dimensions of its tensors and arrays."""
    shapes: Iterator[Sequence[int]] = (getattr(leaf, "shape", ()) for leaf in _leaves(batch))
    return (int(shape[0]) for shape in shapes if len(shape))


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """The default loss: mean cross-entropy of ``model(x)`` for a batch ``(x, label)``."""
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels)


def model_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss that a model of transformers returns for a batch with labels: ``model(**batch).loss``."""
    loss: Tensor = model(**batch).loss
    return loss


def refuse_criterion(loss_fn: object) -> None:
    """Refuse torch's losses of outputs and targets, where one of a model and a batch is asked for.

    Raises:
        UsageError: it is one; says what to give.
    """
    if getattr(loss_fn, "__module__", "") in ("torch.nn.modules.loss", "torch.nn.functional"):
        name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
        raise UsageError(
            f"{name} is a loss of outputs and targets; give one of the model and a batch, such as "
            "lambda model, batch: criterion(model(batch[0]), batch[1])"
        )


class Objective:
    """L(w) = loss_fn(model, batch), with the same buffers and the same draws at every evaluation.

    Args:
        model: the model; the eager one inside, if it was compiled.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        snapshot: of the enclosing ``preserved(model)``.
        select: which parameters w is made of.
        statistics: "batch" or "running".
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        snapshot: Snapshot,
        *,
        select: Selection = None,
        statistics: str = "batch",
    ) -> None:
        if statistics not in STATISTICS:
            raise UsageError(f"statistics={statistics!r} is not known: use 'batch' (trained loss) or 'running'")
        refuse_criterion(loss_fn)
        self.model = unwrapped(model)
        self.loss_fn = loss_fn
        self.snapshot = snapshot
        self.parameters = Parameters(self.model, select)
        snapshot.include(*referred(loss_fn))
        set_statistics(self.model, statistics)
        snapshot.keep_flags()
        self._differentiates = False

    def loss(self, batch: Batch) -> Tensor:
        """L at the present weights, with its graph; one mini-batch."""
        self.snapshot.rewind()
        return self.evaluate(batch)

    def value_and_gradient(
        self, batch: Batch, forward: AbstractContextManager[object] = _AS_IT_IS
    ) -> tuple[Tensor, Blocks]:
        """L and grad L at the present weights; ``Batches`` are averaged one after the other.

        A single mini-batch's forward pass runs inside ``forward``.
        """
        self.snapshot.rewind()
        if not isinstance(batch, Batches):
            loss = self.evaluate(batch, forward=forward)
            return loss.detach(), self.parameters.gradient(loss)
        total: Tensor | None = None
        mean: Blocks = []
        for part, weight in zip(batch.batches, batch.weights, strict=True):
            loss = self.evaluate(part) * weight
            gradient = self.parameters.gradient(loss)
            total = loss.detach() if total is None else total + loss.detach()
            mean = [a.add_(b) for a, b in zip(mean, gradient, strict=True)] if mean else [g.clone() for g in gradient]
            del gradient  # else two live through the next pass
        assert total is not None
        return total, mean

    def gradient_of(self, batch: Batch, tensors: Sequence[Tensor]) -> Blocks:
        """The gradient with respect to a few parameters only: the backward pass stops there."""
        self.snapshot.rewind()
        parts = batch if isinstance(batch, Batches) else Batches([batch], [1.0])
        mean: Blocks = [torch.zeros_like(t) for t in tensors]
        for part, weight in zip(parts.batches, parts.weights, strict=True):
            raw = differentiate(self.evaluate(part), tensors)
            mean = [m if g is None else m.add(dense(g), alpha=weight) for m, g in zip(mean, raw, strict=True)]
        return mean

    def value(self, batch: Batch, forward: AbstractContextManager[object] = _AS_IT_IS) -> Tensor:
        """L alone, without a graph; forward passes run inside ``forward``."""
        parts = batch if isinstance(batch, Batches) else Batches([batch], [1.0])

        def values() -> list[Tensor]:
            self.snapshot.rewind()
            each = zip(parts.batches, parts.weights, strict=True)
            return [self.evaluate(part, graph=False, forward=forward).detach() * weight for part, weight in each]

        found = self.without_graph(values)
        return torch.stack(found).sum() if len(found) > 1 else found[0]

    def without_graph(self, run: Callable[[], T]) -> T:
        """``run()`` under no_grad, or again with graphs where the loss takes derivatives itself (of its input, say)."""
        if not self._differentiates:
            try:
                with torch.no_grad():
                    return run()
            except RuntimeError as error:
                if not wants_graph(error):
                    raise
            self._differentiates = True
        with torch.enable_grad():
            return run()

    def evaluate(
        self, batch: Batch, *, graph: bool = True, forward: AbstractContextManager[object] = _AS_IT_IS
    ) -> Tensor:
        """The loss of one mini-batch as it stands: no rewinding, so that consecutive batches draw on.

        Without ``graph`` call it inside ``without_graph``.
        """
        if isinstance(batch, Iterator):
            raise UsageError(
                f"a batch is a {type(batch).__name__}, which can be gone through once: pass list(...) of it"
            )
        with torch.enable_grad() if graph else nullcontext(), forward:
            try:
                loss = self.loss_fn(self.model, batch)
            except Exception as error:
                self._explain(error, batch)
                raise
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(f"loss_fn must return a scalar tensor, the mean over the batch; it returned {what}")
        if graph and not loss.requires_grad:
            raise ProbeError(
                "the loss does not depend on any trainable parameter: loss_fn returned a tensor without a graph "
                "(was it detached, or computed under no_grad?)"
            )
        return loss.reshape(())

    def _explain(self, error: Exception, batch: Batch) -> None:
        """Say more of an error inside loss_fn, where more is known.

        Raises:
            UsageError: the batch is a DataLoader.
            ProbeError: parts of the model are on the meta device.
        """
        if isinstance(batch, torch.utils.data.DataLoader):
            raise UsageError(
                f"loss_fn takes no DataLoader ({type(error).__name__}: {error}): pass a batch of it, or "
                "Batches(list(loader)) for the mean over all"
            ) from error
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]
        absent = [name for name, tensor in tensors if tensor.is_meta]
        if absent and "meta" in str(error):
            raise ProbeError(
                f"{absent[0]} of {type(self.model).__name__} is on the meta device, where it has no values "
                f"({len(absent)} such tensors; {type(error).__name__}: {error}): load it first"
            ) from error
