"""What goes forward and back, against arithmetic by hand."""

import math

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError, UsageError
from landscape.probes import build_probe
from landscape.probes.base import Moment


def chain():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
        net[1].weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
        net[2].weight.copy_(torch.tensor([[3.0, 4.0]]))
    return net


def total(model, x):
    return model(x).sum()


X = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def test_gradients_ranks_and_growth_by_hand():
    net = chain()
    found = landscape.layer_signals(net, total, X)
    assert found.layers == ("0", "1", "2")
    # Back from the sum: (3, 4) into layer 2, (3, 4) W1 = (6, 12) into layer 1, in each of two samples.
    assert math.isnan(found.input_gradient[0])  # the data depend on no parameter
    assert found.input_gradient[1:].tolist() == pytest.approx([math.sqrt(2 * 180), math.sqrt(2 * 25)])
    assert found.growth[1].item() == pytest.approx(180 / 25)
    assert torch.isnan(found.growth[[0, 2]]).all()
    # The inputs: I, then rows (1, 0), (2, 1), then (2, 0), (4, 3).
    assert found.second_moment.tolist() == pytest.approx([2 / 4, 6 / 4, 29 / 4])
    assert found.rank.tolist() == pytest.approx([2.0, 36 / (1 + 25 + 2 * 4), 29**2 / (16 + 625 + 2 * 64)])
    # dL/dW of the last layer is the sum of its inputs, (6, 3).
    assert found.weight_gradient[2].item() == pytest.approx(math.sqrt(45))
    assert net[0].weight.grad is None


def test_a_layer_called_twice_has_both_calls():
    layer = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(2 * torch.eye(2))

    def twice(model, x):
        return model(model(x)).sum()

    found = landscape.layer_signals(layer, twice, X)
    assert found.second_moment.tolist() == [(2 * 1 + 2 * 4) / 8]
    assert found.input_gradient.item() == pytest.approx(math.sqrt(4 * 4))  # of the second call: 2 at each of 4 entries


def test_tokens_have_no_rank_and_wrong_names_are_told():
    net = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1))
    found = landscape.layer_signals(net, total, torch.tensor([0, 1]))
    assert torch.isnan(found.rank).tolist() == [True, False]
    with pytest.raises(UsageError, match="'2' is no layer"):
        landscape.layer_signals(net, total, torch.tensor([0, 1]), ["2"])
    with pytest.raises(ProbeError, match="one mini-batch"):
        landscape.layer_signals(net, total, landscape.Batches([torch.tensor([0])]))


def test_the_probe_gives_what_there_is():
    rows = list(build_probe("signals").measure(Moment(chain(), total, X, step=0)))
    assert [r.layer for r in rows if r.quantity == "growth"] == ["1"]
    assert len([r for r in rows if r.quantity == "weight_gradient"]) == 3
