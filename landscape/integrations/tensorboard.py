"""A sink to TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from landscape.probes import Measurement


class TensorBoard:
    """Writes each number as a scalar: ``Observer(..., to=TensorBoard("logs"))``.

    Tags read probe/quantity, followed by the variant, the layer and the position along a sweep where there are any.
    Arrays are left out.

    Args:
        to: a folder, or a ``SummaryWriter`` that is open already.
    """

    def __init__(self, to: SummaryWriter | Path | str) -> None:
        self.writer = SummaryWriter(str(to)) if isinstance(to, str | Path) else to

    def append(self, step: int, learning_rate: float | None, measurements: Sequence[Measurement]) -> None:
        """Write one step's numbers, and make them visible."""
        swept = {(one.probe, one.variant, one.quantity) for one in measurements if one.index > 0}
        for one in measurements:
            if isinstance(one.value, int | float):
                at = str(one.index) if (one.probe, one.variant, one.quantity) in swept else ""
                variant = one.variant.replace("/", "-")
                tag = "/".join(part for part in (one.probe, one.quantity, variant, one.layer, at) if part)
                self.writer.add_scalar(tag, one.value, step)
        if learning_rate is not None:
            self.writer.add_scalar("learning_rate", learning_rate, step)
        self.writer.flush()
