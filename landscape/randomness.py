"""The generators that a forward pass draws from: their states, and the way back to them."""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def _cuda_in_use() -> bool:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # untyped in torch
    return started


class _NumpyState:
    """The state of numpy's legacy generator, written back only where something drew from it.

    Writing takes numpy 60 us (it goes through 624 words in Python), more than a small network's whole forward pass
    can spare; comparing the generator's memory takes half a microsecond.
    """

    def __init__(self) -> None:
        state: Any = np.random.get_state()
        self.state, self.memory = state, self._read()
        # Of two normal numbers drawn at once the second is kept outside that memory: then always write.
        self.whole = self.memory is not None and not state[3]

    def restore(self) -> None:
        if not self.whole or self._read() != self.memory:
            np.random.set_state(self.state)

    @staticmethod
    def _read() -> bytes | None:
        """Key and position of the Mersenne twister (624 + 1 words of 32 bits); None for another generator."""
        generator = np.random.get_bit_generator()  # type: ignore[attr-defined]  # public, missing from its stubs
        if type(generator) is not np.random.MT19937:
            return None
        return ctypes.string_at(generator.ctypes.state_address, 625 * 4)


class RandomState:
    """The state of every generator that a forward pass can draw from, and the way back to it."""

    def __init__(self, devices: list[torch.device]) -> None:
        self.python = random.getstate()
        self.numpy = _NumpyState() if "numpy.random" in sys.modules else None
        self.torch = torch.get_rng_state()
        cuda = [d for d in devices if d.type == "cuda"] if _cuda_in_use() else []
        self.cuda = [(device, torch.cuda.get_rng_state(device)) for device in cuda]

    def restore(self) -> None:
        """Put every generator back."""
        random.setstate(self.python)
        if self.numpy is not None:
            self.numpy.restore()
        torch.set_rng_state(self.torch)
        for device, state in self.cuda:
            torch.cuda.set_rng_state(state, device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's CPU generators start from ``seed`` inside, and are as found afterwards.

    >>> with seeded(1):
    ...     first = torch.rand(2)
    >>> with seeded(1):
    ...     print(bool((torch.rand(2) == first).all()))
    True
    """
    legacy = np.random  # imported on first use; only then does the state saved below include it
    state = RandomState([])
    try:
        random.seed(seed)
        legacy.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        state.restore()


def draws(value: object) -> bool:
    """Whether a value is a generator of random numbers that somebody keeps: torch's, numpy's or Python's."""
    legacy: Any = sys.modules.get("numpy.random")  # not imported for the question
    kinds = (
        (torch.Generator, random.Random)
        if legacy is None
        else (
            torch.Generator,
            random.Random,
            legacy.Generator,
            legacy.RandomState,
        )
    )
    return isinstance(value, kinds)


class OwnGenerator:
    """The state of a generator that a module keeps for itself.

    Args:
        generator: one that ``draws``.

    >>> generator = random.Random(1)
    >>> start = OwnGenerator(generator)
    >>> first = generator.random()
    >>> start.restore()
    >>> generator.random() == first
    True
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.state = self._read()

    def _read(self) -> Any:
        if isinstance(self.generator, random.Random):
            return self.generator.getstate()
        if hasattr(self.generator, "bit_generator"):
            return self.generator.bit_generator.state
        return self.generator.get_state()

    def restore(self) -> None:
        """Put it back."""
        if isinstance(self.generator, random.Random):
            self.generator.setstate(self.state)
        elif hasattr(self.generator, "bit_generator"):
            self.generator.bit_generator.state = self.state
        else:
            self.generator.set_state(self.state)
