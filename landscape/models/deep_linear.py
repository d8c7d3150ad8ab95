"""The deep linear network of Santurkar et al. 2018: a product of matrices, no nonlinearity."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from landscape.errors import UsageError
from landscape.models.blocks import fully_connected, initialized


def deep_linear(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    layers: int = 25,
    hidden: int = 10,
    bias: bool = False,
    init: str | None = None,
) -> nn.Module:
    """W_25 ... W_1 x: blocks fc1 ... fc25, normalized after each but the last.

    With 10 inputs, 10 outputs and the defaults, all 25 matrices are 10x10. The paper's formula has no
    biases, so there are none here; the normalizations bring their own beta.

    Args:
        input_shape: shape of one sample; flattened.
        output_size: number of outputs.
        norm: the normalization after each hidden layer.
        seed: of the initial weights.
        layers: how many linear layers.
        hidden: width between them.
        bias: whether the layers have biases.
        init: "glorot", "he" or "lecun"; the normalization's own if None, else "glorot", the paper's.

    Raises:
        UsageError: fewer than one layer, a width that is not positive, or an unknown name.
    """
    if not isinstance(layers, int) or layers < 1:
        raise UsageError(f"a deep linear network has at least 1 layer, got layers = {layers!r}")
    widths = [math.prod(input_shape), *[hidden] * (layers - 1), output_size]
    blocks = fully_connected(widths, norm, "identity", bias=bias)
    return initialized(nn.Sequential(OrderedDict(flatten=nn.Flatten(), **blocks)), init, seed, "glorot")
