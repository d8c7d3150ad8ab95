"""A function of one variable with low and high frequencies, and its parts band by band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from landscape.data.base import Dataset, Split, make_dataset
from landscape.errors import UsageError

Array = npt.NDArray[np.float64]


def wideband(*, samples: int = 2048, frequencies: Sequence[float] | None = None, width: float | None = None) -> Dataset:
    """f(x) = 10 (sin x + sin 3x) on [-pi, 0] and 10 (sin 23x + sin 137x + sin 203x) on (0, pi].

    A regression on a uniform grid of [-pi, pi), the same for every seed; the test split is the grid between. Both
    have f itself as target, (samples, 1), or, with ``frequencies``, its parts in bands of ``width`` around each:
    what ``phase_dnn`` in its parallel form is trained on (``band_parts``).

    Source: the test function of PhaseDNN (Cai, Li & Liu 2020), as its public code has it.

    Args:
        samples: in each split; above 406, two for each period of the highest frequency.
        frequencies: centres of the bands; None for f itself.
        width: of each band; None: as wide as the closest two centres allow.

    Raises:
        UsageError: too few samples, or bands that overlap.

    >>> wideband(samples=512).train[1].shape, wideband(samples=512, frequencies=(0, 23, 137, 203)).train[1].shape
    (torch.Size([512, 1]), torch.Size([512, 7]))
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples <= 406:
        raise UsageError(f"samples={samples!r} must be a whole number above 406: the highest frequency is 203")
    note = ""
    if frequencies is not None:
        width = _checked_width(frequencies, width)
        left = _remainder(_grid(samples, 0.0), frequencies, width)
        note = f"bands of width {width:g} around {', '.join(f'{w:g}' for w in frequencies)} hold f but for {left:.1%}"

    def split(shift: float) -> Split:
        x = _grid(samples, shift)
        y = function(x)[:, None] if frequencies is None else band_parts(function(x), x, frequencies, width or 0.0)
        return torch.from_numpy(x[:, None]).float(), torch.from_numpy(y).float()

    return make_dataset("wideband", split(0.0), split(0.5), classes=None, note=note)


def function(x: Array) -> Array:
    """f at points of [-pi, pi], elementwise.

    >>> function(np.array([-np.pi / 2, np.pi / 2])).round(6)
    array([  0., -10.])
    """
    low = np.sin(x) + np.sin(3 * x)
    high = np.sin(23 * x) + np.sin(137 * x) + np.sin(203 * x)
    return np.asarray(10 * np.where(x <= 0, low, high), dtype=np.float64)


def band_parts(values: Array, x: Array, frequencies: Sequence[float], width: float) -> Array:
    """The parts A_m and B_m of a function on a uniform grid of one period: f = sum_m A_m cos(w_m x) + B_m sin(w_m x).

    f_m holds the frequencies k with w_m - width/2 <= k < w_m + width/2. With its negative frequencies left out and
    the others doubled, its spectrum is shifted by w_m to around zero: A_m - i B_m = e^(-i w_m x) f_m^+(x), both
    slowly varying. At w_m = 0 there is nothing to shift: A = f_m, and no B. The sum is exact where the bands cover
    all frequencies of the grid.

    Args:
        values: f on the grid. (N,)
        x: the grid, uniform, over one period of 2 pi, its last point left out. (N,)
        frequencies: the centres w_m.
        width: of each band.

    Returns:
        A_1, B_1, A_2, B_2, ... without B where w_m is 0. (N, parts)
    """
    k = np.arange(len(values) // 2 + 1)
    spectrum = np.zeros(len(values), dtype=np.complex128)
    spectrum[: len(k)] = 2 * np.fft.rfft(values)
    spectrum[0] /= 2
    if len(values) % 2 == 0:
        spectrum[len(values) // 2] /= 2
    columns: list[Array] = []
    for w in frequencies:
        inside = np.zeros(len(values), dtype=bool)
        inside[: len(k)] = (w - width / 2 <= k) & (k < w + width / 2)
        shifted = np.fft.ifft(np.where(inside, spectrum, 0)) * np.exp(-1j * w * x)
        columns += [shifted.real, -shifted.imag] if w else [shifted.real]
    return np.stack(columns, axis=1)


def recombined(parts: Array, x: Array, frequencies: Sequence[float]) -> Array:
    """sum_m A_m cos(w_m x) + B_m sin(w_m x) for the parts (N, parts) at x (N,): (N,)."""
    waves = [wave(w * x) for w in frequencies for wave in (np.cos, np.sin)[: 2 if w else 1]]
    return np.asarray((parts * np.stack(waves, axis=1)).sum(1), dtype=np.float64)


def _grid(samples: int, shift: float) -> Array:
    return -np.pi + 2 * np.pi * (np.arange(samples) + shift) / samples


def _remainder(x: Array, frequencies: Sequence[float], width: float) -> float:
    """||f - sum of its bands|| / ||f||."""
    f = function(x)
    left = f - recombined(band_parts(f, x, frequencies, width), x, frequencies)
    return float(np.linalg.norm(left) / np.linalg.norm(f))


def _checked_width(frequencies: Sequence[float], width: float | None) -> float:
    if not isinstance(frequencies, (list, tuple)) or not frequencies or any(not w >= 0 for w in frequencies):
        raise UsageError(f"frequencies is a list of numbers from 0 on, as in [0, 23], got {frequencies!r}")
    gap = min(np.diff(sorted(frequencies)), default=2 * max(frequencies) or 1.0)
    if width is None:
        width = float(gap)
    if not 0 < width <= gap:
        raise UsageError(f"bands of width {width:g} overlap or are empty: the closest centres are {gap:g} apart")
    return width
