"""The handwritten digits that come with scikit-learn: 1797 images of 8x8, nothing to download."""

from __future__ import annotations

import numpy as np
import torch

from landscape.data.base import Dataset
from landscape.data.images import images_dataset
from landscape.streams import stream

_TRAIN = 1437  # four fifths


def digits(*, limit: int | None = None, test_limit: int | None = None) -> Dataset:
    """Ten classes, inputs (1, 8, 8), 1437 images to train and 360 to test.

    The split is drawn once from a named stream that does not depend on the run's seed: every seed trains and
    tests on the same images. Pixels are scaled to zero mean and unit standard deviation, both taken over all
    pixels of the training split together (one number each), not per pixel.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998; the test part, as
    scikit-learn ships it.

    Args:
        limit: keep the first so many training images; all if None.
        test_limit: keep the first so many test images; all if None.

    >>> data = digits()
    >>> data.train[0].shape, data.test[0].shape, data.classes
    (torch.Size([1437, 1, 8, 8]), torch.Size([360, 1, 8, 8]), 10)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=stream(0, "data/digits/split")).numpy()
    pixels = bunch.images.astype(np.uint8)[order][:, None]  # levels 0..16
    labels = bunch.target.astype(np.uint8)[order]
    return images_dataset(
        "digits",
        (pixels[:_TRAIN], labels[:_TRAIN]),
        (pixels[_TRAIN:], labels[_TRAIN:]),
        classes=10,
        limit=limit,
        test_limit=test_limit,
    )
