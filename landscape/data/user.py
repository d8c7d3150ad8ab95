"""Data from the user's own code, named ``package:function`` or ``path/file.py:function``."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.data.base import Dataset, Split, make_dataset, sha256_of
from landscape.errors import DataError, UsageError, nearest


def user_function(name: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` or ``path/file.py:function`` names.

    A package is imported as any other; a file is run as a module of its own, once per process.

    Raises:
        UsageError: there is no such module, file or function, or the module can't be imported.
    """
    module_name, _, function_name = name.rpartition(":")
    if not module_name or not function_name:
        raise UsageError(f"{name!r} is not of the form package:function or file.py:function")
    module = _from_file(Path(module_name)) if module_name.endswith(".py") else _from_package(module_name)
    found = getattr(module, function_name, None)
    if not callable(found):
        known = [n for n, value in vars(module).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise UsageError(f"{module_name} has no function {function_name!r}; {nearest(function_name, known)}")
    function: Callable[..., Any] = found
    return function


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


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"there is no file {path} (in {Path.cwd()})")
    module_name = f"_landscape_user_{sha256_of([np.frombuffer(str(path.resolve()).encode(), np.uint8)])[:16]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, ImportError | SyntaxError):
            raise UsageError(f"can't import {path}: {error}") from error
        raise
    return module


def _from_package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise UsageError(
            f"can't import {name!r}: {error}. Install it, run from the folder it lies in, "
            "or name a file: file.py:function"
        ) from error


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
