"""The whole spectrum of the Hessian or the Gauss-Newton matrix as a density, from a few Lanczos runs.

Stochastic Lanczos quadrature: each draw's nodes and weights are a Gauss quadrature of the spectrum, so that moments,
the negative share and the bulk come with their own uncertainty, the spread between draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.krylov.density import Quadrature, quadrature
from landscape.krylov.memory import place
from landscape.objective import Batch, LossFunction
from landscape.parameters import Selection
from landscape.probes.base import Measurement, Moment
from landscape.probes.blocks import BlockProbe
from landscape.products import curvature_operator
from landscape.streams import stream_seed

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
POINTS = 513
#: Vectors beside the basis.
BESIDE = 4


@dataclass(frozen=True)
class SpectralDensity:
    """The eigenvalue density, its band over draws, and the quadratures it is made of; float64 on the CPU.

    Attributes:
        grid: eigenvalues. (p,)
        density: mean over draws, with a Gaussian of standard deviation ``width`` for each node; its integral is 1. (p,)
        lower: lower end of the mean's 95 % t interval over draws, at least 0; NaN for one draw. (p,)
        upper: upper end. (p,)
        nodes: Ritz values of each draw, ascending. (d, m)
        weights: their shares, summing to 1 over a draw. (d, m)
        width: of the Gaussians, in units of eigenvalues.
        negative_share: the part of the n eigenvalues that is negative, mean over draws.
        negative_share_error: its standard error; NaN for one draw.
        products: products with H that it took.
        operator: "hessian" or "ggn".
        dtype: the arithmetic of the products, e.g. "float32".
    """

    grid: Tensor
    density: Tensor
    lower: Tensor
    upper: Tensor
    nodes: Tensor
    weights: Tensor
    width: float
    negative_share: float
    negative_share_error: float
    products: int
    operator: str
    dtype: str

    def frame(self) -> pd.DataFrame:
        """One row per point of the grid."""
        import pandas as pd

        names = ("grid", "density", "lower", "upper")
        return pd.DataFrame({name: getattr(self, name).tolist() for name in names})


def spectral_density(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    *,
    draws: int = 8,
    steps: int = 40,
    grid: Tensor | None = None,
    width: float | None = None,
    operator: str = "hessian",
    parameters: Selection = None,
    layers: Sequence[str] | None = None,
    statistics: str = "batch",
    seed: int = 0,
    memory_limit: float | None = None,
    offload: bool | None = None,
) -> SpectralDensity:
    r"""phi(t) = 1/n sum over eigenvalues of N(t; lambda, width^2), by stochastic Lanczos quadrature.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, a mean over the batch.
        batches: a list of batches (weighted by their sizes), ``Batches``, or one batch that is not a list.
        draws: random starts.
        steps: nodes of each quadrature; fewer vectors where memory asks for it.
        grid: eigenvalues at which to give the density, (p,); None: 513, a little beyond the nodes.
        width: of the Gaussians; None: 1 % of the range of the nodes.
        operator: "hessian" or "ggn".
        parameters: restrict w to a name pattern or predicate.
        layers: restrict w to the parameters of these modules: the spectrum of their diagonal block.
        statistics: "batch" or "running".
        seed: of the random starts.
        memory_limit: bytes for the vectors, and for the graphs of several batches; half of what is free if None.
        offload: True keeps vectors on the CPU, False on the model's device; None: the CPU if they don't fit.

    Raises:
        UsageError: no draws or steps, or another argument that is not what it has to be.
        ProbeError: not enough memory, nothing trainable, complex weights, no Gauss-Newton matrix.

    Cost: draws x steps products.

    >>> w = nn.Linear(3, 1, bias=False)
    >>> curvatures = torch.tensor([5.0, 4.0, -2.0])
    >>> saddle = lambda model, batch: (curvatures * model.weight.square()).sum() / 2
    >>> [round(x, 3) for x in spectral_density(w, saddle, None, draws=2).nodes[0].tolist()]
    [-2.0, 4.0, 5.0]
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
        wanted = max(min(steps, n), 1) + BESIDE
        device, room = place(n, wanted, min(wanted, 8 + BESIDE), H.dtype, H.parameters.device, memory_limit, offload)
        rule = quadrature(
            H,
            n,
            draws=draws,
            steps=min(steps, room - BESIDE),
            seed=stream_seed(seed, "spectral_density"),
            dtype=H.dtype,
            device=device,
        )
    return _density(rule, grid, width, operator, dtype)


def _density(rule: Quadrature, grid: Tensor | None, width: float | None, operator: str, dtype: str) -> SpectralDensity:
    low, high = float(rule.nodes.min()), float(rule.nodes.max())
    reach = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-12)
    width = 0.01 * reach if width is None else width
    if grid is None:
        grid = torch.linspace(low - 5 * width, high + 5 * width, POINTS, dtype=torch.float64)
    each = rule.density(grid.double(), width)
    mean, error, quantile = each.mean(dim=0), _standard_error(each), _student(len(each) - 1)
    negative = torch.where(rule.nodes < -_floor(rule), rule.weights, torch.zeros_like(rule.weights)).sum(dim=1)
    return SpectralDensity(
        grid=grid,
        density=mean,
        lower=(mean - quantile * error).clamp_min(0.0),
        upper=mean + quantile * error,
        nodes=rule.nodes,
        weights=rule.weights,
        width=width,
        negative_share=float(negative.mean()),
        negative_share_error=float(_standard_error(negative)),
        products=rule.products,
        operator=operator,
        dtype=dtype,
    )


def _floor(rule: Quadrature) -> float:
    """Below this a float32 product can't tell an eigenvalue from zero."""
    return 1e-6 * float(rule.nodes.abs().max())


def _standard_error(each: Tensor) -> Tensor:
    """Of the mean over draws; NaN for one."""
    if len(each) < 2:
        return torch.full_like(each[0], math.nan)
    return each.std(dim=0) / math.sqrt(len(each))


def _student(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1), 0.975))


class SpectralDensityProbe(BlockProbe):
    """``spectral_density`` inside a training loop: nodes and weights as arrays, and the negative share.

    Args:
        draws: random starts.
        steps: nodes of each quadrature.
        operator: "hessian" or "ggn".
        on: "same", "held-out" or "full".
        layers: a block for each of these modules; the whole matrix if None.
        statistics: "batch" or "running".
    """

    name = "spectral_density"
    version = VERSION

    def __init__(
        self,
        draws: int = 4,
        steps: int = 30,
        operator: str = "hessian",
        on: str = "same",
        layers: Sequence[str] | None = None,
        statistics: str = "batch",
    ) -> None:
        super().__init__(operator, on, layers, statistics)
        self.draws, self.steps = draws, steps

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return self.cost(self.draws * self.steps + 1, full)

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One density at this moment, for each block."""
        for layer, arguments in self.blocks(moment):
            found = spectral_density(**arguments, draws=self.draws, steps=self.steps)
            values: dict[str, Any] = {
                "nodes": found.nodes.numpy(),
                "weights": found.weights.numpy(),
                "negative_share": found.negative_share,
                "negative_share_error": found.negative_share_error,
                "products": float(found.products),
            }
            yield from self.rows(values, layer, self.operator, found.dtype)
