"""The sites where activations can be seen, inputs and outputs of modules, and the values that pass there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.hooks import hooked, refuse_transformed
from landscape.layers import own_parameters
from landscape.objective import Batch, Batches, Objective, tensors_of
from landscape.parameters import modules_of

SITES = ("input", "output", "pre-norm", "post-norm", "nonlinearity input", "nonlinearity output")


@dataclass
class Part:
    """The values of one call of one mini-batch."""

    values: Tensor  # (C, S)
    slope: Tensor | None  # (C, S): the nonlinearity's derivative there


def collect(
    objective: Objective, batch: Batch, layers: Sequence[str] | None, sites: tuple[str, ...]
) -> dict[tuple[str, str], list[Part]]:
    """The values at each (layer, site), as (units, samples) matrices, one per micro-batch."""
    return objective.without_graph(lambda: _collected(objective, batch, layers, sites))


def _collected(
    objective: Objective, batch: Batch, layers: Sequence[str] | None, sites: tuple[str, ...]
) -> dict[tuple[str, str], list[Part]]:
    names = {module: name for name, module in modules_of(objective.model).items()}
    inside = {child for m in names if _said(m) for child in m.modules() if child is not m}
    watched = [m for m, name in names.items() if _kinds(m, name) and _selected(name, layers) and m not in inside]
    found: dict[tuple[str, str], list[Part]] = {}
    objective.snapshot.rewind()
    for part in batch.batches if isinstance(batch, Batches) else [batch]:
        calls: dict[nn.Module, int] = {}
        inputs: dict[nn.Module, Tensor] = {}

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Any = inputs) -> None:
            first = next(tensors_of([args, kwargs]), None)
            if first is not None:
                refuse_transformed(first, names[module])
            if first is not None and first.is_floating_point():
                inputs[module] = first.clone()  # an in-place nonlinearity overwrites its input

        def after(
            module: nn.Module, args: Any, kwargs: Any, output: Any, inputs: Any = inputs, calls: Any = calls
        ) -> None:
            calls[module] = calls.get(module, 0) + 1
            name = names[module] + (f"#{calls[module]}" if calls[module] > 1 else "")
            result = next(tensors_of(output), None)
            for kind in _kinds(module, names[module]):
                for site, value in ((f"{kind}input", inputs.get(module)), (f"{kind}output", result)):
                    site = {"norm input": "pre-norm", "norm output": "post-norm"}.get(site, site)
                    if site in sites and value is not None and value.is_floating_point() and value.ndim:
                        slope = _slope(module, value) if site == "nonlinearity input" else None
                        found.setdefault((name, site), []).append(
                            Part(_units(module, value), None if slope is None else _units(module, slope))
                        )

        with hooked(watched, before=before, after=after):
            objective.evaluate(part, graph=False)
    return found


_NONLINEAR = tuple(
    getattr(nn, name)
    for name in [
        "ReLU",
        "ReLU6",
        "LeakyReLU",
        "PReLU",
        "RReLU",
        "ELU",
        "CELU",
        "SELU",
        "GELU",
        "SiLU",
        "Mish",
        "Sigmoid",
        "Tanh",
        "Softplus",
        "Softsign",
        "Hardtanh",
        "Hardswish",
        "Hardsigmoid",
        "Threshold",
        "LogSigmoid",
        "Tanhshrink",
        "Softshrink",
        "Hardshrink",
    ]
)


def _kinds(module: nn.Module, name: str) -> tuple[str, ...]:
    """Which sites a module offers: prefixes of site names."""
    if "parametrizations" in name.split("."):  # what flows there is a weight
        return ()
    if _said(module):
        return (f"{_said(module)} ",)
    if isinstance(module, _NONLINEAR) or type(module).__module__ == "transformers.activations":
        return ("nonlinearity ",)
    if "norm" in type(module).__name__.lower() and not any(True for _ in module.children()):
        return ("norm ",)
    if any(p.ndim > 1 for _, p in own_parameters(module, name)):
        return ("",)
    return ()


def _said(module: nn.Module) -> str:
    """What a module of the normalizations here says it is, by its ``site``: "norm", "nonlinearity" or nothing."""
    site = getattr(module, "site", "")
    return site if site in ("norm", "nonlinearity") else ""


#: Modules whose class says which axis holds the units, whatever the number of dimensions.
_CHANNELS_LAST = ("Linear", "Embedding", "LayerNorm", "RMSNorm", "Attention", "LSTM", "GRU", "RNN")
_CHANNELS_FIRST = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm")


def _selected(name: str, layers: Sequence[str] | None) -> bool:
    return layers is None or any(name == layer or name.startswith(layer + ".") for layer in layers)


def _slope(module: nn.Module, value: Tensor) -> Tensor | None:
    """The elementwise derivative of a nonlinearity at its input, without what it drops; None if it has none."""
    if not getattr(module, "elementwise", True):
        return None
    training, module.training = module.training, False
    try:
        with torch.enable_grad():
            x = value.detach().clone().requires_grad_()
            y = module.forward(x.clone())
            (slope,) = torch.autograd.grad(y.sum(), x)
    finally:
        module.training = training
    return slope


def _units(module: nn.Module, value: Tensor) -> Tensor:
    """(N, C, ...) or (N, F) or (N, T, F) as (units, samples)."""
    name = type(module).__name__
    said = getattr(module, "units_dim", None)
    if isinstance(said, int) and value.ndim > 1:
        axis = said
    elif any(word in name for word in _CHANNELS_LAST):
        axis = value.ndim - 1
    else:
        channels = value.ndim > 3 or any(word in name for word in _CHANNELS_FIRST)
        axis = 1 if channels and value.ndim > 2 else value.ndim - 1
    # A copy, never a view: what comes next may work in place.
    return value.detach().movedim(axis, 0).flatten(1).clone() if value.ndim > 1 else value.detach()[:, None].clone()
