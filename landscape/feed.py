"""The batches of one run, as a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from landscape.data import Dataset
from landscape.errors import UsageError
from landscape.experiment import Study
from landscape.objective import Batch, Batches, batch_size, mapped
from landscape.streams import stream

#: Along the way the test split is evaluated on its first so many examples; at the end, on all of it.
TEST_SAMPLE = 2000


class Feed:
    """The batches of one run, as a function of the step alone: nothing to save in a checkpoint.

    Order, probe batches and the full loss's batches come from named streams of the run's seed, so that
    all arms of a seed see the same.
    """

    def __init__(self, data: Dataset, study: Study, seed: int, device: torch.device) -> None:
        self.train = mapped(data.train, lambda tensor: tensor.to(device))
        self.test = mapped(data.test, lambda tensor: tensor.to(device))
        self.test_sample = mapped(self.test, lambda tensor: tensor[:TEST_SAMPLE])
        self.seed, self.classes = seed, data.classes
        self.count = batch_size(self.train)
        self.size = study.batch_size or self.count
        if not 0 < self.size <= self.count:
            raise UsageError(
                f"study {study.name!r}: batch_size {self.size} with {self.count} training examples in {data.name}; "
                f'choose 1 to {self.count}, or None (in TOML: "full") for full-batch descent'
            )
        self.whole = study.batch_size is None
        self.per_epoch = self.count // self.size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def batch(self, step: int) -> Batch:
        """The mini-batch of a step; an incomplete last batch is dropped."""
        if self.whole:
            return self.train
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permutation(f"order/{epoch}")
        return self._take(self.train, self._order[position * self.size : (position + 1) * self.size])

    def full(self, limit: int | None) -> Batches:
        """The fixed batches that L_m(w) averages over: all of them, or the first ``limit``."""
        if self.whole:
            return Batches([self.train])
        order = self._permutation("full")
        number = self.per_epoch if limit is None else min(limit, self.per_epoch)
        return Batches([self._take(self.train, order[k * self.size : (k + 1) * self.size]) for k in range(number)])

    def sizes(self, full: int) -> dict[str, int]:
        """In mini-batches: the full loss, the test split, and what of it is evaluated along the way."""
        test, sample = (-(-batch_size(split) // self.size) for split in (self.test, self.test_sample))
        return {"full": full, "test": test, "sample": sample}

    def held_out(self, step: int) -> Batch:
        """A mini-batch of the test split, another at each step, the same for every arm."""
        order = torch.randperm(batch_size(self.test), generator=stream(self.seed, f"held-out/{step}"))
        return self._take(self.test, order[: self.size])

    def _permutation(self, name: str) -> Tensor:
        return torch.randperm(self.count, generator=stream(self.seed, name))

    @staticmethod
    def _take(split: Batch, index: Tensor) -> Batch:
        return mapped(split, lambda tensor: tensor[index.to(tensor.device)])


class ProbeBatches(Mapping[str, Any]):
    """The named batches of a moment; the held-out one is drawn for the step that asks."""

    def __init__(self, feed: Feed, full: Batches) -> None:
        self.feed, self.step = feed, 0
        self._fixed = {"full": full, "fixed": full.batches[0]}

    def __getitem__(self, name: str) -> Any:
        return self.feed.held_out(self.step) if name == "held-out" else self._fixed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(["held-out", *self._fixed])

    def __len__(self) -> int:
        return 1 + len(self._fixed)
