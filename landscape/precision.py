"""A training step's model, optimizer and batch in another arithmetic, on copies."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError
from landscape.objective import Batch, mapped
from landscape.stepping import copied, stepping_optimizer


def in_dtype(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, dtype: torch.dtype
) -> tuple[nn.Module, torch.optim.Optimizer | None]:
    """Copies with floating-point weights, buffers, other tensors, gradients and optimizer state in ``dtype``.

    The weights are the same numbers where ``dtype`` is wider: what changes is the rounding of everything that
    is computed from them. Complex ones get that precision. Costs the memory of another model (and optimizer).

    Raises:
        ProbeError: the model can't be copied.

    >>> half = nn.Linear(2, 1).to(torch.bfloat16)
    >>> wide, _ = in_dtype(half, None, torch.float32)
    >>> wide.weight.dtype, bool((wide.weight == half.weight).all())
    (torch.float32, True)
    """
    held = [t for module in model.modules() for t in vars(module).values() if isinstance(t, Tensor)]
    # What has a graph (a weight that old weight_norm or pruning computed) can't be copied, and is computed again.
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in held if t.grad_fn is not None}
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:  # a model may hold anything
        raise ProbeError(
            f"{type(model).__name__} can't be copied ({type(error).__name__}: {error}), and dtype={dtype} measures on "
            "a copy: leave dtype out"
        ) from error
    parameters = [(p, memo[id(p)]) for p in model.parameters()]
    # The memo maps the parameters it owns to their copies.
    stepper = None if optimizer is None else copied(stepping_optimizer(optimizer), memo)
    twin._apply(lambda tensor: _to(tensor, dtype))  # type: ignore[no-untyped-call]  # keeps the identity of the parameters
    for module in twin.modules():
        vars(module).update({key: _to(t, dtype) for key, t in vars(module).items() if isinstance(t, Tensor)})
    for p, q in parameters:
        q.grad = None if p.grad is None else p.grad.detach().to(q.dtype)
    if stepper is not None:
        stepper.load_state_dict(stepper.state_dict())  # casts the state to the parameters' dtype
    return twin, stepper


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """The batch with its floating-point and complex tensors in the precision ``dtype``; all else is the same object.

    >>> x, label = cast((torch.zeros(2, dtype=torch.bfloat16), torch.tensor([1, 0])), torch.float32)
    >>> x.dtype, label.dtype
    (torch.float32, torch.int64)
    """
    return mapped(batch, lambda tensor: _to(tensor, dtype))


def _to(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
