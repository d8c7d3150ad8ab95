r"""Networks that are chains of known modules, and the Lipschitz constant (in L2) of each link.

Whether a network is a chain is seen while it runs: each module's input has to be what the module before it
returned, memory and all, with nothing written to it in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from landscape.hooks import hooked
from landscape.probes.operator_norm import operator_norm


@dataclass(frozen=True)
class Link:
    """One call of a module: its name, its class, and its Lipschitz constant; None where that is not known."""

    name: str
    kind: str
    constant: float | None


def trace_chain(model: nn.Module, x: Tensor) -> tuple[Any, list[Link], list[str]]:
    """Run the model on x: its output, the links, and why it is no chain of known links, if it is none."""
    names = {m: name or type(m).__name__ for name, m in model.named_modules() if "parametrizations" not in name}
    leaves = [m for m in names if is_parametrized(m) or not any(True for _ in m.children())]
    reasons = [
        f"{name}: it has hooks, which may change what it does"
        for m, name in names.items()
        if m._forward_hooks or m._forward_pre_hooks
    ]
    calls: list[tuple[nn.Module, tuple[int, ...]]] = []
    seen = [(x, x._version, "the input")]

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        last, version, source = seen[-1]
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            reasons.append(f"{names[module]}: called with other things than one tensor")
            return
        if not _same(args[0], last, version):
            reasons.append(f"{names[module]}: its input is not {source} as it was (a branch, or a function)")
        calls.append((module, tuple(args[0].shape)))

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((output, output._version, f"the output of {names[module]}"))

    with hooked(leaves, before=enter, after=leave):
        y = model(x)
    last, version, source = seen[-1]
    if not isinstance(y, Tensor) or not _same(y, last, version):
        reasons.append(f"the network's output is not {source} as it was")
    links = [_link(names[module], module, shape) for module, shape in calls]
    reasons += [
        f"{link.name}: the Lipschitz constant of {link.kind} is not known here"
        for link in links
        if link.constant is None
    ]
    return y, links, list(dict.fromkeys(reasons))


def _link(name: str, module: nn.Module, shape: tuple[int, ...]) -> Link:
    kind: Any = type(module).__mro__[1] if is_parametrized(module) else type(module)
    # A subclass that leaves the forward as it is computes the same.
    rule = next((CONSTANTS[cls] for cls in kind.__mro__ if cls in CONSTANTS and cls.forward is kind.forward), None)
    return Link(name, kind.__name__, None if rule is None else rule(module, shape))


def _same(x: Tensor, y: Tensor, version: int) -> bool:
    """Whether x is y, or the same numbers in another shape, not written to since."""
    if x._version != version or x.dtype != y.dtype or x.numel() != y.numel():
        return False
    return x.is_set_to(y) or (x.data_ptr() == y.data_ptr() and x.is_contiguous() and y.is_contiguous())


Rule = Callable[[Any, tuple[int, ...]], float | None]


def _linear(m: Any, shape: tuple[int, ...]) -> float:
    weight = m.weight.detach().double()
    return operator_norm(lambda v: F.linear(v, weight), (weight.shape[1],), weight.device)


def _convolution(m: Any, shape: tuple[int, ...]) -> float:
    """With its own padding, stride, dilation and groups, on images of the size that it was given."""
    weight = m.weight.detach().double()
    return operator_norm(lambda v: m._conv_forward(v, weight, None), (1, *_unbatched(m, shape)), weight.device)


def _transposed(m: Any, shape: tuple[int, ...]) -> float:
    weight = m.weight.detach().double()
    function = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[weight.ndim]

    def apply(v: Tensor) -> Tensor:
        return function(v, weight, None, m.stride, m.padding, m.output_padding, m.groups, m.dilation)

    return operator_norm(apply, (1, *_unbatched(m, shape)), weight.device)


def _unbatched(m: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one sample; convolutions take one without a batch, too."""
    return shape[-(m.weight.ndim - 1) :]


def _spatial(m: nn.Module) -> int:
    """2 of MaxPool2d."""
    return int(type(m).__name__[-2])


def _average(m: Any, shape: tuple[int, ...]) -> float:
    return operator_norm(m.forward, (1, 1, *shape[-_spatial(m) :]))  # channel by channel


def _batch_norm(m: Any, shape: tuple[int, ...]) -> float | None:
    """Affine with running statistics; with those of the batch samples depend on each other."""
    if m.running_var is None:
        return None
    gamma = 1.0 if m.weight is None else m.weight.detach().double().abs()
    return float((gamma / (m.running_var.double() + m.eps).sqrt()).max())


def _max_pool(m: Any, shape: tuple[int, ...]) -> float:
    """sqrt of the number of windows that an entry may lie in; 1 where they don't overlap."""
    kernel, stride, dilation = (
        (value,) * _spatial(m) if isinstance(value, int) else tuple(value)
        for value in (m.kernel_size, m.stride, m.dilation)
    )
    each = [math.ceil(k / (s // math.gcd(s, d))) for k, s, d in zip(kernel, stride, dilation, strict=True)]
    return math.sqrt(math.prod(each))


def _adaptive_max_pool(m: Any, shape: tuple[int, ...]) -> float | None:
    spatial = _spatial(m)
    sizes = (m.output_size,) * spatial if isinstance(m.output_size, int) else tuple(m.output_size)
    even = all(out is None or n % out == 0 for n, out in zip(shape[-spatial:], sizes, strict=True))
    return 1.0 if even else None  # windows of uneven sizes overlap


def _always(constant: float) -> Rule:
    return lambda m, shape: constant


#: Largest slopes, rounded up in the last place: GELU at sqrt 2 (its tanh form at 1.41), SiLU at 2.40, Mish at 1.49.
_SLOPES: dict[type[nn.Module], float] = {
    nn.GELU: 1.1290,
    nn.SiLU: 1.0999,
    nn.Mish: 1.0885,
    nn.Sigmoid: 0.25,
    nn.Hardsigmoid: 1 / 6,
    nn.Hardswish: 1.5,
    nn.SELU: 1.0507009873554805 * 1.6732632423543773,
    nn.Softmax: 0.5,  # Gershgorin on diag(p) - p p': 2 p (1 - p)
}
_ONE = [
    "Identity",
    "Flatten",
    "Unflatten",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "AlphaDropout",
    "FeatureAlphaDropout",
    "ReLU",
    "ReLU6",
    "Tanh",
    "Softplus",
    "Softsign",
    "Hardtanh",
    "LogSigmoid",
    "Tanhshrink",
    "Softshrink",
    "CELU",
]

CONSTANTS: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _average),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _average),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _max_pool),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), _adaptive_max_pool),
    nn.LeakyReLU: lambda m, shape: max(1.0, abs(m.negative_slope)),
    nn.PReLU: lambda m, shape: max(1.0, float(m.weight.detach().abs().max())),
    nn.ELU: lambda m, shape: max(1.0, abs(m.alpha)),
    **{kind: _always(slope) for kind, slope in _SLOPES.items()},
    **{getattr(nn, name): _always(1.0) for name in _ONE},
}
"""Class -> its constant at a module and the shape of its input, in evaluation mode."""
