"""What a normalization is here: a module builder and the facts that tables and reports print about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from landscape.errors import NormalizationError, UsageError

TWO_PER_UNIT = "at least 2 values per unit in training: batch size >= 2 (or space beyond 1x1)"


@dataclass(frozen=True)
class Normalization:
    """One normalization: of activations, of weights, or by activation function and initial weights.

    Activations have their units on dimension 1: (N, F), sequences (N, F, T), images (N, C, H, W), volumes. For
    sequences with the units last, (N, T, F), ``units_last`` wraps what ``build`` returns.

    Attributes:
        name: how it is asked for, e.g. "batch" or "lp:1".
        formula: what it computes, in the symbols of its source.
        source: where it is defined.
        over: what the statistics are taken over.
        needs: what a training batch must have; begins with "nothing" or "at least".
        build: ``build(features, ndim) -> nn.Module`` for activations of ``ndim`` dimensions (2 to 5) with
            ``features`` units. ``nn.Identity()`` for one that does not act there.
        linear: for a normalization of weights: takes a linear map or convolution with its initial weights and
            returns the one that stands in its place (the same module, parametrized, or another). None: as it is.
        activation: ``activation(nonlinearity, features, ndim)`` takes the network's activation and returns the one
            that stands in its place, for normalizations that bring or adjust the nonlinearity. None: as it is.
        init: the initial weights it is defined with, a name of ``initial.INITS``; None: the network's own.
        inputs: how many inputs a unit has at least for ``linear`` to be defined. In the shipped networks a layer with
            fewer (the first of a function of one variable) is left as it is.
        held: what its backward pass treats as constant although it depends on weights or batch; "" for nothing.
            With it a Hessian-vector product is that of the loss with these held.
    """

    name: str
    formula: str
    source: str
    over: str
    needs: str
    build: Callable[[int, int], nn.Module]
    linear: Callable[[nn.Module], nn.Module] | None = None
    activation: Callable[[nn.Module, int, int], nn.Module] | None = None
    init: str | None = None
    inputs: int = 1
    held: str = ""


def identity(features: int, ndim: int) -> nn.Module:
    """``build`` of what does not act on activations."""
    return nn.Identity()


def by_dimensions(classes: Mapping[int, Callable[[int], nn.Module]], features: int, ndim: int, what: str) -> nn.Module:
    """The module of ``classes`` for activations of ``ndim`` dimensions.

    Raises:
        UsageError: there is none for so many.
    """
    if ndim not in classes:
        *most, last = sorted(classes)
        raise UsageError(
            f"{what} is for activations of {', '.join(map(str, most))} or {last} dimensions, units on "
            f"dimension 1, not {ndim}"
        )
    return classes[ndim](features)


def shortest(number: float) -> str:
    """``number`` as it stands in a name: short, and the same number when it is read again.

    >>> shortest(2.0), shortest(0.05), shortest(0.123456789)
    ('2', '0.05', '0.123456789')
    """
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def per_unit(value: Tensor, y: Tensor) -> Tensor:
    """``value`` (units,) in a shape that goes with activations ``y`` (N, units, ...)."""
    return value.reshape(1, -1, *[1] * (y.ndim - 2))


def require_two_values(module: nn.Module, y: Tensor) -> None:
    """Refuse a training batch that has one value per unit, for modules with statistics per unit.

    Raises:
        NormalizationError: ``module`` is in training mode and ``y`` (N, units, ...) has one value per unit.
    """
    if module.training and y.numel() <= y.shape[1]:
        raise one_value(module, y)


def one_value(module: nn.Module, y: Tensor, where: str = "") -> NormalizationError:
    """The error for statistics of one value: what, why, and what to do instead."""
    return NormalizationError(
        f"{type(module).__name__} takes statistics over the batch and got one value per unit in training{where}, "
        f"shape {tuple(y.shape)}: the variance of one value is 0, and its deviation from the mean too. Use a batch of "
        "2 or more (a loader's last one may be smaller: drop_last=True), or a normalization within a sample ('layer', "
        "'group:8')"
    )


def require_two_units(features: int, what: str) -> None:
    """Refuse a sample of one unit, for statistics over the units of a sample.

    Raises:
        UsageError: there are fewer than two.
    """
    if features < 2:
        raise UsageError(
            f"{what} is over the units of a sample, and of {features} unit it leaves a constant: use 2 units or more"
        )
