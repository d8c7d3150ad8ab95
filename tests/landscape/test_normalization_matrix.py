"""Which normalization can stand in which network: the table of docs/normalizations.md against the networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from landscape.errors import UsageError
from landscape.models import MODELS, build_model
from landscape.models.blocks import Block
from landscape.normalization import NORMALIZATIONS
from landscape.streams import stream

PAGE = (Path(__file__).parents[2] / "docs" / "normalizations.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
HEAD, TABLE = ROWS[0][1:], {row[0].strip("`"): row[1:] for row in ROWS[2:]}
IMAGE = {"input_shape": (1, 12, 12), "output_size": 3}
STEPS = {"input_shape": (4, 3), "output_size": 3}
SMALL = {
    "convnet": IMAGE | {"channels": [4, "M", 8]},
    "inception": IMAGE | {"channels": [4, "M", 8]},
    "lenet": IMAGE,
    "resnet": IMAGE | {"depth": 8, "width": 2},
    "vgg": {"input_shape": (3, 32, 32), "output_size": 3, "width": 32},
    "mlp": {"input_shape": (6,), "output_size": 3, "hidden": [8, 8]},
    "deep_linear": {"input_shape": (6,), "output_size": 3, "layers": 3, "hidden": 8},
    "phase_dnn": {"input_shape": (1,), "output_size": 1, "hidden": [8, 8], "frequencies": [0, 3]},
    "recurrent": STEPS | {"hidden": 8, "layers": 1},
    "transformer": STEPS | {"features": 8, "heads": 2, "layers": 1},
}
LANGUAGE = {"input_shape": (4,), "output_size": 5}


def networks(column: str) -> list[tuple[str, dict]]:
    """The networks that a column's head names, with their cells."""
    models, _, cells = column.partition(":")
    named = re.findall(r"`(\w+)`", models)
    return [(name, {"cell": cell.strip()} if cell else {}) for name in named for cell in (cells or "").split(",")]


CASES = [
    pytest.param(norm, column, cell, id=f"{norm}-{column.replace('`', '')}")
    for norm, cells in TABLE.items()
    for column, cell in zip(HEAD, cells, strict=True)
]


def test_the_table_has_every_normalization_and_every_network_once():
    assert list(TABLE) == list(NORMALIZATIONS)
    named = [(name, options.get("cell")) for column in HEAD for name, options in networks(column)]
    plain = {(name, None) for name in MODELS if name != "recurrent"}
    assert len(named) == len(set(named))
    assert set(named) == plain | {("recurrent", cell) for cell in ("rnn", "lstm", "gru")}


def test_every_letter_of_the_table_has_its_reason_below_and_every_refusal_a_letter():
    used = {letter for cells in TABLE.values() for cell in cells for letter in re.findall(r"\((\w)\)", cell)}
    assert used == set(re.findall(r"^\((\w)\) ", PAGE, re.MULTILINE))
    assert all(re.fullmatch(r"yes|(yes|no|in part|classification) \(\w\)", cell) for c in TABLE.values() for cell in c)


def built(name: str, norm: str, **options: object) -> nn.Module | None:
    settings = SMALL[name] | options
    try:
        model = build_model(name, norm=norm, **settings)
    except UsageError:
        return None
    shape = settings["input_shape"]
    tokens = len(shape) == 1 and name in ("recurrent", "transformer")
    x = torch.randint(0, 5, (3, *shape)) if tokens else torch.randn(3, *shape, generator=stream(0, "x"))
    loss = model(x).square().sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    return model


def plain(block: Block) -> bool:
    return type(block.linear) in (nn.Linear, nn.Conv2d) and not parametrize.is_parametrized(block.linear)


@pytest.mark.parametrize(("norm", "column", "cell"), CASES)
def test_a_network_takes_what_the_table_says(norm, column, cell):
    torch.manual_seed(0)
    word = cell.partition(" (")[0]
    for name, options in networks(column):
        model = built(name, norm, **options)
        assert (model is None) == (word == "no"), (name, options)
        if name in ("recurrent", "transformer"):
            assert (built(name, norm, **options, **LANGUAGE) is None) == (word in ("no", "classification"))
        if model is None or NORMALIZATIONS[norm].linear is None:
            continue
        left = [block.inputs for block in model.modules() if isinstance(block, Block) and plain(block)]
        assert set(left) == ({1} if word == "in part" else set())


@pytest.mark.parametrize("norm", [norm for norm, entry in NORMALIZATIONS.items() if entry.inputs > 1])
def test_one_input_everywhere_is_refused_where_it_is_undefined(norm):
    with pytest.raises(UsageError, match=f"'{norm}' acts nowhere in this network.*2 inputs to a unit"):
        build_model("phase_dnn", norm=norm, **(SMALL["phase_dnn"] | {"hidden": [8]}))
    with pytest.raises(UsageError, match="with one input to a unit"):
        NORMALIZATIONS[norm].linear(nn.Linear(1, 4))
