"""What every source returns: two splits of tensors with what a model, a loss and a report need to know."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from landscape.calling import target_of
from landscape.errors import DataError
from landscape.objective import batch_size, mapped, tensors_of

#: Any nest of tensors with the samples along their first dimension: (inputs, targets), or a dict, or several inputs.
Split = Any


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split on the CPU.

    Attributes:
        name: the source, e.g. "digits".
        train: (inputs, targets): inputs (N, *input_shape) and int64 labels (N, ...), or floats (N, ...) in a
            regression. Or any other nest of tensors whose first dimension is N: a dict, several inputs and a target.
        test: the same for the test split.
        classes: number of classes C, labels are 0..C-1; None in a regression, and where it is not known.
        input_shape: shape of one input, e.g. (3, 32, 32); None where there is not one input.
        output_size: outputs a model needs: C, or the number of values in one target; None where it is not known.
        chance_loss: the loss that no learning reaches: ln C (nats) for C classes; in a regression the mean
            over training samples of the squared L2 norm of the target minus a constant prediction, which each
            source states (zero for "gaussian-regression", the mean target for a user's function); None where there
            is no target to tell it from.
        checksum: SHA-256, in hexadecimal, of the data before scaling and before any ``limit``. Equal data
            gives an equal checksum, whatever file layout it came in.
        note: what a reader of results must know: a checksum that differs, pixels that were JPEGs; else "".
    """

    name: str
    train: Split
    test: Split
    classes: int | None
    input_shape: tuple[int, ...] | None
    output_size: int | None
    chance_loss: float | None
    checksum: str
    note: str = ""

    def first(self, count: int) -> Split:
        """The first training samples."""
        return mapped(self.train, lambda tensor: tensor[:count])


def make_dataset(
    name: str,
    train: Split,
    test: Split,
    *,
    classes: int | None,
    chance_loss: float | None = None,
    checksum: str = "",
    note: str = "",
) -> Dataset:
    """A validated ``Dataset``, with the fields that follow from the tensors filled in.

    Args:
        name: what it is called in reports.
        train: the training split: inputs and targets, or another nest of tensors.
        test: the test split.
        classes: number of classes; None for a regression.
        chance_loss: ln C, or the loss of predicting the mean training target, if None.
        checksum: SHA-256 of all tensors if empty.
        note: what a reader of results must know.

    Raises:
        DataError: the data can't be trained on (``validate``).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    >>> make_dataset("two-points", (x, y), (x, y), classes=2).input_shape
    (1,)
    """
    validate_splits(name, train, test, classes)
    target = target_of(train)
    values = target if target is not None and target.is_floating_point() else None
    if chance_loss is None and classes is not None:
        chance_loss = math.log(classes)
    elif chance_loss is None and values is not None:
        chance_loss = _mean_predictor_loss(values)
    return Dataset(
        name=name,
        train=train,
        test=test,
        classes=classes,
        input_shape=tuple(train[0].shape[1:]) if is_pair(train) else None,
        output_size=classes if values is None else values[0].numel(),
        chance_loss=chance_loss,
        checksum=checksum or sha256_of(_arrays((train, test))),
        note=note,
    )


def is_pair(split: Split) -> bool:
    """Whether a split is (inputs, targets)."""
    return isinstance(split, tuple) and len(split) == 2 and all(isinstance(part, Tensor) for part in split)


def validate_splits(name: str, train: Split, test: Split, classes: int | None) -> None:
    """Check that two splits can be trained and tested on.

    Raises:
        DataError: a split is empty, its lengths differ, inputs or targets are not finite or of an unusable
            type, labels lie outside 0..classes-1, or the splits' shapes differ. The message names the split.
    """
    named = {where: dict(_named(split)) for where, split in (("train", train), ("test", test))}
    for where, split in (("train", train), ("test", test)):
        at, target = f"data {name!r}, {where} split", target_of(split)
        if not named[where]:
            raise DataError(f"{at}: it holds no tensor")
        for what, tensor in named[where].items():
            if tensor.device.type != "cpu":
                raise DataError(f"{at}: {what} are on {tensor.device}; return CPU tensors, each run moves them itself")
            if tensor.ndim == 0 or tensor.numel() == 0:
                raise DataError(f"{at}: {what} are empty, shape {tuple(tensor.shape)}")
            if len(tensor) != batch_size(split):
                first = next(iter(named[where]))
                raise DataError(
                    f"{at}: {batch_size(split)} {first} but {len(tensor)} {what}; they must be of equal length"
                )
            if tensor is not target:
                _validate_inputs(at, what, tensor)
            elif classes is not None or isinstance(split, tuple):
                _validate_targets(at, tensor, classes)
    _validate_alike(name, named["train"], named["test"], shapes=is_pair(train))


