"""The Observer as a callback of Hugging Face's Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from landscape.errors import UsageError
from landscape.objective import Batch, LossFunction, mapped, model_loss
from landscape.observer import Observer, Scheduled
from landscape.probes import Probe

FILE = "landscape.pt"  # beside the Trainer's own files in each checkpoint


class LandscapeCallback(TrainerCallback):
    """Measure while ``Trainer.train`` trains; training stays the same bit for bit.

    The Trainer tells its callbacks nothing of its batches, so a fixed probe batch is measured. That happens
    after the backward pass and clipping, before each optimizer step. Checkpoints hold the state.

    Args:
        batch: the probe batch, e.g. ``collator([dataset[k] for k in range(32)])``; taken to the model's device.
        probes: as for ``Observer``.
        loss_fn: ``loss_fn(model, batch) -> scalar``; the loss that the model returns if not given.
        **options: the Observer's others: every, to, batches, parameters, dtype, seed, strict.

    Attributes:
        observer: the Observer, once training has begun.
    """

    def __init__(
        self,
        batch: Batch,
        probes: Sequence[str | Probe | Scheduled],
        loss_fn: LossFunction = model_loss,
        **options: Any,
    ) -> None:
        self.observer: Observer | None = None
        self.batch, self.loss_fn, self.probes, self.options = batch, loss_fn, probes, options

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Build the Observer, and go on where a checkpoint left it.

        Raises:
            UsageError: several processes or devices.
        """
        if args.world_size > 1 or args.n_gpu > 1:
            raise UsageError(
                f"probes work in one process on one device; this Trainer has {args.world_size} processes with "
                f"{args.n_gpu} GPUs each: show it one, e.g. with CUDA_VISIBLE_DEVICES=0"
            )
        stepper = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.observer = Observer(model, self.loss_fn, self.probes, optimizer=stepper, **self.options)
        device = next(model.parameters()).device
        self.batch = mapped(self.batch, lambda tensor: tensor.to(device))
        if state.global_step > 0:
            kept = self._file(args, state)
            if kept.is_file():
                self.observer.load_state_dict(torch.load(kept, weights_only=True))
            self.observer.steps = state.global_step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure."""
        if self.observer is not None:
            self.observer.step(self.batch)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the state beside the Trainer's own."""
        if self.observer is not None and self._file(args, state).parent.is_dir():
            torch.save(self.observer.state_dict(), self._file(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close what the Observer wrote to."""
        if self.observer is not None:
            self.observer.close()

    @staticmethod
    def _file(args: Any, state: Any) -> Path:
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
