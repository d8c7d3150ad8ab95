"""What a module is to a normalization: a normalization layer, a linear map, a nonlinearity; and where its units are.

Layers of other packages are told by structure and class name: a "norm" in the name, vectors for weights, no layers
inside. ``transformers`` alone has over two hundred such classes, each a copy of another.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

Axis = Literal["first", "last"]

_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,  # of BatchNorm, SyncBatchNorm and InstanceNorm
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUSED = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_NONLINEAR = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Softplus,
    nn.Hardswish,
    nn.Hardtanh,
)
_FIRST = ("batchnorm", "instancenorm", "groupnorm")  # classes that have their units on dimension 1
_COUNTS = ("num_features", "num_channels", "features", "hidden_size", "dim")
OURS = "landscape.normalization"


@dataclass(frozen=True)
class Units:
    """Where a layer's activations have their units.

    Attributes:
        count: how many.
        axis: "first": dimension 1, as in (N, C, H, W). "last": as in (N, F), (N, T, F) and (N, H, W, C).
        ndim: dimensions of the activations that a normalization is built for; 2 where units are last.
    """

    count: int
    axis: Axis
    ndim: int


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalization layer of activations: torch's, ours, or one that looks like it."""
    kind = type(module)
    if isinstance(module, _NORMS) or isinstance(vars(module).get("units"), Units):  # torch's, or put in by a swap
        return True
    if is_linear(module) or any(_wide(t) for t in _own(module)):
        return False
    if kind.__module__.startswith(OURS):
        return hasattr(module, "units_dim") and getattr(module, "site", "norm") == "norm"
    return "norm" in kind.__name__.lower() and bool(_own(module)) and not any(True for _ in module.children())


def norm_units(module: nn.Module, shape: tuple[int, ...] | None = None) -> Units | str:
    """The units of a normalization layer, or why it can't be replaced.

    Args:
        module: one that ``is_norm``.
        shape: of an input that it was seen with.
    """
    if any(not isinstance(child, nn.Identity) for child in module.children()):
        return "it holds further layers, so it does more than normalize"
    takes = [p for p in inspect.signature(module.forward).parameters.values() if p.kind not in (2, 4)]
    if len(takes) != 1:
        return f"its forward takes {', '.join(p.name for p in takes)}, not activations alone"
    count = _count(module)
    if not count:
        return "how many units it has is not written in it"
    axis, ndim = _axis(module)
    if shape is not None and not _holds(shape, axis, count):
        axis, ndim = ("first", 4) if axis == "last" else ("last", 2)
        if not _holds(shape, axis, count):
            return f"none of its input's axes {shape} holds its {count} units"
    return seen(Units(count, axis, ndim), shape)


def _holds(shape: tuple[int, ...], axis: Axis, count: int) -> bool:
    place = 1 if axis == "first" else len(shape) - 1
    return 0 < place < len(shape) and shape[place] == count


def seen(units: Units, shape: tuple[int, ...] | None) -> Units:
    """The units of a layer whose activations were seen in this shape."""
    if shape is None or len(shape) < 2:
        return units
    return Units(units.count, units.axis, len(shape) if units.axis == "first" else min(len(shape), 3))


def _axis(module: nn.Module) -> tuple[Axis, int]:
    name = type(module).__name__.lower()
    ndim = {"1d": 3, "2d": 4, "3d": 5}.get(name[-2:], 4)
    shape = getattr(module, "normalized_shape", ())
    if isinstance(shape, tuple) and len(shape) > 1:
        return "first", len(shape) + 1  # the units of (C, H, W) are its channels
    if getattr(module, "data_format", "") == "channels_first":
        return "first", 4
    ours = getattr(module, "units_dim", None) == 1
    if (
        ours
        or any(word in name for word in _FIRST)
        or name.endswith("2d")
        or isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm)
    ):
        return "first", ndim
    lead = next((t.shape for t in _own(module) if t.ndim > 1), ())
    if getattr(module, "running_mean", None) is not None or (lead and lead[-1] == 1):
        return "first", 4
    return "last", 2


