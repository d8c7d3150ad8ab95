r"""Both sides of Santurkar et al. 2018, Theorems 4.1 and 4.2, on live activations.

With y the input of a batch-normalization layer, s^2 = var + eps, y_hat = (y - mu) / s, z its output and g the
gradient of the loss in z, both theorems are identities once eps is kept (rho = var / s^2; m = N H W for
convolutions; J = dz/dy; per unit):

4.1  ||dL/dy||^2 = gamma^2/s^2 ( ||g||^2 - <1, g>^2/m - (2 - rho)/m <g, y_hat>^2 )
4.2  v' (d2L/dy2) v = (Jv)' (d2L/dz2) (Jv) - gamma/(m s^2) ( <g, y_hat> ||v||^2 + 2 <g, v> c - 3 <g, y_hat> c^2/m )
     with v = dL/dy and c = <y_hat, v>; the paper's form is c = 0, which eps = 0 implies.

So they hold always; what is empirical is only the size of the terms that are subtracted.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError
from landscape.objective import Batch, Batches, LossFunction
from landscape.preserve import preserved, unwrapped
from landscape.probes.base import Measurement, Moment

VERSION = 1


@dataclass(frozen=True)
class TheoremBounds:
    """Both sides of both theorems at one batch-normalization layer of C units, in float64.

    Attributes:
        layer: name of the layer.
        left_41: ||dL/dy_j||^2. (C,)
        right_41: the right side of 4.1. (C,)
        left_42: v' (d2L/dy2) v over all units. ()
        right_42: the right side of 4.2. ()
        error_41: largest |left - right| over the largest right side. ()
        error_42: |left - right| / |right|. ()
        reduction: 1 - right_41 / (gamma^2/s^2 ||g||^2): what the two subtracted terms take away. (C,)
    """

    layer: str
    left_41: Tensor
    right_41: Tensor
    left_42: Tensor
    right_42: Tensor
    error_41: Tensor
    error_42: Tensor
    reduction: Tensor


def theorem_bounds(model: nn.Module, loss_fn: LossFunction, batch: Batch, layer: str | None = None) -> TheoremBounds:
    """Evaluate Theorems 4.1 and 4.2 at a ``BatchNorm`` layer, on a float64 copy of the model in training mode.

    Args:
        model: any ``nn.Module`` with batch normalization.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: a nest of tensors (one mini-batch).
        layer: name of the layer; the first one if None.

    Raises:
        ProbeError: no such batch-normalization layer, one without batch statistics, or several mini-batches.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    >>> bounds = theorem_bounds(net, lambda m, x: m(x).square().mean(), torch.randn(16, 3))
    >>> float(bounds.error_41) < 1e-10
    True
    """
    if isinstance(batch, Batches):
        raise ProbeError("the theorems speak of one mini-batch: pass it, not Batches")
    with preserved(model), torch.inference_mode(False), torch.enable_grad():
        twin = copy.deepcopy(unwrapped(model)).double().train()
        name, norm = _find(twin, layer)
        seen: dict[str, Tensor] = {}

        def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
            seen["y"] = args[0].detach().requires_grad_()
            return (seen["y"],)

        def after(_: nn.Module, args: Any, output: Tensor) -> None:
            seen["z"] = output

        with norm.register_forward_pre_hook(before), norm.register_forward_hook(after):
            loss = loss_fn(twin, _double(batch))
        y, z = seen["y"], seen["z"]
        g, v = torch.autograd.grad(loss, [z, y], create_graph=True)
        return _bounds(name, norm, y, z, g, v)


def _bounds(name: str, norm: Any, y: Tensor, z: Tensor, g: Tensor, v: Tensor) -> TheoremBounds:
    w = v.detach()
    jw = _directional(z, y, w)
    left_42 = _quadratic(v, y, w)
    right_42 = _quadratic(g, z, jw)

    def units(t: Tensor) -> Tensor:
        return t.detach().movedim(1, 0).flatten(1)  # (C, m)

    Y, G, V = units(y), units(g), units(v)
    m = Y.shape[1]
    gamma = torch.ones(len(Y), dtype=Y.dtype, device=Y.device) if norm.weight is None else norm.weight.detach()
    variance, mean = torch.var_mean(Y, dim=1, correction=0)
    s2 = variance + norm.eps
    hat = (Y - mean[:, None]) / s2.sqrt()[:, None]
    rho, along, c = variance / s2, (G * hat).sum(1), (V * hat).sum(1)
    whole = gamma**2 / s2 * G.square().sum(1)
    right_41 = whole - gamma**2 / s2 * (G.sum(1) ** 2 / m + (2 - rho) / m * along**2)
    left_41 = V.square().sum(1)
    bend = along * left_41 + 2 * (G * V).sum(1) * c - 3 * along * c**2 / m
    right_42 = right_42 - (gamma / (m * s2) * bend).sum()
    return TheoremBounds(
        layer=name,
        left_41=left_41,
        right_41=right_41,
        left_42=left_42,
        right_42=right_42,
        error_41=(left_41 - right_41).abs().max() / right_41.abs().max(),
        error_42=(left_42 - right_42).abs() / right_42.abs(),
        reduction=1 - right_41 / whole,
    )


def _directional(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """J w, by differentiating J'u in u."""
    u = torch.zeros_like(z, requires_grad=True)
    (transposed,) = torch.autograd.grad(z, y, u, create_graph=True)
    (product,) = torch.autograd.grad(transposed, u, w, retain_graph=True)
    return product.detach()


def _quadratic(gradient: Tensor, at: Tensor, w: Tensor) -> Tensor:
    """w' H w, from a gradient whose graph was kept; 0 where the loss is linear."""
    inner = (gradient * w).sum()
    (product,) = torch.autograd.grad(inner, at, retain_graph=True, allow_unused=True)
    return torch.zeros_like(inner).detach() if product is None else (product * w).sum().detach()


def _find(model: nn.Module, layer: str | None) -> tuple[str, nn.Module]:
    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    if not norms or (layer is not None and layer not in norms):
        wanted = "a batch-normalization layer" if layer is None else f"a batch-normalization layer {layer!r}"
        raise ProbeError(f"{type(model).__name__} has no {wanted[2:]}; it has {', '.join(norms) or 'none'}")
    name = layer or next(iter(norms))
    if type(norms[name]).forward is not nn.modules.batchnorm._BatchNorm.forward:
        raise ProbeError(f"{name!r} is a {type(norms[name]).__name__}, which does more than batch normalization")
    return name, norms[name]


def _double(batch: Batch) -> Batch:
    """The batch with its floating-point tensors in float64."""
    if isinstance(batch, Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, dict):
        return {key: _double(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_double(value) for value in batch)
    return batch


class TheoremsProbe:
    """``theorem_bounds`` inside a training loop."""

    name = "theorems"
    version = VERSION

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    def passes(self, full: int, layers: int) -> float:
        """Cost in forward+backward passes: four differentiations, in float64."""
        return 6.0

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """Both theorems at this moment."""
        bounds = theorem_bounds(moment.model, moment.loss_fn, moment.batch, self.layer)
        rows = {"error_41": bounds.error_41, "error_42": bounds.error_42, "reduction": bounds.reduction.median()}
        for quantity, value in rows.items():
            yield Measurement(self.name, quantity, float(value), layer=bounds.layer, dtype="float64", version=VERSION)
