r"""Internal covariate shift as Santurkar et al. 2018 define it (Definition 2.1), per layer.

G_i is the gradient for layer i's weight; G'_i the gradient for the same weight, on the same batch with
the same draws, after only the layers before i have taken the optimizer's step. The shift is
||G'_i - G_i||: how much the move of the earlier layers changes the problem that layer i is solving.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError, nearest
from landscape.layers import Layer, is_weight, own_parameters, trace_layers
from landscape.objective import Batch, LossFunction, Objective
from landscape.parameters import Blocks, Selection, compared, matches, modules_of, norm
from landscape.preserve import preserved, unwrapped
from landscape.probes.base import Measurement, Moment
from landscape.stepping import next_parameters

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
#: A ``.grad`` this many times the batch's own gradient is taken for a loss scaler's; sums over micro-batches are less.
SCALED = 1024.0


@dataclass(frozen=True)
class CovariateShift:
    r"""Definition 2.1 for each layer; tensors of length l, one entry per layer, not synchronised.

    Attributes:
        layers: names of the layers, in the order in which they are first called.
        distance: ||G'_i - G_i||; 0 for a layer that has no layer before it. (l,)
        relative: distance / ||G_i||. (l,)
        cosine: <G'_i, G_i> / (||G'_i|| ||G_i||). (l,)
        gradient_norm: ||G_i||. (l,)
        moved_distance: ||dw_{<i}||, how far the earlier layers moved. (l,)
        distance_per_move: distance / moved_distance: since G' - G ~ H_{i,<i} dw, the raw distance mixes
            step length and curvature; 0 where nothing moved. (l,)
        control_distance: ||G''_i - G_i|| with every layer moved. (l,)
        control_cosine: cosine of G''_i and G_i. (l,)
        before: for each layer, the layers that were moved.
        ancestry: "graph" where "before" was read off the forward graph, "call order" where it can't be seen.
    """

    layers: tuple[str, ...]
    distance: Tensor
    relative: Tensor
    cosine: Tensor
    gradient_norm: Tensor
    moved_distance: Tensor
    distance_per_move: Tensor
    control_distance: Tensor
    control_cosine: Tensor
    before: tuple[tuple[str, ...], ...]
    ancestry: str

    def frame(self) -> pd.DataFrame:
        """One row per layer; synchronises."""
        import pandas as pd

        columns = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("ancestry", "layers")
        }
        numbers = {name: value.tolist() for name, value in columns.items() if isinstance(value, Tensor)}
        return pd.DataFrame({"layer": list(self.layers)} | numbers)


def covariate_shift(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    *,
    layers: Sequence[str] | None = None,
    gradients: Sequence[Tensor | None] | None = None,
    parameters: Selection = None,
    statistics: str = "batch",
) -> CovariateShift:
    r"""How much the step of the layers before i changes the gradient of layer i.

    ICS_i = ||grad_{W_i} L(w_{<i}^{t+1}, w_{>=i}^t) - grad_{W_i} L(w^t)||, same batch, same draws.

    The step is the optimizer's real next one (momentum, decay, Adam, per-group rates), taken on a deep
    copy; then only the weights, gammas, betas and biases of layer i's ancestors are moved.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batch: a nest of tensors, or ``Batches``.
        optimizer: the optimizer that trains the model.
        layers: names of layers to measure; all if None.
        gradients: gradients to step with, in ``model.parameters()`` order (after clipping, say); those of this
            batch if None.
        parameters: restrict the layers to those that own a selected parameter.
        statistics: "batch" or "running".

    Returns:
        A ``CovariateShift``.

    Raises:
        ProbeError: LBFGS, sparse gradients, no layers, an unsupported model.
        UsageError: an unknown layer name, or an optimizer of another model.

    Cost: one pass for G, one for the control, one per measured layer that has ancestors; each backward
    stops at the layer's weight.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> shift = covariate_shift(net, lambda m, x: m(x).square().mean(), torch.ones(3, 2), sgd)
    >>> shift.layers, float(shift.distance[0])
    (('0', '1'), 0.0)
    """
    with preserved(model) as snapshot, torch.inference_mode(False), torch.enable_grad():
        objective = Objective(model, loss_fn, snapshot, statistics=statistics)
        w = objective.parameters
        start = [snapshot.value_of(p) for p in w.tensors]
        found, ancestry = trace_layers(objective, batch)
        chosen = select_layers(found, layers, parameters)
        _, g = objective.value_and_gradient(batch)
        if gradients is None:
            step_with: list[Tensor | None] = list(g)
        else:
            by_id = {id(p): grad for p, grad in zip(snapshot.parameters, gradients, strict=True)}
            step_with = [by_id[id(p)] for p in w.tensors]
        after = next_parameters(optimizer, w.tensors, step_with)
        fields = _measured(objective, batch, chosen, g, start, after)
    own = [(layer.name, frozenset(id(p) for p in layer.weights)) for layer in found]
    before = tuple(tuple(name for name, ids in own if ids & layer.ancestors) for layer in chosen)
    return CovariateShift(layers=tuple(layer.name for layer in chosen), before=before, ancestry=ancestry, **fields)


def _measured(
    objective: Objective, batch: Batch, layers: Sequence[Layer], g: Blocks, start: Blocks, after: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The fields of ``CovariateShift`` that are numbers, each over all layers; w stays where the last one moved it."""
    w = objective.parameters
    position = {id(p): k for k, p in enumerate(w.tensors)}

    def gradient_with(moved: frozenset[int], weights: Sequence[nn.Parameter]) -> Blocks:
        w.write([after[k] if id(p) in moved else start[k] for k, p in enumerate(w.tensors)])
        return objective.gradient_of(batch, weights)

    every = frozenset(position)
    control = gradient_with(every, w.tensors)
    rows: list[dict[str, Tensor]] = []
    for layer in layers:
        at = [position[id(p)] for p in layer.weights]
        before = layer.ancestors & every
        G = [g[k] for k in at]
        moved = gradient_with(before, layer.weights) if before else G
        step = [after[k] - start[k] for k, p in enumerate(w.tensors) if id(p) in before]
        rows.append(_row(G, moved, [control[k] for k in at], step))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def select_layers(found: Sequence[Layer], names: Sequence[str] | None, parameters: Selection) -> list[Layer]:
    """The layers asked for, by name or by their parameters."""
    if names is not None:
        known = {layer.name: layer for layer in found}
        for name in names:
            if name not in known:
                raise UsageError(f"the model has no layer {name!r}: {nearest(name, list(known))}")
        return [known[name] for name in names]
    chosen = [layer for layer in found if any(matches(name, parameters) for name in layer.parameter_names)]
    if not chosen:
        raise UsageError(f"parameters={parameters!r} selects no layer of {[layer.name for layer in found]}")
    return chosen


