"""What the probes of a curvature matrix share: which matrix, of which loss, in which blocks, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from landscape.probes.base import Measurement, Moment, measurements
from landscape.products import whole
from landscape.streams import stream_seed


class BlockProbe:
    """The Hessian or the Gauss-Newton matrix inside a training loop, whole or in blocks.

    Args:
        operator: "hessian" or "ggn".
        on: "same", "held-out" or "full".
        layers: a block for each of these modules; the whole matrix if None.
        statistics: "batch" or "running".
    """

    name: str
    version: int

    def __init__(self, operator: str, on: str, layers: Sequence[str] | None, statistics: str) -> None:
        self.operator, self.on, self.layers, self.statistics = operator, on, layers, statistics

    def cost(self, products: float, full: int) -> float:
        """Forward+backward passes of so many products for each block, with ``full`` batches in the full loss."""
        return 2.0 * products * (full if self.on == "full" else 1) * len(self.layers or [""])

    def blocks(self, moment: Moment) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each block's layer ("" for the whole matrix) and the arguments by which a function measures it."""
        shared = {
            "model": moment.model,
            "loss_fn": moment.loss_fn,
            "batches": whole(moment.named(self.on)),
            "operator": self.operator,
            "statistics": self.statistics,
            "seed": stream_seed(moment.seed, f"{self.name}/{moment.step}"),
        }
        for layer in self.layers or [""]:
            yield layer, {**shared, "layers": [layer] if layer else None}

    def rows(
        self, values: Mapping[str, float | npt.NDArray[np.float64] | Tensor], layer: str, variant: str, dtype: str
    ) -> Iterator[Measurement]:
        """The measurements of one block."""
        what = {"layer": layer, "variant": variant, "dtype": dtype, "batch": self.on, "statistics": self.statistics}
        return measurements(self, values, **what)
