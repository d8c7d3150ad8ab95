r"""The gradients of a linear map's weight at many points, compared within the span of the map's inputs.

The gradient is S^T x, with S the loss's derivatives by the output (m, out) and the inputs x (m, in), the same at every
point. Its rows lie in the span of x's, whose number m is often far below their length. With x = L Q, L lower triangular
(m, m) and Q of orthonormal rows, S^T L has the norm, the distances and the inner products of S^T x, in m columns
instead of all: autograd is handed zeros in the gradient's place, and S^T x is never made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class LinearMap(torch.autograd.Function):
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
        """The output, and what the backward pass needs."""
        ctx.save_for_backward(x.reshape(-1, x.shape[-1]))  # as F.linear does: a checkpoint makes it again with that
        ctx.weigh = weigh
        return output()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Derivatives by weight and bias."""
        (rows,) = ctx.saved_tensors
        g = gradients[0].reshape(-1, gradients[0].shape[-1])  # (samples, out)
        weight = ctx.weigh(g, rows) if ctx.needs_input_grad[0] else None
        bias = g.sum(0) if ctx.needs_input_grad[1] else None
        return weight, bias, None, None, None


def whole(signal: Tensor, rows: Tensor) -> Tensor:
    """S^T x, (out, in)."""
    return signal.t() @ rows


def saves(x: Tensor, out: int, points: int) -> bool:
    """Whether comparing at so many points within the span saves more than finding coordinates takes (by LAPACK)."""
    m, inner = x.shape[:-1].numel(), x.shape[-1]
    return x.device.type == "cpu" and points * out * (inner - m) >= 4 * inner * m


class WithinSpan:
    """One map's weight: what its gradients are within the span of the inputs, at w and at the point of the last pass.

    Args:
        weight: of the map. (out, in)
        x: what feeds it. (..., in)
    """

    def __init__(self, weight: Tensor, x: Tensor) -> None:
        self._weight, self._rows = weight, x.reshape(-1, x.shape[-1])
        self._root: Tensor | None = None  # L
        self._handed: Tensor | None = None  # the gradient at w, as autograd was handed it
        self._gradient0: Tensor | None = None  # the same within the span, (out, m)
        self._signal: Tensor | None = None  # S of the last pass at a point
        self._stand_in: Tensor | None = None  # what was handed to autograd there

    def _coordinates(self, signal: Tensor) -> Tensor:
        if self._root is None:
            self._root = torch.linalg.qr(self._rows.t(), mode="r").R.t()
        return signal.t() @ self._root

    def at_w(self, signal: Tensor, rows: Tensor) -> Tensor:
        """The gradient at w, noted."""
        self._handed, self._gradient0 = whole(signal, rows), self._coordinates(signal)
        return self._handed

    def confirm(self, gradient0: Tensor) -> None:
        """Compare within the span only if the weight's gradient at w is the one that this map made.

        Else the loss reads the weight in another way too, feeds the map twice, or a hook changes the gradient.
        """
        handed, self._handed = self._handed, None
        if handed is None or handed._version or not gradient0.is_set_to(handed):
            self._gradient0 = None

    def at_point(self, signal: Tensor, rows: Tensor) -> Tensor:
        """Zeros in the place of a gradient that ``pair`` makes of this signal.

        Or the gradient, at the map's second use and under a hook of the user's, which would see the zeros.
        """
        if self._gradient0 is None or self._signal is not None or self._weight._backward_hooks:
            return whole(signal, rows)
        self._signal = signal.clone()  # somebody else's backward may yet write into it
        self._stand_in = signal.new_zeros(()).expand_as(self._weight)
        return self._stand_in

    def pair(self, gradient: Tensor, gradient0: Tensor) -> tuple[Tensor, Tensor]:
        """The weight's gradients at the last point and at w, of equal norms, distance and inner product."""
        signal, stand_in, self._signal, self._stand_in = self._signal, self._stand_in, None, None
        if signal is None or stand_in is None or self._gradient0 is None:
            return gradient, gradient0
        if gradient.is_set_to(stand_in):
            return self._coordinates(signal), self._gradient0
        # here the loss reads the weight in another way too; that part was added to the zeros handed out
        return torch.addmm(gradient, signal.t(), self._rows), gradient0
