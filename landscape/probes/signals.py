r"""What goes forward and back through the layers: size and rank of their inputs, gradients of inputs and weights.

With X (samples, units) the input of a layer and M = X X', rank(X) = tr(M)^2 / ||M||_F^2 (Daneshmand et al. 2020), from
1 where all samples are one direction to min(samples, units). Growth is ||dL/dX||^2 of a layer over that of the next:
above 1 gradients grow on their way back (Yang et al. 2019, arXiv 1902.08129).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.hooks import hooked, refuse_transformed
from landscape.layers import own_parameters, trace_layers
from landscape.objective import Batch, Batches, LossFunction, Objective, tensors_of
from landscape.parameters import modules_of
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment

VERSION = 1
NAN = float("nan")


@dataclass(frozen=True)
class LayerSignals:
    """Layers that own a weight, in the order of their first call; l of them.

    Attributes:
        layers: their names.
        second_moment: mean square of the layer's input; NaN where that is no float. (l,)
        rank: tr(M)^2 / ||M||_F^2 of the layer's input. (l,)
        input_gradient: ||dL/dX||, over all samples; NaN where the input depends on no parameter. (l,)
        weight_gradient: ||dL/dW||, W all that the layer owns. (l,)
        growth: (||dL/dX|| of this layer / that of the next)^2; NaN where either is. (l,)
    """

    layers: tuple[str, ...]
    second_moment: Tensor
    rank: Tensor
    input_gradient: Tensor
    weight_gradient: Tensor
    growth: Tensor


def layer_signals(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    layers: Sequence[str] | None = None,
    *,
    statistics: str = "batch",
) -> LayerSignals:
    """One forward and one backward pass, watched at the inputs of layers.

    A layer that is called several times (a recurrent one) has the samples of all its calls.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: a nest of tensors (one mini-batch).
        layers: names of layers; all if None.
        statistics: "batch" or "running".

    Returns:
        ``LayerSignals``, in float64 on the CPU.

    Raises:
        ProbeError: no layer was called, or several mini-batches were given.
        UsageError: a name is no layer's.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    >>> signals = layer_signals(net, lambda m, x: m(x).sum(), torch.eye(2))
    >>> signals.layers, signals.rank[0].item(), signals.input_gradient[0].item()
    (('0', '1'), 2.0, nan)
    """
    if isinstance(batch, Batches):
        raise ProbeError("signals are those of one mini-batch: pass it, not Batches")
    with preserved(model) as snapshot, torch.inference_mode(False), torch.enable_grad():
        objective = Objective(model, loss_fn, snapshot, statistics=statistics)
        known = [layer.name for layer in trace_layers(objective, batch)[0]]
        names = known if layers is None else list(layers)
        if missing := sorted(set(names) - set(known)):
            raise UsageError(f"{missing[0]!r} is no layer that was called; layers are {', '.join(known)}")
        every = modules_of(objective.model)
        modules = {name: every[name] for name in names}
        inputs: dict[str, list[Tensor]] = {name: [] for name in names}
        found = {module: name for name, module in modules.items()}

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            first = next(tensors_of([args, kwargs]), None)
            if first is not None:
                refuse_transformed(first, found[module])
                inputs[found[module]].append(first)

        with hooked(modules.values(), before=before):
            loss = objective.loss(batch)
        rows = _rows(loss, inputs, {name: [p for _, p in own_parameters(m, name)] for name, m in modules.items()})
    columns = torch.tensor(rows, dtype=torch.float64).T
    growth = torch.cat([(columns[2, :-1] / columns[2, 1:]).square(), torch.tensor([NAN], dtype=torch.float64)])
    moment, rank, back, weight = columns
    return LayerSignals(tuple(names), moment, rank, back, weight, growth)


def _rows(
    loss: Tensor, inputs: dict[str, list[Tensor]], weights: dict[str, list[nn.Parameter]]
) -> list[tuple[float, float, float, float]]:
    wanted = [t for ts in inputs.values() for t in ts if t.requires_grad]
    wanted += [p for ps in weights.values() for p in ps if p.requires_grad]
    unique = list({id(t): t for t in wanted}.values())
    gradients = torch.autograd.grad(loss, unique, allow_unused=True)
    by_id = {id(t): g for t, g in zip(unique, gradients, strict=True) if g is not None}

    def size(tensors: Sequence[Tensor]) -> float:
        own = [by_id[id(t)].double().square().sum() for t in tensors if id(t) in by_id]
        return float(torch.stack(own).sum().sqrt()) if own else NAN

    return [(*_forward(called), size(called), size(weights[name])) for name, called in inputs.items()]


def _forward(called: Sequence[Tensor]) -> tuple[float, float]:
    """Mean square and rank of a layer's input: of X (samples, everything else)."""
    if not all(t.is_floating_point() and t.ndim > 1 for t in called) or not called:
        return NAN, NAN
    x = torch.cat([t.detach().flatten(1) for t in called]).double()
    gram = x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
    return float(x.square().mean()), float(gram.trace() ** 2 / gram.square().sum())


class SignalsProbe:
    """``layer_signals`` inside a training loop.

    Args:
        layers: names of layers; all if None.
        on: "same" or "held-out".
        statistics: "batch" or "running".
    """

    name = "signals"
    version = VERSION

    def __init__(self, layers: Sequence[str] | None = None, on: str = "same", statistics: str = "batch") -> None:
        self.layers, self.on, self.statistics = layers, on, statistics

    def passes(self, full: int, layers: int) -> float:
        """Cost in forward+backward passes: one, and a forward that finds the layers."""
        return 4 / 3

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One pass forward and back at this moment; what is not there (NaN) has no row."""
        batch = moment.named(self.on)
        found = layer_signals(moment.model, moment.loss_fn, batch, self.layers, statistics=self.statistics)
        for item in fields(found)[1:]:
            for layer, value in zip(found.layers, getattr(found, item.name).tolist(), strict=True):
                if value == value:
                    yield Measurement(
                        self.name,
                        item.name,
                        value,
                        layer=layer,
                        batch=self.on,
                        statistics=self.statistics,
                        dtype="float64",
                        version=VERSION,
                    )
