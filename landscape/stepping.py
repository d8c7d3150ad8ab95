"""The optimizer's real next step, taken on a copy: w+ without touching the user's optimizer or weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.parameters import Blocks


def learning_rate(optimizer: torch.optim.Optimizer | None) -> float | None:
    """The one learning rate of an optimizer, or None where its parameter groups differ."""
    if optimizer is None:
        return None
    if not hasattr(optimizer, "param_groups"):
        raise UsageError(
            f"optimizer= is a {type(optimizer).__name__}, which has no param_groups: pass a torch optimizer"
        )
    rates = {float(group["lr"]) for group in optimizer.param_groups}
    return rates.pop() if len(rates) == 1 else None


def stepping_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The torch optimizer that steps: accelerate's wrapper has it inside, and decides when it does."""
    inner = vars(optimizer).get("optimizer") if type(optimizer).__module__.startswith("accelerate.") else None
    return optimizer if inner is None else stepping_optimizer(inner)


def copied(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> torch.optim.Optimizer:
    """A deep copy over the copies of parameters that ``memo`` has, with everything that a class of one's own holds.

    torch copies groups and state alone. What an instance has in the place of a method (a scheduler's wrapper of
    ``step``) is of the optimizer that was given, and stays there.
    """
    twin: torch.optim.Optimizer = copy.deepcopy(optimizer, memo)
    kept = vars(twin)
    for key, value in vars(optimizer).items():
        if key not in kept and not hasattr(type(optimizer), key):
            kept[key] = copy.deepcopy(value, memo)
    return twin


def next_parameters(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
) -> Blocks:
    """w+ = the parameters after one ``optimizer.step()`` with these gradients, on a deep copy.

    Momentum, weight decay, Adam's moments and per-group rates are the optimizer's own, since it is
    its own code that steps. Parameters that the optimizer does not own come back unchanged.

    Args:
        optimizer: any first-order torch optimizer.
        parameters: the model's parameters.
        gradients: their gradients (None: no gradient, as for a frozen parameter).

    Raises:
        ProbeError: LBFGS (needs a closure) or sparse gradients.
        UsageError: the optimizer owns none of these parameters.

    >>> w = nn.Parameter(torch.ones(2))
    >>> next_parameters(torch.optim.SGD([w], lr=0.5), [w], [torch.ones(2)])[0].tolist()
    [0.5, 0.5]
    """
    optimizer = stepping_optimizer(optimizer)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ProbeError("LBFGS evaluates a closure at every step, so its next step can't be taken on a copy")
    if any(g is not None and g.is_sparse for g in gradients):
        raise ProbeError("sparse gradients are not supported: build the embedding with sparse=False")
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in owned for p in parameters):
        raise UsageError("the optimizer owns none of the model's parameters: pass the optimizer that trains this model")
    clones: dict[int, Any] = {}
    copies: list[nn.Parameter] = []
    for p, g in zip(parameters, gradients, strict=True):
        clone = nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad)
        clone.grad = None if g is None else g.detach().clone()
        clones[id(p)] = clone
        copies.append(clone)
    stepped = copied(optimizer, clones)
    with torch.enable_grad():
        stepped.step()
    return [clone.detach() for clone in copies]
