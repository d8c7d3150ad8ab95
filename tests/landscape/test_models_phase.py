"""PhaseDNN: what it computes, that parallel networks are independent, and that it learns what a plain one can't."""

from __future__ import annotations

import pytest
import torch

from landscape.data import load_data
from landscape.errors import UsageError
from landscape.losses import squared_error
from landscape.models import build_model
from landscape.streams import stream

SMALL = {"input_shape": (1,), "frequencies": (0, 5, 11), "hidden": (6, 6)}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def points(n: int) -> torch.Tensor:
    return torch.rand(n, 1, generator=stream(0, "x"), dtype=torch.float64) * 6 - 3


def test_the_coupled_form_is_its_formula():
    model = build_model("phase_dnn", output_size=1, norm="batch", **SMALL).double()
    assert [name for name, _ in model.named_children()] == ["cosine1", "cosine2", "sine2", "cosine3", "sine3"]
    x = points(9)
    expected = model.cosine1(x) + model.cosine2(x) * (5 * x).cos() + model.sine2(x) * (5 * x).sin()
    expected = expected + model.cosine3(x) * (11 * x).cos() + model.sine3(x) * (11 * x).sin()
    torch.testing.assert_close(model(x), expected)


def test_both_forms_have_the_same_networks_and_the_parallel_one_gives_its_parts():
    coupled = build_model("phase_dnn", output_size=1, seed=3, **SMALL).double()
    parallel = build_model("phase_dnn", output_size=5, form="parallel", seed=3, **SMALL).double()
    x = points(4)
    assert torch.equal(parallel(x), coupled.parts(x))
    assert torch.equal(parallel.recombined(x), coupled(x))
    assert sum(p.numel() for p in parallel.parameters()) == 5 * (6 + 6 + 36 + 6 + 6 + 1)


def test_parallel_networks_are_trained_each_as_if_alone():
    model = build_model("phase_dnn", output_size=5, form="parallel", **SMALL).double()
    x, target = points(8), torch.randn(8, 5, generator=stream(0, "y"), dtype=torch.float64)
    together = torch.autograd.grad(squared_error(model(x), target), list(model.parameters()))
    alone = []
    for k, network in enumerate(model.children()):
        alone += torch.autograd.grad(squared_error(network(x), target[:, k : k + 1]), list(network.parameters()))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_it_learns_in_a_few_steps_what_a_plain_network_of_more_parameters_does_not():
    data = load_data("wideband", samples=512)
    errors = {}
    for name, options in (("phase_dnn", {"hidden": (16, 16)}), ("mlp", {"hidden": (64, 64), "activation": "tanh"})):
        model = build_model(name, input_shape=(1,), output_size=1, **options)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(200):
            optimizer.zero_grad()
            loss = squared_error(model(data.train[0]), data.train[1])
            loss.backward()
            optimizer.step()
        errors[name] = loss.item() / data.chance_loss, sum(p.numel() for p in model.parameters())
    assert errors["phase_dnn"][1] < errors["mlp"][1]
    assert errors["phase_dnn"][0] < 0.5 * errors["mlp"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "paralel"}, "did you mean 'parallel'"),
        ({"frequencies": []}, "each once"),
        ({"frequencies": [1, 1]}, "each once"),
        ({"frequencies": [-1]}, "from 0 on"),
        ({"hidden": 40}, "list of widths"),
        ({"output_size": 3}, r"coupled with 3 frequencies, gives 1 output"),
        ({"output_size": 1, "form": "parallel"}, "parallel with 3 frequencies, gives 5 output"),
        ({"norm": "weight-standardization", "hidden": (6,)}, "acts nowhere in this network.*2 inputs to a unit"),
        ({"input_shape": (2,)}, r"the data have inputs \(2,\)"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        build_model("phase_dnn", **({"output_size": 1} | SMALL | options))
