r"""The loss on a line or a plane through w: the picture of a loss landscape, and what it leaves out.

A slice shows two directions of n. Filter-normalized ones (Li et al., *Visualizing the Loss Landscape of Neural
Nets*, NeurIPS 2018, section 4) are on the scale of the weights, so that slices of networks whose filters differ
in size can be compared. Every point sees the same batches, buffers and random draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.affine import SharedFirstLayer
from landscape.errors import UsageError, nearest
from landscape.layout import channels_last
from landscape.objective import Batch, Batches, LossFunction, Objective, as_batches
from landscape.parameters import Blocks, Parameters, Selection, dot, norm
from landscape.preserve import preserved, unwrapped
from landscape.probes.base import Measurement, Moment, measurements
from landscape.probes.directions import KINDS, Path, ProjectedPath, Vector, blocks_of, filter_axes, gradient_axes, unit
from landscape.products import whole
from landscape.streams import stream_seed

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
#: Losses of two layouts that differ by less than this part of them differ by rounding.
AGREES = 1e-5
MARGIN = 0.15  # of the path's extent, around it
#: A half-width, or (low, high), for all axes or one for each.
Extent = float | Sequence[float | tuple[float, float]]


@dataclass(frozen=True)
class LossSlice:
    """L(w + x_i d_1) on a line, or L(w + x_i d_1 + y_j d_2) on a plane; tensors on the model's device.

    Attributes:
        coordinates: x (X,), and y (Y,) on a plane.
        loss: at [i] or [i, j]; what is not finite is +inf. (X,) or (X, Y)
        loss0: L(w). ()
        directions: names of the axes.
        lengths: ||d_k||: times a coordinate, the distance moved. (d,)
        cosine: of the two axes, which need not be orthogonal; 0 on a line. ()
        path: the trajectory in the plane, if one was given.
        still: names of parameters that no axis moves.
        statistics: "batch" or "running".
        shared: whether the first layer's products were computed once for the whole slice.
    """

    coordinates: tuple[Tensor, ...]
    loss: Tensor
    loss0: Tensor
    directions: tuple[str, ...]
    lengths: Tensor
    cosine: Tensor
    path: ProjectedPath | None
    still: tuple[str, ...]
    statistics: str
    shared: bool

    def frame(self) -> pd.DataFrame:
        """One row per point: x, y (on a plane) and loss; synchronises."""
        import pandas as pd

        grid = torch.meshgrid(*self.coordinates, indexing="ij")
        columns = dict(zip("xy", (axis.flatten().tolist() for axis in grid), strict=False))
        return pd.DataFrame({**columns, "loss": self.loss.flatten().tolist()})


def loss_slice(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    *,
    directions: str | Sequence[Vector] = "filter",
    dimensions: int | None = None,
    extent: Extent | None = None,
    points: int | Sequence[int] = 25,
    eigenvectors: Tensor | Sequence[Vector] | None = None,
    trajectory: Sequence[Vector] | None = None,
    ignore_1d: bool = True,
    parameters: Selection = None,
    statistics: str = "batch",
    seed: int = 0,
) -> LossSlice:
    r"""Evaluate the loss on a line or a plane through the present weights, and leave the model as it was.

    Axes are made of trainable parameters alone: running means and variances, being no parameters, are never
    moved. With ``statistics="running"`` they stay at their values everywhere on the slice.

    Args:
        model: any ``nn.Module``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, a mean over the batch.
        batches: ``Batches``, a list of mini-batches (averaged by size), or a single one.
        directions: "filter" (Gaussian, each filter scaled to the norm of the weight's; coordinate 1 is a move as
            large as the weights); "gradient" (steepest descent, then a Gaussian direction orthogonal to it);
            "eigen" (the first of ``eigenvectors``); "trajectory" (principal axes of ``trajectory``); or one or two
            vectors of your own: n numbers, blocks in the parameters' shapes, or a state dict, used as they are.
            Gradient, eigen and trajectory axes have length 1, so that coordinates are distances.
        dimensions: 1 (a line) or 2 (a plane, the default for named directions).
        extent: half-width or (low, high), for all axes or one for each; None: 1, and with a trajectory
            whatever holds w and the path with a margin.
        points: points per axis, one number for all or one for each; an odd number has w itself among them.
        eigenvectors: (k, n), or k vectors.
        trajectory: snapshots of the weights, oldest first; projected into the slice whatever its axes are.
        ignore_1d: leave biases and normalizations' affine parameters where they are in filter-normalized
            directions (the default of Li et al.); False: each is one filter.
        parameters: restrict w to a name pattern or predicate.
        statistics: "batch": the loss that batch normalization trains on; "running": evaluation statistics.
        seed: of Gaussian directions.

    Raises:
        UsageError: an unknown direction, an axis of length zero, or sizes that don't fit.
        ProbeError: nothing trainable, or a model that can't be moved in one process.

    Cost: X Y forward passes of all batches, and one more where w is no point of the grid. A linear layer that the
    batch itself feeds is computed once per axis, and its weights are moved only where something reads them (the
    first point is evaluated twice to see whether the loss does so in a way that can't be watched). Narrow convolutional
    networks whose normalization, if any, uses running statistics are given float32 images in channels_last on a CPU,
    which is faster, if that leaves L(w) what it is. Memory: w, the axes and one further copy of w, the images, and at
    most 256 MiB for that layer.

    >>> w = nn.Linear(2, 1, bias=False)
    >>> bowl = lambda model, batch: model.weight.square().sum() / 2
    >>> line = loss_slice(w, bowl, None, directions=[torch.tensor([0.0, 2.0])], extent=1, points=3)
    >>> rise = line.loss - line.loss0 - line.coordinates[0] * 2 * w.weight[0, 1].item()  # less the slope
    >>> [round(abs(x), 4) for x in rise.tolist()]  # 2 x^2
    [2.0, 0.0, 2.0]
    """
    parts = as_batches(batches)
    with preserved(model) as snapshot, torch.inference_mode(False):
        objective = Objective(model, loss_fn, snapshot, select=parameters, statistics=statistics)
        w = objective.parameters
        start = [snapshot.value_of(p) for p in w.tensors]
        way = None if trajectory is None else Path(w, start, trajectory)
        names, axes = _axes(objective, parts, start, directions, dimensions, eigenvectors, way, seed, ignore_1d)
        path = None if way is None else way.seen(axes)
        coordinates = _coordinates(len(axes), extent, points, path)
        loss0, loss, shared = _evaluate(objective, parts, start, axes, coordinates)
    return LossSlice(
        coordinates=tuple(torch.tensor(axis, dtype=torch.float64, device=loss.device) for axis in coordinates),
        loss=torch.nan_to_num(loss, nan=float("inf"), posinf=float("inf"), neginf=float("-inf")),
        loss0=loss0,
        directions=names,
        lengths=torch.stack([norm(axis) for axis in axes]),
        cosine=dot(axes[0], axes[1]) / (norm(axes[0]) * norm(axes[1])) if len(axes) > 1 else loss0 * 0,
        path=path,
        still=tuple(n for k, n in enumerate(w.names) if not any(bool(axis[k].any()) for axis in axes)),
        statistics=statistics,
        shared=shared,
    )


def _axes(
    objective: Objective,
    batches: Batches,
    start: Blocks,
    directions: str | Sequence[Vector],
    dimensions: int | None,
    eigenvectors: Tensor | Sequence[Vector] | None,
    path: Path | None,
    seed: int,
    ignore_1d: bool,
) -> tuple[tuple[str, ...], list[Blocks]]:
    """Names of the axes, and the axes."""
    w = objective.parameters
    if not isinstance(directions, str):
        given = [blocks_of(w, vector, f"direction {k + 1}") for k, vector in enumerate(directions)]
        _check_dimensions(len(given) if dimensions is None else dimensions, len(given), "directions")
        for k, axis in enumerate(given):
            unit(axis, f"direction {k + 1}")
        return tuple(f"direction {k + 1}" for k in range(len(given))), given
    count = 2 if dimensions is None else dimensions
    _check_dimensions(count, 2, "dimensions")
    if directions == "filter":
        names = [f"filter-normalized {k + 1}" for k in range(count)]
        return tuple(names), filter_axes(w, start, count, seed, ignore_1d)
    if directions == "gradient":
        with torch.enable_grad():
            _, g = objective.value_and_gradient(batches)
        return ("steepest descent", "random, orthogonal")[:count], gradient_axes(w, g, count, seed)
    if directions == "eigen":
        if eigenvectors is None or len(eigenvectors) < count:
            raise UsageError(
                f'directions="eigen" with dimensions={count} needs eigenvectors= of so many rows, of n numbers each'
            )
        blocks = [blocks_of(w, eigenvectors[k], f"eigenvector {k + 1}") for k in range(count)]
        names = [f"eigenvector {k + 1}" for k in range(count)]
        return tuple(names), [unit(axis, name) for axis, name in zip(blocks, names, strict=True)]
    if directions == "trajectory":
        if path is None:
            raise UsageError('directions="trajectory" needs trajectory=, a list of snapshots of the weights')
        return tuple(f"principal axis {k + 1}" for k in range(count)), path.principal_axes(count)
    raise UsageError(
        f"directions={directions!r} is not known: {nearest(directions, list(KINDS))}, or a list of vectors"
    )


def _check_dimensions(asked: int, most: int, what: str) -> None:
    if asked not in (1, 2) or asked > most:
        raise UsageError(f"a slice has 1 or 2 dimensions and a direction for each: got {what} for {asked} of {most}")


def _coordinates(
    count: int, extent: Extent | None, points: int | Sequence[int], path: ProjectedPath | None
) -> list[list[float]]:
    """The numbers along each axis."""
    numbers = [points] * count if isinstance(points, int) else list(points)
    if len(numbers) != count or min(numbers) < 2:
        raise UsageError(f"points={points!r}: one number of 2 or more, or one for each of the {count} axes")
    if extent is None:
        ranges = [(-1.0, 1.0)] * count if path is None else [_around(path.points[:, k].tolist()) for k in range(count)]
    else:
        each = [extent] * count if isinstance(extent, int | float) else list(extent)
        ranges = [(-float(e), float(e)) if isinstance(e, int | float) else (float(e[0]), float(e[1])) for e in each]
    if len(ranges) != count or not all(-float("inf") < low < high < float("inf") for low, high in ranges):
        raise UsageError(
            f"extent={extent!r}: a half-width or (low, high), for all {count} axes or a list of one for each"
        )
    return [
        torch.linspace(low, high, number, dtype=torch.float64).tolist()
        for (low, high), number in zip(ranges, numbers, strict=True)
    ]


def _around(values: list[float]) -> tuple[float, float]:
    low, high = min(*values, 0.0), max(*values, 0.0)
    pad = MARGIN * (high - low) or 1.0
    return low - pad, high + pad


def _evaluate(
    objective: Objective, batches: Batches, start: Blocks, axes: list[Blocks], coordinates: list[list[float]]
) -> tuple[Tensor, Tensor, bool]:
    """L at w and at every point, and whether a first layer was shared."""
    batches, first, loss0 = _at_w(objective, batches)
    first.leave_late(True)
    losses: list[Tensor] = []
    for outer, row in _rows(start, axes, coordinates):
        for inner in coordinates[-1]:
            if not any((*outer, inner)):  # w itself
                losses.append(loss0)
                continue
            first.move(row, axes[-1], -inner)
            here = first.at(axes, [-x for x in (*outer, inner)])
            losses.append(objective.value(batches, here))
            if first.leaves_late and len(losses) == 1:  # a corner: does the loss read the weights where nobody sees it?
                first.catch_up()
                again = objective.value(batches, here)
                first.leave_late(bool(again == losses[0]))
                losses[0] = again
    return loss0, torch.stack(losses).view([len(axis) for axis in coordinates]), first.found


def _at_w(objective: Objective, batches: Batches) -> tuple[Batches, SharedFirstLayer, Tensor]:
    """The batches in the layout that is evaluated faster, the first layer noted on them, and L(w)."""
    first = SharedFirstLayer(objective.parameters.tensors, batches.batches)
    loss0 = objective.value(batches, first)
    other = channels_last(objective.model, batches)
    if other is not None:
        there = SharedFirstLayer(objective.parameters.tensors, other.batches)
        with suppress(Exception):  # a model that can't take them: view() of a tensor, say
            found = objective.value(other, there)
            if bool((found - loss0).abs() <= AGREES * loss0.abs()):
                return other, there, found
    return batches, first, loss0


def _rows(
    start: Blocks, axes: list[Blocks], coordinates: list[list[float]]
) -> Iterator[tuple[tuple[float, ...], Blocks]]:
    """Where each row of the slice begins, always counted from w: rounding does not add up along the way."""
    if len(axes) == 1:
        yield (), start
        return
    row = [w.clone() for w in start]
    for x in coordinates[0]:
        for r, w, u in zip(row, start, axes[0], strict=True):
            torch.add(w, u, alpha=x, out=r)
        yield (x,), row


class LossSliceProbe:
    """``loss_slice`` inside a training loop: along the same Gaussian directions at every step, or with the way so far.

    Args:
        directions: "filter", "gradient" or "trajectory": the principal axes of the weights at all measurements so far.
        dimensions: 1 or 2.
        extent: half-width.
        points: points per axis.
        on: "same" (the mini-batch of the step), "held-out" or "full".
        statistics: "batch" or "running".
        gather: how many measurements keep the weights before one evaluates the slice, with their way in it; 10 with
            "trajectory" and 0, no way, with other directions if None.
    """

    name = "loss_slice"
    version = VERSION

    def __init__(
        self,
        directions: str = "filter",
        dimensions: int = 1,
        extent: float = 1.0,
        points: int = 21,
        on: str = "same",
        statistics: str = "batch",
        gather: int | None = None,
    ) -> None:
        if directions not in KINDS or directions == "eigen":
            raise UsageError(
                f"while training a slice has directions 'filter', 'gradient' or 'trajectory', not {directions!r}"
            )
        if gather is None:
            gather = 10 if directions == "trajectory" else 0
        if gather < 2 and (gather or directions == "trajectory"):
            raise UsageError(f"gather={gather}: a trajectory has at least two snapshots before it is drawn")
        self.directions, self.dimensions, self.extent, self.points = directions, dimensions, extent, points
        self.on, self.statistics, self.gather = on, statistics, gather
        self._way: list[list[Tensor]] = []

    def passes(self, full: int, layers: int) -> float:
        """Forward+backward passes of one measurement: ``full`` batches in the full loss, so many ``layers``."""
        forwards = float(self.points) ** self.dimensions + 1
        cost = forwards / 3 * (full if self.on == "full" else 1) + (self.directions == "gradient")
        return cost / (self.gather + 1)

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """The slice at this moment; on a plane, index i * points + j is at x_i, y_j; path_x and path_y by snapshot."""
        if self.gather:
            here = Parameters(unwrapped(moment.model)).tensors
            self._way.append([p.detach().to("cpu", copy=True) for p in here])
            if len(self._way) % (self.gather + 1):
                return
        found = loss_slice(
            moment.model,
            moment.loss_fn,
            whole(moment.named(self.on)),
            directions=self.directions,
            dimensions=self.dimensions,
            extent=None if self.gather else self.extent,
            points=self.points,
            trajectory=self._way if self.gather else None,
            statistics=self.statistics,
            seed=stream_seed(moment.seed, "slice"),
        )
        rise = (found.loss.max() - found.loss0).clamp_min(0.0)
        rows = {"loss": found.loss, "loss0": found.loss0, "rise": rise, "length": found.lengths}
        rows |= {"concave_share": _concave(found.loss)} | dict(zip("xy", found.coordinates, strict=False))
        if found.path is not None:
            rows |= {
                f"path_{name}": found.path.points[:, k] for k, name in zip(range(self.dimensions), "xy", strict=False)
            }
            rows["explained_variance"] = found.path.explained_variance
        yield from measurements(
            self,
            rows,
            variant=f"{self.directions}/{self.dimensions}d",
            batch=self.on,
            statistics=self.statistics,
            dtype=str(found.loss0.dtype).removeprefix("torch."),
        )

    def state_dict(self) -> dict[str, Any]:
        """The weights kept so far."""
        return {"way": [list(point) for point in self._way]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._way = [list(point) for point in state["way"]]


def _concave(loss: Tensor) -> Tensor:
    """The share of inner points, over all axes, at which the second difference along the axis is negative.

    >>> _concave(torch.tensor([1.0, 0.0, 1.0, 1.5, 1.0]))  # two of three
    tensor(0.6667)
    """
    bends = [loss.diff(n=2, dim=k).flatten() for k in range(loss.ndim) if loss.shape[k] > 2]
    return (torch.cat(bends) < 0).to(loss.dtype).mean() if bends else loss.new_zeros(())
