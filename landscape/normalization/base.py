"""What a normalization is here: a module builder and the facts that tables and reports print about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Normalization:
    """One normalization: of activations, of weights, or by activation function and initial weights.

    Attributes:
        name: how it is asked for, e.g. "batch" or "lp:1".
        formula: what it computes, in the symbols of its source.
        source: where it is defined.
        over: what the statistics are taken over.
        needs: what a training batch must have.
        build: ``build(features, ndim) -> nn.Module`` for activations of ``ndim`` dimensions with
            ``features`` units on dimension 1: 2 for (N, F), 3 for (N, C, L), 4 for (N, C, H, W).
            ``nn.Identity()`` for one that does not act there.
        linear: for a normalization of weights: takes a linear map or convolution with its initial weights and
            returns the one that stands in its place (the same module, parametrized, or another). None: as it is.
        activation: takes the network's activation and returns the one that stands in its place, for
            normalizations that bring or adjust the nonlinearity. None: as it is.
        init: the initial weights it is defined with, a name of the models' ``INITS``; None: the network's own.
    """

    name: str
    formula: str
    source: str
    over: str
    needs: str
    build: Callable[[int, int], nn.Module]
    linear: Callable[[nn.Module], nn.Module] | None = None
    activation: Callable[[nn.Module], nn.Module] | None = None
    init: str | None = None
