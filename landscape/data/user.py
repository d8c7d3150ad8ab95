"""Data from the user's own code, named ``package:function`` or ``path/file.py:function``."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.data.base import Dataset, Split, make_dataset
from landscape.errors import DataError


def as_dataset(name: str, result: Any) -> Dataset:
    """Check what a user's function returned and make it a ``Dataset``.

    A ``Dataset`` is checked and kept as it is, with a checksum of its tensors if it has none. A pair of splits
    ``((x, y), (x_test, y_test))`` of tensors or numpy arrays is converted: floating inputs to float32; whole-numbered
    targets are class labels 0..C-1, C being one more than the largest of both splits; floating targets make a
    regression, (N,) becoming (N, 1), whose chance loss is that of predicting the mean training target.

    Args:
        name: what the data set is called.
        result: what the function returned.

    Raises:
        DataError: it is neither, or the data can't be trained on.
    """
    if isinstance(result, Dataset):
        return _completed(name, result)
    splits = [_split(name, where, part) for where, part in zip(("train", "test"), _pair(name, result), strict=True)]
    train, test = splits
    whole = [not split[1].is_floating_point() for split in splits]
    if whole[0] != whole[1]:
        raise DataError(f"data {name!r}: targets are whole numbers in one split and floats in the other")
    classes = None
    if whole[0]:
        classes = 1 + max((int(y.max()) for _, y in splits if y.numel()), default=0)
    return make_dataset(name, train, test, classes=classes)


def _completed(name: str, given: Dataset) -> Dataset:
    """The user's own ``Dataset``, if its fields agree with its tensors."""
    for where, split in (("train", given.train), ("test", given.test)):
        if not isinstance(split, tuple) or len(split) != 2:
            raise DataError(f"data {name!r}, {where} split: expected (inputs, targets), got {_described(split)}")
    made = make_dataset(name, given.train, given.test, classes=given.classes, checksum=given.checksum)
    for field in ("input_shape", "output_size"):
        if getattr(given, field) != getattr(made, field):
            raise DataError(
                f"data {name!r}: {field} is {getattr(given, field)}, its tensors say {getattr(made, field)}; "
                "landscape.data.make_dataset fills it in"
            )
    return dataclasses.replace(given, checksum=made.checksum)


def _pair(name: str, result: Any) -> tuple[Any, Any]:
    if isinstance(result, tuple | list) and len(result) == 2:
        return result[0], result[1]
    raise DataError(
        f"data {name!r}: the function returned {_described(result)}; it must return a landscape.data.Dataset "
        "or ((x, y), (x_test, y_test))"
    )


def _split(name: str, where: str, part: Any) -> Split:
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise DataError(f"data {name!r}, {where} split: expected (inputs, targets), got {_described(part)}")
    inputs, targets = (
        _tensor(f"data {name!r}, {where} split: {w}", v) for w, v in zip(("inputs", "targets"), part, strict=True)
    )
    if inputs.is_floating_point():
        inputs = inputs.float()
    if not targets.is_floating_point():
        targets = targets.long()
    else:
        targets = targets.float()
        targets = targets[:, None] if targets.ndim == 1 else targets
    return inputs, targets


def _tensor(what: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, np.ndarray):
        raise DataError(f"{what} are {_described(value)}, neither a tensor nor a numpy array")
    try:
        return torch.from_numpy(np.array(value))  # a copy: the user's array may be read-only or change later
    except TypeError as error:
        raise DataError(f"{what} are a numpy array of {value.dtype}, which torch has no type for") from error


def _described(value: Any) -> str:
    length = f" of length {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{length}"
