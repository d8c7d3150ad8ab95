r"""The first linear map of a network on a line or a plane of weights: a matrix product for w, and one for each axis.

A layer that is fed by the batch itself computes, at w - eta v,

    x (W - eta V)^T + (b - eta c) = (x W^T + b) - eta (x V^T + c),

and neither bracket depends on eta; on a plane there is a third. In a multi-layer perceptron on flat images that
product is most of the forward pass, so a sweep costs a quarter less. The two sides differ by the rounding of
either. Nor do the weights of such a layer have to be moved where nothing else reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from landscape.objective import Batch, Batches, tensors_of
from landscape.parameters import Blocks
from landscape.span import LinearMap, WithinSpan, saves, whole

#: What the products of all mini-batches may take together; maps beyond that are computed at each point.
MEMORY = 2**28
_NESTS = (tuple, list, dict)


@dataclass
class _Layer:
    """A linear map met at w: its input, its output there, and its output's slope along each axis."""

    weight: Tensor
    bias: Tensor | None
    x: Tensor
    version: int
    base: Tensor
    slopes: list[Tensor] = field(default_factory=list)
    row: tuple[float, Tensor] | None = None
    span: WithinSpan | None = None

    def is_call(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether this is the same map of the same, unchanged input."""
        if weight is not self.weight or bias is not self.bias:
            return False
        return x.is_set_to(self.x) and x.dtype == self.x.dtype and x._version == self.version

    def before_last(self, steps: Sequence[float]) -> Tensor:
        """The output moved along the first axis of a plane, kept for the rest of that row of points."""
        if len(steps) == 1:
            return self.base
        if self.row is None or self.row[0] != steps[0]:
            self.row = steps[0], torch.add(self.base, self.slopes[0], alpha=-steps[0])
        return self.row[1]


class SharedFirstLayer(TorchFunctionMode):
    """Linear maps that the batch itself feeds, evaluated at w and combined on a line or a plane through it.

    As a context it notes them; ``at(axes, steps)`` is the context of an evaluation at w - sum_k steps_k axes_k,
    in which their products are not computed again. The weights have to be moved as well, by ``move``: whoever else
    reads them finds what belongs there. Taken only where both are the same function: a float32 or
    float64 call of ``F.linear`` outside autocast, with a parameter as weight, on a tensor that shares
    memory with the batch and was not written to in between. All else runs as it would.

    Args:
        parameters: the blocks of w.
        batch: what the loss is evaluated on, or a list of such; for ``Batches`` nothing is noted.
        compared: at how many points of a line the gradient is handed to ``comparable``: ``landscape.span``; whole if 0.
    """

    def __init__(self, parameters: Sequence[Tensor], batch: Batch, *, compared: int = 0) -> None:
        super().__init__()
        self._compared = compared
        self._running = False
        self._gradient0: Blocks = []
        self._parameters = parameters
        self._block = {id(p): k for k, p in enumerate(parameters)}
        inputs = () if isinstance(batch, Batches) else tensors_of(batch)
        self._memory = {_memory(t) for t in inputs} - {None}
        self._layers: list[_Layer] = []
        self._weights: set[int] = set()
        self._held = 0
        self._axes: Sequence[Sequence[Tensor]] | None = None
        self._steps: Sequence[float] = ()
        self._late: dict[int, Tensor] = {}
        self._place: tuple[Sequence[Tensor], Sequence[Tensor], float] | None = None

    def __enter__(self) -> Self:
        self._running = True
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._running = False
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    @property
    def found(self) -> bool:
        """Whether there is a map to share."""
        return bool(self._layers)

    def at(self, axes: Sequence[Sequence[Tensor]], steps: Sequence[float]) -> AbstractContextManager[object]:
        """The context of an evaluation at w - sum_k steps_k axes_k, with the same one or two axes at every call."""
        self._axes, self._steps = axes, steps
        return self if self._layers else nullcontext()

    def confirm(self, gradient0: Blocks) -> None:
        """Say, before the first point, what the gradient at w is that others are compared with."""
        self._gradient0 = gradient0
        for layer in self._layers:
            if layer.span is not None:
                layer.span.confirm(gradient0[self._block[id(layer.weight)]])

    def comparable(self, gradient: Blocks) -> tuple[Blocks, Blocks]:
        """The gradient of the last evaluation and that at w, in blocks of equal norms, distances and inner products."""
        a, b = list(gradient), list(self._gradient0)
        for layer in self._layers:
            if layer.span is not None:
                k = self._block[id(layer.weight)]
                a[k], b[k] = layer.span.pair(a[k], b[k])
        return a, b

    def move(self, start: Sequence[Tensor], direction: Sequence[Tensor], step: float) -> None:
        """w <- start - step * direction, as ``Parameters.move``, without the weights that ``leave_late`` named.

        They follow when a call in this context other than the layer's own is handed one of them.
        """
        self._place = (start, direction, step) if self._late else None
        for k, p in enumerate(self._parameters):
            if id(p) not in self._late:
                torch.add(start[k], direction[k], alpha=-step, out=p.data)

    def leave_late(self, late: bool) -> None:
        """Whether the weights of the layers that were noted are moved only when they are read.

        Not where what feeds such a layer was written to: it may be computed anew at every point.
        """
        late = late and all(layer.x._version == layer.version for layer in self._layers)
        tensors = [t for layer in self._layers for t in (layer.weight, layer.bias) if t is not None] if late else []
        self._late = {id(t): t for t in tensors if id(t) in self._block}

    @property
    def leaves_late(self) -> bool:
        """Whether some weights are moved only when they are read."""
        return bool(self._late)

    def catch_up(self) -> None:
        """Move what was left behind."""
        if self._place is None:
            return
        (start, direction, step), self._place = self._place, None
        for key, p in self._late.items():
            k = self._block[key]
            torch.add(start[k], direction[k], alpha=-step, out=p.data)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls of ``F.linear`` are looked at; every other call is made as it is."""
        if func is F.linear and self._memory:
            return self._linear(*args, **(kwargs or {}))
        if self._place is not None and (self._holds_late(args) or (kwargs and self._holds_late(kwargs.values()))):
            self.catch_up()
        return func(*args, **(kwargs or {}))

    def _holds_late(self, parts: Collection[Any]) -> bool:
        if not self._late.keys().isdisjoint(map(id, parts)):
            return True
        for part in parts:
            if isinstance(part, _NESTS) and self._holds_late(part.values() if isinstance(part, dict) else part):
                return True
        return False

    def _plain(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self._holds_late((input, weight, bias)):
            self.catch_up()
        return F.linear(input, weight, bias)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self._axes is None:
            return self._noted(input, weight, bias)
        if id(weight) not in self._weights or not self._is_shareable(input, weight, bias):
            return self._plain(input, weight, bias)
        layer = self._known(input, weight, bias)
        if layer is None:
            return self._plain(input, weight, bias)
        if not layer.slopes:
            layer.slopes = [self._slope(axis, input, weight, bias) for axis in self._axes]
        start = layer.before_last(self._steps)
        if not torch.is_grad_enabled():
            return torch.add(start, layer.slopes[-1], alpha=-self._steps[-1])
        output = partial(torch.add, start, layer.slopes[-1], alpha=-self._steps[-1])
        return self._mapped(layer, output, whole if layer.span is None else layer.span.at_point)

    def _mapped(self, layer: _Layer, output: Callable[[], Tensor], weigh: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The layer's output; ``weigh`` gives its weight's gradient, unless the loss takes it for itself."""

        def gradient(signal: Tensor, rows: Tensor) -> Tensor:
            return (whole if self._running else weigh)(signal, rows)

        mapped: Tensor = LinearMap.apply(layer.weight, layer.bias, layer.x, output, gradient)  # type: ignore[no-untyped-call]
        return mapped

    def _noted(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map at w, kept if its products can be shared."""
        if not self._is_shareable(input, weight, bias) or self._known(input, weight, bias) is not None:
            return F.linear(input, weight, bias)
        size = 4 * input.shape[:-1].numel() * len(weight) * weight.element_size()  # at w, along two axes, and the row
        if self._held + size > MEMORY:
            return F.linear(input, weight, bias)
        self._held += size
        self._weights.add(id(weight))
        if torch.is_grad_enabled() and saves(input, len(weight), self._compared):
            with torch.no_grad():
                base = F.linear(input, weight, bias)
            span = WithinSpan(weight, input)
            layer = _Layer(weight, bias, input, input._version, base, span=span)
            y = self._mapped(layer, base.clone, span.at_w)  # a copy: what comes next may write into what it is given
        else:
            y = F.linear(input, weight, bias)
            layer = _Layer(weight, bias, input, input._version, y.detach().clone())
        self._layers.append(layer)
        return y

    def _known(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> _Layer | None:
        return next((layer for layer in self._layers if layer.is_call(input, weight, bias)), None)

    def _slope(self, axis: Sequence[Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """How the output changes along an axis; a bias that is no part of w stays."""
        k = None if bias is None else self._block.get(id(bias))
        with torch.no_grad():
            return F.linear(x, axis[self._block[id(weight)]], None if k is None else axis[k])

    def _is_shareable(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether the map is affine in w, on an input that is the same at each of its points."""
        return (
            id(weight) in self._block
            and (bias is None or bias.is_leaf)  # a computed one may move in another way
            and weight.ndim == 2
            and weight.dtype in (torch.float32, torch.float64)
            and not x.requires_grad
            and not x.is_nested
            and not x.is_inference()
            and not torch._C._are_functorch_transforms_active()  # torch.func takes no function without their rules
            and forward_ad.unpack_dual(x).tangent is None  # type: ignore[no-untyped-call]
            and not torch.is_autocast_enabled(x.device.type)
            and _memory(x) in self._memory
        )


def _memory(tensor: Tensor) -> int | None:
    """Where a tensor's storage lies; None for one that has none of its own (sparse, batched by vmap)."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):
        return None
