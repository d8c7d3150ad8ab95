r"""Which frequencies of a function of one variable a network has learned: the residual of a regression, band by band.

With c_k and r_k the Fourier coefficients of the target and the residual on a uniform grid of one period, the error in
a band is sqrt(sum |r_k|^2 / sum |c_k|^2) over its k. Networks learn low k first (Rahaman et al. 2019; Xu et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.objective import Batch, Objective
from landscape.preserve import preserved
from landscape.probes.base import Measurement, Moment

VERSION = 1
WIDEBAND = (1.0, 3.0, 23.0, 137.0, 203.0)  # the frequencies of the data source of this name


@dataclass(frozen=True)
class BandErrors:
    """The residual of a regression in b bands.

    Attributes:
        frequencies: their centres.
        error: norm of the residual in each over the target's. (b,)
        total: the same over all frequencies. ()
    """

    frequencies: tuple[float, ...]
    error: Tensor
    total: Tensor


def band_errors(
    model: nn.Module,
    batch: Batch,
    frequencies: Sequence[float] = WIDEBAND,
    width: float = 2.0,
    *,
    statistics: str = "batch",
) -> BandErrors:
    """Relative error of a 1-D regression in bands of frequencies: one forward pass and two Fourier transforms.

    Args:
        model: takes x (N, 1). Where it gives several columns, parts of one function, it also has ``waves(x)``, the
            columns to multiply them by (``phase_dnn`` in its parallel form); residual and target are then those of
            the sum.
        batch: (x, y), the points x on a uniform grid of one period of 2 pi, in any order.
        frequencies: centres w of the bands, in whole periods per 2 pi.
        width: a band holds w - width/2 <= k < w + width/2.
        statistics: "batch" or "running".

    Returns:
        ``BandErrors``, in float64 on the CPU.

    Raises:
        UsageError: no frequency, a negative one, or a width that is not positive.
        ProbeError: the batch is not such a regression, its grid is too coarse for a band, or the target is 0 in one.

    >>> x = torch.arange(-4, 4)[:, None] * torch.pi / 4
    >>> band_errors(nn.Linear(1, 1), (x, x + 0.5 * x.sin()), (1,)).total.shape
    torch.Size([])
    """
    if not frequencies or min(frequencies) < 0 or not width > 0:
        raise UsageError(f"frequencies={frequencies!r}, width={width!r}: bands around numbers from 0 on, width above 0")
    x, y = _regression(batch)
    with preserved(model) as snapshot, torch.inference_mode(False), torch.no_grad():
        objective = Objective(model, _no_loss, snapshot, statistics=statistics)
        snapshot.rewind()
        outputs = objective.model(x)
        if not isinstance(outputs, Tensor) or outputs.shape != y.shape:
            raise ProbeError(f"bands: the outputs of {type(model).__name__} do not have the shape of the targets")
        columns = torch.stack([(y - outputs).double(), y.double()])  # (2, N, parts)
        if y.shape[1] > 1:
            waves = getattr(objective.model, "waves", None)
            if not callable(waves):
                raise ProbeError(f"{type(model).__name__} has {y.shape[1]} outputs and no waves(x) to add them up with")
            columns = columns * waves(x.double())
    order = _uniform(x[:, 0])
    energy = torch.fft.rfft(columns.sum(2)[:, order]).abs().square().cpu()  # (2, N // 2 + 1)
    energy[:, 1 : (len(x) + 1) // 2] *= 2  # their negative frequencies
    k = torch.arange(energy.shape[1])
    bands = [energy[:, (w - width / 2 <= k) & (k < w + width / 2)].sum(1) for w in frequencies]
    for w, (_, target) in zip(frequencies, bands, strict=True):
        if not target > 0 or w + width / 2 > len(k):
            raise ProbeError(f"the target holds nothing in the band around {w:g} that {len(x)} points can tell")
    residual, target = torch.stack(bands, dim=1)
    total = energy.sum(1)
    return BandErrors(tuple(frequencies), (residual / target).sqrt(), (total[0] / total[1]).sqrt())


def _regression(batch: Batch) -> tuple[Tensor, Tensor]:
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    if pair:
        x, y = batch
        if x.is_floating_point() and y.is_floating_point() and x.ndim == y.ndim == 2 and x.shape[1] == 1:
            return x, y
    raise ProbeError("bands are those of a regression of one variable: a batch (x, y) of shapes (N, 1) and (N, parts)")


def _uniform(x: Tensor) -> Tensor:
    """The order in which the points are a uniform grid of one period."""
    ordered, order = x.double().sort()
    step = 2 * math.pi / len(x)
    grid = ordered[0] + step * torch.arange(len(x), device=x.device)
    if bool(((ordered - grid).abs() > 1e-2 * step).any()):
        raise ProbeError(
            f"bands: the {len(x)} points of the batch are not a uniform grid of one period of 2 pi, as the data "
            "'wideband' are in full-batch training (batch_size None)"
        )
    return order


def _no_loss(model: nn.Module, batch: Batch) -> Tensor:
    raise AssertionError("bands look at outputs alone")


class BandsProbe:
    """``band_errors`` of the batch of the step, inside a training loop.

    Args:
        frequencies: centres of the bands.
        width: of each.
        statistics: "batch" or "running".
    """

    name = "bands"
    version = VERSION

    def __init__(self, frequencies: Sequence[float] = WIDEBAND, width: float = 2.0, statistics: str = "batch") -> None:
        self.frequencies, self.width, self.statistics = tuple(frequencies), width, statistics

    def passes(self, full: int, layers: int) -> float:
        """Cost in forward+backward passes: one forward."""
        return 1 / 3

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """One forward pass at this moment; the layer column says which band."""
        found = band_errors(moment.model, moment.batch, self.frequencies, self.width, statistics=self.statistics)
        rows = [("total", "", 0, float(found.total))]
        rows += [
            ("error", f"{w:g}", n, error)
            for n, (w, error) in enumerate(zip(found.frequencies, found.error.tolist(), strict=True))
        ]
        for quantity, band, index, value in rows:
            yield Measurement(
                self.name,
                quantity,
                value,
                layer=band,
                index=index,
                statistics=self.statistics,
                dtype="float64",
                version=VERSION,
            )
