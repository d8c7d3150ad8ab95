"""The Observer as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback

from landscape.errors import UsageError
from landscape.objective import LossFunction
from landscape.observer import Observer, Scheduled
from landscape.probes import Probe


class LandscapeCallback(Callback):
    """Measure while ``Trainer.fit`` trains, on the batches that it trains on; training stays the same bit for bit.

    Measured after the backward pass, before the optimizer steps (and before Lightning clips gradients, which only
    covariate_shift and updates see). The state goes into Lightning's checkpoints.

    Args:
        loss_fn: ``loss_fn(module, batch) -> scalar``: not ``training_step`` itself where that logs.
        probes: as for ``Observer``.
        **options: the Observer's others: every, to, batches, parameters, dtype, seed, strict.

    Attributes:
        observer: the Observer, once training has begun.
    """

    def __init__(self, loss_fn: LossFunction, probes: Sequence[str | Probe | Scheduled], **options: Any) -> None:
        self.observer: Observer | None = None
        self.loss_fn, self.probes, self.options = loss_fn, probes, options
        self._state: dict[str, Any] | None = None
        self._batch: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Build the Observer.

        Raises:
            UsageError: several optimizers or processes.
        """
        if trainer.world_size > 1 or len(trainer.optimizers) != 1:
            raise UsageError(
                f"probes work in one process with one optimizer; this Trainer has {trainer.world_size} and "
                f"{len(trainer.optimizers)}: use devices=1, or an Observer of your own around each optimizer"
            )

        def loss_fn(module: Any, batch: Any) -> Any:
            with trainer.precision_plugin.train_step_context():  # the Trainer's autocast, where it has one
                return self.loss_fn(module, batch)

        self.observer = Observer(pl_module, loss_fn, self.probes, optimizer=trainer.optimizers[0], **self.options)
        if self._state is not None:
            self.observer.load_state_dict(self._state)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Measure."""
        if self.observer is not None:
            self.observer.step(self._batch)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close what the Observer wrote to."""
        if self.observer is not None:
            self.observer.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The same, and the run stays unfinished."""
        if self.observer is not None:
            self.observer.close(finished=False)

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoint."""
        return {} if self.observer is None else self.observer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From Lightning's checkpoint."""
        self._state = state_dict or None
