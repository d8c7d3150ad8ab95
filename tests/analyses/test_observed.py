"""The report of one training in somebody's own loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import landscape
from landscape.reporting import build_report
from landscape.store import Folder
from landscape_analyses import ANALYSES


@pytest.mark.parametrize("count", [3, 12])
def test_layers_stand_in_the_order_of_their_numbers(count: int, tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(count)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    observer = landscape.Observer(
        model, lambda model, x: model(x).square().mean(), ["updates"], every=1, optimizer=optimizer, to=tmp_path / "run"
    )
    with observer:
        for batch in observer.watch([torch.randn(4, 3) for _ in range(2)]):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    (section,) = build_report(ANALYSES["observed"](), Folder.read(tmp_path / "run")).sections
    table = section.tables[0].frame
    names = list(dict.fromkeys(table["layer"]))
    assert [int(name.partition(".")[0]) for name in names] == list(range(count))
