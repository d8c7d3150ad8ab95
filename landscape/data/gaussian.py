"""Linear regression on Gaussian inputs: the problem of Santurkar et al.'s deep linear networks."""

from __future__ import annotations

import torch

from landscape.data.base import Dataset, Split, make_dataset
from landscape.errors import UsageError
from landscape.streams import stream


def gaussian_regression(*, seed: int = 0, samples: int = 200, dim: int = 10) -> Dataset:
    """Inputs x ~ N(0, I) in ``dim`` dimensions with targets A x, A a dim x dim matrix of standard normals.

    A and x come from named streams of ``seed``: each run's seed has a problem of its own, which all arms of
    that seed share. The test split is another draw of as many x with the same A. ``chance_loss`` is the loss of
    predicting zero: the mean over training samples of ||A x||_2^2, whose expectation given A is ||A||_F^2.

    Source: Santurkar et al. 2018, "How does batch normalization help optimization?", the deep linear network.
    The paper does not state the number of samples; 200 is ours.

    Args:
        seed: of the run.
        samples: in each split.
        dim: of inputs and of targets.

    Returns:
        A regression: float32 inputs (samples, dim) and targets (samples, dim).

    Raises:
        UsageError: samples or dim is not a positive integer.

    >>> data = gaussian_regression(seed=1, samples=50)
    >>> data.train[1].shape, data.classes
    (torch.Size([50, 10]), None)
    """
    for what, value in (("samples", samples), ("dim", dim)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{what}={value!r} must be a positive whole number")
    name = "gaussian-regression"
    matrix = torch.randn(dim, dim, generator=stream(seed, f"data/{name}/matrix"))

    def draw(split: str) -> Split:
        x = torch.randn(samples, dim, generator=stream(seed, f"data/{name}/{split}"))
        return x, (x.double() @ matrix.double().T).float()

    train = draw("train")
    chance = float(train[1].double().square().sum(1).mean())
    return make_dataset(name, train, draw("test"), classes=None, chance_loss=chance)
