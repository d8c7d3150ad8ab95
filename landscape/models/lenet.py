"""LeNet-5 of LeCun, Bottou, Bengio & Haffner 1998, as it is built today."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from landscape.models.blocks import block, fully_connected, image_shape, initialized


def lenet(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    activation: str = "tanh",
    placement: str = "before",
    init: str | None = None,
) -> nn.Module:
    """5x5 convolutions to 6 and 16 channels, each with a 2x2 average pool, then FC 120-84-outputs.

    Differs from the paper's 60,000 parameters in three places, as all later versions do: its pools have no
    trainable coefficients (44 fewer), its second convolution sees all six maps instead of a table of
    subsets (900 more), and its output is linear instead of distances to fixed codes (850 more at ten
    outputs): 61,706. Images below 32x32 are padded by 2 on each side, as the paper does with 28x28.

    Args:
        input_shape: (channels, height, width), 12x12 or more.
        output_size: number of outputs.
        norm: the normalization of each convolution and hidden layer.
        seed: of the initial weights.
        activation: "tanh" (the paper's, unscaled), "relu", "sigmoid" or "identity".
        placement: the normalization stands "before" the activation or "after" it.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "lecun", the variance of the paper.

    Raises:
        UsageError: the data are no images or too small, or an option is not valid.

    >>> sum(p.numel() for p in lenet(input_shape=(1, 28, 28), output_size=10).parameters())
    61706
    """
    why = "two 5x5 convolutions and two pools would leave nothing; use convnet for small images"
    colours, height, width = image_shape(input_shape, 12, why)
    padding = 2 if min(height, width) < 32 else 0
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    sides = [side + 2 * padding for side in (height, width)]
    for number, (inputs, outputs) in enumerate(((colours, 6), (6, 16)), start=1):
        linear = nn.Conv2d(inputs, outputs, 5, padding=padding if number == 1 else 0)
        layers[f"conv{number}"] = block(linear, norm, outputs, 4, activation, placement=placement)
        layers[f"pool{number}"] = nn.AvgPool2d(2)
        sides = [(side - 4) // 2 for side in sides]
    layers["flatten"] = nn.Flatten()
    widths = [16 * sides[0] * sides[1], 120, 84, output_size]
    layers.update(fully_connected(widths, norm, activation, placement=placement))
    return initialized(nn.Sequential(layers), init, seed, "lecun")
