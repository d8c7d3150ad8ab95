"""The loss of a study: the user's own function by name, the model's own, or the default for the data."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.calling import call, loss_in, scores_in, takes_target, target_of
from landscape.data import Dataset
from landscape.data.base import is_pair
from landscape.errors import NormalizationError, UsageError
from landscape.hooks import hooked
from landscape.imports import load_object
from landscape.objective import Batch, refuse_criterion, tensors_of

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
    """L(model, batch), a mean over the batch: the user's own function, the loss that the model returns, or the data's.

    Without a function, a model that is given the target with its inputs (``calling.takes_target``) and returns a
    loss has that one. Else the model's scores are compared with the target: cross-entropy where the target is whole
    numbers, the squared error where it is floats.

    Args:
        data: what it is of.
        name: the user's own ``loss_fn(model, batch)``, by ``package:function`` or ``file.py:function``, or "".
        chance_loss: the loss that no learning reaches, where the user says so.

    Raises:
        UsageError: there is no such function.
    """

    def __init__(self, data: Dataset, name: str = "", chance_loss: float | None = None) -> None:
        self.data, self.name = data, name
        self.own = load_object(name) if name else None
        if self.own is not None and not callable(self.own):
            raise UsageError(f"loss {name!r} is a {type(self.own).__name__}, not a function loss(model, batch)")
        refuse_criterion(self.own)
        self._said, self._standard = chance_loss, False
        self._whole: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()

    @property
    def chance_loss(self) -> float | None:
        """The loss that no learning reaches; None where it is not known.

        It is what the user says, or that of the data if its cross-entropy or squared error is what the last
        evaluation computed.
        """
        if self._said is not None:
            return self._said
        return self.data.chance_loss if self._standard else None

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of one mini-batch."""
        if self.own is not None:
            loss: Tensor = self.own(model, batch)
            return loss
        return self._default(model, batch)[0]

    def _default(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
        """The loss without a function of the user's, and what the model returned."""
        if model not in self._whole:
            self._whole[model] = takes_target(model, batch)
        output = call(model, batch, with_target=self._whole[model])
        loss = loss_in(output) if self._whole[model] else None
        self._standard = loss is None
        if self._whole[model] and loss is None:
            whole = "the target too" if target_of(batch) is not None else "the whole batch, which has no target"
            raise TypeError(f"the model was given {whole}, and returned {_kind(output)} without a loss")
        return self._compared(output, target_of(batch)) if loss is None else loss, output

    def _compared(self, output: Any, target: Tensor | None) -> Tensor:
        """The scores that a model returned against the target."""
        scores = scores_in(output)
        if scores is None or target is None:
            raise TypeError(f"the model returned {_kind(output)}, in which there are no scores")
        if not target.is_floating_point():
            if scores.ndim > 1 and scores.shape[1] < (self.data.classes or 0):
                raise ValueError(f"{scores.shape[1]} outputs for {self.data.classes} classes")
            return nn.functional.cross_entropy(scores, target)
        if scores.shape != target.shape:
            raise ValueError(
                f"outputs of shape {tuple(scores.shape)} for float targets of shape {tuple(target.shape)} (labels of "
                "classes have to be whole numbers)"
            )
        return squared_error(scores, target)

    def and_accuracy(self, model: nn.Module, batch: Batch) -> tuple[float, float]:
        """Loss and accuracy of one mini-batch in one pass; an accuracy of NaN where the model gives no class scores.

        Class scores are what the model returned, with a loss of the user's own in it: a tensor (N, C, ...), or the
        ``logits`` of what it returned.
        """
        if self.own is None:
            loss, output = self._default(model, batch)
        else:
            returned: list[Any] = []
            with hooked([model], after=lambda module, args, kwargs, output: returned.append(output)):
                loss = self.own(model, batch)
            output = returned[-1] if returned else None
        return float(loss.detach()), self._accuracy(scores_in(output), target_of(batch))

    def _accuracy(self, scores: Tensor | None, targets: Tensor | None) -> float:
        if scores is None or targets is None or self.data.classes is None:
            return float("nan")
        fits = (
            scores.ndim > 1
            and scores.shape[1] >= self.data.classes
            and (scores.shape[0], *scores.shape[2:]) == tuple(targets.shape)
        )
        return float((scores.argmax(dim=1) == targets).float().mean()) if fits else float("nan")

    def checked(self, model: nn.Module, batch: Batch, where: str) -> Tensor:
        """The loss of a batch, where ``where`` begins the message of what does not fit.

        Raises:
            NormalizationError: a normalization in it needs a larger batch.
        UsageError: the model can't take the batch, or the loss is no scalar.
        """
        try:
            loss: Any = self(model, batch)
        except NormalizationError:
            raise
        except _BROKEN as error:
            if "Expected more than 1 value per channel when training" in str(error):  # torch's, in its own layers
                raise NormalizationError(
                    f"a batch normalization layer takes statistics over the batch: {error}"
                ) from error
            hint = "; where outputs are no plain scores, give a loss(model, batch) of your own"
            if self.name:
                where, hint = f"{where} with loss {self.name!r}", "; --debug shows where"
            if "dtype" in str(error):
                hint = "; data are float32: build the model in float32, or cast in a loss(model, batch) of your own"
            if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
                hint = "; it has weights on the meta device, where they have no values: load them"
            what = f"{described(batch)} of {self.data.name}"
            raise UsageError(f"{where} can't take {what}: {type(error).__name__}: {error}{hint}") from error
        whose = f"loss {self.name!r}" if self.name else f"{where}: the model's own loss"
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UsageError(f"{whose} returned {what}; it must return a scalar tensor, the mean over the batch")
        if torch.is_grad_enabled() and not loss.requires_grad:
            if not any(p.requires_grad for p in model.parameters()):
                raise UsageError(f"{where} has no trainable parameter: there is nothing to train")
            raise UsageError(f"{whose} returned a tensor without a graph: was it detached?")
        return loss


def _kind(output: Any) -> str:
    """What a model returned, in words."""
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} of {', '.join(map(str, output))}"
    return f"a {type(output).__name__}"


def described(batch: Batch) -> str:
    """A batch in words: its tensors and their shapes.

    >>> described((torch.zeros(2, 3), torch.zeros(2)))
    'inputs (2, 3) and targets (2,)'
    >>> described({"input_ids": torch.zeros(2, 3)})
    'input_ids (2, 3)'
    """
    if is_pair(batch):
        return f"inputs {tuple(batch[0].shape)} and targets {tuple(batch[1].shape)}"
    if isinstance(batch, Mapping):
        return ", ".join(f"{key} {', '.join(str(tuple(t.shape)) for t in tensors_of(batch[key]))}" for key in batch)
    return f"tensors of shapes {', '.join(str(tuple(t.shape)) for t in tensors_of(batch))}"
