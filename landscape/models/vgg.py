"""VGG networks of Simonyan & Zisserman 2015 for small images, with a width divisor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from landscape.errors import UsageError, nearest
from landscape.models.blocks import Planned, convolutions, fully_connected, image_shape, initialized

# Table 1 of arXiv 1409.1556; (256, 1) is a 1x1 convolution.
CONFIGURATIONS: dict[str, tuple[Planned, ...]] = {
    "A": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "B": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "C": (64, 64, "M", 128, 128, "M", 256, 256, (256, 1), "M", *(512, 512, (512, 1), "M") * 2),
    "D": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    "E": (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"),
}


def vgg(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    configuration: str = "A",
    width: int = 1,
    activation: str = "relu",
    placement: str = "before",
    init: str | None = None,
) -> nn.Module:
    """VGG-A to VGG-E with the classifier FC 512-512-outputs that is usual on 32x32 images.

    Five pools take 32x32 to 1x1; what a larger image leaves is averaged to 1x1. No dropout. Hidden
    layers of the classifier are normalized too; the output layer is not.

    Args:
        input_shape: (channels, height, width), 32x32 or more.
        output_size: number of outputs.
        norm: the normalization after each convolution and each hidden layer.
        seed: of the initial weights.
        configuration: "A" (8 convolutions), "B" (10), "C" (13, three of them 1x1), "D" (13) or "E" (16).
        width: divides all channels and the classifier's 512, e.g. 8 for a narrow network; a power of two up to 64.
        activation: "relu", "tanh", "sigmoid" or "identity".
        placement: the normalization stands "before" the activation or "after" it.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "he".

    Raises:
        UsageError: images below 32x32, or an option that is not valid.
    """
    if configuration not in CONFIGURATIONS:
        raise UsageError(f"there is no VGG {configuration!r}; {nearest(str(configuration), list(CONFIGURATIONS))}")
    if not isinstance(width, int) or width < 1 or 64 % width:
        raise UsageError(f"width divides the channels (64 ... 512): it has to be 1, 2, 4, ... 64, got {width!r}")
    colours, _, _ = image_shape(
        input_shape, 32, "its five pools halve each side and would leave nothing; use convnet for small images"
    )
    plan = [_narrowed(entry, width) for entry in CONFIGURATIONS[configuration]]
    layers, features = convolutions(colours, plan, norm, activation, placement=placement)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    widths = [features, 512 // width, 512 // width, output_size]
    layers.update(fully_connected(widths, norm, activation, placement=placement))
    return initialized(nn.Sequential(layers), init, seed, "he")


def _narrowed(entry: Planned, width: int) -> Planned:
    """An entry of a plan with its channels divided by ``width``."""
    if isinstance(entry, str):
        return entry
    return entry // width if isinstance(entry, int) else (entry[0] // width, entry[1])
