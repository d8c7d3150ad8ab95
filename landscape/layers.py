"""The layers of a model, in the order they are called, and which of them come before which.

A layer is a module that owns a trainable tensor of two or more dimensions, its weight; where the weight is computed
from such a tensor (weight or spectral normalization), that is the tensor that is trained. "Before i" means its
ancestors in the forward graph: every parameter that the input of layer i depends on, so the norms
and biases that follow a layer belong with it without being named. It is read off autograd's graph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from landscape.errors import ProbeError
from landscape.hooks import hooked, is_transformed
from landscape.objective import Batch, Batches, Objective, tensors_of
from landscape.parameters import eager_name, modules_of


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: the module's name.
        weights: its own trainable tensors of two or more dimensions.
        parameter_names: names of those tensors.
        ancestors: ids of the parameters that its input depends on, its own weights excluded.
    """

    name: str
    weights: tuple[nn.Parameter, ...]
    parameter_names: tuple[str, ...]
    ancestors: frozenset[int]


def trace_layers(objective: Objective, batch: Batch) -> tuple[list[Layer], str]:
    """Run one forward and read the layers, their order and their ancestors.

    Returns:
        The layers in first-call order, and "graph" or, where the graph can't be seen (a checkpointed or
        custom function hides parameters, a transform of torch.func what flows), "call order".

    Raises:
        ProbeError: no module with a trainable weight of two or more dimensions was called.
    """
    chosen = {id(p) for p in objective.parameters.tensors}
    names = {module: name for name, module in modules_of(objective.model).items()}
    owned = {m: [(n, p) for n, p in own_parameters(m, name) if id(p) in chosen] for m, name in names.items()}
    owned = {module: own for module, own in owned.items() if own}
    calls: dict[nn.Module, list[Any]] = {}  # insertion order is first-call order
    outputs: list[Any] = []

    unseen = False

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal unseen
        unseen = unseen or any(map(is_transformed, tensors_of([args, kwargs])))
        roots = [tensor.grad_fn for tensor in tensors_of([args, kwargs])]
        calls.setdefault(module, []).extend(root for root in roots if root is not None)

    def produced(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        outputs.extend(tensor.grad_fn for tensor in tensors_of(output))

    one = batch.batches[0] if isinstance(batch, Batches) else batch
    with hooked(owned, before=remember, after=produced):
        loss = objective.loss(one)
    seen = _reachable([loss.grad_fn, *outputs])  # outputs: a head that is called but not in the loss hides nothing
    hidden = unseen or any(id(p) not in seen for module in calls for _, p in owned[module])
    layers: list[Layer] = []
    earlier: frozenset[int] = frozenset()
    for module, roots in calls.items():
        weights = [(name, p) for name, p in owned[module] if is_weight(module, name, p)]
        if weights:
            ancestors = earlier if hidden else frozenset(_reachable(roots)) & chosen
            layers.append(
                Layer(
                    names[module],
                    tuple(p for _, p in weights),
                    tuple(f"{names[module]}.{name}".lstrip(".") for name, _ in weights),
                    ancestors - {id(p) for _, p in weights},
                )
            )
        earlier |= {id(p) for _, p in owned[module]}
    if not layers:
        raise ProbeError(
            f"no layer of {type(objective.model).__name__} was called: a layer is a module that owns a trainable "
            "tensor of two or more dimensions; functional layers can't be seen"
        )
    return layers, "call order" if hidden else "graph"


def own_parameters(module: nn.Module, name: str) -> list[tuple[str, nn.Parameter]]:
    """A module's own parameters, those behind its parametrizations included (weight norm, spectral norm).

    The modules that torch keeps below ``parametrizations`` own nothing: their input is a weight, no activation.
    """
    if "parametrizations" in name.split("."):
        return []
    own = list(module.named_parameters(recurse=False))
    if is_parametrized(module):
        own += [(n, p) for n, p in module.named_parameters() if n.startswith("parametrizations.")]
    return own


def is_weight(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether one of a module's own parameters is a weight: of two or more dimensions, and no gain.

    The gain g of weight normalization, g v / ||v||, has as many dimensions as v, but is one number a unit.
    """
    head, _, own = name.rpartition(".")
    if parameter.ndim < 2 or own != "original0":
        return parameter.ndim > 1
    beside = dict(module.get_submodule(head).named_parameters(recurse=False)).get("original1")
    return beside is None or not _one_a_unit(parameter, beside)


def public_name(name: str) -> str:
    """A weight's name, the same with and without a parametrization or ``torch.compile``: "fc1.weight".

    >>> public_name("fc1.parametrizations.weight.original1"), public_name("fc1.weight")
    ('fc1.weight', 'fc1.weight')
    """
    return re.sub(r"parametrizations\.(\w+)\.original\d?$", r"\1", eager_name(name))


def _one_a_unit(g: nn.Parameter, v: nn.Parameter) -> bool:
    """Whether g has the size of v in one dimension and 1 in the others."""
    return (
        g.ndim == v.ndim
        and g.numel() == max(g.shape)
        and all(a in (1, b) for a, b in zip(g.shape, v.shape, strict=True))
    )


def _reachable(roots: list[Any]) -> set[int]:
    """Ids of the parameters whose gradient accumulates somewhere below these graph nodes."""
    found: set[int] = set()
    seen: set[Any] = set()
    stack = [root for root in roots if root is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(id(variable))
        stack.extend(parent for parent, _ in node.next_functions if parent is not None)
    return found
