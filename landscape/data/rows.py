"""Images read row by row: sequences for recurrent networks and transformers."""

from __future__ import annotations

import dataclasses

from landscape.data.base import Dataset
from landscape.data.digits import digits


def digit_rows(*, limit: int | None = None, test_limit: int | None = None) -> Dataset:
    """scikit-learn's digits as sequences of 8 steps, the rows from top to bottom, of 8 pixels: inputs (8, 8).

    Values, split, labels and checksum are those of ``digits``.

    Args:
        limit: keep the first so many training images; all if None.
        test_limit: keep the first so many test images; all if None.

    >>> digit_rows(limit=100).train[0].shape
    torch.Size([100, 8, 8])
    """
    images = digits(limit=limit, test_limit=test_limit)
    return dataclasses.replace(
        images,
        name="digit-rows",
        train=(images.train[0].squeeze(1), images.train[1]),
        test=(images.test[0].squeeze(1), images.test[1]),
        input_shape=tuple(images.train[0].shape[2:]),
    )
