"""The loss of a study: the default for its data, or the user's own function by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from landscape.data import Dataset
from landscape.errors import UsageError
from landscape.hooks import hooked
from landscape.imports import load_object

_BROKEN = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The regression loss: mean over samples of the squared L2 norm of the residual.

    >>> float(squared_error(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)))
    5.0
    """
    return (outputs - targets).square().flatten(1).sum(dim=1).mean()


def one_hot_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The square loss of a classifier: mean over samples of the squared distance of its outputs from the one-hot label.

    Unlike cross-entropy its curvature does not die out as the data are fitted, so that sharpness can be followed.

    >>> float(one_hot_error(nn.Identity(), (torch.tensor([[1.0, 2.0]]), torch.tensor([0]))))
    4.0
    """
    outputs: Tensor = model(batch[0])
    return squared_error(outputs, nn.functional.one_hot(batch[1], outputs.shape[1]).to(outputs.dtype))


class Loss:
    """L(model, batch), a mean over the batch: cross-entropy where the data has classes, else the squared error.

    Args:
        data: what it is of.
        name: the user's own ``loss_fn(model, batch)``, by ``package:function`` or ``file.py:function``; "" for the
            default of ``model(x)`` and the targets.

    Raises:
        UsageError: there is no such function.
    """

    def __init__(self, data: Dataset, name: str = "") -> None:
        self.data, self.name = data, name
        self.own = load_object(name) if name else None
        if self.own is not None and not callable(self.own):
            raise UsageError(f"loss {name!r} is a {type(self.own).__name__}, not a function loss(model, batch)")

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss of one mini-batch."""
        if self.own is not None:
            loss: Tensor = self.own(model, batch)
            return loss
        return self._default(model(batch[0]), batch[1])

    def _default(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.data.classes is None:
            return squared_error(outputs, targets)
        return nn.functional.cross_entropy(outputs, targets)

    def and_accuracy(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[float, float]:
        """Loss and accuracy of one mini-batch in one pass; an accuracy of NaN where the model gives no class scores.

        With a loss of the user's own, class scores are what the model itself returned in it: a tensor (N, C, ...), or
        the ``logits`` of what it returned.
        """
        if self.own is None:
            outputs = model(batch[0])
            loss = self._default(outputs, batch[1])
        else:
            returned: list[Any] = []
            with hooked([model], after=lambda module, args, kwargs, output: returned.append(output)):
                loss = self.own(model, batch)
            outputs = getattr(returned[-1], "logits", returned[-1]) if returned else None
        return float(loss), self._accuracy(outputs, batch[1])

    def _accuracy(self, outputs: Any, targets: Tensor) -> float:
        scores = (
            isinstance(outputs, Tensor)
            and self.data.classes is not None
            and outputs.ndim > 1
            and outputs.shape[1] >= self.data.classes
            and (outputs.shape[0], *outputs.shape[2:]) == tuple(targets.shape)
        )
        return float((outputs.argmax(dim=1) == targets).float().mean()) if scores else float("nan")

    def checked(self, model: nn.Module, batch: tuple[Tensor, ...], where: str) -> Tensor:
        """The loss of a batch, where ``where`` begins the message of what does not fit.

        Raises:
            UsageError: the model can't take the batch, or the loss is no scalar.
        """
        x, y = batch
        taken = f"inputs {tuple(x.shape)} and targets {tuple(y.shape)} of {self.data.name}"
        try:
            loss: Any = self(model, batch)
        except _BROKEN as error:
            hint = "" if self.name else "; where outputs are no plain scores, give a loss(model, batch) of your own"
            raise UsageError(f"{where} can't take {taken}: {type(error).__name__}: {error}{hint}") from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UsageError(
                f"loss {self.name!r} returned {what}; it must return a scalar tensor, the mean over the batch"
            )
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise UsageError(f"loss {self.name!r} returned a tensor without a graph: was it detached?")
        return loss
