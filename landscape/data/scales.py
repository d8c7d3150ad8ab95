"""Linear regression on two features of very different scale: what input normalization is for."""

from __future__ import annotations

import torch

from landscape.data.base import Dataset, Split, make_dataset
from landscape.errors import UsageError
from landscape.streams import stream


def two_features(*, seed: int = 0, samples: int = 200, scale: float = 100.0, standardize: bool = False) -> Dataset:
    """y = z_1 + z_2 from the features x = (z_1, scale z_2), or, standardized, from x = (z_1, z_2).

    z is drawn from N(0, I) and then made to have mean 0 and covariance I exactly, in each split by itself. So the
    loss of a linear model without a bias, mean (w x - y)^2, has the Hessian 2 diag(1, scale^2): its condition number is
    scale^2, or 1 if standardized, and its minimum 0. A bias adds an eigenvalue of 2.

    Args:
        seed: of the run.
        samples: in each split, 3 or more.
        scale: of the second feature, above 0.
        standardize: whether each feature is divided by its standard deviation.

    Raises:
        UsageError: an option is not valid.

    >>> data = two_features(scale=10.0)
    >>> [round(s, 4) for s in data.train[0].std(0, correction=0).tolist()]
    [1.0, 10.0]
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 3:
        raise UsageError(f"samples={samples!r} must be a whole number from 3 on")
    if not 0 < scale < float("inf"):
        raise UsageError(f"scale={scale!r} must be a number above 0")

    def draw(split: str) -> Split:
        generator = stream(seed, f"data/two-features/{split}")
        z = torch.randn(samples, 2, generator=generator, dtype=torch.float64)
        z = z - z.mean(0)
        factor = torch.linalg.cholesky(z.T @ z / samples)
        z = torch.linalg.solve_triangular(factor, z.T, upper=False).T
        x = z if standardize else z * torch.tensor([1.0, scale], dtype=torch.float64)
        return x.float(), z.sum(1, keepdim=True).float()

    return make_dataset("two-features", draw("train"), draw("test"), classes=None)