def _row(G: Blocks, moved: Blocks, control: Blocks, step: Blocks) -> dict[str, Tensor]:
    """The numbers of one layer."""
    size = norm(G)
    moved_size, distance, product = compared(moved, G)
    control_size, control_distance, control_product = compared(control, G)
    length = norm(step) if step else torch.zeros_like(size)
    return {
        "distance": distance,
        "relative": distance / size,
        "cosine": (product / (moved_size * size)).clamp(-1.0, 1.0),  # rounding alone takes it out of there
        "gradient_norm": size,
        "moved_distance": length,
        "distance_per_move": torch.where(length == 0, torch.zeros_like(distance), distance / length),
        "control_distance": control_distance,
        "control_cosine": (control_product / (control_size * size)).clamp(-1.0, 1.0),
    }


class CovariateShiftProbe:
    """``covariate_shift`` inside a training loop, with the gradients as training has them after clipping."""

    name = "covariate_shift"
    version = VERSION

    def __init__(self, layers: Sequence[str] | None = None, statistics: str = "batch") -> None:
        self.layers, self.statistics = layers, statistics

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        return 2 + (layers - 1 if self.layers is None else len(self.layers))

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One step on a copy, one gradient per layer."""
        if moment.optimizer is None:
            raise UsageError("the covariate_shift probe takes the optimizer's step: pass optimizer= to the Observer")
        held = [p.grad for p in moment.model.parameters()]
        shift = covariate_shift(
            moment.model,
            moment.loss_fn,
            moment.batch,
            moment.optimizer,
            layers=self.layers,
            gradients=held if any(grad is not None for grad in held) else None,
            statistics=self.statistics,
        )
        _refuse_scaled(moment.model, shift)
        for item in dataclasses.fields(shift):
            value = getattr(shift, item.name)
            if isinstance(value, Tensor):
                for layer, number in zip(shift.layers, value.tolist(), strict=True):
                    yield Measurement(
                        self.name,
                        item.name,
                        number,
                        layer=layer,
                        statistics=self.statistics,
                        dtype=str(value.dtype).removeprefix("torch."),
                        version=VERSION,
                    )


def _refuse_scaled(model: nn.Module, shift: CovariateShift) -> None:
    """A step with gradients that a GradScaler still holds scaled is not the optimizer's: refused by name."""
    modules = modules_of(unwrapped(model))
    owned = [(modules[layer], own) for layer in shift.layers for own in own_parameters(modules[layer], layer)]
    weights = [p for module, (name, p) in owned if is_weight(module, name, p)]
    held = [p.grad for p in weights if p.grad is not None]
    times = float(norm(held) / norm([shift.gradient_norm])) if held else 0.0
    if SCALED <= times < float("inf"):
        raise ProbeError(
            f".grad is {times:.0f} times the gradient of this batch's loss, as under a GradScaler: call "
            "scaler.unscale_(optimizer) before Observer.step, or use Observer.watch, which measures after unscaling"
        )