def _named(nest: Split, at: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a split with what an error calls it."""
    if is_pair(nest) and not at:
        yield from zip(("inputs", "targets"), nest, strict=True)
    elif isinstance(nest, Mapping):
        for key, value in nest.items():
            yield from _named(value, f"{at}[{key!r}]")
    elif isinstance(nest, tuple):
        for number, value in enumerate(nest):
            yield from _named(value, f"{at}[{number}]")
    else:
        yield from ((f"entries {at}" if at else "inputs", tensor) for tensor in tensors_of(nest))


def _validate_alike(name: str, train: dict[str, Tensor], test: dict[str, Tensor], *, shapes: bool) -> None:
    if list(train) != list(test):
        raise DataError(
            f"data {name!r}: the splits differ: train holds {', '.join(train)}, test {', '.join(test)}; it must be "
            "(train, test), each of them alike: (x, y), or a dict, or several inputs and a target"
        )
    for what, a in train.items():
        b = test[what]
        # Sequences may be padded to another length in each split.
        if a.dtype != b.dtype or a.ndim != b.ndim or (shapes and a.shape[1:] != b.shape[1:]):
            raise DataError(
                f"data {name!r}: {what} differ between the splits: train {tuple(a.shape[1:])} {a.dtype}, "
                f"test {tuple(b.shape[1:])} {b.dtype}; it must be (train, test), each of them alike"
            )


def _validate_inputs(at: str, what: str, inputs: Tensor) -> None:
    if inputs.is_floating_point():
        if not _finite(inputs):
            raise DataError(f"{at}: {what} hold NaN or infinite values; clean or drop these samples")
    elif inputs.dtype not in (torch.int32, torch.int64, torch.bool):
        raise DataError(
            f"{at}: {what} are {inputs.dtype}; return floats (for pixels e.g. x / 255), or int64 for token indices"
        )


def _validate_targets(at: str, targets: Tensor, classes: int | None) -> None:
    if classes is None:
        if not targets.is_floating_point():
            raise DataError(f"{at}: targets are {targets.dtype}; a regression (classes=None) needs floats")
        if targets.ndim == 1:
            raise DataError(f"{at}: regression targets have shape (N,); reshape to (N, 1), as the model's output")
        if not _finite(targets):
            raise DataError(f"{at}: targets hold NaN or infinite values; clean or drop these samples")
        return
    if classes < 2:
        raise DataError(f"{at}: {classes} class(es); a classification needs at least 2 (classes=None: regression)")
    if targets.dtype != torch.int64:
        raise DataError(f"{at}: labels are {targets.dtype}; class labels must be int64")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{at}: labels run from {low} to {high}; with {classes} classes they must lie in 0..{classes - 1}"
        )


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite; the extremes carry any NaN, so no mask is allocated."""
    low, high = torch.aminmax(tensor)
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """Its values for a checksum; numpy has no bfloat16, whose bits are taken as integers."""
    plain = tensor.detach()
    return (plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy()


def _arrays(nest: Split) -> Iterator[npt.NDArray[Any]]:
    """The arrays of a nest for a checksum, each entry of a mapping after its name."""
    if isinstance(nest, Mapping):
        for key, value in nest.items():
            yield np.frombuffer(str(key).encode(), np.uint8)
            yield from _arrays(value)
    elif isinstance(nest, tuple):
        for value in nest:
            yield from _arrays(value)
    else:
        yield from map(_array, tensors_of(nest))


def _mean_predictor_loss(targets: Tensor) -> float:
    flat = targets.double().reshape(len(targets), -1)
    return float((flat - flat.mean(0)).square().sum(1).mean())


def sha256_of(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """SHA-256 over the type, shape and values of arrays, in their order.

    >>> a = np.zeros((2, 3), np.uint8)
    >>> sha256_of([a]) == sha256_of([a.copy()]) != sha256_of([a.T])
    True
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def mismatch(message: str, *, allow: bool) -> list[str]:
    """What to do about data that is not the published one: a note if that is allowed, else an error.

    Raises:
        DataError: ``allow`` is false.
    """
    if not allow:
        raise DataError(
            f"{message}. Get the published files again, or say allow_mismatch=True to use these as they are "
            "(recorded in the results)"
        )
    return [message]
