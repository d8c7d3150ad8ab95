"""Residual networks of He, Zhang, Ren & Sun 2015 for small images (section 4.2), with and without shortcuts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from landscape.errors import UsageError, nearest
from landscape.models.blocks import Block, block, image_shape, initialized, output

OPTIONS = ("A", "B")  # of the shortcut where the shape changes


class Subsample(nn.Module):
    """Option A: every ``stride``-th position, and zeros for the channels that are new; no parameters."""

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, new_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C + new, H / stride, W / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class Unit(nn.Module):
    """y = f(norm(W2 f(norm(W1 x))) + shortcut(x)): two 3x3 convolutions, joined before the last activation.

    Children ``conv1``, ``conv2``, each a block, and ``shortcut``; None for the plain network of the paper.
    """

    def __init__(self, conv1: Block, conv2: Block, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1, self.conv2, self.shortcut = conv1, conv2, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the unit's channels and size."""
        y: Tensor = self.conv1(x)
        for name, layer in self.conv2.named_children():
            if name == "activation" and self.shortcut is not None:
                y = y + self.shortcut(x)
            y = layer(y)
        return y


def resnet(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    depth: int = 20,
    shortcut: bool = True,
    option: str = "A",
    width: int = 1,
    bias: bool = False,
    activation: str = "relu",
    placement: str = "before",
    init: str | None = None,
) -> nn.Module:
    """ResNet-20, -32, -56, ...: one convolution, 3 stages of (depth - 2) / 6 units, average pool, linear output.

    Stages have 16, 32 and 64 channels; the second and third begin with stride 2. With batch normalization
    and ten classes ResNet-20 has 269,722 parameters and ResNet-56 853,018 (the paper: 0.27M, 0.85M).
    Convolutions have no bias in any arm, as in the paper's count; the output layer has one.

    Args:
        input_shape: (channels, height, width), 4x4 or more.
        output_size: number of outputs.
        norm: the normalization of each convolution.
        seed: of the initial weights.
        depth: layers with weights, 6n + 2: 8, 14, 20, 32, 44, 56, 110.
        shortcut: False for the plain network of equal depth; both have the same weights under option A.
        option: where the shape changes, the shortcut is "A", subsampled and padded with zeros (the paper's
            on CIFAR-10), or "B", a normalized 1x1 convolution.
        width: divides the channels: 1, 2, 4, 8 or 16.
        bias: whether convolutions have biases.
        activation: "relu", "tanh", "sigmoid" or "identity".
        placement: the normalization stands "before" the activation or "after" it; in a unit's second
            block the shortcut joins right before the activation.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "he".

    Raises:
        UsageError: the data are no images or too small, or an option is not valid.

    >>> net = resnet(input_shape=(3, 32, 32), output_size=10, norm="batch")
    >>> sum(p.numel() for p in net.parameters())
    269722
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise UsageError(f"depth is 6n + 2, as 8, 14, 20, 32, 44, 56 or 110, got {depth!r}")
    if isinstance(width, bool) or width not in (1, 2, 4, 8, 16):
        raise UsageError(f"width divides the channels 16, 32 and 64: it has to be 1, 2, 4, 8 or 16, got {width!r}")
    if option not in OPTIONS:
        raise UsageError(f"there is no shortcut option {option!r}; {nearest(str(option), list(OPTIONS))}")
    colours, _, _ = image_shape(input_shape, 4, "it halves each side twice; use mlp for smaller ones")

    def convolution(inputs: int, outputs: int, stride: int = 1) -> Block:
        linear = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        return block(linear, norm, outputs, 4, activation, placement=placement)

    def past(inputs: int, outputs: int, stride: int) -> nn.Module | None:
        if not shortcut:
            return None
        if (inputs, stride) == (outputs, 1):
            return nn.Identity()
        if option == "A":
            return Subsample(stride, outputs - inputs)
        return block(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), norm, outputs, 4, None)

    channels = 16 // width
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=convolution(colours, channels))
    for stage in (1, 2, 3):
        for number in range(1, (depth - 2) // 6 + 1):
            inputs, channels = channels, (16, 32, 64)[stage - 1] // width
            stride = 2 if stage > 1 and number == 1 else 1
            layers[f"stage{stage}_unit{number}"] = Unit(
                convolution(inputs, channels, stride), convolution(channels, channels), past(inputs, channels, stride)
            )
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = output(channels, output_size)
    return initialized(nn.Sequential(layers), init, seed, "he")
