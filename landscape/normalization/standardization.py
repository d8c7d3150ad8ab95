r"""Weight standardization, and the scaled one of normalizer-free networks.

Both act on weights, per output unit over its n inputs (a convolution's filter is one unit): any batch size and layout,
alike in train and eval. A unit with one input has no variance: it is refused, and left as it is in networks whose other
layers have more inputs.

Weight standardization: W^ = (W - mean) / (std + 1e-5), std with n - 1 as in the authors' code. Its outputs grow with
sqrt(n), so the paper always has a normalization of activations behind it; here that is group normalization, as
"group:8" does it.

Scaled weight standardization: W^ = g (W - mean) / sqrt(max(n var, 1e-4)), with a trained gain g per unit (1 at the
start) and biased variance, as in the authors' code. It keeps the variance of what comes in; the nonlinearity f, which
does not, is multiplied by gamma = 1 / std f(Z), Z ~ N(0, 1): sqrt(2 / (1 - 1/pi)) = 1.713 for a ReLU. The networks'
other parts (residual branches that are scaled, adaptive gradient clipping) are no normalization and are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from landscape.normalization.base import Normalization, identity
from landscape.normalization.group import group_norm
from landscape.normalization.moments import Rescaled, gaussian_moments
from landscape.normalization.weights import parametrized


class Standardized(nn.Module):
    """(W - mean) / (std + eps), per output unit.

    >>> Standardized()(torch.tensor([[1.0, 3.0]])).tolist()  # mean 2, std sqrt(2)
    [[-0.7071017622947693, 0.7071017622947693]]
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, weight: Tensor) -> Tensor:
        """A weight (units, ...) to the same shape."""
        flat = weight.flatten(1)
        return ((flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + self.eps)).view_as(weight)


class ScaledStandardized(nn.Module):
    """gain (W - mean) / sqrt(max(n var, eps)), per output unit with n inputs.

    >>> ScaledStandardized(1)(torch.tensor([[1.0, 3.0]])).tolist()  # mean 2, variance 1, n = 2
    [[-0.7071067690849304, 0.7071067690849304]]
    """

    def __init__(self, features: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(features))

    def forward(self, weight: Tensor) -> Tensor:
        """A weight (units, ...) to the same shape."""
        flat = weight.flatten(1)
        total = flat.var(1, correction=0) * flat.shape[1]
        scale = self.gain * torch.rsqrt(total.clamp_min(self.eps))
        return ((flat - flat.mean(1, keepdim=True)) * scale[:, None]).view_as(weight)


def _standardize(layer: nn.Module) -> nn.Module:
    def register(layer: nn.Module) -> None:
        parametrize.register_parametrization(layer, "weight", Standardized())

    return parametrized(layer, register, inputs=2)


def _scaled(layer: nn.Module) -> nn.Module:
    def register(layer: nn.Module) -> None:
        assert isinstance(layer.weight, Tensor)
        parametrization = ScaledStandardized(len(layer.weight)).to(layer.weight)
        parametrize.register_parametrization(layer, "weight", parametrization)

    return parametrized(layer, register, inputs=2)


def _gained(nonlinearity: nn.Module, features: int, ndim: int) -> nn.Module:
    if isinstance(nonlinearity, nn.Identity):
        return nonlinearity
    return Rescaled(nonlinearity, 0.0, gaussian_moments(nonlinearity)[1])


WEIGHT_STANDARDIZATION = Normalization(
    name="weight-standardization",
    formula="y = ((W - mean) / (std + 1e-5)) x + b, then group normalization of y",
    source="Qiao et al. 2019, arXiv 1903.10520",
    over="the weights of a unit; then as 'group:8', the units of a group of one sample (and space)",
    needs="nothing (any batch size), but 2 inputs to a unit",
    build=lambda features, ndim: group_norm(features, ndim, 8),
    linear=_standardize,
    inputs=2,
)

SCALED_WEIGHT_STANDARDIZATION = Normalization(
    name="scaled-weight-standardization",
    formula="z = (g (W - mean) / sqrt(n var)) x + b, and f / std f(Z) in place of the nonlinearity f, Z ~ N(0, 1)",
    source="Brock et al. 2021, arXiv 2102.06171",
    over="the n weights of a unit",
    needs="nothing (any batch size), but 2 inputs to a unit",
    build=identity,
    linear=_scaled,
    activation=_gained,
    inputs=2,
)
