"""The trace of the Hessian or the Gauss-Newton matrix (of a layer's block, too), with a standard error.

XTrace on a trained network, where a few eigenvalues carry most of the trace; Hutchinson where the spectrum is flat;
exact where the block has no more rows than products are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from landscape.krylov.memory import place
from landscape.krylov.trace import trace
from landscape.objective import Batch, LossFunction
from landscape.parameters import Selection
from landscape.probes.base import Measurement, Moment
from landscape.probes.blocks import BlockProbe
from landscape.products import curvature_operator
from landscape.streams import stream_seed

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
#: Vectors beside those that are kept.
BESIDE = 4


@dataclass(frozen=True)
class HessianTrace:
    """tr H and how sure it is.

    Attributes:
        value: the estimate.
        standard_error: of the value; 0 where it is exact.
        products: products with H that it took.
        method: "xtrace", "hutchinson" or "exact".
        numel: n, the rows of H: value / n is the mean eigenvalue.
        operator: "hessian" or "ggn".
        dtype: the arithmetic of the products, e.g. "float32".
    """

    value: float
    standard_error: float
    products: int
    method: str
    numel: int
    operator: str
    dtype: str

    def frame(self) -> pd.DataFrame:
        """One row."""
        import dataclasses

        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(self)])


def hessian_trace(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    *,
    products: int = 60,
    method: str = "auto",
    operator: str = "hessian",
    parameters: Selection = None,
    layers: Sequence[str] | None = None,
    statistics: str = "batch",
    seed: int = 0,
    memory_limit: float | None = None,
    offload: bool | None = None,
) -> HessianTrace:
    """tr H of the mean loss over ``batches`` from a given number of products.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, a mean over the batch.
        batches: a list of batches (weighted by their sizes), ``Batches``, or one batch that is not a list.
        products: products with H to spend; exact where that is n or more.
        method: "xtrace", "hutchinson", or "auto": what the first half of the products says is better.
        operator: "hessian" or "ggn".
        parameters: restrict w to a name pattern or predicate.
        layers: restrict w to the parameters of these modules: the trace of their diagonal block.
        statistics: "batch" or "running".
        seed: of the test vectors.
        memory_limit: bytes for the vectors (as many as products for XTrace), and for the graphs of several batches;
            half of what is free if None. Where XTrace does not fit, "auto" takes Hutchinson.
        offload: True keeps vectors on the CPU, False on the model's device; None: the CPU if they don't fit.

    Raises:
        UsageError: fewer than two products, or another argument that is not what it has to be.
        ProbeError: not enough memory, nothing trainable, complex weights, no Gauss-Newton matrix.

    >>> import torch
    >>> w = nn.Linear(3, 1, bias=False)
    >>> curvatures = torch.tensor([5.0, 4.0, -2.0])
    >>> saddle = lambda model, batch: (curvatures * model.weight.square()).sum() / 2
    >>> hessian_trace(w, saddle, None).value
    7.0
    """
    with curvature_operator(
        model,
        loss_fn,
        batches,
        operator=operator,
        parameters=parameters,
        layers=layers,
        statistics=statistics,
        memory_limit=memory_limit,
    ) as H:
        n, dtype = H.parameters.numel, str(H.dtype).removeprefix("torch.")
        kept = 0 if method == "hutchinson" or products >= n else products
        least = 0 if method == "auto" else kept
        device, room = place(n, kept + BESIDE, least + BESIDE, H.dtype, H.parameters.device, memory_limit, offload)
        fits = room >= kept + BESIDE
        found = trace(
            H,
            n,
            products,
            method=method if fits else "hutchinson",
            seed=stream_seed(seed, "hessian_trace"),
            dtype=H.dtype,
            device=device,
        )
    return HessianTrace(found.value, found.standard_error, found.products, found.method, n, operator, dtype)


class HessianTraceProbe(BlockProbe):
    """``hessian_trace`` inside a training loop.

    Args:
        products: products to spend on each block.
        method: "auto", "xtrace" or "hutchinson".
        operator: "hessian" or "ggn".
        on: "same", "held-out" or "full".
        layers: a block for each of these modules; the whole matrix if None.
        statistics: "batch" or "running".
    """

    name = "hessian_trace"
    version = VERSION

    def __init__(
        self,
        products: int = 30,
        method: str = "auto",
        operator: str = "hessian",
        on: str = "same",
        layers: Sequence[str] | None = None,
        statistics: str = "batch",
    ) -> None:
        super().__init__(operator, on, layers, statistics)
        self.products, self.method = products, method

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return self.cost(self.products + 1, full)

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One estimate at this moment, for each block."""
        for layer, arguments in self.blocks(moment):
            found = hessian_trace(**arguments, products=self.products, method=self.method)
            values = {
                "trace": found.value,
                "trace_standard_error": found.standard_error,
                "mean_eigenvalue": found.value / found.numel,
                "products": float(found.products),
            }
            yield from self.rows(values, layer, self.operator, found.dtype)
