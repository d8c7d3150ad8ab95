r"""The outermost eigenvalues of the Hessian or the Gauss-Newton matrix, and where the gradient lies among them.

Restarted Lanczos with full reorthogonalization on one kept graph; stops by residuals, and then looks for what a
single start may have missed. Where no basis fits, three vectors and a second pass. Inside training each measurement
starts from the last one's eigenvectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.krylov.eigen import eigenpairs, smallest_capacity
from landscape.krylov.memory import most_vectors, room, vectors_bytes
from landscape.krylov.recompute import recomputed
from landscape.krylov.ritz import Eigenpairs
from landscape.objective import Batch, LossFunction
from landscape.parameters import Parameters, Selection, dot, flat
from landscape.preserve import unwrapped
from landscape.probes.base import Measurement, Moment
from landscape.probes.blocks import BlockProbe
from landscape.products import CurvatureOperator, curvature_operator
from landscape.streams import stream_seed

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


@dataclass(frozen=True)
class HessianEigenpairs:
    """k eigenpairs, best first: largest, smallest or farthest from zero.

    Attributes:
        eigenvalues: with their sign, float64 on the CPU; fewer where no basis fitted and no more were seen. (k,)
        eigenvectors: rows of norm one, in the order of the flat w; where there was room for them, (k, n), else those
            of the first eigenvalues only, down to (0, n).
        residuals: ||H v - lambda v||, from the recurrence. (k,)
        products: products with H that it took.
        converged: every eigenvalue's error bound lies below tol.
        verified: and a search from a fresh start found none that was missed (99 % sure).
        gradient_energy: the part of ||g||^2 that lies in the span of the eigenvectors; NaN if one is left out.
        operator: "hessian" or "ggn".
        which: "largest", "smallest" or "magnitude".
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    products: int
    converged: bool
    verified: bool
    gradient_energy: float
    operator: str
    which: str

    def frame(self) -> pd.DataFrame:
        """One row per eigenvalue, with the scalars repeated."""
        import pandas as pd

        columns = {"eigenvalue": self.eigenvalues.tolist(), "residual": self.residuals.tolist()}
        names = ("products", "converged", "verified", "gradient_energy", "operator", "which")
        return pd.DataFrame(columns | {name: getattr(self, name) for name in names})


