"""What a normalization is here: a module builder and the facts that tables and reports print about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Normalization:
    """One normalization of activations.

    Attributes:
        name: how it is asked for, e.g. "batch" or "lp:1".
        formula: what it computes, in the symbols of its source.
        source: where it is defined.
        over: what the statistics are taken over.
        needs: what a training batch must have.
        build: ``build(features, ndim) -> nn.Module`` for activations of ``ndim`` dimensions with
            ``features`` units on dimension 1: 2 for (N, F), 3 for (N, C, L), 4 for (N, C, H, W).
    """

    name: str
    formula: str
    source: str
    over: str
    needs: str
    build: Callable[[int, int], nn.Module]
