r"""How much the output can change with the input: a lower and an upper bound on the Lipschitz constant, in L2.

Lower: the largest singular value of the Jacobian dy/dx at each sample. Upper: the product of the layers'
constants (Szegedy et al. 2014, *Intriguing Properties of Neural Networks*, section 4.3), where a convolution's is
the norm of the operator that it is, with its own padding and stride, not that of its kernel as a matrix and not
that of a circular one (Sedghi et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import ProbeError
from landscape.objective import Batch, tensors_of
from landscape.parameters import refuse
from landscape.preserve import preserved, unwrapped
from landscape.probes.base import Measurement, Moment, measurements
from landscape.probes.chain import Link, trace_chain
from landscape.streams import stream

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1


@dataclass(frozen=True)
class InputLipschitz:
    """Bounds on the Lipschitz constant of a network in its input, in evaluation mode.

    Attributes:
        per_sample: the largest singular value of dy/dx found at each of N samples, from below. (N,)
        lower: their maximum: no Lipschitz constant is smaller. ()
        upper: the product of the layers' constants; None where the network is no chain of known layers. ()
        layers: what was called, in order, with the constant of each.
        unknown: why there is no upper bound, place by place.
        iterations: of the power method.
        converged: whether the last of them moved no sample's value by more than the tolerance.
    """

    per_sample: Tensor
    lower: Tensor
    upper: Tensor | None
    layers: tuple[Link, ...]
    unknown: tuple[str, ...]
    iterations: int
    converged: bool

    def frame(self) -> pd.DataFrame:
        """One row per layer: layer, kind, constant (NaN where it is not known)."""
        import pandas as pd

        rows = [(link.name, link.kind, math.nan if link.constant is None else link.constant) for link in self.layers]
        return pd.DataFrame(rows, columns=["layer", "kind", "constant"])


def input_lipschitz(
    model: nn.Module, batch: Batch, *, iterations: int = 100, tolerance: float = 1e-3, seed: int = 0
) -> InputLipschitz:
    r"""Bound the Lipschitz constant of ``model(x)`` in x, and leave the model as it was.

    The network is taken in evaluation mode: running statistics make batch normalization an affine map of each
    sample by itself, and dropout is off. Outside the batch's neighbourhood the constant may be larger than the
    lower bound; nowhere is it larger than the upper one.

    Args:
        model: any ``nn.Module`` that returns one tensor, with the samples along its first axis.
        batch: the inputs x, or a batch whose first tensor they are.
        iterations: of the power method on J'J, at most. Whatever their number, what they give is a lower bound.
        tolerance: relative change at which they end.
        seed: of the first vectors.

    Raises:
        ProbeError: inputs that are no floating-point numbers, a model that takes several, another output than one
            tensor, an output that does not depend on the input, or samples that depend on each other.

    Cost: a forward and a backward pass, and about two backward passes an iteration; for the upper bound some
    dozens to hundreds of products of each layer with one sample, in float64.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    >>> found = input_lipschitz(net, torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    >>> [round(v, 2) for v in found.per_sample.tolist()], round(float(found.upper), 2)
    ([3.0, 4.0], 4.0)
    """
    with (
        preserved(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        net = unwrapped(model).eval()
        refuse(net)
        x = _inputs(batch)
        with torch.no_grad():
            # clone: the noted output must not be the input itself; what runs in place would write into the batch
            try:
                output, links, unknown = trace_chain(net, x.clone())
            except TypeError as error:
                raise ProbeError(
                    f"{type(net).__name__} can't be called with the inputs alone ({error}): wrap it in a module of one "
                    "input, which hands it the others"
                ) from error
        _check_separate(net, x, output)
        per_sample, count, converged = _power(net, x, iterations, tolerance, seed)
        constants = [link.constant for link in links if link.constant is not None]
        return InputLipschitz(
            per_sample=per_sample,
            lower=per_sample.max(),
            upper=None if unknown else torch.tensor(math.prod(constants), dtype=torch.float64, device=x.device),
            layers=tuple(links),
            unknown=tuple(unknown),
            iterations=count,
            converged=converged,
        )


def _inputs(batch: Batch) -> Tensor:
    x = next(tensors_of(batch), None)
    if x is None or not x.is_floating_point() or x.ndim == 0:
        what = "nothing" if x is None else f"{x.dtype} of shape {tuple(x.shape)}"
        raise ProbeError(f"the batch's first tensor has to be floating-point inputs (N, ...) to differentiate: {what}")
    return x.detach()


def _check_separate(net: nn.Module, x: Tensor, output: Tensor) -> None:
    """The Jacobian is that of each sample by itself: an output must not change when other samples go."""
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(x):
        what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ProbeError(f"the network has to return one tensor with the {len(x)} samples first: it returned {what}")
    if len(x) == 1:
        return
    half = (len(x) + 1) // 2
    with torch.no_grad():
        alone = net(x[:half].clone())
    whole = output[:half]
    if not torch.allclose(alone, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max())):
        raise ProbeError(
            "samples of a batch depend on each other (a normalization without running statistics?), so there is no "
            "Jacobian of one sample: pass one sample at a time"
        )


def _power(net: nn.Module, x: Tensor, iterations: int, tolerance: float, seed: int) -> tuple[Tensor, int, bool]:
    """The power method on J'J at all samples at once; one graph serves all products."""
    x = x.clone().requires_grad_()
    y = net(x * 1.0)  # a network may begin in place
    u = torch.zeros_like(y, requires_grad=True)
    transposed = torch.autograd.grad(y, x, u, create_graph=True)[0] if y.requires_grad else None
    if transposed is None or not transposed.requires_grad:
        raise ProbeError("the network's output does not depend on its input: was it detached?")
    v = torch.randn(x.shape, generator=stream(seed, "input lipschitz"), dtype=torch.float64).to(x)
    v = v / _norms(v, x.ndim)
    found = torch.zeros(len(x), dtype=y.dtype, device=y.device)
    for count in range(1, iterations + 1):
        jv = _product(transposed, u, v)
        sizes = _norms(jv, 1)
        settled = bool(((sizes - found).abs() <= tolerance * sizes).all())
        found = torch.maximum(found, sizes)
        if settled and count > 1:
            return found, count, True
        (back,) = torch.autograd.grad(y, x, jv, retain_graph=True)
        v = back / _norms(back, x.ndim).clamp_min(torch.finfo(back.dtype).tiny)
    return found, iterations, False


def _product(transposed: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """J v, by differentiating J'u in u.

    Raises:
        ProbeError: torch has no second derivative of one of the network's functions.
    """
    try:
        (product,) = torch.autograd.grad(transposed, u, v, retain_graph=True)
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        raise ProbeError(f"the Jacobian's products need what torch does not have: {error}") from error
    return product


def _norms(values: Tensor, ndim: int) -> Tensor:
    """The norm of each sample, with so many dimensions."""
    sizes: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1).view(-1, *[1] * (ndim - 1))
    return sizes


class InputLipschitzProbe:
    """``input_lipschitz`` inside a training loop.

    Args:
        on: the named batch at whose inputs the lower bound is taken.
        iterations: of the power method, at most.
        tolerance: relative change at which they end.
    """

    name = "input_lipschitz"
    version = VERSION

    def __init__(self, on: str = "same", iterations: int = 30, tolerance: float = 1e-2) -> None:
        self.on, self.iterations, self.tolerance = on, iterations, tolerance

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement, at most; the upper bound costs no pass of the batch."""
        return 2.0 + self.iterations

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """Both bounds at this moment; "upper" is left out where there is none."""
        found = input_lipschitz(
            moment.model, moment.named(self.on), iterations=self.iterations, tolerance=self.tolerance, seed=moment.seed
        )
        dtype = str(found.per_sample.dtype).removeprefix("torch.")
        rows = {"lower": found.lower, "median": found.per_sample.median(), "smallest": found.per_sample.min()}
        if found.upper is not None:
            rows["upper"] = found.upper
        yield from measurements(self, rows, batch=self.on, statistics="running", dtype=dtype)
        for link in found.layers:
            if link.constant is not None:
                yield from measurements(self, {"constant": link.constant}, layer=link.name, statistics="running")
