"""Small models, and two forward passes compared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from landscape.streams import stream


@pytest.fixture
def draw():
    """Numbers from a stream of their own: draw(2, 3) is the same every time, and no global state moves."""

    def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.randn(*shape, generator=stream(0, f"draw/{shape}"), dtype=torch.float64).to(dtype)

    return numbers


@pytest.fixture
def residual():
    """A small residual network with batch normalization, in float64."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x):
            return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.blocks = nn.ModuleList([Block(), Block()])
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((2, 3)))

    torch.manual_seed(1)
    return Residual().double()
