r"""Self-normalizing networks: an activation function that has N(0, 1) as its fixed point.

    selu(y) = lambda y for y > 0, lambda alpha (exp(y) - 1) otherwise

with weights drawn from N(0, 1 / fan_in) ("lecun") unless the network is asked for others. "selu:0.05" also drops 5 % of
the activations in training, by alpha dropout, which keeps mean and variance; its draws come from torch's global
generator, as those of the noise do. Elementwise: any batch size and layout; without dropout alike in train and eval.
A network without a nonlinearity (``nn.Identity``) stays one. The data should be standardized.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from landscape.errors import UsageError
from landscape.normalization.base import Normalization, identity, shortest


class DroppedSELU(nn.SELU):
    """SELU with alpha dropout after it.

    Args:
        rate: the fraction of activations that are dropped in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same."""
        return F.alpha_dropout(super().forward(input), self.rate, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"rate={self.rate:g}"


def _entry(name: str, rate: float) -> Normalization:
    def activation(nonlinearity: nn.Module, features: int, ndim: int) -> nn.Module:
        if isinstance(nonlinearity, nn.Identity):
            return nonlinearity
        return DroppedSELU(rate) if rate else nn.SELU()

    dropped = f", then alpha dropout of {shortest(rate)}" if rate else ""
    return Normalization(
        name=name,
        formula=f"selu(y) = 1.0507 (y for y > 0, 1.6733 (exp(y) - 1) otherwise) as nonlinearity{dropped}",
        source="Klambauer et al. 2017, arXiv 1706.02515",
        over="nothing: elementwise",
        needs="nothing (any batch size), but standardized data",
        build=identity,
        activation=activation,
        init="lecun",
    )


def selu(argument: str) -> Normalization:
    """SELU with alpha dropout of the rate ``argument``.

    Raises:
        UsageError: ``argument`` is not a number between 0 and 1.

    >>> selu("0.1").activation(nn.ReLU(), 8, 2)
    DroppedSELU(rate=0.1)
    """
    try:
        rate = float(argument)
    except ValueError:
        rate = math.nan
    if not 0 < rate < 1:
        raise UsageError(
            f"normalization 'selu:{argument}': the rate of alpha dropout has to be a number between 0 and 1, as in "
            "'selu:0.05'; without dropout it is 'selu'"
        )
    return _entry(f"selu:{shortest(rate)}", rate)


SELU = _entry("selu", 0.0)