def _count(module: nn.Module) -> int:
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, tuple | list) and shape:
        return int(shape[0])
    for name in _COUNTS:
        value = getattr(module, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return max((t.numel() for t in _own(module)), default=0)


def _own(module: nn.Module) -> list[Tensor]:
    """Its own parameters and buffers that hold a value per unit."""
    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor for tensor in held if tensor.ndim]


def _wide(tensor: Tensor) -> bool:
    return tensor.numel() != max(tensor.shape)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map or a convolution."""
    return isinstance(module, (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)) or is_transposed_linear(module)


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether it is transformers' ``Conv1D``: a linear map whose weight is stored as (inputs, outputs)."""
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and isinstance(weight, Tensor)


def linear_units(module: nn.Module) -> Units:
    """The units of a linear map or convolution: its outputs."""
    if isinstance(module, nn.Linear):
        return Units(module.out_features, "last", 2)
    if isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
        return Units(module.out_channels, "first", module.weight.ndim)
    return Units(int(module.nf), "last", 2)  # type: ignore[arg-type]  # is_transposed_linear


def unsupported(module: nn.Module) -> str:
    """Why no normalization of weights can act on this linear map, or ""."""
    if isinstance(module, _TRANSPOSED):
        return "a transposed convolution's weight holds inputs before outputs, which no weight normalization expects"
    return ""


def fused(module: nn.Module) -> str:
    """Why nothing can be put inside a module that computes several linear maps in one call, or ""."""
    if isinstance(module, nn.MultiheadAttention):
        return "torch's MultiheadAttention projects inside one fused function and reads its weights past their modules"
    if isinstance(module, _FUSED):
        return (
            f"torch's {type(module).__name__} computes its gates in one fused call, with nothing between them: write "
            "the cell with linear layers, or use the models rnn, lstm or gru"
        )
    return ""


def is_nonlinear(module: nn.Module) -> bool:
    """Whether a module is a network's nonlinearity (gates such as a sigmoid are none)."""
    swapped = isinstance(vars(module).get("replaces"), nn.Module)
    return swapped or isinstance(module, _NONLINEAR) or type(module).__module__ == "transformers.activations"


def built_in(module: nn.Module) -> str:
    """Why a module of the normalizations here can't be exchanged: it stands for a layer that nobody kept; or ""."""
    kind = type(module)
    wrapper = hasattr(module, "norm")
    if not kind.__module__.startswith(OURS) or wrapper or is_norm(module) or is_linear(module):
        return ""
    return f"the model was built with this {kind.__name__}, and what stood there is not known: build it anew"


def weight_hooks(module: nn.Module) -> list[WeightNorm | SpectralNorm]:
    """The hooks of torch's old ``weight_norm`` and ``spectral_norm``: each computes a tensor at each call."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm | SpectralNorm)]


def weight_norms(module: nn.Module) -> dict[str, list[str]]:
    """The kinds of weight normalization on a module's tensors, by torch's parametrizations or its old hooks.

    >>> weight_norms(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    {'weight': ['weight_norm']}
    """
    names = {"_WeightNorm": "weight_norm", "_SpectralNorm": "spectral_norm"}
    found: dict[str, list[str]] = {}
    if type(module).__module__.startswith(OURS) and is_linear(module):
        found["weight"] = [type(module).__name__]  # a linear map of ours over the weights of a plain one
    for hook in weight_hooks(module):
        found[hook.name] = ["weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"]
    if is_parametrized(module):
        for tensor, chain in module.parametrizations.items():  # type: ignore[operator,union-attr]  # a ModuleDict
            own = [type(one) for one in chain]
            known = [kind for kind in own if kind.__name__ in names or kind.__module__.startswith(OURS)]
            if known:
                found[tensor] = [names.get(kind.__name__, kind.__name__) for kind in known]
    return found
