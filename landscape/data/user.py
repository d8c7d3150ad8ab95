"""Data from the user's own code, named ``package:function`` or ``path/file.py:function``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.calling import target_of
from landscape.data.base import Dataset, Split, make_dataset
from landscape.errors import DataError
from landscape.objective import mapped

SPLITS = "(train, test), each of them (x, y), a dict of tensors, several inputs and a target, or a torch Dataset"


def as_dataset(name: str, result: Any) -> Dataset:
    """Check what a user's function returned and make it a ``Dataset``.

    A ``Dataset`` is checked and kept as it is, with a checksum of its tensors if it has none. Two splits
    ``(train, test)``, or a mapping with "train" and "test" (or "validation"), are converted. A split is any nest of
    tensors or numpy arrays with the samples along the first dimension: ``(x, y)``, ``(a, b, y)``, a dict; or a torch
    ``Dataset`` (anything with a length and numbered samples), whose samples are stacked. Floats become float32.

    The target is the last of a tuple, or a dict's entry "labels" ("label", "targets", "target", "y"). Whole numbers,
    one a sample, are class labels 0..C-1, C being one more than the largest of both splits; floats make a regression,
    in a tuple (N,) becoming (N, 1), whose chance loss is that of predicting the mean training target.

    Args:
        name: what the data set is called.
        result: what the function returned.

    Raises:
        DataError: it is neither, or the data can't be trained on.
    """
    if isinstance(result, Dataset):
        return _completed(name, result)
    train, test = (_split(name, where, part) for where, part in _pair(name, result))
    return make_dataset(name, train, test, classes=_classes(name, train, test))


def _completed(name: str, given: Dataset) -> Dataset:
    """The user's own ``Dataset``, if its fields agree with its tensors."""
    made = make_dataset(
        name, given.train, given.test, classes=given.classes, chance_loss=given.chance_loss, checksum=given.checksum
    )
    for field in ("input_shape", "output_size"):
        if getattr(given, field) != getattr(made, field):
            raise DataError(
                f"data {name!r}: {field} is {getattr(given, field)}, its tensors say {getattr(made, field)}; "
                "landscape.data.make_dataset fills it in"
            )
    return dataclasses.replace(given, checksum=made.checksum)


def _pair(name: str, result: Any) -> list[tuple[str, Any]]:
    """The two splits and their names."""
    if isinstance(result, tuple | list) and len(result) == 2:
        return [("train", result[0]), ("test", result[1])]
    test = next((key for key in ("test", "validation") if isinstance(result, Mapping) and key in result), "")
    if test and "train" in result:
        return [("train", result["train"]), ("test", result[test])]
    swapped = "; model and data seem to be exchanged" if isinstance(result, nn.Module) else ""
    raise DataError(
        f"data {name!r}: the function returned {_described(result)}; it must return a landscape.data.Dataset "
        f"or {SPLITS}{swapped}"
    )


def _split(name: str, where: str, part: Any) -> Split:
    """A split as tensors, floats in float32 and targets as a loss wants them."""
    at = f"data {name!r}, {where} split"
    nest = _typed(_nest(at, _columns(at, part)))
    target = target_of(nest)
    if target is None or not isinstance(nest, tuple):
        return nest
    if not target.is_floating_point():
        target = target.long()
    elif target.ndim == 1:
        target = target[:, None]
    named: Any = nest
    return named._replace(**{named._fields[-1]: target}) if hasattr(nest, "_fields") else (*nest[:-1], target)


def _columns(at: str, part: Any) -> Any:
    """A split as a nest of columns; the samples of a torch ``Dataset``, or of a list, are stacked."""
    if isinstance(part, torch.utils.data.TensorDataset):
        return part.tensors
    if isinstance(part, torch.utils.data.DataLoader):
        raise DataError(f"{at} is a DataLoader: give its dataset; runs draw their own batches, the same in every arm")
    if isinstance(part, list) and any(isinstance(entry, Tensor | np.ndarray) for entry in part):
        return tuple(part)
    if isinstance(part, Tensor | np.ndarray | Mapping | tuple) or dataclasses.is_dataclass(part):
        return part
    if not (hasattr(part, "__len__") and hasattr(part, "__getitem__")) or isinstance(part, str | bytes):
        raise DataError(f"{at}: expected (inputs, targets), got {_described(part)}; the data is {SPLITS}")
    if not len(part):
        raise DataError(f"{at}: inputs are empty, a {type(part).__name__} of length 0")
    return _stacked(at, [part[number] for number in range(len(part))])


def _stacked(at: str, samples: list[Any]) -> Any:
    """Samples of one form as columns."""
    first = samples[0]
    if isinstance(first, Mapping):
        if any(set(first) != set(sample) for sample in samples):
            raise DataError(f"{at}: its samples have different entries")
        return {key: _stacked(f"{at}, entry {key!r}", [sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple):
        parts = range(len(first))
        return tuple(_stacked(f"{at}, entry {number}", [sample[number] for sample in samples]) for number in parts)
    try:
        return torch.stack([torch.as_tensor(sample) for sample in samples])
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{at}: its samples, the first {_described(first)}, can't be stacked: {error}; pad sequences to one length "
            "and leave out what is no number"
        ) from error


def _nest(at: str, value: Any) -> Any:
    """The same nest with tensors for arrays; anything else is refused with its place."""
    if isinstance(value, Mapping):
        kind: Any = type(value)
        return kind({key: _nest(f"{at}, entry {key!r}", inner) for key, inner in value.items()})
    if isinstance(value, tuple):
        names = ("inputs", "targets") if len(value) == 2 and "entry" not in at else range(len(value))
        parts = [
            _nest(f"{at}: {what}" if isinstance(what, str) else f"{at}, entry {what}", inner)
            for what, inner in zip(names, value, strict=True)
        ]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(
            value, **{key: _nest(f"{at}, entry {key!r}", inner) for key, inner in fields.items()}
        )
    return _tensor(at, value)


def _typed(nest: Any) -> Any:
    return mapped(nest, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


def _classes(name: str, train: Split, test: Split) -> int | None:
    """One more than the largest label, where whole numbers, one a sample in a dict, are the target."""
    targets = [target for target in map(target_of, (train, test)) if target is not None]
    whole = [not target.is_floating_point() for target in targets]
    if len(set(whole)) > 1:
        raise DataError(f"data {name!r}: targets are whole numbers in one split and floats in the other")
    if not targets or not whole[0]:
        return None
    labels = isinstance(train, tuple) or all(y.ndim == 1 and y.numel() and int(y.min()) >= 0 for y in targets)
    return 1 + max((int(y.max()) for y in targets if y.numel()), default=0) if labels else None


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
