"""The axes of a slice through the landscape, and the way of a training run seen in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.parameters import Blocks, Parameters, dot, eager_name, filter_normalized, norm
from landscape.streams import stream

#: A point or a direction in the space of weights: n numbers, blocks as in ``parameters``, or a state dict.
Vector = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

KINDS = ("filter", "gradient", "eigen", "trajectory")


def blocks_of(w: Parameters, vector: Vector, what: str) -> Blocks:
    """A vector in the blocks of w; what a state dict holds besides trainable parameters is left out.

    Raises:
        UsageError: it has no entry for a parameter, or one of another shape.
    """
    if isinstance(vector, Tensor):
        return w.blocks(vector.detach())
    if isinstance(vector, Mapping):
        found = {eager_name(name): value for name, value in vector.items()}
        missing = [name for name in w.names if name not in found]
        if missing:
            raise UsageError(f"{what} has no entry for {missing[0]!r} ({len(missing)} of {len(w.names)} are missing)")
        vector = [found[name] for name in w.names]
    shapes = [tuple(p.shape) for p in w.tensors]
    if [tuple(block.shape) for block in vector] != shapes:
        raise UsageError(
            f"{what} has to be {w.numel} numbers, or {len(shapes)} blocks of the parameters' shapes {shapes[:3]}..., "
            f"or a state dict; got {len(vector)} blocks {[tuple(block.shape) for block in vector][:3]}..."
        )
    return [block.detach().to(p.device, p.dtype) for block, p in zip(vector, w.tensors, strict=True)]


def gaussian(w: Parameters, seed: int, name: str) -> Blocks:
    """A Gaussian direction of a stream of its own; a complex number has two."""
    draws = w.blocks(torch.randn(w.numel, generator=stream(seed, name)))
    if not any(p.is_complex() for p in w.tensors):
        return draws
    others = w.blocks(torch.randn(w.numel, generator=stream(seed, f"{name}/imaginary")))
    return [x + 1j * y if x.is_complex() else x for x, y in zip(draws, others, strict=True)]


def filter_axes(w: Parameters, start: Blocks, count: int, seed: int, ignore_1d: bool) -> list[Blocks]:
    """Filter-normalized Gaussian axes, as Li et al. 2018 draw them: not made orthogonal."""
    axes = []
    for k in range(count):
        draws = gaussian(w, seed, f"slice direction {k + 1}")
        axis = filter_normalized(draws, start)
        if not ignore_1d:  # a 1-D parameter is one filter
            axis = [
                x * (norm([p]) / norm([x])) if x.ndim < 2 else a for a, x, p in zip(axis, draws, start, strict=True)
            ]
        axes.append(axis)
    if ignore_1d and all(p.ndim < 2 for p in start):
        raise UsageError(
            "all parameters are 1-D, and filter-normalized directions leave those where they are: pass ignore_1d=False"
        )
    return axes


def gradient_axes(w: Parameters, g: Blocks, count: int, seed: int) -> list[Blocks]:
    """Steepest descent, then a Gaussian direction orthogonal to it; both of length 1."""
    first = unit([-x for x in g], "the gradient")
    axes = [first]
    if count > 1:
        draws = gaussian(w, seed, "slice direction 2")
        axes.append(unit(without(draws, first), "the direction beside the gradient"))
    return axes


def without(vector: Blocks, axis: Blocks) -> Blocks:
    """The part of a vector that is orthogonal to an axis of any length."""
    along = dot(vector, axis) / dot(axis, axis)
    return [x - along.to(x.dtype) * a for x, a in zip(vector, axis, strict=True)]


def unit(vector: Blocks, what: str) -> Blocks:
    """The vector at length 1.

    Raises:
        UsageError: its length is zero or not finite.
    """
    length = norm(vector)
    if not 0.0 < float(length) < float("inf"):
        raise UsageError(f"{what} has length {float(length)}, so it gives no direction")
    return [x / length.to(x.dtype) for x in vector]


class Path:
    """The points of a training run as vectors from w, one block at a time in float64.

    Args:
        w: the parameters; the origin is their present value.
        start: that value.
        snapshots: the points.
    """

    def __init__(self, w: Parameters, start: Blocks, snapshots: Sequence[Vector]) -> None:
        if len(snapshots) < 2:
            raise UsageError(f"a trajectory has at least two snapshots of the weights, this one has {len(snapshots)}")
        self._points = [blocks_of(w, point, f"snapshot {t} of the trajectory") for t, point in enumerate(snapshots)]
        self._start = start

    def rows(self, k: int) -> Tensor:
        """Block k of every point less w, (T, size of the block)."""
        origin = self._start[k].reshape(-1).double()
        return torch.stack([point[k].reshape(-1).double() - origin for point in self._points])

    def _over_blocks(self, product: Callable[[int, Tensor], Tensor]) -> Tensor:
        return torch.stack([product(k, self.rows(k)) for k in range(len(self._start))]).sum(0)

    def principal_axes(self, count: int) -> list[Blocks]:
        """The first principal axes of the points about their mean, of length 1; the first point lies at +.

        Raises:
            UsageError: the points span fewer dimensions.
        """
        gram = self._over_blocks(lambda _, rows: (rows - rows.mean(0)) @ (rows - rows.mean(0)).T)
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
        if len(values) < count or not float(values[-1]) > 1e-12 * float(values[0]):
            raise UsageError(
                f"the trajectory's {len(self._points)} snapshots span fewer than {count} dimensions: "
                "pass more of them, or dimensions=1"
            )
        signs = torch.where(vectors[0] < 0, -1.0, 1.0).to(vectors)
        weights = (vectors * signs / values.sqrt()).T  # (count, T)
        axes: list[Blocks] = [[] for _ in range(count)]
        for k, block in enumerate(self._start):
            rows = self.rows(k)
            for axis, combined in zip(axes, weights @ (rows - rows.mean(0)), strict=True):
                axis.append(combined.view_as(block).to(block.dtype))
        return axes

    def seen(self, axes: Sequence[Blocks]) -> ProjectedPath:
        """The points projected onto the plane of the axes, which need not be orthogonal."""

        def flat(k: int) -> Tensor:
            return torch.stack([axis[k].reshape(-1).double() for axis in axes])  # (d, size)

        gram = self._over_blocks(lambda k, _: flat(k) @ flat(k).T)
        inner = self._over_blocks(lambda k, rows: flat(k) @ rows.T)  # (d, T)
        points = torch.linalg.solve(gram, inner)
        missed = self._over_blocks(lambda k, rows: (rows - points.T @ flat(k)).square().sum(1))
        total = self._over_blocks(lambda _, rows: (rows - rows.mean(0)).square().sum())
        centred = inner - inner.mean(1, keepdim=True)
        explained = [
            (centred[:d] * torch.linalg.solve(gram[:d, :d], centred[:d])).sum() / total for d in range(1, len(axes) + 1)
        ]
        return ProjectedPath(points.T, missed.sqrt(), torch.stack(explained))


@dataclass(frozen=True)
class ProjectedPath:
    """A path of T points in the plane of d axes.

    Attributes:
        points: coordinates of the nearest point of the plane. (T, d)
        distance: how far from the plane each point lies. (T,)
        explained_variance: the share of the points' variance about their mean that the first axis holds, then
            all of them together. (d,)
    """

    points: Tensor
    distance: Tensor
    explained_variance: Tensor
