r"""Normalization propagation: what is normalized once, in the data, is kept normalized by constants.

    o = (f(gamma W x / ||W|| + beta) - mean f(Z)) / std f(Z),    Z ~ N(0, 1)

per unit, with rows of unit length and a trained gamma and beta (the layer's bias): no statistics of a batch, so any
batch size and layout, alike in train and eval. For a ReLU the mean is sqrt(1 / 2 pi) = 0.3989 and the standard
deviation sqrt((1 - 1/pi) / 2) = 0.5838; those of other nonlinearities are computed. The data should be standardized.

gamma starts at 1/1.21 = sqrt(1 - 1/pi), where a layer with a ReLU neither grows nor shrinks squared gradients (with
gamma = 1, "norm-propagation:1", they grow by 1 / (1 - 1/pi) = 1.467 a layer). The paper gives it for the ReLU; it is
the same for others here.
The rows are kept at unit length by weight normalization, whose g is gamma.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from landscape.errors import UsageError
from landscape.normalization.base import Normalization, identity, shortest
from landscape.normalization.moments import Rescaled, gaussian_moments
from landscape.normalization.weights import parametrized, weight_norm

GAMMA = math.sqrt(1 - 1 / math.pi)  # 1 / 1.2112


def _standardized(nonlinearity: nn.Module, features: int, ndim: int) -> nn.Module:
    if isinstance(nonlinearity, nn.Identity):
        return nonlinearity
    return Rescaled(nonlinearity, *gaussian_moments(nonlinearity))


def _entry(name: str, start: float) -> Normalization:
    def register(layer: nn.Module) -> None:
        weight_norm(layer)
        gamma = layer.get_parameter("parametrizations.weight.original0")
        with torch.no_grad():
            gamma.fill_(start)

    def unit_rows(layer: nn.Module) -> nn.Module:
        return parametrized(layer, register, divided="rows")

    return Normalization(
        name=name,
        formula="(f(gamma W x / ||W|| + b) - mean f(Z)) / std f(Z) in place of f(W x + b), Z ~ N(0, 1), gamma = "
        + ("1/1.21" if start == GAMMA else f"{shortest(start)} at the start"),
        source="Arpit et al. 2016, arXiv 1603.01431",
        over="the weights of a unit",
        needs="nothing (any batch size), but standardized data",
        build=identity,
        linear=unit_rows,
        activation=_standardized,
    )


def propagation(argument: str) -> Normalization:
    """Normalization propagation whose gamma starts at ``argument``.

    Raises:
        UsageError: ``argument`` is not a positive number.

    >>> propagation("1").name
    'norm-propagation:1'
    """
    try:
        start = float(argument)
    except ValueError:
        start = math.nan
    if not 0 < start < math.inf:
        raise UsageError(
            f"normalization 'norm-propagation:{argument}': gamma starts at a positive number, as in "
            "'norm-propagation:1'; with the paper's 1/1.21 it is 'norm-propagation'"
        )
    return _entry(f"norm-propagation:{shortest(start)}", start)


NORM_PROPAGATION = _entry("norm-propagation", GAMMA)
