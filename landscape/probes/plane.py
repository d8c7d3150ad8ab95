r"""The first linear map of a network over a plane of weights: three matrix products serve every point of it.

A layer that the batch itself feeds computes, at w + a u + b v,

    x (W + a U + b V)^T = x W^T + a x U^T + b x V^T

(biases alike), and none of the three depends on a or b. In a multi-layer perceptron on flat images that
product is most of the forward pass. The two sides differ by the rounding of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from landscape.objective import Batches, tensors_of
from landscape.parameters import Blocks

#: What the three products of all mini-batches may take together; layers beyond that are computed at each point.
MEMORY = 2**28


@dataclass
class _Map:
    """A linear map that the batch feeds: its input, its output at w, and what each axis adds to that."""

    weight: Tensor
    bias: Tensor | None
    x: Tensor
    version: int
    base: Tensor
    slopes: list[Tensor] = field(default_factory=list)
    row: tuple[float, Tensor] | None = None

    def is_call(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether this is the same map of the same input, not written to since."""
        same = weight is self.weight and bias is self.bias and x.dtype == self.x.dtype
        return same and x.is_set_to(self.x) and x._version == self.version

    def at(self, coordinates: tuple[float, ...]) -> Tensor:
        """The output at a point of the plane; all but the last axis is kept for the rest of the row."""
        start = self.base
        if len(coordinates) == 2:
            if self.row is None or self.row[0] != coordinates[0]:
                self.row = coordinates[0], torch.add(self.base, self.slopes[0], alpha=coordinates[0])
            start = self.row[1]
        return torch.add(start, self.slopes[-1], alpha=coordinates[-1])


class SharedFirstLayer(TorchFunctionMode):
    """Linear maps that the batch itself feeds, noted at w and combined over the plane.

    As a context it notes them; ``at(coordinates)`` is the context of an evaluation at w + a u + b v, where the
    parameters have been moved as well: whoever else reads them finds what belongs there. Taken only where both
    ways are the same function: a float32 or float64 call of ``F.linear`` without a graph and outside autocast,
    weight and bias parameters on the plane, on a tensor that shares memory with the batch and was not written
    to in between. All else runs as it would.

    Args:
        parameters: the blocks of w.
        axes: the directions, in blocks.
        batches: what the loss is evaluated on.
    """

    def __init__(self, parameters: Sequence[Tensor], axes: Sequence[Blocks], batches: Batches) -> None:
        super().__init__()
        self._block = {id(p): k for k, p in enumerate(parameters)}
        self._axes = axes
        self._inputs = {_memory(t) for t in tensors_of(batches.batches)} - {None}
        self._maps: list[_Map] = []
        self._held = 0
        self._coordinates: tuple[float, ...] | None = None

    @property
    def found(self) -> bool:
        """Whether there is a map to share."""
        return bool(self._maps)

    def at(self, coordinates: tuple[float, ...]) -> AbstractContextManager[object]:
        """The context of an evaluation at these coordinates."""
        self._coordinates = coordinates
        return self if self._maps else nullcontext()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls of ``F.linear`` are looked at; every other call is made as it is."""
        if func is F.linear:
            return self._linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self._is_shareable(input, weight, bias):
            return F.linear(input, weight, bias)
        known = next((one for one in self._maps if one.is_call(input, weight, bias)), None)
        if self._coordinates is not None:
            return F.linear(input, weight, bias) if known is None else known.at(self._coordinates)
        y = F.linear(input, weight, bias)
        size = (2 + len(self._axes)) * y.numel() * y.element_size()
        if known is None and self._held + size <= MEMORY:
            self._held += size
            slopes = [
                F.linear(input, axis[self._block[id(weight)]], None if bias is None else axis[self._block[id(bias)]])
                for axis in self._axes
            ]
            self._maps.append(_Map(weight, bias, input, input._version, y.clone(), slopes))
        return y

    def _is_shareable(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether the map is affine on the plane, with an input that is the same at each of its points."""
        return (
            id(weight) in self._block
            and (bias is None or id(bias) in self._block)
            and weight.dtype in (torch.float32, torch.float64)
            and not torch.is_grad_enabled()
            and not x.is_inference()
            and not torch.is_autocast_enabled(x.device.type)
            and _memory(x) in self._inputs
        )


def _memory(tensor: Tensor) -> int | None:
    """Where a tensor's storage lies; None for one that has none of its own (sparse, batched by vmap)."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):
        return None
