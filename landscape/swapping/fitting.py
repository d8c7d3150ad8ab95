"""Small questions of a swap: what a layer is already, how a new one fits its place, how a module is told."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.weight_norm import WeightNorm

from landscape.errors import LandscapeError
from landscape.normalization import Normalization
from landscape.normalization.layout import EachStep
from landscape.swapping.kinds import OURS, Units, weight_hooks
from landscape.swapping.layers import Bent, Renormalized

#: What building a normalization may raise where it does not fit, one's own and torch's included.
REFUSALS = (LandscapeError, ValueError, TypeError, RuntimeError)


def reason_of(error: Exception) -> str:
    """An error of ``REFUSALS`` as the reason of a change; with its kind where it is no error of ours."""
    return str(error) if isinstance(error, LandscapeError) else f"{type(error).__name__}: {error}"


def has_weights(module: nn.Module) -> bool:
    """Whether a module owns a parameter."""
    return next(module.parameters(), None) is not None


def aim(chosen: Normalization) -> str:
    """Why a normalization puts nothing in the place of a layer."""
    if chosen.name == "none":
        return "without normalization"
    if chosen.linear is not None:
        return f"{chosen.name} normalizes by weights"
    brings = chosen.activation is not None
    return f"{chosen.name} " + ("normalizes by the nonlinearity" if brings else "does not act on (N, F)")


def alike(old: nn.Module, new: nn.Module) -> bool:
    """Whether a layer is already what would be put there; its eps, momentum and affine are its own."""
    while isinstance(old, Renormalized | EachStep):
        old = old.norm
    while isinstance(new, EachStep):
        new = new.norm
    if type(old) is not type(new) and type(old).forward.__module__.startswith(OURS):
        return False
    if isinstance(old, nn.GroupNorm) and isinstance(new, nn.GroupNorm):
        return old.num_groups == new.num_groups
    if isinstance(new, nn.RMSNorm):
        return "rmsnorm" in type(old).__name__.lower()
    if isinstance(new, nn.modules.batchnorm._NormBase):
        batch = isinstance(new, nn.modules.batchnorm._BatchNorm)
        kind = nn.modules.batchnorm._BatchNorm if batch else nn.modules.instancenorm._InstanceNorm
        torchs = type(new).forward.__module__.startswith("torch.")
        return isinstance(old, kind) if torchs else type(old) is type(new)
    if isinstance(new, nn.LayerNorm):
        return isinstance(old, nn.LayerNorm)
    return type(old) is type(new) and old.extra_repr() == new.extra_repr()


def as_found(new: nn.Module, old: nn.Module, model: nn.Module) -> nn.Module:
    """The new layer on the device, in the dtype, with the flags of the old one (or of the model)."""
    held = [t for t in [*old.parameters(), *old.buffers(), *model.parameters()] if t.is_floating_point()]
    if held:
        new.to(device=held[0].device, dtype=held[0].dtype)
    own = list(old.parameters())
    if own and not any(p.requires_grad for p in own):
        new.requires_grad_(False)
    return new.train(old.training)


def laid(units: Units) -> str:
    """Where the units are, for the end of a reason."""
    if units.axis == "first":
        return ""
    return ", units last, a row per token" if units.ndim == 2 else ", units last, as a sequence"


def exchanged(value: Any, new: dict[nn.Module, nn.Module]) -> Any:
    """A plain nest with the modules in it exchanged; the same object where there are none."""
    if isinstance(value, nn.Module):
        return new.get(value, value)
    if isinstance(value, list):
        value[:] = [exchanged(one, new) for one in value]
    elif isinstance(value, dict):
        value.update({key: exchanged(one, new) for key, one in value.items()})
    elif type(value) is tuple and any(isinstance(one, nn.Module) for one in value):
        return tuple(exchanged(one, new) for one in value)
    return value


def plain_weight(module: nn.Module) -> None:
    """Take away the normalization of a module's weight, which stays at its value at this moment."""
    if type(module).__module__.startswith(OURS):
        module.__class__ = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch."))
        return
    hook = next((hook for hook in weight_hooks(module) if hook.name == "weight"), None)
    if hook is None:
        own_class(module)
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        return
    old = isinstance(hook, WeightNorm)
    trained = module.get_parameter("weight_v" if old else "weight_orig").requires_grad
    (remove_weight_norm if old else remove_spectral_norm)(module)
    module.get_parameter("weight").requires_grad_(trained)
    loading = module._load_state_dict_pre_hooks  # torch leaves spectral_norm's behind, which asks for weight_orig
    for key in [key for key, one in loading.items() if getattr(getattr(one, "hook", one), "fn", None) is hook]:
        del loading[key]


def own_class(module: nn.Module) -> None:
    """Give a parametrized module a class of its own.

    A copy shares the class that torch made for the module it was copied from, and taking a parametrization away takes
    the property out of that class: the model that was given would lose its weight.
    """
    kind = type(module)
    body = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, body)


def told(module: nn.Module) -> str:
    """A module on one line."""
    while isinstance(module, Renormalized | Bent):
        module = module.norm if isinstance(module, Renormalized) else module.activation
    if isinstance(module, EachStep):
        return f"{told(module.norm)} at each step"
    return f"{type(module).__name__}({module.extra_repr()})"
