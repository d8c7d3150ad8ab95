r"""Curvature along the gradient: g'Hg / ||g||^2, one exact Hessian-vector product.

Times the learning rate it says how far from the edge of stability a step is: 2 on a quadratic is the
largest stable step. Finite differences of gradients are useless on ReLU networks, so this is autograd's.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from landscape.objective import Batch, LossFunction
from landscape.parameters import Selection, dot
from landscape.probes.base import Measurement, Moment, measurements
from landscape.products import curvature_operator, whole

VERSION = 1


def gradient_curvature(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    *,
    parameters: Selection = None,
    statistics: str = "batch",
) -> Tensor:
    r"""g'Hg / ||g||^2: the second derivative of the loss along its own gradient, per unit length squared.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: a nest of tensors, or ``Batches``.
        parameters: restrict w.
        statistics: "batch" or "running".

    Returns:
        A scalar tensor on the model's device, not synchronised. Attention runs its math kernel, since
        the fused ones have no double backward.

    Raises:
        ProbeError: nothing trainable, or a model that can't be probed in one process.

    >>> w = nn.Linear(2, 1, bias=False)
    >>> quadratic = lambda model, batch: 2.5 * model.weight.square().sum()
    >>> round(float(gradient_curvature(w, quadratic, None)), 4)  # H = 5 everywhere
    5.0
    """
    with curvature_operator(model, loss_fn, whole(batch), parameters=parameters, statistics=statistics) as H:
        g = H.gradient
        return dot(g, H.product(g)) / dot(g, g)


class CurvatureProbe:
    """``gradient_curvature`` inside a training loop, raw and times the learning rate."""

    name = "curvature"
    version = VERSION

    def __init__(self, on: str = "same", statistics: str = "batch") -> None:
        self.on, self.statistics = on, statistics

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return 3.0 * (full if self.on == "full" else 1)

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One Hessian-vector product at this moment."""
        value = gradient_curvature(moment.model, moment.loss_fn, moment.named(self.on), statistics=self.statistics)
        dtype = str(value.dtype).removeprefix("torch.")
        rows = {"gradient_curvature": float(value)}
        if moment.learning_rate is not None:
            rows["step_curvature"] = moment.learning_rate * float(value)
        yield from measurements(self, rows, batch=self.on, statistics=self.statistics, dtype=dtype)
