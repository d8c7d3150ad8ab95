"""Data sets: one file per source; each returns tensors on the CPU, a fixed split and a checksum."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape.data.base import Dataset, make_dataset
from landscape.data.cifar import cifar10, cifar100
from landscape.data.digits import digits
from landscape.data.gaussian import gaussian_regression
from landscape.data.gaussian_inputs import gaussian_inputs
from landscape.data.idx import fashion_mnist, mnist
from landscape.data.rows import digit_rows
from landscape.data.scales import two_features
from landscape.data.text import text
from landscape.data.user import as_dataset
from landscape.data.wideband import wideband
from landscape.data.words import bag_of_words
from landscape.errors import DataError, LandscapeError, UsageError, nearest
from landscape.imports import is_reference, load_object

__all__ = ["DATA", "Dataset", "load_data", "make_dataset"]

DATA: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "digit-rows": digit_rows,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "gaussian-regression": gaussian_regression,
    "gaussian-inputs": gaussian_inputs,
    "two-features": two_features,
    "wideband": wideband,
    "text": text,
    "bag-of-words": bag_of_words,
}


def load_data(
    name: str,
    *,
    data_dir: Path | None = None,
    seed: int = 0,
    allow_mismatch: bool = False,
    **options: Any,
) -> Dataset:
    """Load a data set by name. No global random state is touched.

    Args:
        name: a key of ``DATA``, or the user's own ``package:function`` or ``path/file.py:function``, which
            returns a ``Dataset`` or ``((x, y), (x_test, y_test))``.
        data_dir: folder searched first for data files.
        seed: of the run; used only by data drawn anew for each seed ("gaussian-regression", "gaussian-inputs",
            "two-features").
        allow_mismatch: take files that are not the published ones, and note it.
        options: keyword arguments of the source, e.g. ``limit``. ``data_dir``, ``seed`` and ``allow_mismatch`` are
            handed to a source (also the user's) that has parameters of these names.

    Raises:
        UsageError: there is no such data set, or it has no such option.
        DataError: files are missing, damaged or not the published ones; or the data can't be trained on.

    >>> load_data("digits", limit=100).train[0].shape
    torch.Size([100, 1, 8, 8])
    """
    given = {"data_dir": data_dir, "seed": seed, "allow_mismatch": allow_mismatch}
    if is_reference(name):
        function = load_object(name)
        if not callable(function):
            raise UsageError(f"data {name!r} is {type(function).__name__}, not a function that returns the data")
        return as_dataset(name, _call(name, function, given, options))
    if name not in DATA:
        raise UsageError(f"no data {name!r}; {nearest(name, list(DATA))}, or your own package:function")
    dataset: Dataset = _call(name, DATA[name], given, options)
    return dataset


def _call(name: str, function: Callable[..., Any], given: dict[str, Any], options: dict[str, Any]) -> Any:
    """Call a source with its options, and those of ``given`` that it has a parameter for."""
    signature = inspect.signature(function)
    arguments = {key: value for key, value in given.items() if key in signature.parameters} | options
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = [key for key in signature.parameters if key not in given]
        raise UsageError(f"data {name!r}: {error}; its options: {', '.join(known) or 'none'}") from error
    try:
        return function(**arguments)
    except LandscapeError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise DataError(f"data {name!r} raises {type(error).__name__}: {error}; --debug shows where") from error
