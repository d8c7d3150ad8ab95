"""Orthonormal vectors of length n, and sums over n that are exact to float64 without a copy in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

#: Entries summed in the vectors' own precision before the sum goes on in float64; also fits the caches.
CHUNK = 1 << 16
#: A second pass of Gram-Schmidt below this ratio of the norms after and before the first: above it, what is not
#: orthogonal in the basis shrinks from step to step, below it grows (Daniel, Gragg, Kaufman & Stewart 1976).
TWICE = 0.5**0.5
#: What is left below this many units of rounding of what was there is rounding.
ROUNDING_UNITS = 64.0


def matrix_product(A: Tensor) -> Product:
    """A plain symmetric matrix as an operator.

    >>> matrix_product(torch.diag(torch.tensor([1.0, 2.0])))(torch.ones(2)).tolist()
    [1.0, 2.0]
    """
    return lambda v: A @ v


def length(v: Tensor) -> Tensor:
    """||v||, a scalar, in float64, chunk by chunk."""
    parts = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in torch.split(v, CHUNK)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return total


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b>, a scalar, multiplied and summed in float64, chunk by chunk (float32 squares underflow at 1e-19)."""
    pairs = zip(torch.split(a, CHUNK), torch.split(b, CHUNK), strict=True)
    return torch.stack([torch.dot(x.double(), y.double()) for x, y in pairs]).sum()


def tiny(dtype: torch.dtype) -> float:
    """Numbers below this have lost digits to underflow."""
    finfo = torch.finfo(dtype)
    return float(finfo.tiny / finfo.eps)


def random_direction(n: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """A vector of norm one, uniform on the sphere; drawn on the CPU, the same on every device."""
    v = torch.randn(n, generator=generator, dtype=like.dtype).to(like.device)
    return v / length(v).to(v.dtype)


class Basis:
    """At most ``capacity`` orthonormal vectors of length n, as the rows of one matrix.

    Attributes:
        rows: the matrix; the first ``size`` rows are in use. (capacity, n)
        size: vectors so far.
    """

    def __init__(self, n: int, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.rows = _empty(capacity, n, dtype, device)
        self._parts = torch.split(self.rows, CHUNK, dim=1)
        self.size = 0

    @property
    def tiny(self) -> float:
        """Numbers below this have lost digits to underflow."""
        return tiny(self.rows.dtype)

    @property
    def eps(self) -> float:
        """Rounding of the vectors' arithmetic."""
        return float(torch.finfo(self.rows.dtype).eps)

    def append(self, v: Tensor, size: float) -> Tensor:
        """One more row, v / ``size``: of norm one, and orthogonal to the others already."""
        row = self.rows[self.size]
        torch.div(v, size, out=row)
        self.size += 1
        return row

    def orthogonalize(self, v: Tensor) -> tuple[Tensor, float, float]:
        """Take the basis out of ``v``, in place: the last two rows, then all by classical Gram-Schmidt.

        The last two are what Lanczos' recurrence takes from a product. Once they are out, little but rounding is left
        for the pass over all, and one is enough; where it takes much all the same, there is another.

        Returns:
            What was taken: coefficients (size,), float64 on the CPU; ||v|| before; ||v|| after.
        """
        recent = max(self.size - 2, 0)
        local = self.project(v, recent)
        taken = self._subtract_and_project(v, local, recent)
        coefficients = torch.zeros(self.size, dtype=torch.float64)
        first = math.nan
        for sweep in range(3):
            left = self._subtract(v, taken)
            values = torch.cat([taken, left[None], local]).cpu()  # one wait
            last = float(values[self.size])
            if not self._sums <= last <= 1 / self._sums:  # its square may have left the range of these numbers
                values[self.size] = last = float(length(v))
            coefficients += values[: self.size]
            before = float(torch.linalg.vector_norm(values[: self.size + 1]))  # Pythagoras: the rows are orthonormal
            if sweep == 0:
                first = float(torch.linalg.vector_norm(values))
                coefficients[recent:] += values[self.size + 1 :]
            if not last < TWICE * before or last <= ROUNDING_UNITS * self.eps * first:
                break
            taken = self.project(v)
        return coefficients, first, last

    @property
    def _sums(self) -> float:
        """Norms from this to one over it are the roots of sums of squares that are numbers."""
        return math.sqrt(self.tiny * self.rows.shape[1])

    def rotate(self, weights: Tensor) -> None:
        """The first rows become combinations of the present ones, in place: weights (size, p) -> p rows."""
        old, size = self.size, weights.shape[1]
        mix = weights.T.to(self.rows)
        for part in self._parts:
            part[:size] = mix @ part[:old]
        self.size = size

    def combine(self, weights: Tensor) -> Tensor:
        """Combinations of the rows: weights (size, p) -> (p, n)."""
        made = _empty(weights.shape[1], self.rows.shape[1], self.rows.dtype, self.rows.device)
        return torch.matmul(weights.T.to(self.rows), self.rows[: self.size], out=made)

    def project(self, v: Tensor, first: int = 0) -> Tensor:
        """Q v, of the rows from ``first`` on: numbers in float64."""
        return _total([rows[first : self.size] @ part for rows, part in self._with(v)])

    def _with(self, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self._parts, torch.split(v, CHUNK), strict=True)

    def _subtract_and_project(self, v: Tensor, coefficients: Tensor, first: int) -> Tensor:
        """V <- v - Q' c, in place, of the rows from ``first`` on; Q v of all rows, while each part is in the caches."""
        c = coefficients.to(v.dtype)
        return _total(
            [rows[: self.size] @ part.addmv_(rows[first : self.size].T, c, alpha=-1.0) for rows, part in self._with(v)]
        )

    def _subtract(self, v: Tensor, coefficients: Tensor) -> Tensor:
        """V <- v - Q' c, in place; ||v||, from squares in its own precision."""
        c = coefficients.to(v.dtype)
        parts = [part.addmv_(rows[: self.size].T, c, alpha=-1.0) for rows, part in self._with(v)]
        return _total([torch.dot(part, part) for part in parts]).sqrt()


def _total(parts: list[Tensor]) -> Tensor:
    """The sum in float64."""
    return torch.stack(parts).double().sum(0)


def _empty(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for a matrix: numpy's on the CPU, since numpy asks Linux for huge pages.

    With pages of 4 KiB the first touch of a row takes four times what writing it takes.
    """
    if device.type != "cpu":
        return torch.empty(rows, columns, dtype=dtype, device=device)
    memory = torch.from_numpy(np.empty(rows * columns * dtype.itemsize, dtype=np.uint8))
    return memory.view(dtype).view(rows, columns)
