"""Normalizations of weights, as parametrizations: weight normalization and torch's spectral normalization.

They act on the weight alone: any batch size and layout, per output unit (a convolution's filter is one unit).
Biases stay outside. The network starts from the same weights as without normalization.

Weight: W = g v / ||v|| with g = ||v|| at the start, so that the effective weight is the one of the plain network; the
paper's data-dependent start is left out, since arms of a seed have to start alike. The same in train and eval.

Spectral: W / sigma with the largest singular value sigma = u'W v estimated by one power iteration at each training
forward, from 15 at the start; eval iterates no further. u and v are held constant in the backward pass. The first
vectors come from a stream of their own, the same for every layer of a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from landscape.errors import UsageError
from landscape.normalization.base import Normalization, identity
from landscape.randomness import seeded
from landscape.streams import stream_seed

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


# What a normalization divides by the length of -> rows that have none where it would divide by 0.
DIVIDED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "rows": (lambda w: w.flatten(1), "the weights of unit {unit} are all zero"),
    "centered rows": (lambda w: w.flatten(1) - w.flatten(1)[:, :1], "the weights of unit {unit} are all equal"),
    "matrix": (lambda w: w.reshape(1, -1), "the weights are all zero"),
}


def require_layer(layer: nn.Module, inputs: int = 1, divided: str = "") -> None:
    """Refuse what is no linear map or convolution, has too few inputs to a unit, or weights without a length.

    Args:
        layer: the module.
        inputs: how many inputs a unit has at least.
        divided: what is divided by its own length, a key of ``DIVIDED``; "" for nothing.

    Raises:
        UsageError: another module; one whose weight is parametrized already; fewer than ``inputs`` inputs to a unit;
            weights that would be divided by a length of 0.
    """
    if not isinstance(layer, LAYERS):
        raise UsageError(
            f"weights are normalized in linear maps and convolutions, not in a {type(layer).__name__}: "
            "use a normalization of activations for it"
        )
    if parametrize.is_parametrized(layer):
        raise UsageError(f"the weight of this {type(layer).__name__} is parametrized already: normalize a plain one")
    if layer.weight[0].numel() < inputs:
        raise UsageError(
            f"the weights of a {type(layer).__name__} with one input to a unit have no variance to divide by, and no "
            "angle to the input but 0 or pi: use 'weight' or 'spectral'"
        )
    if divided and not layer.weight.is_meta:
        _require_length(layer, layer.weight.detach(), divided)


def _require_length(layer: nn.Module, weight: Tensor, divided: str) -> None:
    rows, why = DIVIDED[divided]
    without = (torch.linalg.vector_norm(rows(weight), dim=1) == 0).nonzero().flatten().tolist()
    if without:
        raise UsageError(
            f"{why.format(unit=without[0])} in this {type(layer).__name__}, shape {tuple(weight.shape)}, and the "
            "normalization divides by their length, which is 0: give it other initial weights, or use a "
            "normalization of activations"
        )


def parametrized(
    layer: nn.Module, register: Callable[[nn.Module], object], *, inputs: int = 1, divided: str = ""
) -> nn.Module:
    """``layer`` with its weight parametrized in place by ``register(layer)``, and able to be pickled.

    Raises:
        UsageError: what ``require_layer`` refuses.
    """
    require_layer(layer, inputs, divided)
    register(layer)
    # torch gives the layer a class of its own, which it refuses to pickle.
    setattr(type(layer), "__reduce_ex__", _reduce)  # noqa: B010  # mypy allows no assignment to a method
    return layer


def _reduce(layer: nn.Module, protocol: Any) -> tuple[Callable[..., nn.Module], tuple[Any, ...]]:
    state = dict(layer.__dict__)
    state["_modules"] = {key: child for key, child in layer._modules.items() if key != "parametrizations"}
    assert isinstance(layer.parametrizations, nn.ModuleDict)
    return _rebuild, (type(layer).__bases__[0], state, dict(layer.parametrizations.items()))


def _rebuild(plain: type[nn.Module], state: dict[str, Any], lists: dict[str, nn.Module]) -> nn.Module:
    layer = plain.__new__(plain)
    layer.__dict__.update(state)

    def register(layer: nn.Module) -> None:
        for name in lists:
            layer.register_parameter(name, nn.Parameter(torch.empty(0)))
            parametrize.register_parametrization(layer, name, nn.Identity(), unsafe=True)
        assert isinstance(layer.parametrizations, nn.ModuleDict)
        layer.parametrizations.update(lists)

    register(layer)
    setattr(type(layer), "__reduce_ex__", _reduce)  # noqa: B010
    return layer


class WeightNorm(nn.Module):
    """g v / ||v|| per output unit, from a weight w: g = ||w||, v = w.

    torch's ``weight_norm`` under the same names, whose second derivatives are wrong (its backward takes ||v|| for
    a constant, torch 2.13), and curvature needs them.

    >>> norm = WeightNorm()
    >>> norm(*norm.right_inverse(torch.tensor([[3.0, 4.0]])))
    tensor([[3., 4.]])
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Gains (units, 1, ...) and directions (units, ...) to a weight."""
        return v * (g / self._lengths(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gains and directions of a weight."""
        return self._lengths(weight), weight

    def _lengths(self, v: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
        return lengths


def weight_norm(layer: nn.Module) -> None:
    """Weight normalization of ``layer.weight``, in place: g is ``original0`` and v ``original1``."""
    parametrize.register_parametrization(layer, "weight", WeightNorm())


def _weight(layer: nn.Module) -> nn.Module:
    return parametrized(layer, weight_norm, divided="rows")


def _spectral(layer: nn.Module) -> nn.Module:
    with seeded(stream_seed(0, "spectral normalization")):
        return parametrized(layer, parametrizations.spectral_norm, divided="matrix")


WEIGHT = Normalization(
    name="weight",
    formula="z = (g v / ||v||) x + b",
    source="Salimans & Kingma 2016, arXiv 1602.07868",
    over="the weights of a unit",
    needs="nothing (any batch size)",
    build=identity,
    linear=_weight,
)

SPECTRAL = Normalization(
    name="spectral",
    formula="z = (W / sigma) x + b, sigma = u'W v by one power iteration a step, u and v held constant in backward",
    source="Miyato et al. 2018, arXiv 1802.05957",
    over="the weight matrix of a layer",
    needs="nothing (any batch size)",
    build=identity,
    linear=_spectral,
    held="the singular vectors u and v",
)
