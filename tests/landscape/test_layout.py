"""A slice of a narrow convolutional network with its channels last: the same losses, and left alone where not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import landscape
from landscape.layout import channels_last
from landscape.objective import as_batches

Batch = tuple[Tensor, Tensor]


def images(channels: int = 3, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, channels, 8, 8, generator=generator).to(dtype), torch.arange(6) % 4


def network(*middle: nn.Module, channels: int = 3, width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Conv2d(channels, width, 3, padding=1)
    return nn.Sequential(first, *middle, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * width, 4))


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def trained_norm() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(8)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    return layer


def axes_of(model: nn.Module) -> Tensor:
    n = sum(p.numel() for p in model.parameters())
    return torch.randn(2, n, generator=torch.Generator().manual_seed(2)) / n**0.5


def by_hand(model: nn.Module, batch: Batch, axes: Tensor, points: list[float], loss_fn=cross_entropy) -> Tensor:
    """The plane's losses in the arithmetic and layout of what is given."""
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    losses = []
    for x in points:
        for y in points:
            nn.utils.vector_to_parameters(start + x * axes[0].to(start) + y * axes[1].to(start), model.parameters())
            losses.append(float(loss_fn(model, batch).detach()))
    nn.utils.vector_to_parameters(start, model.parameters())
    return torch.tensor(losses, dtype=torch.float64).view(len(points), len(points))


def sliced(model: nn.Module, batch: Batch, loss_fn=cross_entropy) -> tuple[Tensor, list[bool]]:
    """Losses at 3 x 3 points, and at which evaluations the images came with their channels last."""
    seen: list[bool] = []
    handle = model[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    found = landscape.loss_slice(
        model, loss_fn, batch, directions=axes_of(model), extent=1.0, points=3, statistics="running"
    )
    handle.remove()
    return found.loss.double(), seen


@pytest.mark.parametrize("middle", [[], [trained_norm()], [nn.AvgPool2d(1), nn.GELU()]])
def test_the_losses_are_those_of_float64(middle):
    model, batch = network(*middle), images()
    true = by_hand(copy.deepcopy(model).double().eval(), images(dtype=torch.float64), axes_of(model), [-1.0, 0.0, 1.0])
    losses, seen = sliced(model, batch)
    assert seen[0] is False  # L(w) as it is, then all of it with channels last
    assert seen[1:] == [True] * (len(seen) - 1)
    assert len(seen) >= 10
    torch.testing.assert_close(losses, true, rtol=5e-6, atol=0)
    assert batch[0].is_contiguous()
    assert not batch[0].is_contiguous(memory_format=torch.channels_last)


class Strided(nn.Module):
    """Reads memory in the order in which it lies, as extensions in C do."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_strided(x, (len(x), 512), (512, 1))


class Viewed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


@pytest.mark.parametrize("reader", [Strided(), Viewed()], ids=lambda m: type(m).__name__)
def test_a_model_that_reads_the_layout_is_evaluated_as_it_is(reader):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), reader, nn.Linear(512, 4))
    losses, seen = sliced(model, images())
    assert seen.count(True) == 1  # tried once
    torch.testing.assert_close(losses, by_hand(model, images(), axes_of(model), [-1.0, 0.0, 1.0]), rtol=1e-6, atol=0)


def test_random_masks_are_those_of_the_usual_layout():
    model = network(nn.Dropout(0.5))

    def seeded(model: nn.Module, batch: Batch) -> Tensor:
        torch.manual_seed(5)
        return cross_entropy(model, batch)

    losses, seen = sliced(model, images(), seeded)
    assert not all(seen[1:])
    true = by_hand(model, images(), axes_of(model), [-1.0, 0.0, 1.0], seeded)
    torch.testing.assert_close(losses, true, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (network(nn.BatchNorm2d(8)), images()),  # in training
        (network(nn.BatchNorm2d(8, track_running_stats=False)).eval(), images()),
        (network(nn.GroupNorm(2, 8)).eval(), images()),
        (network(nn.InstanceNorm2d(8)).eval(), images()),
        (network(width=256).eval(), images()),
        (network(channels=1).eval(), images(1)),
        (network().double().eval(), images(dtype=torch.float64)),
        (nn.Linear(3, 4), images()),
        (network().eval(), (torch.zeros(6, 192), torch.zeros(6))),
    ],
    ids=["training", "no running", "group", "instance", "wide", "grey", "float64", "no images wanted", "flat"],
)
def test_where_it_is_not_known_to_be_faster_and_exact(model, batch):
    assert channels_last(model, as_batches(batch)) is None
