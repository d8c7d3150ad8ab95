"""The modules that stand in a model after a swap, made so that the keys of all other weights stay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from landscape.swapping.kinds import Units

_TENSORS = ("weight", "bias", "running_mean", "running_var")
_PLAIN = (bool, int, float, str, tuple, list, torch.Size, type(None))


class Renormalized(nn.Module):
    """A normalization in the place of another layer, whatever the layout of the activations there.

    Units on dimension 1: positions are folded into fewer dimensions, or dimensions of one position are added, until
    there are as many as ``norm`` was built for. Units last: (N, T, F) reaches ``norm`` as (N, F, T) if it was built
    for sequences, else as (N T, F), one row a token; so that a batch normalization takes its statistics over batch and
    positions, and one within a sample takes them within a token.

    Attributes that the layer had before (``eps``, the dtype of ``weight``) can still be read from it, as some models'
    forwards do.

    Args:
        norm: a module that takes activations of ``units.ndim`` dimensions with the units on dimension 1.
        units: the layout at this place.
        replaces: the layer that was there.
    """

    def __init__(self, norm: nn.Module, units: Units, replaces: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm
        self.units = units
        self.attributes = _plain_attributes(replaces) if replaces is not None else {}
        weight = getattr(replaces, "weight", None)
        if isinstance(weight, Tensor) and not hasattr(norm, "weight"):
            # Not in the state: what reads it wants its dtype and device.
            self.register_buffer("weight", torch.ones_like(weight.detach()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Bring the units to dimension 1, normalize, and bring them back."""
        return laid_out(self.norm, x, self.units)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "_modules" not in self.__dict__:
                raise
            if name in self.__dict__.get("attributes", {}):
                return self.attributes[name]
            if name not in _TENSORS:
                raise
            return getattr(self._modules["norm"], name)


class Bent(nn.Module):
    """A nonlinearity in the place of another, which is kept for the way back.

    Args:
        activation: the new one.
        units: the layout at this place, for one that has values per unit; None for any layout.
        replaces: the nonlinearity that was there.
    """

    def __init__(self, activation: nn.Module, units: Units | None, replaces: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.layout = units
        vars(self)["replaces"] = replaces  # no child: its parameters are none of the model's

    def forward(self, x: Tensor) -> Tensor:
        """The new nonlinearity, with the units on dimension 1 where it has values per unit."""
        if self.layout is None:
            bent: Tensor = self.activation(x)
            return bent
        return laid_out(self.activation, x, self.layout)


def laid_out(module: nn.Module, x: Tensor, units: Units) -> Tensor:
    """A module that takes (N, units, ...) of ``units.ndim`` dimensions, applied to any layout."""
    y = x
    if units.axis == "last":
        y = x.reshape(-1, x.shape[-1]) if units.ndim == 2 else x.movedim(-1, 1)
    shape, want = y.shape, units.ndim
    y = y.flatten(want - 1) if y.ndim > want else y.reshape(*shape, *[1] * (want - y.ndim))
    out: Tensor = module(y)
    out = out.reshape(shape)
    if units.axis == "last":
        out = out.reshape(x.shape) if units.ndim == 2 else out.movedim(1, -1).contiguous()
    return out


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    own = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return {key: value for key, value in own.items() if isinstance(value, _PLAIN)}


_FOLLOWED: dict[type[nn.Module], type[nn.Module]] = {}


def followed_class(base: type[nn.Module]) -> type[nn.Module]:
    """The subclass of a linear map's class whose output goes through its child ``norm``.

    A subclass and not a container, so that the map's weights keep their names (``fc1.weight``), and not a forward
    hook, which other code removes and no print shows. It is made on the spot, so it tells pickle and deepcopy how to
    make it again.
    """
    if base in _FOLLOWED:
        return _FOLLOWED[base]

    class Followed(base):  # type: ignore[misc,valid-type]  # a class made from a value
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.norm(super().forward(*args, **kwargs))

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _remade, (base,), self.__dict__

    Followed.__name__ = Followed.__qualname__ = f"Normalized{base.__name__}"
    _FOLLOWED[base] = Followed
    return Followed


def _remade(base: type[nn.Module]) -> nn.Module:
    kind = followed_class(base)
    module: nn.Module = kind.__new__(kind)
    return module


def __getattr__(name: str) -> Any:
    """The subclasses of torch's own linear maps by their names, which is how pickle looks a class up."""
    base = getattr(nn, name.removeprefix("Normalized"), None) if name.startswith("Normalized") else None
    if base is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return followed_class(base)


def follow(module: nn.Module, norm: nn.Module) -> None:
    """Let the output of a linear map go through ``norm``, in place: the module stays the same object."""
    module.__class__ = followed_class(type(module))
    module.add_module("norm", norm)


def unfollow(module: nn.Module) -> None:
    """Take back ``follow``."""
    module.__class__ = type(module).__bases__[0]
    del module._modules["norm"]


def untransposed(module: nn.Module) -> nn.Linear:
    """The ``nn.Linear`` that computes what transformers' ``Conv1D`` computes; its weight is the transposed one."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    linear = nn.Linear(weight.shape[0], weight.shape[1], device=weight.device, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach().T.contiguous(), requires_grad=weight.requires_grad)
    linear.bias = module.bias  # type: ignore[assignment]  # a Parameter of the same shape
    return linear.train(module.training)
