"""What the shipped networks are made of: blocks with the same names in every arm, and their initial weights.

A block is ``linear, norm, activation``: the normalization sits before the activation unless asked otherwise. One of
weights acts in ``linear`` and one that brings its own nonlinearity in ``activation``, with ``norm`` the identity. The
linear map keeps its bias in every arm, also where a normalization makes it redundant by subtracting the mean: arms
then share all parameters that any of them trains, and differ in the normalization's own only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeGuard

from torch import Tensor, nn

from landscape.errors import UsageError, nearest
from landscape.normalization import Normalization, normalization
from landscape.normalization.initial import INITS
from landscape.streams import stream

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


Planned = int | str | Sequence[int]  # a convolution's channels, a pool "M", or (channels, kernel)
PLACEMENTS = ("before", "after")  # of the normalization, seen from the activation


class Block(nn.Sequential):
    """A normalized layer: children ``linear``, ``norm`` and ``activation``, in the order that they act."""

    linear: nn.Module
    norm: nn.Module

    def __init__(self, layers: OrderedDict[str, nn.Module], norm: Normalization) -> None:
        super().__init__(layers)
        self.normalized_by = norm.name

    def normalize_weights(self) -> None:
        """Put the normalization's linear map in the place of the plain one, once that has its initial weights."""
        entry = normalization(self.normalized_by)
        if entry.linear is not None and self.inputs >= entry.inputs:
            self.linear = entry.linear(self.linear)

    @property
    def inputs(self) -> int:
        """How many inputs a unit of the linear map has."""
        weight = self.linear.weight
        assert isinstance(weight, Tensor)
        return weight[0].numel()


