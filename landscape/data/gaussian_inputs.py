"""Gaussian inputs with labels that say nothing: for measures at initialization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from landscape.data.base import Dataset, Split, make_dataset
from landscape.errors import UsageError
from landscape.streams import stream


def gaussian_inputs(*, seed: int = 0, samples: int = 256, shape: Sequence[int] = (128,), classes: int = 10) -> Dataset:
    """Inputs x ~ N(0, I) of any shape and labels drawn uniformly, independent of them.

    The setting of mean-field theory (Yang et al. 2019, arXiv 1902.08129): there is nothing to learn but the training
    samples themselves, and no loss on the test split below ln C but by chance.

    Args:
        seed: of the run.
        samples: in each split.
        shape: of one input, e.g. (128,), or (3, 32, 32) for convolutional networks.
        classes: how many.

    Raises:
        UsageError: an option is not valid.

    >>> gaussian_inputs(samples=20, shape=(3, 8, 8)).train[0].shape
    torch.Size([20, 3, 8, 8])
    """
    if not isinstance(shape, (list, tuple)) or not shape:
        raise UsageError(f"shape={shape!r} must be a list of whole numbers, as [128]")
    for what, value, least in (("samples", samples, 1), ("classes", classes, 2), *(("shape", s, 1) for s in shape)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{what}={value!r} must be a whole number from {least} on")

    def draw(split: str) -> Split:
        generator = stream(seed, f"data/gaussian-inputs/{split}")
        x = torch.randn(samples, *shape, generator=generator)
        return x, torch.randint(classes, (samples,), generator=generator)

    return make_dataset("gaussian-inputs", draw("train"), draw("test"), classes=classes, chance_loss=math.log(classes))
