r"""Cosine normalization: the angle of weights and input in place of their dot product; centered: their correlation.

    z = <w, x> / (|w| |x|),    centered: z = <w - mean w, x - mean x> / (|w - mean w| |x - mean x|)

Per sample and unit: any batch size and layout, alike in train and eval. |z| <= 1. For a convolution x is the patch
under the filter, the padding's zeros included. The centered one does not see a shift of all inputs; a convolution
takes each sample's own mean off first, so that a large one costs no digits.

Readings chosen where the paper says nothing: a bias is added to the quotient, since only the dot product is replaced;
1e-6 is added to |x|^2, so that an input of zeros has z = 0 and finite derivatives. Weights that are all zero are
refused, and by the centered one those that are all equal. A unit with one input is refused, since its angle is 0 or pi:
only the sign of the input would be left, and centered not even that. It is left as it is in networks whose other layers
have more inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.normalization.base import Normalization, identity
from landscape.normalization.weights import require_layer

EPS = 1e-6


def _unit_rows(weight: Tensor, centered: bool) -> Tensor:
    """w / |w| for each output unit, centered first if asked for."""
    flat = weight.flatten(1)
    if centered:
        flat = flat - flat.mean(1, keepdim=True)
    unit: Tensor = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return unit.view_as(weight)


class CosineLinear(nn.Linear):
    """A linear map with cosines for dot products, over the parameters of ``layer``.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[2.0, 0.0]]))
    >>> CosineLinear(layer)(torch.tensor([[3.0, 4.0]])).item()
    0.6000000238418579
    """

    def __init__(self, layer: nn.Linear, centered: bool = False, eps: float = EPS) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        _take_over(self, layer)
        self.centered, self.eps = centered, eps

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) to (..., units)."""
        x = input - input.mean(-1, keepdim=True) if self.centered else input
        x = x * torch.rsqrt(x.square().sum(-1, keepdim=True) + self.eps)
        return F.linear(x, _unit_rows(self.weight, self.centered), self.bias)


class _CosineConvolution(nn.modules.conv._ConvNd):
    """What the convolutions of each dimension share; a class of torch's stands behind it."""

    centered: bool
    eps: float

    def forward(self, input: Tensor) -> Tensor:
        """(N, channels, ...) to (N, units, ...), or one sample without N."""
        ones = torch.ones_like(self.weight[: self.groups])  # (groups, inputs of a group, ...): sums over a patch
        x = self._padded(input)
        square = self._convolve(x.square(), ones)
        if self.centered:
            square = (square - self._convolve(x, ones).square() / ones[0].numel()).clamp_min(0)
        channels = 1 - self.weight.ndim
        length = (square + self.eps).sqrt().repeat_interleave(self.out_channels // self.groups, channels)
        z = self._convolve(x, _unit_rows(self.weight, self.centered)) / length
        return z if self.bias is None else z + self.bias.reshape(-1, *[1] * (-channels - 1))

    def _padded(self, input: Tensor) -> Tensor:
        """With the padding around it and, if centered, all of it less the mean of each sample's inputs.

        Centered values depend on no shift of a patch, its padding included, and sum x^2 - (sum x)^2 / n would lose
        its digits to a large one. So the mean is a constant of the backward pass, too.
        """
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        x = F.pad(input, self._reversed_padding_repeated_twice, mode=mode)
        if not self.centered:
            return x
        return x - input.detach().mean(tuple(range(1 - self.weight.ndim, 0)), keepdim=True)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        convolution = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.ndim]
        y: Tensor = convolution(x, weight, None, self.stride, 0, self.dilation, self.groups)
        return y


class CosineConv1d(_CosineConvolution, nn.Conv1d):
    """A convolution of (N, C, L) with cosines for dot products."""


class CosineConv2d(_CosineConvolution, nn.Conv2d):
    """A convolution of (N, C, H, W) with cosines for dot products."""


class CosineConv3d(_CosineConvolution, nn.Conv3d):
    """A convolution of volumes with cosines for dot products."""


def _take_over(new: nn.Linear | nn.modules.conv._ConvNd, layer: nn.Linear | nn.modules.conv._ConvNd) -> None:
    new.weight, new.bias = layer.weight, layer.bias
    new.train(layer.training)


def _convolution(layer: nn.modules.conv._ConvNd, centered: bool) -> nn.Module:
    classes = {nn.Conv1d: CosineConv1d, nn.Conv2d: CosineConv2d, nn.Conv3d: CosineConv3d}
    cls = next(new for old, new in classes.items() if isinstance(layer, old))
    new = cls(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # torch declares tuples of any length
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        bias=False,
        padding_mode=layer.padding_mode,
        device="meta",
    )
    _take_over(new, layer)
    new.centered, new.eps = centered, EPS
    return new


def _cosine(layer: nn.Module, *, centered: bool = False) -> nn.Module:
    require_layer(layer, 2, "centered rows" if centered else "rows")
    if isinstance(layer, nn.Linear):
        return CosineLinear(layer, centered)
    assert isinstance(layer, nn.modules.conv._ConvNd)
    return _convolution(layer, centered)


def _centered(layer: nn.Module) -> nn.Module:
    return _cosine(layer, centered=True)


COSINE = Normalization(
    name="cosine",
    formula="z = <w, x> / (|w| sqrt(|x|^2 + 1e-6)) + b",
    source="Luo et al. 2017, arXiv 1702.05870",
    over="the weights of a unit, and the inputs to it (a convolution's patch) of one sample",
    needs="nothing (any batch size), but 2 inputs to a unit",
    build=identity,
    linear=_cosine,
    inputs=2,
)

CENTERED_COSINE = Normalization(
    name="centered-cosine",
    formula="z = <w - mean w, x - mean x> / (|w - mean w| sqrt(|x - mean x|^2 + 1e-6)) + b",
    source="Luo et al. 2018, arXiv 1702.05870v5",
    over="the weights of a unit, and the inputs to it (a convolution's patch) of one sample",
    needs="nothing (any batch size), but 2 inputs to a unit",
    build=identity,
    linear=_centered,
    inputs=2,
)
