"""A small Inception network with the modules of Ioffe & Szegedy 2015, for 8x8 digits and up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.models.blocks import block, image_shape, initialized, output

Convolution = Callable[[int, int, int], nn.Module]  # (inputs, outputs, kernel) to a block


class Mixed(nn.Module):
    """One module: children ``branch1`` to ``branch4`` on the same input, their channels concatenated."""

    def __init__(self, inputs: int, features: int, convolution: Convolution) -> None:
        super().__init__()
        for number, kernels in enumerate(((1,), (1, 3), (1, 3, 3), (1,)), start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if number == 4:
                layers["pool"] = nn.AvgPool2d(3, stride=1, padding=1)
            for k, kernel in enumerate(kernels, start=1):
                layers[f"conv{k}"] = convolution(inputs if k == 1 else features, features, kernel)
            self.add_module(f"branch{number}", nn.Sequential(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 features, H, W)."""
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def inception(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    channels: Sequence[int | str] = (16, 16, "M", 32, 32),
    activation: str = "relu",
    placement: str = "before",
    init: str | None = None,
) -> nn.Module:
    """A 3x3 convolution, modules of four branches with 2x2 max pools, global average pool, linear output layer.

    Each module concatenates: 1x1; 1x1, 3x3; 1x1, 3x3, 3x3 (the paper's two 3x3 in the place of a 5x5); and
    3x3 average pool, 1x1. The paper's network has 13.6 million parameters and takes 224x224 images; this one
    has its kind of module, all convolutions of a module equally wide, and neither dropout nor local response
    normalization. With ``activation="sigmoid"`` it stands for the paper's BN-x5-Sigmoid.

    Args:
        input_shape: (channels, height, width).
        output_size: number of outputs.
        norm: the normalization of each convolution.
        seed: of the initial weights.
        channels: of each branch, module by module (the first convolution has as many as the first module
            concatenates); "M" is a 2x2 max pool.
        activation: "relu", "tanh", "sigmoid" or "identity".
        placement: the normalization stands "before" the activation (the paper's) or "after" it.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "he".

    Raises:
        UsageError: the data are no images or too small for the pools, or an option is not valid.

    >>> net = inception(input_shape=(1, 8, 8), output_size=10, norm="batch")
    >>> [name for name, _ in net.mixed1.named_children()]
    ['branch1', 'branch2', 'branch3', 'branch4']
    """
    if not isinstance(channels, (list, tuple)):
        raise UsageError(f"channels is a list of numbers and 'M', as in [16, 'M', 32], got {channels!r}")
    widths = [entry for entry in channels if entry != "M"]
    if not widths or any(isinstance(c, bool) or not isinstance(c, int) or c < 1 for c in widths):
        raise UsageError(f"channels are positive whole numbers, at least one, and 'M' (a pool), got {list(channels)}")
    pools = len(channels) - len(widths)
    colours, _, _ = image_shape(input_shape, 2**pools, f"its {pools} pools halve each side and would leave nothing")

    def convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
        linear = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        return block(linear, norm, outputs, 4, activation, placement=placement)

    features = 4 * int(widths[0])
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=convolution(colours, features, 3))
    for entry in channels:
        if isinstance(entry, int):
            number = sum(name.startswith("mixed") for name in layers) + 1
            layers[f"mixed{number}"] = Mixed(features, entry, convolution)
            features = 4 * entry
        else:
            layers[f"pool{sum(name.startswith('pool') for name in layers) + 1}"] = nn.MaxPool2d(2)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = output(features, output_size)
    return initialized(nn.Sequential(layers), init, seed, "he")
