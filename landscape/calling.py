"""How a model is called with a batch of any kind, and where the target, the model's own loss and its scores are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from landscape.objective import Batch
from landscape.preserve import unwrapped

#: What an entry of a batch, or a parameter of a forward, is called where it is the target.
TARGETS = ("labels", "label", "targets", "target", "y")


def target_name(batch: Batch) -> str:
    """The name of the target in a batch that is a mapping; "" where there is none.

    >>> target_name({"input_ids": 1, "labels": 2}), target_name((1, 2))
    ('labels', '')
    """
    return next((name for name in TARGETS if name in batch), "") if isinstance(batch, Mapping) else ""


def target_of(batch: Batch) -> Tensor | None:
    """The target in a batch: the last of a tuple, or a mapping's entry of one of the names ``TARGETS``.

    >>> import torch
    >>> x, y = torch.zeros(3, 2), torch.ones(3)
    >>> target_of((x, x, y)) is target_of({"x": x, "label": y}) is y, target_of({"x": x}), target_of(x)
    (True, None, None)
    """
    found: Any = None
    if isinstance(batch, Mapping):
        found = batch.get(target_name(batch))
    elif isinstance(batch, tuple) and len(batch) > 1:
        found = batch[-1]
    return found if isinstance(found, Tensor) else None


def takes_target(model: nn.Module, batch: Batch) -> bool:
    """Whether the model is given the target with its inputs, and so can return the loss itself.

    It is where its forward has a parameter for it: for a mapping one of the target's name (or ``**kwargs``); for a
    tuple one at the target's place that is called as in ``TARGETS`` or can't be left out. A batch without a target
    goes to the model as it is.
    """
    try:
        parameters = list(inspect.signature(unwrapped(model).forward).parameters.values())
    except (TypeError, ValueError):  # a forward without a Python signature
        return target_of(batch) is None
    if isinstance(batch, Mapping):
        name = target_name(batch)
        return not name or any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)
    if not isinstance(batch, tuple) or len(batch) < 2:
        return True
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < len(batch):
        return False
    at = places[len(batch) - 1]
    return at.name in TARGETS or at.default is at.empty


def call(model: nn.Module, batch: Batch, *, with_target: bool) -> Any:
    """What the model returns for the inputs of a batch, with or without its target.

    A mapping is handed over by keyword, a tuple by position, anything else as the one argument.

    >>> import torch
    >>> call(nn.Linear(2, 1), (torch.zeros(3, 2), torch.zeros(3, 1)), with_target=False).shape
    torch.Size([3, 1])
    """
    if isinstance(batch, Mapping):
        left_out = "" if with_target else target_name(batch)
        return model(**{name: value for name, value in batch.items() if name != left_out})
    if isinstance(batch, tuple):
        return model(*(batch if with_target else batch[:-1]))
    return model(batch)


def loss_in(output: Any) -> Tensor | None:
    """The loss that a model returned: a scalar, its ``loss`` (attribute or entry), or the one scalar of a tuple.

    >>> import torch
    >>> loss, logits = torch.tensor(2.0), torch.zeros(3, 4)
    >>> [loss_in(output) is loss for output in (loss, {"loss": loss}, (logits, loss), logits)]
    [True, True, True, False]
    """
    if isinstance(output, Tensor):
        return output if output.ndim == 0 else None
    if isinstance(output, tuple) and not hasattr(output, "loss"):
        scalars = [part for part in output if isinstance(part, Tensor) and part.ndim == 0]
        return scalars[0] if len(scalars) == 1 else None
    found = _entry(output, "loss")
    return found if isinstance(found, Tensor) else None


def scores_in(output: Any) -> Tensor | None:
    """The outputs that a target is compared with: a tensor, ``logits`` (attribute or entry), or a tuple's one tensor.

    >>> import torch
    >>> loss, logits = torch.tensor(2.0), torch.zeros(3, 4)
    >>> [scores_in(output) is logits for output in (logits, {"logits": logits}, (logits, None), (logits, logits))]
    [True, True, True, False]
    """
    if isinstance(output, Tensor):
        return output if output.ndim else None
    if isinstance(output, tuple) and not hasattr(output, "logits"):
        others = [part for part in output if part is not None and not (isinstance(part, Tensor) and part.ndim == 0)]
        return others[0] if len(others) == 1 and isinstance(others[0], Tensor) else None
    found = _entry(output, "logits")
    return found if isinstance(found, Tensor) else None


def _entry(output: Any, name: str) -> Any:
    found = getattr(output, name, None)
    return output.get(name) if found is None and isinstance(output, Mapping) else found
