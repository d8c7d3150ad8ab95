"""Fully connected networks."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from landscape.errors import UsageError
from landscape.models.blocks import fully_connected, initialized


def mlp(
    *,
    input_shape: Sequence[int],
    output_size: int,
    norm: str = "none",
    seed: int = 0,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    placement: str = "before",
    init: str | None = None,
) -> nn.Module:
    """A multi-layer perceptron: flatten, then blocks fc1, fc2, ... and an output layer.

    Args:
        input_shape: shape of one sample; flattened.
        output_size: number of outputs.
        norm: the normalization after each hidden layer.
        seed: of the initial weights.
        hidden: widths of the hidden layers; none gives a linear model.
        activation: "relu", "tanh", "sigmoid" or "identity".
        placement: the normalization stands "before" the activation or "after" it.
        init: "he", "glorot" or "lecun"; the normalization's own if None, else "he".

    Raises:
        UsageError: an unknown name, or widths that are no list of positive whole numbers.
    """
    if not isinstance(hidden, (list, tuple)):
        raise UsageError(f"hidden is a list of widths, as in [128, 128], got {hidden!r}")
    layers = fully_connected([math.prod(input_shape), *hidden, output_size], norm, activation, placement=placement)
    return initialized(nn.Sequential(OrderedDict(flatten=nn.Flatten(), **layers)), init, seed, "he")
