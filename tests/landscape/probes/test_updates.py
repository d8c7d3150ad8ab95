"""The next step of each layer against arithmetic by hand."""

import math

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import UsageError


def test_norms_rates_and_angles_by_hand():
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
        net[1].weight.copy_(torch.tensor([[1.0], [0.0]]))
    sgd = torch.optim.SGD([{"params": net[0].parameters(), "lr": 0.5}, {"params": net[1].parameters(), "lr": 0.1}])
    gradients = [torch.tensor([[8.0, -6.0]]).double(), torch.tensor([[0.0], [1.0]]).double()]
    step = landscape.layer_updates(net, sgd, gradients)
    assert step.layers == ("0.weight", "1.weight")
    assert step.weight_norm.tolist() == [5.0, 1.0]
    assert step.effective_learning_rate.tolist() == [0.5 / 25, 0.1]
    # (3, 4) - 0.5 (8, -6) = (-1, 7); (1, 0) - 0.1 (0, 1) = (1, -0.1)
    assert step.relative_update.tolist() == pytest.approx([1.0, 0.1])
    cosine = (-3 + 28) / (5 * math.sqrt(50))
    assert step.angular_update.tolist() == pytest.approx([math.acos(cosine), math.atan(0.1)], rel=1e-12)
    assert net[0].weight.tolist() == [[3.0, 4.0]]


def test_tiny_angles_are_not_lost_to_rounding():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0]]))
    step = landscape.layer_updates(layer, torch.optim.SGD(layer.parameters(), 1.0), [torch.tensor([[0.0, 1e-5]])])
    assert float(step.angular_update) == pytest.approx(1e-5, rel=1e-3)


def test_without_gradients():
    layer = nn.Linear(2, 1)
    with pytest.raises(UsageError, match=r"after loss\.backward"):
        landscape.layer_updates(layer, torch.optim.SGD(layer.parameters(), 1.0))
