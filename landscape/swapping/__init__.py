r"""Any model with another normalization: its layers exchanged, taken away, or put in where it has none.

    network = landscape.normalized(model, "group:8")
    for change in landscape.normalization_plan(model, "group:8"): print(change)

Which places: the model's normalization layers, torch's, ours and look-alikes (transformers' ``LlamaRMSNorm``). If
there are none, after every linear map and convolution but the output layer. A normalization of weights (``"weight"``)
takes the layers away and acts on every linear map and convolution but the output layer; "none" takes them away.

What stays: every other weight, bit for bit, under its name; tied weights tied; modules that are used twice, one
module; hooks; train and eval flags; device and dtype. What comes new begins with its own initial weights. Nothing is
folded: a removed layer's weights and running statistics go, and the plan says so. So a normalization that is defined
with initial weights of the network ("selu") acts on those that are there, unless ``initialize=`` has them drawn anew.

What can't be seen: normalization that a forward calls as a function, unless the forward can be traced or run
(``example=``); modules kept in plain containers alone, which torch does not see either.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from landscape.errors import NormalizationError, UsageError
from landscape.normalization import normalization
from landscape.parameters import Selection
from landscape.preserve import unwrapped
from landscape.randomness import seeded
from landscape.swapping.change import Change
from landscape.swapping.flow import Example, flow_of
from landscape.swapping.initial import initial_changes
from landscape.swapping.kinds import weight_hooks
from landscape.swapping.layers import Renormalized
from landscape.swapping.swap import Swap

__all__ = ["Change", "Renormalized", "normalization_plan", "normalized"]


def normalized(
    model: nn.Module,
    name: str,
    *,
    where: Selection = None,
    example: Example = None,
    initialize: int | None = None,
) -> nn.Module:
    """A copy of ``model`` with the normalization ``name``; the model itself is left alone.

    Args:
        model: any module on one device, or one that ``torch.compile`` made.
        name: a normalization's name: "none", "batch", "group:8", ...
        where: which places, as a pattern (``"blocks.3.*"``) or a predicate on module names: among its normalization
            layers; among its linear maps and convolutions for a normalization of weights, for a model that has no
            normalization layer, and where the pattern names none.
        example: what the model can be called with, to see its layers' order, shapes and functions: a tensor, a tuple
            of arguments, a mapping of keyword arguments, or a function that is given the model. Otherwise the forward
            is traced, and where that fails the order of registration is taken.
        initialize: a seed: weights of linear maps and convolutions are drawn anew from it where the normalization is
            defined with initial weights ("selu": N(0, 1 / fan_in)), and their biases are 0. None: weights are kept.

    Raises:
        UsageError: no such normalization; no such place; nothing could be changed; the model can't be copied, or not
            be run on the example.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [name for name, _ in normalized(model, "batch").named_parameters()]
    ['0.weight', '0.bias', '0.norm.norm.weight', '0.norm.norm.bias', '2.weight', '2.bias']
    """
    swap = _swapped(model, name, where, example, initialize)
    if name != "none" and not _effective(swap):
        refused = [f"{c.name}: {c.why}" if c.name else c.why for c in swap.changes if c.action == "can't"]
        idle = [f"{c.name}: {c.why.partition(';')[0]}" for c in swap.changes if "does not act" in c.why]
        reasons = "; ".join(refused[:4] or idle[:4]) or "it has no linear map before its output layer"
        raise NormalizationError(f"{type(model).__name__} can't be normalized by {name!r}: {reasons}")
    return swap.model


def normalization_plan(
    model: nn.Module,
    name: str,
    *,
    where: Selection = None,
    example: Example = None,
    initialize: int | None = None,
) -> tuple[Change, ...]:
    """What ``normalized`` changes in ``model``, and each place that it can't change and why.

    It is found by doing it to a copy, so it is what would be done.

    Args:
        model: as in ``normalized``.
        name: as in ``normalized``.
        where: as in ``normalized``.
        example: as in ``normalized``.
        initialize: as in ``normalized``.

    Raises:
        UsageError: no such normalization; no such place; the model can't be copied, or not be run on the example.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> for change in normalization_plan(model, "layer"):
    ...     print(change.action, change.name, change.after.partition("(")[0])
    replace 1 GroupNorm
    """
    return tuple(_swapped(model, name, where, example, initialize).changes)


def _effective(swap: Swap) -> bool:
    """Whether the normalization is there because of a change, or was there already; if of weights, on some weight."""
    if swap.chosen.linear is not None:
        return swap.weighted
    return any(c.action in ("replace", "insert") or (c.action == "keep" and "already" in c.why) for c in swap.changes)


def _swapped(model: nn.Module, name: str, where: Selection, example: Example, initialize: int | None) -> Swap:
    chosen = normalization(name)
    if initialize is not None and (isinstance(initialize, bool) or not isinstance(initialize, int)):
        raise UsageError(f"initialize is a seed, a whole number, or None to keep the weights, not {initialize!r}")
    if not isinstance(model, nn.Module):
        raise UsageError(f"normalized() takes an nn.Module, not a {type(model).__name__}")
    with seeded(0):  # random states are as found afterwards, whatever a build draws
        copied = _copied(model)
        swap = Swap(copied, chosen, where, flow_of(copied, example))
        if chosen.init is not None:
            swap.changes += initial_changes(swap.model, swap.linears, chosen.init, initialize)
        return swap


def _copied(model: nn.Module) -> nn.Module:
    eager = unwrapped(model)
    lazy = [name for name, p in eager.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise UsageError(f"{lazy[0]} of {type(eager).__name__} has no values yet: run one forward pass first")
    hooked = [vars(module).get(hook.name) for module in eager.modules() for hook in weight_hooks(module)]
    # What torch's old hooks computed has a graph, and is computed again at each call.
    known = {id(t): t.detach().clone() for t in hooked if isinstance(t, Tensor)}
    try:
        return copy.deepcopy(eager, known)
    except Exception as error:  # a model may hold anything: open files, locks, tensors with a graph
        raise NormalizationError(
            f"{type(eager).__name__} can't be copied ({type(error).__name__}: {error}), and normalized() leaves the "
            "given model alone: build it again where it is needed"
        ) from error
