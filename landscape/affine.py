r"""The first linear map of a network on a line or a plane of weights: a matrix product for w, and one for each axis.

A layer that is fed by the batch itself computes, at w - eta v,

    x (W - eta V)^T + (b - eta c) = (x W^T + b) - eta (x V^T + c),

and neither bracket depends on eta; on a plane there is a third. In a multi-layer perceptron on flat images that
product is most of the forward pass, so a sweep costs a quarter less. The two sides differ by the rounding of
either. Nor do the weights of such a layer have to be moved where nothing else reads them.

Its gradient, S^T x with S the loss's derivatives by the layer's output, has every row in the span of the inputs, whose
number m is often far below their length. With x = L Q, L lower triangular (m, m) and Q of orthonormal rows, S^T L has
the norm, the distances and the inner products of S^T x at every point of the line, in m columns instead of all.
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

#: What the products of all mini-batches may take together; maps beyond that are computed at each point.
MEMORY = 2**28
_NESTS = (tuple, list, dict)


class _Linear(torch.autograd.Function):
    """The output of a linear map, however it was made, with that map's derivatives.

    ``weigh`` gives the weight's gradient, or what stands in for it, from the derivatives by the output and the inputs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor | None,
        x: Tensor,
        output: Callable[[], Tensor],
        weigh: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x.reshape(-1, x.shape[-1]))  # as F.linear does: a checkpoint makes it again with that
        ctx.weigh = weigh
        return output()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        g = gradients[0].reshape(-1, gradients[0].shape[-1])  # (samples, out)
        weight = ctx.weigh(g, rows) if ctx.needs_input_grad[0] else None
        bias = g.sum(0) if ctx.needs_input_grad[1] else None
        return weight, bias, None, None, None


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
    signal: Tensor | None = None  # the loss's derivatives by the output in the last backward pass, (m, out)
    stand_in: Tensor | None = None  # what was handed to autograd there as the weight's gradient
    root: Tensor | None = None  # L with x x^T = L L^T
    whole: Tensor | None = None  # the weight's gradient at w, as it was handed to autograd
    gradient0: Tensor | None = None  # the same within the span of the inputs, (out, m)

    @property
    def inputs(self) -> Tensor:
        """The inputs as rows, (m, in)."""
        return self.x.reshape(-1, self.x.shape[-1])

    def gradient(self, signal: Tensor) -> Tensor:
        """The weight's gradient within the span of the inputs, (out, m)."""
        if self.root is None:
            self.root = torch.linalg.qr(self.inputs.t(), mode="r").R.t()
        return signal.t() @ self.root

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
        compared: at how many points of a line the gradient is taken to be handed to ``comparable``; it is whole if 0.
    """

    def __init__(self, parameters: Sequence[Tensor], batch: Batch, *, compared: int = 0) -> None:
        super().__init__()
        self._compared = compared
        self._running = False
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
        """Say, before the first point, what the gradient at w is.

        Where a weight's is not the one that its layer made, the loss reads the weight in another way too, feeds the
        layer twice or changes its gradient in a hook, and it is made whole at all points.
        """
        for layer in self._layers:
            whole, layer.whole = layer.whole, None
            if whole is None or whole._version or not gradient0[self._block[id(layer.weight)]].is_set_to(whole):
                layer.gradient0 = None

    def comparable(self, gradient: Blocks, gradient0: Blocks) -> tuple[Blocks, Blocks]:
        """The gradient of the last evaluation and that at w, in blocks of equal norms, distances and inner products.

        Those of a weight whose gradient lies in the span of a few inputs are its coordinates there.
        """
        a, b = list(gradient), list(gradient0)
        for layer in self._layers:
            if layer.signal is None or layer.stand_in is None or layer.gradient0 is None:
                continue
            k = self._block[id(layer.weight)]
            if a[k].is_set_to(layer.stand_in):
                a[k], b[k] = layer.gradient(layer.signal), layer.gradient0
            else:  # here the loss reads the weight in another way too; that part was added to the zeros handed out
                a[k] = torch.addmm(a[k], layer.signal.t(), layer.inputs)
            layer.signal = layer.stand_in = None
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
        combined: Tensor = _Linear.apply(weight, bias, input, output, partial(self._deferred, layer))  # type: ignore[no-untyped-call]
        return combined

    def _deferred(self, layer: _Layer, signal: Tensor, rows: Tensor) -> Tensor:
        """Zeros in the place of a weight's gradient, which ``comparable`` makes of this signal; or the gradient.

        That where the loss takes a gradient of its own, at the layer's second use, and under a hook of the user's,
        which would see the zeros.
        """
        if layer.gradient0 is None or layer.signal is not None or self._running or layer.weight._backward_hooks:
            return signal.t() @ rows
        layer.signal = signal.clone()  # somebody else's backward may yet write into it
        layer.stand_in = signal.new_zeros(()).expand_as(layer.weight)
        return layer.stand_in

    def _whole(self, layer: _Layer, signal: Tensor, rows: Tensor) -> Tensor:
        """The weight's gradient at w by this layer, noted unless the loss takes it for itself."""
        gradient = signal.t() @ rows
        if not self._running:
            layer.whole, layer.gradient0 = gradient, layer.gradient(signal)
        return gradient

    def _noted(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map at w, kept if its products can be shared."""
        if not self._is_shareable(input, weight, bias) or self._known(input, weight, bias) is not None:
            return F.linear(input, weight, bias)
        size = 4 * input.shape[:-1].numel() * len(weight) * weight.element_size()  # at w, along two axes, and the row
        if self._held + size > MEMORY:
            return F.linear(input, weight, bias)
        self._held += size
        self._weights.add(id(weight))
        compressed = torch.is_grad_enabled() and self._is_compressible(input, weight)
        with torch.no_grad() if compressed else nullcontext():
            y = F.linear(input, weight, bias)
        # A copy for either: what comes next may write into what it is given.
        layer = _Layer(weight, bias, input, input._version, y if compressed else y.detach().clone())
        self._layers.append(layer)
        if compressed:
            return _Linear.apply(weight, bias, input, layer.base.clone, partial(self._whole, layer))  # type: ignore[no-any-return, no-untyped-call]
        return y

    def _is_compressible(self, x: Tensor, weight: Tensor) -> bool:
        """Whether gradients in the span of the inputs save more than finding its coordinates takes (by LAPACK)."""
        m, inner, out = x.shape[:-1].numel(), x.shape[-1], len(weight)
        saved = self._compared * out * (inner - m)
        return x.device.type == "cpu" and saved >= 4 * inner * m

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
