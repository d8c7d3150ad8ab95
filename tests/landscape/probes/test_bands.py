"""Errors by band: closed forms, and the bands that the data source itself takes apart."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape
from landscape.data.wideband import band_parts, function, recombined
from landscape.errors import ProbeError, UsageError
from landscape.models.phase_dnn import phase_dnn

N = 512
X = -math.pi + 2 * math.pi * torch.arange(N, dtype=torch.float64)[:, None] / N


class Says(nn.Module):
    """A function of x; one weight that does nothing."""

    def __init__(self, of):
        super().__init__()
        self.of, self.weight = of, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.of(x)


def test_sines_and_a_constant_in_closed_form():
    y = 4.0 + X.sin() + 3 * (23 * X).sin()
    found = landscape.band_errors(Says(lambda x: 3.0 + 0.5 * x.sin() + 3 * (23 * x).sin()), (X, y), (0, 1, 23), 1.0)
    # The residual is 1 + sin x / 2; a constant has twice the mean square of a sine of its size.
    assert found.error.tolist() == pytest.approx([1 / 4, 1 / 2, 0.0], abs=1e-12)
    assert found.total.item() == pytest.approx(math.sqrt((1 + 1 / 8) / (16 + 1 / 2 + 9 / 2)))


def test_the_highest_frequency_of_an_even_grid_counts_once():
    y = (256 * X).cos() + X.sin()
    assert landscape.band_errors(Says(torch.sin), (X, y), (1,)).total.item() == pytest.approx(math.sqrt(1 / 1.5))


def test_bands_are_those_of_the_data_in_any_order_of_the_points():
    x, bands = X[:, 0].numpy(), (1, 3, 23, 137, 203)
    f = function(x)
    residual = f - np.tanh(x)
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    found = landscape.band_errors(Says(torch.tanh), (X[shuffled], torch.from_numpy(f)[shuffled, None]), bands, 2.0)

    def size(values, w):
        return np.linalg.norm(recombined(band_parts(values, x, (w,), 2.0), x, (w,)))

    assert found.error.tolist() == pytest.approx([size(residual, w) / size(f, w) for w in bands])
    assert found.total.item() == pytest.approx(np.linalg.norm(residual) / np.linalg.norm(f))


def test_parts_count_by_the_function_that_they_add_up_to():
    net = phase_dnn(input_shape=(1,), output_size=3, frequencies=(0, 23), form="parallel", hidden=(3,)).double()
    parts = torch.from_numpy(band_parts(function(X[:, 0].numpy()), X[:, 0].numpy(), (0, 23), 23.0))
    whole = Says(net.recombined)
    target = torch.from_numpy(recombined(parts.numpy(), X[:, 0].numpy(), (0, 23)))[:, None]
    ours, theirs = (landscape.band_errors(m, (X, y), (1, 23)) for m, y in ((net, parts), (whole, target)))
    torch.testing.assert_close(ours.error, theirs.error)
    torch.testing.assert_close(ours.total, theirs.total)


def test_training_with_it_is_bit_identical_to_training_without():
    def trained(observe):
        net = phase_dnn(input_shape=(1,), output_size=1, norm="batch", frequencies=(0,), hidden=(5,)).double()
        batch, optimizer = (X, torch.sin(X)), torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            (net(batch[0]) - batch[1]).square().mean().backward()
            if observe:
                landscape.band_errors(net, batch, (1,))
            optimizer.step()
        return net.state_dict()

    without, observed = trained(False), trained(True)
    assert all(torch.equal(without[name], observed[name]) for name in without)


@pytest.mark.parametrize(
    ("batch", "bands", "says"),
    [
        ((torch.ones(4, 3), torch.ones(4, 1)), (1,), "regression of one variable"),
        ({"x": X}, (1,), "regression of one variable"),
        ((X[::3], X[::3]), (1,), "not a uniform grid"),
        ((X, X.sin()), (257,), "around 257"),
        ((X, torch.zeros_like(X)), (1,), "holds nothing"),
        ((X, torch.cat([X, X], dim=1)), (1,), "shape of the targets"),
    ],
)
def test_other_data_are_refused_by_name(batch, bands, says):
    with pytest.raises(ProbeError, match=says):
        landscape.band_errors(Says(torch.tanh), batch, bands)


def test_several_outputs_without_waves_are_refused():
    with pytest.raises(ProbeError, match="waves"):
        landscape.band_errors(Says(lambda x: torch.cat([x, x], dim=1)), (X, torch.cat([X, X], dim=1)), (1,))


def test_no_bands_is_told():
    with pytest.raises(UsageError, match="width"):
        landscape.band_errors(Says(torch.tanh), (X, X.sin()), (1,), 0.0)
