"""From raw pixels and labels to a ``Dataset``: the part that all image sources share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from landscape.data.base import Dataset, Split, make_dataset, mismatch, sha256_of
from landscape.errors import DataError, UsageError

Pixels = npt.NDArray[np.uint8]
Raw = tuple[Pixels, Pixels]  # pixels (N, C, H, W) and labels (N,)

_CHUNK = 4096  # images handled at once: temporary arrays of some 50 MB for CIFAR


def images_dataset(
    name: str,
    train: Raw,
    test: Raw,
    *,
    classes: int,
    limit: int | None = None,
    test_limit: int | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """Standardize images per channel and wrap them up.

    Each channel c becomes float32 (v - mean_c) / std_c, with mean and population standard deviation over all
    pixels of that channel in the whole training split, also under ``limit``: an image has the same values in
    a small run as in a large one. Both are computed from integer sums, so they are exact at any thread count.

    Args:
        name: of the data set.
        train: pixels (N, C, H, W) and labels (N,), uint8.
        test: the same for the test split.
        classes: number of classes.
        limit: keep the first so many training images; all if None.
        test_limit: keep the first so many test images; all if None.
        notes: joined to the data set's note.

    Raises:
        DataError: a split is empty, a channel is constant, or labels are out of range.
        UsageError: a limit is not a positive integer or exceeds the split.
    """
    for where, (pixels, labels) in (("train", train), ("test", test)):
        if not len(pixels) or len(pixels) != len(labels):
            raise DataError(f"data {name!r}, {where} split: {len(pixels)} images and {len(labels)} labels")
    tables = _standardizing_tables(name, train[0])
    return make_dataset(
        name,
        _tensors(train, tables, _checked(limit, "limit", len(train[0]))),
        _tensors(test, tables, _checked(test_limit, "test_limit", len(test[0]))),
        classes=classes,
        checksum=sha256_of([*train, *test]),
        note="; ".join(notes),
    )


def check_counts(name: str, split: str, labels: Pixels, expected: Sequence[int], *, allow: bool) -> list[str]:
    """Compare the number of images of each class with the published data set's.

    Args:
        name: of the data set.
        split: "train" or "test".
        labels: (N,) class labels.
        expected: images of each class.
        allow: note a difference instead of refusing it.

    Returns:
        Notes: empty, or one that says what differs.

    Raises:
        DataError: a label is out of range, or counts differ and ``allow`` is false.
    """
    counts = np.bincount(labels, minlength=len(expected)).tolist()
    if len(counts) > len(expected):
        raise DataError(f"data {name!r}, {split} split: label {int(labels.max())} lies outside 0..{len(expected) - 1}")
    if counts == list(expected):
        return []
    worst = next(c for c in range(len(expected)) if counts[c] != expected[c])
    return mismatch(
        f"the {split} split is not that of {name}: {len(labels)} images (published: {sum(expected)}), "
        f"{counts[worst]} of class {worst} (published: {expected[worst]})",
        allow=allow,
    )


def _checked(limit: int | None, what: str, available: int) -> int:
    if limit is None:
        return available
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= available:
        raise UsageError(f"{what}={limit!r} must be a whole number from 1 to {available}, the images in that split")
    return limit


def _standardizing_tables(name: str, pixels: Pixels) -> npt.NDArray[np.float32]:
    """The float32 value of each of the 256 levels, per channel: (C, 256)."""
    values = np.arange(256, dtype=np.int64)
    tables = []
    for channel in range(pixels.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(pixels), _CHUNK):
            counts += np.bincount(pixels[start : start + _CHUNK, channel].ravel(), minlength=256)
        number, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
        std = ((number * squares - total**2) / number**2) ** 0.5
        if std == 0:
            raise DataError(f"data {name!r}: all training pixels of channel {channel} are equal; nothing to learn from")
        tables.append((values - total / number) / std)
    return np.stack(tables).astype(np.float32)


def _tensors(raw: Raw, tables: npt.NDArray[np.float32], limit: int) -> Split:
    pixels, labels = raw[0][:limit], raw[1][:limit]
    scaled = np.empty(pixels.shape, dtype=np.float32)
    for start in range(0, limit, _CHUNK):
        for channel, table in enumerate(tables):
            scaled[start : start + _CHUNK, channel] = table[pixels[start : start + _CHUNK, channel]]
    return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))
