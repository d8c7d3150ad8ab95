"""Initial weights by name, each weight from a stream of its own.

he: N(0, 2 / fan_in), He et al. 2015. glorot: U(-a, a), a^2 = 6 / (fan_in + fan_out), Glorot & Bengio 2010.
lecun: N(0, 1 / fan_in), LeCun et al. 1998.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from landscape.streams import stream


def _he(weight: Tensor, seed: int, name: str) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=stream(seed, name))


def _glorot(weight: Tensor, seed: int, name: str) -> None:
    nn.init.xavier_uniform_(weight, generator=stream(seed, name))


def _lecun(weight: Tensor, seed: int, name: str) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=stream(seed, name))


INITS: dict[str, Callable[[Tensor, int, str], None]] = {"he": _he, "glorot": _glorot, "lecun": _lecun}
"""Name -> a function that fills a weight in place, from a seed and the name of its stream."""
