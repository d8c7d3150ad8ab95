"""A training step's model, optimizer and batch in another arithmetic, on copies."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from landscape.objective import Batch, mapped


def in_dtype(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, dtype: torch.dtype
) -> tuple[nn.Module, torch.optim.Optimizer | None]:
    """Copies with floating-point weights, buffers, gradients and optimizer state in ``dtype``.

    The weights are the same numbers where ``dtype`` is wider: what changes is the rounding of everything that
    is computed from them. Costs the memory of another model (and optimizer).

    >>> half = nn.Linear(2, 1).to(torch.bfloat16)
    >>> wide, _ = in_dtype(half, None, torch.float32)
    >>> wide.weight.dtype, bool((wide.weight == half.weight).all())
    (torch.float32, True)
    """
    memo: dict[int, Any] = {}
    twin = copy.deepcopy(model, memo)
    parameters = [(p, memo[id(p)]) for p in model.parameters()]
    stepper = copy.deepcopy(optimizer, memo)  # the memo maps the parameters it owns to their copies
    twin.to(dtype)  # keeps the identity of the parameters
    for p, q in parameters:
        q.grad = None if p.grad is None else p.grad.detach().to(q.dtype)
    if stepper is not None:
        stepper.load_state_dict(stepper.state_dict())  # casts the state to the parameters' dtype
    return twin, stepper


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """The batch with its floating-point tensors in ``dtype``; everything else is the same object.

    >>> x, label = cast((torch.zeros(2, dtype=torch.bfloat16), torch.tensor([1, 0])), torch.float32)
    >>> x.dtype, label.dtype
    (torch.float32, torch.int64)
    """
    return mapped(batch, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
