r"""How far each layer is about to turn: what a learning rate means for weights whose scale does not matter.

For a weight that is normalized afterwards only the direction counts: a step of rate lr acts like one of rate
lr / ||W||^2 on the unit sphere, and turns the weight by the angle between W and W+ (van Laarhoven 2017).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.layers import is_weight, own_parameters, public_name
from landscape.parameters import refuse
from landscape.preserve import unwrapped
from landscape.probes.base import Measurement, Moment
from landscape.stepping import next_parameters

VERSION = 1


@dataclass(frozen=True)
class LayerUpdates:
    """The optimizer's next step, layer by layer; l layers that own a weight of two or more dimensions.

    Attributes:
        layers: names of the layers' weights.
        weight_norm: ||W||. (l,)
        effective_learning_rate: lr / ||W||^2, with the learning rate of the weight's own group. (l,)
        relative_update: ||W+ - W|| / ||W||. (l,)
        angular_update: angle between W and W+, in radians. (l,)
    """

    layers: tuple[str, ...]
    weight_norm: Tensor
    effective_learning_rate: Tensor
    relative_update: Tensor
    angular_update: Tensor


def layer_updates(
    model: nn.Module, optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor | None] | None = None
) -> LayerUpdates:
    """What the optimizer's next step does to each layer's weight; the step is taken on a copy.

    Args:
        model: any ``nn.Module``.
        optimizer: the optimizer that trains it.
        gradients: in ``model.parameters()`` order; the ``.grad`` as found if None.

    Raises:
        UsageError: there are no gradients yet, or the optimizer is another model's.
        ProbeError: LBFGS or sparse gradients.

    >>> layer = nn.Linear(1, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0], [0.0]]))
    >>> step = layer_updates(layer, torch.optim.SGD(layer.parameters(), lr=0.5), [torch.tensor([[0.0], [-2.0]])])
    >>> [round(float(x), 4) for x in (step.effective_learning_rate, step.angular_update)]  # turned by 45 degrees
    [0.5, 0.7854]
    """
    model = unwrapped(model)
    refuse(model)
    parameters = list(model.parameters())
    held = [p.grad for p in parameters] if gradients is None else list(gradients)
    if all(g is None for g in held):
        raise UsageError("layer_updates needs gradients: call it after loss.backward(), or pass gradients=")
    after = dict(zip(map(id, parameters), next_parameters(optimizer, parameters, held), strict=True))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    weights = {
        public_name(f"{name}.{own}".lstrip(".")): p
        for name, module in model.named_modules()
        for own, p in own_parameters(module, name)
        if p.requires_grad and is_weight(module, own, p) and id(p) in rates
    }
    rows = [_row(p.detach(), after[id(p)], rates[id(p)]) for p in weights.values()]
    norms, effective, relative, angles = (torch.stack(column) for column in zip(*rows, strict=True))
    return LayerUpdates(tuple(weights), norms, effective, relative, angles)


def _row(w: Tensor, after: Tensor, rate: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    size, moved = torch.linalg.vector_norm(w), torch.linalg.vector_norm(after - w)
    a, b = w / size, after / torch.linalg.vector_norm(after)
    # 2 atan2(|a - b|, |a + b|): exact for the small angles of one step, where acos is all rounding.
    angle = 2 * torch.atan2(torch.linalg.vector_norm(a - b), torch.linalg.vector_norm(a + b))
    return size, rate / size.square(), moved / size, angle


class UpdatesProbe:
    """``layer_updates`` inside a training loop."""

    name = "updates"
    version = VERSION

    def passes(self, full: int, layers: int) -> float:
        """Cost in forward+backward passes: none."""
        return 0.0

    def measure(self, moment: Moment) -> Iterable[Measurement]:
        """The step that is about to be taken."""
        if moment.optimizer is None:
            raise UsageError("the updates probe takes the optimizer's step: pass optimizer= to the Observer")
        step = layer_updates(moment.model, moment.optimizer)
        for item in dataclasses.fields(step):
            value = getattr(step, item.name)
            if isinstance(value, Tensor):
                for layer, number in zip(step.layers, value.tolist(), strict=True):
                    yield Measurement(self.name, item.name, number, layer=layer, version=VERSION)
