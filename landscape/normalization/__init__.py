"""Normalizations by name: one file per family, one line per name below.

A name is one of ``NORMALIZATIONS``, or a family of ``FAMILIES`` with its argument: "lp:3".
"""

from __future__ import annotations

from collections.abc import Callable

from landscape.errors import UsageError, nearest
from landscape.normalization.base import Normalization
from landscape.normalization.batch import BATCH, NONE
from landscape.normalization.layer import LAYER
from landscape.normalization.lp import LpNorm, lp
from landscape.normalization.noisy import NOISE, NOISY_BATCH, Noise

__all__ = ["FAMILIES", "NORMALIZATIONS", "LpNorm", "Noise", "Normalization", "normalization"]

# Families with an argument: "lp:1" is FAMILIES["lp"]("1").
FAMILIES: dict[str, Callable[[str], Normalization]] = {
    "lp": lp,
}

NORMALIZATIONS: dict[str, Normalization] = {
    "none": NONE,
    "batch": BATCH,
    "noisy-batch": NOISY_BATCH,
    "noise": NOISE,
    "lp:1": lp("1"),
    "lp:2": lp("2"),
    "lp:inf": lp("inf"),
    "layer": LAYER,
}


def normalization(name: str) -> Normalization:
    """The normalization called ``name``.

    Raises:
        UsageError: there is none of that name, or a family does not accept the argument.

    >>> normalization("lp:1").build(16, 4)
    LpNorm(16, p=1, eps=1e-05, momentum=0.1)
    """
    if name in NORMALIZATIONS:
        return NORMALIZATIONS[name]
    family, colon, argument = name.partition(":")
    if colon and family in FAMILIES:
        return FAMILIES[family](argument)
    raise UsageError(f"there is no normalization {name!r}; {nearest(name, list(NORMALIZATIONS))}")