def block(
    linear: nn.Module, norm: str, features: int, ndim: int, activation: str | None, *, placement: str = "before"
) -> Block:
    """``linear``, the normalization called ``norm`` for its ``features`` outputs, and the activation.

    Args:
        linear: the linear map or convolution.
        norm: a normalization's name.
        features: how many units ``linear`` has.
        ndim: dimensions of its output, the batch among them.
        activation: a name of ``ACTIVATIONS``; None for a block that ends with the normalization.
        placement: the normalization stands "before" the activation or "after" it.

    Raises:
        UsageError: no normalization, activation or placement of that name.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise UsageError(f"there is no activation {activation!r}; {nearest(activation, list(ACTIVATIONS))}")
    if placement not in PLACEMENTS:
        raise UsageError(f"there is no placement {placement!r}; {nearest(placement, list(PLACEMENTS))}")
    chosen = normalization(norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict(linear=linear, norm=chosen.build(features, ndim))
    if activation is not None:
        nonlinearity = ACTIVATIONS[activation]()
        own = chosen.activation
        layers["activation"] = nonlinearity if own is None else own(nonlinearity, features, ndim)
    if placement == "after":
        layers.move_to_end("norm")
    return Block(layers, chosen)


def output(features: int, outputs: int, *, bias: bool = True) -> nn.Sequential:
    """The last layer: a linear map alone, never normalized."""
    return nn.Sequential(OrderedDict(linear=nn.Linear(features, outputs, bias=bias)))


def fully_connected(
    widths: Sequence[int], norm: str, activation: str, *, bias: bool = True, placement: str = "before"
) -> OrderedDict[str, nn.Module]:
    """Blocks fc1, fc2, ... through ``widths`` = (inputs, hidden..., outputs); the last is the output layer.

    Raises:
        UsageError: a width is not a positive whole number.
    """
    for width in widths:
        if not _positive(width):
            raise UsageError(f"layer widths have to be positive whole numbers, got {width!r} in {list(widths)}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(len(widths) - 2):
        linear = nn.Linear(widths[i], widths[i + 1], bias=bias)
        layers[f"fc{i + 1}"] = block(linear, norm, widths[i + 1], 2, activation, placement=placement)
    layers[f"fc{len(widths) - 1}"] = output(widths[-2], widths[-1], bias=bias)
    return layers


def convolutions(
    channels: int, plan: Sequence[Planned], norm: str, activation: str, *, placement: str = "before"
) -> tuple[OrderedDict[str, nn.Module], int]:
    """Blocks conv1, conv2, ... of convolutions with stride 1 and equal size, with 2x2 max pools at each "M".

    Args:
        channels: of the input.
        plan: a number of channels, convolved 3x3; (channels, kernel) for another odd kernel; "M" for a pool.
        norm: the normalization of each convolution.
        activation: a name of ``ACTIVATIONS``.
        placement: of the normalization, "before" or "after" the activation.

    Returns:
        The layers, in which pools are pool1, pool2, ..., and the channels that leave the last.

    Raises:
        UsageError: an entry of the plan is none of these.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    convolved = pooled = 0
    for entry in plan:
        if entry == "M":
            pooled += 1
            layers[f"pool{pooled}"] = nn.MaxPool2d(2)
            continue
        features, kernel = entry if isinstance(entry, (tuple, list)) and len(entry) == 2 else (entry, 3)
        if not _positive(features) or not _positive(kernel) or kernel % 2 == 0:
            raise UsageError(
                f"channels are positive whole numbers, pairs of one and an odd kernel, and 'M' (a pool), got {entry!r} "
                f"in {list(plan)}"
            )
        convolved += 1
        linear = nn.Conv2d(channels, features, kernel, padding=kernel // 2)
        layers[f"conv{convolved}"] = block(linear, norm, features, 4, activation, placement=placement)
        channels = features
    return layers, channels


def _positive(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def image_shape(input_shape: Sequence[int], smallest: int, why: str) -> tuple[int, int, int]:
    """``input_shape`` as (channels, height, width), at least ``smallest`` on each side.

    Raises:
        UsageError: it is no image's shape, or smaller; the message ends with ``why``.
    """
    if len(input_shape) != 3:
        raise UsageError(
            f"this network takes images (channels, height, width), the data's shape is {tuple(input_shape)}"
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise UsageError(f"this network needs images of {smallest}x{smallest} or more, got {height}x{width}: {why}")
    return channels, height, width


def initialized(model: nn.Module, init: str | None, seed: int, default: str = "he") -> nn.Module:
    """Draw every linear and convolution weight from its own stream "weights/NAME"; set their biases to zero.

    Embeddings are N(0, 1) under each initialization.

    A weight depends on (seed, its name, its shape, init) alone, so arms agree bit for bit on all that they share.
    Normalizations of weights act afterwards, on these weights.

    Args:
        model: the network, with plain layers.
        init: a name of ``INITS``; None for the one that the network's normalization is defined with, else ``default``.
        seed: of the weights.
        default: the network's own initialization.

    Raises:
        UsageError: no initialization of that name, or a normalization that acts nowhere in this network.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    _require_effect(blocks)
    own = [normalization(block.normalized_by).init for block in blocks]
    chosen = init if init is not None else next(filter(None, own), default)
    if chosen not in INITS:
        raise UsageError(f"there is no initialization {chosen!r}; {nearest(chosen, list(INITS))}")
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=stream(seed, f"weights/{name}.weight"))
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            INITS[chosen](module.weight, seed, f"weights/{name}.weight")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in blocks:
        block.normalize_weights()
    return model


def _require_effect(blocks: Sequence[Block]) -> None:
    """Refuse a network that a normalization leaves as it is, since it would be compared with itself."""
    for name in {block.normalized_by for block in blocks} - {"none"}:
        entry, own = normalization(name), [block for block in blocks if block.normalized_by == name]
        if entry.linear is not None:
            acts = any(block.inputs >= entry.inputs for block in own)
        else:
            elsewhere = entry.activation is not None or entry.init is not None
            acts = elsewhere or not all(isinstance(block.norm, nn.Identity) for block in own)
        if not acts:
            other = "a convolutional network" if entry.linear is None else "more inputs or hidden layers"
            raise UsageError(
                f"the normalization {name!r} acts nowhere in this network: it is over {entry.over}, and needs "
                f"{entry.needs}; use {other}, or another normalization"
            )
