"""What every source returns: two splits of tensors with what a model, a loss and a report need to know."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from landscape.errors import DataError

Split = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split on the CPU.

    Attributes:
        name: the source, e.g. "digits".
        train: inputs (N, *input_shape) and targets: int64 labels (N, ...), or floats (N, ...) in a regression.
        test: the same for the test split.
        classes: number of classes C, labels are 0..C-1; None in a regression.
        input_shape: shape of one input, e.g. (3, 32, 32).
        output_size: outputs a model needs: C, or the number of values in one target.
        chance_loss: the loss that no learning reaches: ln C (nats) for C classes; in a regression the mean
            over training samples of the squared L2 norm of the target minus a constant prediction, which each
            source states (zero for "gaussian-regression", the mean target for a user's function).
        checksum: SHA-256, in hexadecimal, of the data before scaling and before any ``limit``. Equal data
            gives an equal checksum, whatever file layout it came in.
        note: what a reader of results must know: a checksum that differs, pixels that were JPEGs; else "".
    """

    name: str
    train: Split
    test: Split
    classes: int | None
    input_shape: tuple[int, ...]
    output_size: int
    chance_loss: float
    checksum: str
    note: str = ""

    def first(self, count: int) -> Split:
        """Inputs and targets of the first training samples."""
        return self.train[0][:count], self.train[1][:count]


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
        train: inputs and targets of the training split.
        test: inputs and targets of the test split.
        classes: number of classes; None for a regression.
        chance_loss: ln C, or the loss of predicting the mean training target, if None.
        checksum: SHA-256 of all four tensors if empty.
        note: what a reader of results must know.

    Raises:
        DataError: the data can't be trained on (``validate``).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    >>> make_dataset("two-points", (x, y), (x, y), classes=2).input_shape
    (1,)
    """
    inputs, targets = train
    validate_splits(name, train, test, classes)
    if chance_loss is None:
        chance_loss = math.log(classes) if classes is not None else _mean_predictor_loss(targets)
    return Dataset(
        name=name,
        train=train,
        test=test,
        classes=classes,
        input_shape=tuple(inputs.shape[1:]),
        output_size=classes if classes is not None else targets[0].numel(),
        chance_loss=chance_loss,
        checksum=checksum or sha256_of(_array(t) for t in (*train, *test)),
        note=note,
    )


def validate_splits(name: str, train: Split, test: Split, classes: int | None) -> None:
    """Check that two splits can be trained and tested on.

    Raises:
        DataError: a split is empty, its lengths differ, inputs or targets are not finite or of an unusable
            type, labels lie outside 0..classes-1, or the splits' shapes differ. The message names the split.
    """
    for where, (inputs, targets) in (("train", train), ("test", test)):
        at = f"data {name!r}, {where} split"
        for what, tensor in (("inputs", inputs), ("targets", targets)):
            if not isinstance(tensor, Tensor):
                raise DataError(f"{at}: {what} are {type(tensor).__name__}, not a tensor")
            if tensor.device.type != "cpu":
                raise DataError(f"{at}: {what} are on {tensor.device}; return CPU tensors, each run moves them itself")
            if tensor.ndim == 0 or tensor.numel() == 0:
                raise DataError(f"{at}: {what} are empty, shape {tuple(tensor.shape)}")
        if len(inputs) != len(targets):
            raise DataError(f"{at}: {len(inputs)} inputs but {len(targets)} targets; they must be of equal length")
        _validate_inputs(at, inputs)
        _validate_targets(at, targets, classes)
    for what, a, b in (("inputs", train[0], test[0]), ("targets", train[1], test[1])):
        if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
            raise DataError(
                f"data {name!r}: {what} differ between the splits: train {tuple(a.shape[1:])} {a.dtype}, "
                f"test {tuple(b.shape[1:])} {b.dtype}"
            )


def _validate_inputs(at: str, inputs: Tensor) -> None:
    if inputs.is_floating_point():
        if not _finite(inputs):
            raise DataError(f"{at}: inputs hold NaN or infinite values; clean or drop these samples")
    elif inputs.dtype not in (torch.int32, torch.int64):
        raise DataError(
            f"{at}: inputs are {inputs.dtype}; return floats (for pixels e.g. x / 255), or int64 for token indices"
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


def _mean_predictor_loss(targets: Tensor) -> float:
    flat = targets.double().flatten(1)
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