def hessian_eigenpairs(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    *,
    k: int = 1,
    tol: float = 1e-3,
    which: str = "largest",
    operator: str = "hessian",
    parameters: Selection = None,
    layers: Sequence[str] | None = None,
    start: Tensor | None = None,
    verify: bool | None = None,
    statistics: str = "batch",
    seed: int = 0,
    max_products: int | None = None,
    max_basis: int | None = None,
    memory_limit: float | None = None,
    offload: bool | None = None,
) -> HessianEigenpairs:
    r"""H v = lambda v for the k outermost eigenvalues of the mean loss over ``batches``.

    ``tol`` bounds each eigenvalue's relative error by min(r, r^2 / gap), r = ||H v - lambda v||; an eigenvector is
    off by an angle of about r / gap, so ask for a smaller ``tol`` where the vectors matter. Afterwards a fresh random
    start is grown outside what was found, until an eigenvalue that was missed (a second copy, one of a cluster)
    would have shown itself. Sums and projected matrices are float64, products in the model's own arithmetic.

    Where not even a basis of k + 4 vectors fits, Lanczos keeps three, and makes them all a second time for the
    eigenvectors: k + 4 vectors in all, for two to five times the products. Without a basis rounding brings back
    copies of what has converged. They are taken out, and with them true second copies, which look the same: equal
    eigenvalues are reported once. A random start goes on until a different one that was missed would have shown
    itself, but ``verified`` is False: only outside a basis can a search see copies. If k + 4 vectors don't fit
    either, the first eigenvalues alone have eigenvectors, as many as fit; below four vectors the solve is refused.
    Products that don't repeat themselves (some GPU kernels) show in the residuals.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, a mean over the batch.
        batches: a list of batches (weighted by their sizes), ``Batches``, or one batch that is not a list.
        k: how many pairs.
        tol: relative error of the eigenvalues.
        which: "largest" (algebraic), "smallest" (the most negative first) or "magnitude".
        operator: "hessian", or "ggn" (J'H_L J: loss_fn calls the model once and looks at its output alone).
        parameters: restrict w to a name pattern or predicate.
        layers: restrict w to the parameters of these modules: their diagonal block.
        start: eigenvectors of an earlier, near-by solve to start from, (n,) or (p, n).
        verify: search for missed eigenvalues; None: unless there is a ``start``. Never without a basis.
        statistics: "batch" or "running".
        seed: of the random starts; the same seed gives the same numbers.
        max_products: stop there, with ``converged`` False; 100 (k + 1) unless told otherwise.
        max_basis: most vectors kept at a time, 4 k + 48 unless told otherwise; then thick restart. 0: no basis.
        memory_limit: bytes for them, and for the graphs of several batches; half of what is free if None.
        offload: True keeps vectors on the CPU, False on the model's device; None: the CPU if they don't fit.

    Raises:
        UsageError: k > n, or another argument that is not what it has to be.
        ProbeError: no memory for four vectors, nothing trainable, complex weights, no Gauss-Newton matrix.

    Cost: one forward+backward with its graph kept, then ``products`` backward passes through it (about 1.5 to 2 bare
    forward+backward passes each). Memory: ``eigenpairs_memory``, and the graph. Attention runs its math kernel.

    >>> w = nn.Linear(3, 1, bias=False)
    >>> curvatures = torch.tensor([5.0, 5.0, -2.0])
    >>> saddle = lambda model, batch: (curvatures * model.weight.square()).sum() / 2
    >>> pairs = hessian_eigenpairs(w, saddle, None, k=3)
    >>> [round(x, 4) for x in pairs.eigenvalues.tolist()]
    [5.0, 5.0, -2.0]
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
        n = H.parameters.numel
        _check(k, n, max_basis)
        device, capacity, vectors = room(n, k, max_basis, H.dtype, H.parameters.device, memory_limit, offload)
        shared: dict[str, Any] = {
            "tol": tol,
            "which": which,
            "start": start,
            "seed": stream_seed(seed, "hessian_eigenpairs"),
            "max_products": max_products,
            "dtype": H.dtype,
            "device": device,
        }
        if capacity:
            found = eigenpairs(H, n, k, capacity=capacity, verify=verify, **shared)
        else:
            found = recomputed(H, n, k, vectors=vectors, **shared)
        return _result(H, found, operator, which)


def _result(H: CurvatureOperator, found: Eigenpairs, operator: str, which: str) -> HessianEigenpairs:
    return HessianEigenpairs(
        eigenvalues=found.values,
        eigenvectors=found.vectors,
        residuals=found.residuals,
        products=found.products,
        converged=found.converged,
        verified=found.verified,
        gradient_energy=_energy(H, found.vectors) if len(found.vectors) == len(found.values) else math.nan,
        operator=operator,
        which=which,
    )


def eigenpairs_memory(
    model: nn.Module, *, k: int = 1, max_basis: int | None = None, parameters: Selection = None
) -> int:
    """Bytes of vectors that ``hessian_eigenpairs`` takes at most, the graph of the gradient aside.

    The basis, and beside it four vectors while it grows or the k of the result. Given a smaller ``memory_limit`` the
    solve takes a smaller basis and restarts, down to k + 4 vectors of it; below that it goes on without one, as with
    ``max_basis=0``, in k + 4 vectors, or with fewer eigenvectors in as few as four.

    >>> eigenpairs_memory(nn.Linear(100, 10), k=5)  # 1,010 numbers x (68 + 5) vectors x 4 bytes
    294920
    >>> eigenpairs_memory(nn.Linear(100, 10), k=5, max_basis=0)  # 1,010 numbers x (5 + 4) vectors x 4 bytes
    36360
    """
    w = Parameters(unwrapped(model), parameters)
    dtype = torch.float32
    for p in w.tensors:
        dtype = torch.promote_types(dtype, p.dtype)
    return vectors_bytes(w.numel, most_vectors(w.numel, k, max_basis), dtype)


def _check(k: int, n: int, max_basis: int | None) -> None:
    if not 1 <= k <= n:
        raise UsageError(f"k={k} eigenpairs of a loss with {n} parameters: k must be 1 to {n}")
    if max_basis and min(max_basis, n) < smallest_capacity(n, k):
        raise UsageError(
            f"max_basis={max_basis} can't hold a solve for k={k}: {smallest_capacity(n, k)} at least, or 0 for none"
        )


def _energy(H: CurvatureOperator, vectors: Tensor) -> float:
    """sum of <v_i, g>^2 over ||g||^2; 0 where there is no gradient."""
    g = flat(H.gradient)
    total = float(dot(H.gradient, H.gradient))
    inside = float((vectors @ g.to(vectors)).square().sum())
    return inside / total if total > 0 else 0.0


class HessianEigenpairsProbe(BlockProbe):
    """``hessian_eigenpairs`` inside a training loop, each measurement started from the last one's vectors.

    Args:
        k: how many pairs.
        tol: relative error of the eigenvalues.
        which: "largest", "smallest" or "magnitude".
        operator: "hessian" or "ggn".
        on: "same", "held-out" or "full".
        layers: a block for each of these modules; the whole matrix if None.
        statistics: "batch" or "running".
        verify_every: a warm start can follow an eigenvalue that another has overtaken; every so many measurements
            the search for missed ones is done.
    """

    name = "hessian_eigenpairs"
    version = VERSION

    def __init__(
        self,
        k: int = 1,
        tol: float = 1e-3,
        which: str = "largest",
        operator: str = "hessian",
        on: str = "same",
        layers: Sequence[str] | None = None,
        statistics: str = "batch",
        verify_every: int = 10,
    ) -> None:
        if verify_every < 1:
            raise UsageError(f"verify_every={verify_every}: every 1, 2, 3... measurements")
        super().__init__(operator, on, layers, statistics)
        self.k, self.tol, self.which, self.verify_every = k, tol, which, verify_every
        self._count = 0
        self._starts: dict[str, Tensor] = {}

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return self.cost(4.0 + 4.0 * self.k, full)  # warm; what it really took is stored

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One solve at this moment, for each block."""
        verify = self._count % self.verify_every == 0
        for layer, arguments in self.blocks(moment):
            pairs = hessian_eigenpairs(
                **arguments, k=self.k, tol=self.tol, which=self.which, start=self._starts.get(layer), verify=verify
            )
            self._starts[layer] = pairs.eigenvectors
            dtype = str(pairs.eigenvectors.dtype).removeprefix("torch.")
            values = self._values(pairs, moment.learning_rate)
            yield from self.rows(values, layer, f"{self.operator}/{self.which}", dtype)
        self._count += 1

    def _values(self, pairs: HessianEigenpairs, rate: float | None) -> dict[str, float | Tensor]:
        top = float(pairs.eigenvalues[0])
        values: dict[str, float | Tensor] = {
            "eigenvalue": pairs.eigenvalues,
            "residual": pairs.residuals,
            "products": float(pairs.products),
            "converged": float(pairs.converged),
            "verified": float(pairs.verified),
            "gradient_energy": pairs.gradient_energy,
        }
        if rate is not None and self.which == "largest":
            values["step_sharpness"] = rate * top if math.isfinite(top) else top
        return values

    def state_dict(self) -> dict[str, Any]:
        """The vectors that the next measurement starts from, and how many there were."""
        return {"count": self._count, "starts": dict(self._starts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._count, self._starts = state["count"], dict(state["starts"])
