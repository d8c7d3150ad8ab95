"""A small convolutional network, for 8x8 digits and up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from landscape.errors import UsageError
from landscape.models.blocks import Planned, convolutions, image_shape, initialized, output


def convnet(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    channels: Sequence[Planned] = (16, 16, "M", 32, 32, "M", 64, 64),
    activation: str = "relu",
    placement: str = "before",
    init: str | None = None,
) -> nn.Module:
    """Convolutions with 2x2 max pools, global average pooling and a linear output layer.

    The default trains on 8x8 digits with and without batch normalization, where a VGG doesn't: two pools
    leave 2x2 positions, five would leave none.

    Args:
        input_shape: (channels, height, width).
        output_size: number of outputs.
        norm: the normalization after each convolution.
        seed: of the initial weights.
        channels: output channels of each 3x3 convolution, or [channels, kernel]; "M" is a 2x2 max pool.
        activation: "relu", "tanh", "sigmoid" or "identity".
        placement: the normalization stands "before" the activation or "after" it.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "he".

    Raises:
        UsageError: the data are no images or too small for the pools, or an option is not valid.
    """
    if not isinstance(channels, (list, tuple)):
        raise UsageError(f"channels is a list of numbers and 'M', as in [16, 'M', 32], got {channels!r}")
    pools = sum(entry == "M" for entry in channels)
    colours, _, _ = image_shape(input_shape, 2**pools, f"its {pools} pools halve each side and would leave nothing")
    layers, features = convolutions(colours, channels, norm, activation, placement=placement)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = output(features, output_size)
    return initialized(nn.Sequential(layers), init, seed, "he")
