"""Statistics by position, against arithmetic by hand and against chance."""

import math

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError


def total(model, x):
    return model(x).sum()


def identity(units):
    layer = nn.Linear(units, units, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(units))
    return layer


def test_two_positions_by_hand():
    # One unit, two sequences, two positions: 0, 4 and 2, 10. Means by position 1, 7; of all 4; variance of all 14.
    x = torch.tensor([[[0.0], [4.0]], [[2.0], [10.0]]]).double()
    found = landscape.position_statistics(identity(1), total, x)
    assert found.layers == ("",)
    assert found.mean[0].tolist() == pytest.approx([3 / math.sqrt(14), 3 / math.sqrt(14)])
    assert found.std[0].tolist() == pytest.approx([1 / math.sqrt(14), 3 / math.sqrt(14)])
    # (9 - (1 - 1/2) * mean of the unbiased variances 2 and 18, / 2 sequences) / 14
    assert found.between[0].item() == pytest.approx((9 - 0.5 * 10 / 2) / 14)


def test_rows_token_by_token_are_the_same_as_sequences():
    net = nn.Sequential(nn.Flatten(0, 1), identity(3))
    x = torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat, whole = landscape.position_statistics(net, total, x), landscape.position_statistics(identity(3), total, x)
    assert torch.equal(flat.mean, whole.mean)
    assert torch.equal(flat.between, whole.between)


def test_positions_that_do_not_differ_have_no_share_on_average():
    shares = []
    for seed in range(40):
        x = torch.randn(8, 6, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        shares.append(landscape.position_statistics(identity(20), total, x).between.item())
    shares = torch.tensor(shares)
    assert abs(shares.mean()) < 4 * shares.std() / math.sqrt(len(shares))


def test_what_has_no_positions_is_told():
    with pytest.raises(ProbeError, match="batches \\(N, T"):
        landscape.position_statistics(identity(2), total, torch.ones(3, 2).double())
