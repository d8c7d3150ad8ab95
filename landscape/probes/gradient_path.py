r"""The loss and its gradient along one direction from w: the sweep behind Santurkar et al. 2018, figure 4.

One sweep of K forward+backward passes serves loss variation, gradient predictiveness, effective
smoothness and the secant slope, with the same mini-batch and the same random draws at every point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.affine import SharedFirstLayer
from landscape.errors import UsageError, nearest
from landscape.objective import Batch, LossFunction, Objective
from landscape.parameters import (
    Blocks,
    Parameters,
    Selection,
    compared,
    dot,
    filter_normalized,
    filter_norms,
    norm,
)
from landscape.preserve import Snapshot, preserved
from landscape.probes.base import Measurement, Moment
from landscape.probes.directions import gaussian
from landscape.stepping import learning_rate, next_parameters
from landscape.streams import stream_seed

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
DIRECTIONS = ("gradient", "update", "random", "scale-invariant")
#: MEASURES: eight step sizes, geometric in [1/2, 4] times the learning rate (the paper's range).
DEFAULT_MULTIPLES = tuple(0.5 * 8.0 ** (k / 7) for k in range(8))
#: A gradient of a float32 network carries a relative rounding error of this many units in the last
#: place (measured on the shipped networks against float64: 2 to 40; see tests).
ROUNDING_UNITS = 64.0


@dataclass(frozen=True)
class GradientPath:
    r"""What one sweep w - eta_k v measured; v is the gradient g unless another direction was asked for.

    All fields are tensors on the model's device; reading them as numbers synchronises. Non-finite
    values rank as +inf. L0 and g0 are the loss and gradient at w of the batch that is evaluated.

    Attributes:
        step_sizes: eta_k > 0, in units of learning rate. (K,)
        loss: L(w - eta_k v). (K,)
        loss0: L0 = L(w). ()
        gradient_norm: ||g0||; ||D g0|| for "scale-invariant". ()
        direction_norm: ||v||, so that eta_k ||v|| is the distance moved; ||D^-1 v|| for "scale-invariant". ()
        gradient_distance: d_k = ||grad L(w - eta_k v) - g0||. (K,)
        cosine: <grad L(w - eta_k v), g0> / (||.|| ||.||). (K,)
        smoothness: beta_k = d_k / (eta_k ||v||). (K,)
        effective_smoothness: max_k beta_k. ()
        effective_smoothness_index: the k of that maximum: which radius decided. ()
        secant_slope: max_k |L(w - eta_k v) - L0| / (eta_k ||v||), a lower bound on the local Lipschitz constant. ()
        loss_range: max_k L - min_k L, without eta = 0 (the paper's loss variation). ()
        loss_range_with_origin: the same, with L0. ()
        rise: max(0, max_k L - L0). ()
        drop: L0 - min_k L; a large drop is not roughness. ()
        first_order_ratio: (L0 - L(w - eta_k v)) / (eta_k <g0, v>): 1 where the slope predicts the loss. (K,)
        predictiveness: max_k d_k (the paper's gradient predictiveness is drawn from its low to this). ()
        predictiveness_low: min_k d_k. ()
        alignment: cosine of v and g0: 1 for the gradient of the same batch. ()
        resolved: whether d_k lies above the rounding floor of the arithmetic. (K,) bool
        direction: "gradient", "update", "random", "scale-invariant" or "custom".
    """

    step_sizes: Tensor
    loss: Tensor
    loss0: Tensor
    gradient_norm: Tensor
    direction_norm: Tensor
    gradient_distance: Tensor
    cosine: Tensor
    smoothness: Tensor
    effective_smoothness: Tensor
    effective_smoothness_index: Tensor
    secant_slope: Tensor
    loss_range: Tensor
    loss_range_with_origin: Tensor
    rise: Tensor
    drop: Tensor
    first_order_ratio: Tensor
    predictiveness: Tensor
    predictiveness_low: Tensor
    alignment: Tensor
    resolved: Tensor
    direction: str

    def frame(self) -> pd.DataFrame:
        """One row per step size, with the scalars repeated; synchronises."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            columns[item.name] = value.tolist() if isinstance(value, Tensor) else value
        return pd.DataFrame(columns)


def gradient_path(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    step_sizes: Sequence[float] | Tensor | None = None,
    *,
    direction: str | Tensor = "gradient",
    evaluate_on: Batch | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    parameters: Selection = None,
    statistics: str = "batch",
    seed: int = 0,
) -> GradientPath:
    r"""Sweep the loss and its gradient along w - eta_k v, and leave the model as it was.

    beta(eta) = ||grad L(w - eta v) - grad L(w)|| / (eta ||v||), Santurkar et al. 2018, figure 4c.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, a mean over the batch.
        batch: a nest of tensors, or ``Batches``; v is taken on it.
        step_sizes: eta_k > 0 (K,); None: eight, geometric in [1/2, 4] times the optimizer's learning rate.
        direction: "gradient" (v = g); "update" (v = (w - w+) / lr, the optimizer's actual step);
            "random" (Gaussian, each filter scaled to the norm of the weight's, 1-D parameters left where they are,
            the whole scaled to ||g||; Li et al. 2018);
            "scale-invariant" (v = D^2 g with D the per-filter norms, and distances measured after D:
            beta_D = ||D (grad L(w - eta v) - g)|| / (eta ||D g||), unchanged by function-preserving rescaling);
            or a flat tensor of n numbers.
        evaluate_on: evaluate loss and gradient on this batch instead (held-out, full), along the same direction.
        optimizer: for the default step sizes and ``direction="update"``.
        parameters: restrict w to a name pattern or predicate.
        statistics: "batch": the loss that batch normalization trains on; "running": evaluation statistics.
        seed: of the random direction.

    Returns:
        A ``GradientPath``; nothing in it has been synchronised.

    Raises:
        UsageError: step sizes missing, negative or not finite; an unknown direction or statistics mode.
        ProbeError: nothing trainable, or a model that can't be moved in one process.

    Cost: K + 1 forward+backward passes, less for a linear layer that the batch itself feeds: its product is
    computed twice in all, and where the batch has fewer examples than the layer has inputs, gradients of its weight
    are compared within their span. Memory: w, v, one gradient, one pass's activations, and that layer's output twice.

    >>> w = nn.Linear(1, 1, bias=False)
    >>> quadratic = lambda model, batch: 3 * model.weight.square().sum() / 2
    >>> path = gradient_path(w, quadratic, None, [0.1, 0.2])
    >>> [round(b, 4) for b in path.smoothness.tolist()]  # H = 3 everywhere
    [3.0, 3.0]
    """
    sizes = _step_sizes(step_sizes, optimizer, direction)
    with preserved(model) as snapshot, torch.inference_mode(False), torch.enable_grad():
        objective = Objective(model, loss_fn, snapshot, select=parameters, statistics=statistics)
        w = objective.parameters
        start = [snapshot.value_of(p) for p in w.tensors]
        after_scaling = isinstance(direction, str) and direction == "scale-invariant"  # compares whole gradients
        points = 0 if after_scaling else len(sizes)
        first = SharedFirstLayer(w.tensors, batch, compared=points if evaluate_on is None else 0)
        loss0, g = objective.value_and_gradient(batch, first)
        v, scale = _direction(direction, w, start, g, snapshot, optimizer, seed)
        if evaluate_on is not None:
            batch = evaluate_on
            first = SharedFirstLayer(w.tensors, batch, compared=points)
            loss0, g = objective.value_and_gradient(batch, first)
        return _sweep(
            objective,
            first,
            batch,
            sizes,
            start,
            v,
            loss0,
            g,
            scale,
            direction if isinstance(direction, str) else "custom",
        )


def _sweep(
    objective: Objective,
    first: SharedFirstLayer,
    batch: Batch,
    sizes: list[float],
    start: Blocks,
    v: Blocks,
    loss0: Tensor,
    g: Blocks,
    scale: Blocks | None,
    direction: str,
) -> GradientPath:
    """K evaluations at start - eta v; ``scale`` multiplies gradients before their norms are taken (D above)."""
    scaled = g if scale is None else [d * x for d, x in zip(scale, g, strict=True)]
    moved = v if scale is None else [x / d.clamp_min(1e-30) for d, x in zip(scale, v, strict=True)]
    norm0, norm_v = norm(scaled), norm(moved)
    losses, distances, products, norms = [], [], [], []
    first.confirm(scaled)
    for eta in sizes:
        objective.parameters.move(start, v, eta)
        loss, h = objective.value_and_gradient(batch, first.at([v], [eta]))
        if scale is not None:
            h = [d * x for d, x in zip(scale, h, strict=True)]
        size, distance_k, product = compared(*first.comparable(h))
        distances.append(distance_k)
        products.append(product)
        losses.append(loss)
        norms.append(size)
        del h  # else two gradients live through the next pass
    slope = dot(g, v)
    steps = torch.stack([norm0.new_full((), eta) for eta in sizes])  # filled there: a copy would synchronise
    loss_k, distance = _ranked(torch.stack(losses)), _ranked(torch.stack(distances))
    loss0 = _ranked(loss0)
    smoothness = _per_length(distance, steps * norm_v)
    top, low = loss_k.max(), loss_k.min()
    best = smoothness.max(dim=0)
    unit = max(torch.finfo(p.dtype).eps for p in objective.parameters.tensors)
    sizes_k = torch.stack(norms)
    floor = ROUNDING_UNITS * unit * torch.maximum(sizes_k, norm0)
    length = norm(start)
    return GradientPath(
        step_sizes=steps,
        loss=loss_k,
        loss0=loss0,
        gradient_norm=norm0,
        direction_norm=norm_v,
        gradient_distance=distance,
        cosine=(torch.stack(products) / (sizes_k * norm0)).clamp(-1.0, 1.0),  # rounding alone takes it out of there
        smoothness=smoothness,
        effective_smoothness=best.values,
        effective_smoothness_index=best.indices,
        secant_slope=_per_length((loss_k - loss0).abs(), steps * norm_v).max(),
        loss_range=_ranked(top - low),
        loss_range_with_origin=_ranked(torch.maximum(top, loss0) - torch.minimum(low, loss0)),
        rise=_ranked(top - loss0).clamp_min(0.0),
        drop=loss0 - low,
        first_order_ratio=(loss0 - loss_k) / (steps * slope),
        predictiveness=distance.max(),
        predictiveness_low=distance.min(),
        alignment=(slope / (norm(g) * norm(v))).clamp(-1.0, 1.0),
        # w - eta v itself is rounded to eps ||w||: a step below that is not the step that was asked for.
        resolved=(distance > floor) & (steps * norm(v) > ROUNDING_UNITS * unit * length),
        direction=direction,
    )


def _per_length(change: Tensor, length: Tensor) -> Tensor:
    """change / length; 0 where nothing changed, so that a gradient of exactly zero is flat, not infinitely rough."""
    return torch.where(change == 0, change, _ranked(change / length))


def _ranked(value: Tensor) -> Tensor:
    """NaN ranks as +inf: a sweep that left the finite numbers is the roughest there is, and is never dropped."""
    return torch.nan_to_num(value, nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))


def _step_sizes(
    given: Sequence[float] | Tensor | None, optimizer: torch.optim.Optimizer | None, direction: str | Tensor
) -> list[float]:
    if isinstance(direction, str) and direction not in DIRECTIONS:
        raise UsageError(
            f"direction={direction!r} is not known: {nearest(direction, list(DIRECTIONS))}, or a flat tensor"
        )
    if given is None:
        rate = learning_rate(optimizer)
        if optimizer is None:
            raise UsageError(
                "step_sizes=None means [1/2, 4] times the optimizer's learning rate: pass optimizer= or step_sizes="
            )
        if rate is None and direction != "update":
            raise UsageError(
                "the optimizer's parameter groups have different learning rates, so [1/2, 4] times 'the' rate "
                'has no meaning: pass step_sizes=, or direction="update"'
            )
        if rate == 0:
            raise UsageError("the optimizer's learning rate is 0, so [1/2, 4] times it is no step: pass step_sizes=")
        return [multiple * (1.0 if rate is None else rate) for multiple in DEFAULT_MULTIPLES]
    if not hasattr(given, "__iter__"):
        raise UsageError(f"step_sizes={given!r}: give several, as in [0.05, 0.1, 0.2]")
    sizes = [float(eta) for eta in given]
    if not sizes or not all(0.0 < eta < float("inf") for eta in sizes):
        raise UsageError(f"step_sizes must be finite numbers > 0 (eta = 0 is the base point itself): got {sizes}")
    return sizes


def _direction(
    direction: str | Tensor,
    w: Parameters,
    start: Blocks,
    g: Blocks,
    snapshot: Snapshot,
    optimizer: torch.optim.Optimizer | None,
    seed: int,
) -> tuple[Blocks, Blocks | None]:
    """v, and D where distances are measured after D."""
    if isinstance(direction, Tensor):
        return w.blocks(direction.detach()), None
    if direction == "update":
        if optimizer is None:
            raise UsageError('direction="update" is the optimizer\'s own step: pass optimizer=')
        after = next_parameters(optimizer, w.tensors, g)
        rate = learning_rate(optimizer) or 1.0
        return [(a - b) / rate for a, b in zip(start, after, strict=True)], None
    if direction == "random":
        random = gaussian(w, seed, "random direction")
        if all(x.ndim < 2 for x in random):  # no filters to normalize by
            return [x * (norm(g) / norm(random)) for x in random], None
        scaled = filter_normalized(random, start)
        factor = norm(g) / norm(scaled)
        return [x * factor for x in scaled], None
    if direction == "scale-invariant":
        scale = filter_norms(start)
        return [d * d * x for d, x in zip(scale, g, strict=True)], scale
    return g, None


class GradientPathProbe:
    """``gradient_path`` inside a training loop.

    Args:
        direction: as for ``gradient_path``.
        on: "same" (the mini-batch of the step), "held-out" or "full".
        step_sizes: None for [1/2, 4] times the learning rate (window "scaled"), or the fixed window.
        statistics: "batch" or "running".
    """

    name = "gradient_path"
    version = VERSION

    def __init__(
        self,
        direction: str = "gradient",
        on: str = "same",
        step_sizes: Sequence[float] | None = None,
        multiples: Sequence[float] | None = None,
        statistics: str = "batch",
    ) -> None:
        self.direction, self.on, self.statistics = direction, on, statistics
        self.step_sizes, self.multiples = step_sizes, multiples

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        points = len(self.step_sizes or self.multiples or DEFAULT_MULTIPLES) + 1
        if self.on == "same":
            return points
        return 1 + points * (full if self.on == "full" else 1)

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """Sweep at this moment; nothing where the window is of a learning rate that is 0, as at a warm-up's start."""
        if self.step_sizes is None and moment.learning_rate == 0:
            return
        sizes = self._sizes(moment)
        path = gradient_path(
            moment.model,
            moment.loss_fn,
            moment.batch,
            sizes,
            direction=self.direction,
            evaluate_on=None if self.on == "same" else moment.named(self.on),
            optimizer=moment.optimizer,
            statistics=self.statistics,
            seed=stream_seed(moment.seed, f"random direction/{moment.step}"),
        )
        window = "scaled" if self.step_sizes is None else "fixed"
        yield from self._rows(path, f"{self.direction}/{window}", moment.learning_rate)

    def _sizes(self, moment: Moment) -> Sequence[float]:
        if self.step_sizes is not None:
            return self.step_sizes
        rate = moment.learning_rate
        if rate is None and self.direction == "update" and moment.optimizer is not None:
            rate = 1.0  # one whole step of the optimizer's, as in gradient_path
        if rate is None:
            found = "this optimizer's parameter groups have different ones" if moment.optimizer else "there is none"
            raise UsageError(
                f"the gradient path probe needs an optimizer with one learning rate, and {found}: give its window, "
                'build_probe("gradient_path", step_sizes=[...]) from landscape.probes'
            )
        return [m * rate for m in self.multiples or DEFAULT_MULTIPLES]

    def _rows(self, path: GradientPath, variant: str, rate: float | None) -> Iterable[Measurement]:
        def row(quantity: str, value: float, index: int = 0) -> Measurement:
            return Measurement(
                self.name,
                quantity,
                value,
                index=index,
                variant=variant,
                batch=self.on,
                statistics=self.statistics,
                dtype=str(path.loss0.dtype).removeprefix("torch."),
                version=self.version,
            )

        for item in dataclasses.fields(path):
            value = getattr(path, item.name)
            if isinstance(value, Tensor):
                numbers = value.reshape(-1).tolist()
                for index, number in enumerate(numbers):
                    yield row(item.name, float(number), index)
        if rate:
            sizes = path.step_sizes.tolist()
            nearest_index = min(range(len(sizes)), key=lambda k: abs(sizes[k] - rate))
            if (
                0.8 <= sizes[nearest_index] / rate <= 1.25
            ):  # the default sweep's nearest is .91 x lr; farther is not "at lr"
                yield row("scaled_smoothness", rate * float(path.smoothness[nearest_index]))
