"""Normalization put in where there is none, weights normalized, and what a forward hides."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from landscape import UsageError, normalization_plan, normalized
from landscape.models import build_model
from landscape.normalization import NORMALIZATIONS, Normalization


@pytest.fixture
def by_weight(monkeypatch):
    """A normalization of weights of the test's own: torch's weight norm."""
    mine = Normalization("mine", "w = g v / |v|", "-", "-", "-", lambda *_: nn.Identity(), parametrizations.weight_norm)
    monkeypatch.setitem(NORMALIZATIONS, "mine", mine)
    return "mine"


def mlp():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def said(plan):
    return [(change.name, change.action) for change in plan]


def test_after_every_linear_map_but_the_output(draw):
    model, x = mlp(), draw(6, 3)
    plan = normalization_plan(model, "batch")
    assert said(plan) == [("0", "insert"), ("2", "insert"), ("4", "keep")]
    assert plan[-1].why == "the output layer"
    h = torch.tanh(F.batch_norm(model[0](x), None, None, training=True))
    expected = model[4](torch.tanh(F.batch_norm(model[2](h), None, None, training=True)))
    new = normalized(model, "batch")
    torch.testing.assert_close(new(x), expected, rtol=1e-12, atol=1e-12)
    # the user's weights keep their names, their class is still a linear map's
    assert set(model.state_dict()) <= set(new.state_dict())
    assert isinstance(new[0], nn.Linear)
    assert type(model[0]) is nn.Linear
    assert type(new[0]).__name__ == "NormalizedLinear"


def test_what_is_inserted_survives_copies_pickles_and_functional_calls(draw):
    new, x = normalized(mlp(), "batch").eval(), draw(6, 3)
    expected = new(x)
    copied = copy.deepcopy(new)
    assert torch.equal(copied(x), expected)
    copied[0].norm.norm.weight.data.zero_()
    assert torch.equal(new(x), expected)  # nothing shared
    assert torch.equal(pickle.loads(pickle.dumps(new))(x), expected)
    buffer = io.BytesIO()
    torch.save(new, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(x), expected)
    other = normalized(mlp(), "batch").eval()
    for p in other.parameters():
        p.data.zero_()
    assert not torch.equal(other(x), expected)
    other.load_state_dict(new.state_dict())
    assert torch.equal(other(x), expected)
    state = {**dict(new.named_parameters()), **dict(new.named_buffers())}
    assert torch.equal(torch.func.functional_call(other, state, (x,)), expected)
    grad = torch.func.grad(lambda w: torch.func.functional_call(new, w, (x,)).square().sum())(
        dict(new.named_parameters())
    )
    assert all(g.abs().sum() > 0 for key, g in grad.items())


@pytest.mark.parametrize("convolution", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
def test_convolutions_keep_their_units_first(draw, convolution):
    dimensions = int(convolution.__name__[-2])
    model = nn.Sequential(convolution(3, 4, 2), nn.ReLU(), convolution(4, 2, 2)).double()
    x = draw(2, 3, *[5] * dimensions)
    expected = model[2](torch.relu(F.batch_norm(model[0](x), None, None, training=True)))
    torch.testing.assert_close(normalized(model, "batch")(x), expected, rtol=1e-12, atol=1e-12)


def test_a_layer_used_twice_is_followed_once(draw):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
            self.alias = self.shared

        def forward(self, x):
            return self.head(torch.relu(self.alias(torch.relu(self.shared(x)))))

    new = normalized(Twice().double(), "batch")
    new(draw(3, 4))
    assert new.alias is new.shared
    assert int(new.shared.norm.norm.num_batches_tracked) == 2
    assert said(normalization_plan(Twice(), "batch")) == [("shared", "insert"), ("head", "keep")]


def test_a_cell_of_linear_maps_is_a_recurrent_network(draw):
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs, self.state, self.head = nn.Linear(3, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 2)

        def forward(self, x):
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                h = torch.tanh(self.inputs(x[:, t]) + self.state(h))
            return self.head(h)

    model, x = Cell().double(), draw(2, 3, 3)
    h = x.new_zeros(2, 4)
    for t in range(3):
        h = torch.tanh(F.layer_norm(model.inputs(x[:, t]), (4,)) + F.layer_norm(model.state(h), (4,)))
    new = normalized(model, "layer", example=x)
    torch.testing.assert_close(new(x), model.head(h), rtol=1e-12, atol=1e-12)


def test_what_is_fused_is_named():
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.lstm, self.cell = nn.Linear(4, 4), nn.LSTM(4, 4), nn.GRUCell(4, 4)
            self.attention, self.head = nn.MultiheadAttention(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x, _ = self.lstm(self.first(x))
            x, _ = self.attention(x, x, x)
            return self.head(self.cell(x[0]))

    for example in (None, torch.zeros(3, 2, 4)):
        plan = {change.name: change for change in normalization_plan(Fused(), "batch", example=example)}
        assert {name for name, change in plan.items() if change.action == "can't"} - {""} == {
            "lstm",
            "cell",
            "attention",
        }
        assert "LSTM computes its gates in one fused call" in plan["lstm"].why
        assert plan["first"].action == "insert"
        assert plan["head"].action == "keep"
        assert "attention.out_proj" not in plan


class Functional(nn.Module):
    """A forward that normalizes and multiplies by functions."""

    def __init__(self, *, traceable: bool) -> None:
        super().__init__()
        self.first, self.unused, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.traceable = traceable

    def forward(self, x):
        if not self.traceable and x.sum() > 1e9:
            return x
        x = F.layer_norm(self.first(x), (4,))
        return self.head(F.linear(x, self.unused.weight))


@pytest.mark.parametrize(
    ("traceable", "example"), [(True, None), (True, torch.zeros(2, 4)), (False, torch.zeros(2, 4))]
)
def test_functions_in_a_forward_are_named(traceable, example):
    plan = normalization_plan(Functional(traceable=traceable), "batch", example=example)
    functions = {change.before for change in plan if "called as a function" in change.why}
    assert functions == {"layer_norm(...)", "linear(...)"}
    assert all(change.action == "can't" for change in plan if "(...)" in change.before)
    (unused,) = [change for change in plan if change.name == "unused"]
    assert unused.action == "can't"
    assert "never calls it" in unused.why


def test_what_nothing_could_run_is_a_limit_that_is_said():
    plan = normalization_plan(Functional(traceable=False), "batch")
    assert plan[-1].name == ""
    assert "give example=" in plan[-1].why
    (output,) = [change for change in plan if change.name == "head"]
    assert output.action == "keep"
    assert "last one registered" in output.why


class Heads(nn.Module):
    """Two heads, registered first, and an output that reads a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.b, self.a = nn.Linear(4, 3), nn.Linear(4, 2)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, scale=1.0):
        x = x + self.two(torch.relu(self.one(x))) * scale
        return {"a": self.a(x), "more": [self.b(x)]}


@pytest.mark.parametrize(
    "example", [None, {"x": torch.zeros(2, 4), "scale": 2.0}, lambda model: model(torch.zeros(1, 4))]
)
def test_output_layers_are_found_through_the_graph(example):
    plan = normalization_plan(Heads(), "batch", example=example)
    assert sorted(said(plan)) == [("a", "keep"), ("b", "keep"), ("one", "insert"), ("two", "insert")]


def test_where_chooses_linear_maps_of_a_model_that_has_normalization():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert said(normalization_plan(model, "layer")) == [("1", "replace")]
    new = normalized(model, "layer", where="2")
    assert said(normalization_plan(model, "layer", where="2")) == [("2", "insert")]
    assert isinstance(new[1], nn.BatchNorm1d)
    assert new[2].norm.units.axis == "last"


def test_weights_are_normalized_in_place_of_activations(by_weight, residual, draw):
    plan = normalization_plan(residual, by_weight)
    assert {change.name for change in plan if change.action == "remove"} == {
        "stem.1", *(f"blocks.{block}.bn{k}" for block in (0, 1) for k in (1, 2))
    }  # fmt: skip
    assert [change.name for change in plan if change.action == "keep"] == ["head"]
    x = draw(2, 3, 7, 7)
    new = normalized(residual, by_weight)
    torch.testing.assert_close(
        new(x), normalized(residual, "none")(x), rtol=1e-12, atol=1e-12
    )  # w = g v / |v| at first
    new.stem[0].parametrizations.weight.original0.data.mul_(2)
    assert not torch.allclose(new(x), normalized(residual, "none")(x))
    assert torch.equal(new.head.weight, residual.head.weight)


def test_a_weight_norm_that_is_there_is_taken_away_at_its_value(by_weight, draw):
    model, x = mlp(), draw(6, 3)
    parametrizations.weight_norm(model[0]).parametrizations.weight.original0.data.mul_(3)
    parametrizations.spectral_norm(model[2])
    model.eval()
    plan = normalization_plan(model, "none")
    assert said(plan) == [("0", "remove"), ("2", "remove")]
    assert "weight_norm" in plan[0].why
    assert "spectral_norm" in plan[1].why
    assert "its value at this moment" in plan[0].why
    new = normalized(model, "none")
    assert {type(m) for m in new} == {nn.Linear, nn.Tanh}
    torch.testing.assert_close(new(x), model(x), rtol=1e-12, atol=1e-12)  # and the given model still has its weights
    with pytest.raises(UsageError, match="can't be normalized"):
        normalized(nn.Sequential(nn.ConvTranspose1d(2, 2, 2), nn.Linear(4, 2)), by_weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("old", "kind"), [(nn.utils.weight_norm, "weight_norm"), (nn.utils.spectral_norm, "spectral_norm")]
)
def test_torchs_old_hooks_are_taken_away_at_the_weights_value(old, kind, draw):
    model, x = mlp(), draw(6, 3)
    old(model[0])
    old(model[4])
    held = model[0].weight_v if kind == "weight_norm" else model[0].weight_orig
    held.data.mul_(3)
    held.requires_grad_(False)
    model(x).sum().backward()  # leaves weights with a graph, and spectral_norm's vectors moved
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plan = normalization_plan(model, "none")
    assert said(plan) == [("0", "remove"), ("4", "remove")]
    assert kind in plan[0].why
    new = normalized(model, "none")
    assert {*new.state_dict()} == {*mlp().state_dict()}
    assert not any(m._forward_pre_hooks for m in new)
    model.eval()  # spectral_norm divides by what it has estimated
    torch.testing.assert_close(new(x), model(x), rtol=1e-12, atol=1e-12)
    assert (new[0].weight.requires_grad, new[4].weight.requires_grad) == (False, True)
    new.load_state_dict(new.state_dict())
    copy.deepcopy(new)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # the given one keeps it
    assert {*before} == {*model.state_dict()}

    h = torch.tanh(F.batch_norm(new[0](x), None, None, training=True))
    expected = new[4](torch.tanh(F.batch_norm(new[2](h), None, None, training=True)))
    torch.testing.assert_close(normalized(model.train(), "batch")(x), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(normalized(model, "cosine")(x), normalized(new, "cosine")(x))
    part = normalized(model, "none", where="0", example=x)
    assert [bool(m._forward_pre_hooks) for m in part] == [False, False, False, False, True]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, parametrizations.weight_norm])
def test_a_weight_norm_that_stays_is_named(norm):
    model = nn.Sequential(norm(norm(nn.LSTM(4, 4), "weight_ih_l0"), "weight_hh_l0"))
    plan = [change for change in normalization_plan(model, "none") if change.name]
    assert said(plan) == [("0", "can't"), ("0", "can't")]
    assert "weight_norm of its weight_ih_l0 stays" in plan[0].why
    assert "weight_norm of its weight_hh_l0 stays" in plan[1].why


def test_a_tied_weight_is_not_normalized(by_weight):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.inner, self.head = nn.Embedding(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.mix = nn.Linear(4, 4)
            self.mix.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(self.mix(self.inner(self.embedding(ids))))

    plan = normalization_plan(Tied(), by_weight)
    assert said(plan) == [("inner", "replace"), ("head", "keep"), ("mix", "can't")]
    assert "tied" in plan[-1].why
    assert normalized(Tied(), by_weight).mix.weight.shape == (4, 4)


def test_nonlinearities_go_with_a_normalization_that_brings_one(monkeypatch, draw):
    swish = Normalization(
        "swish", "-", "-", "-", "-", lambda *_: nn.Identity(), activation=lambda *_: nn.SiLU(), init="he"
    )
    monkeypatch.setitem(NORMALIZATIONS, "swish", swish)
    model, x = mlp(), draw(6, 3)
    plan = normalization_plan(model, "swish")
    assert [(c.name, c.action) for c in plan if c.after == "SiLU()"] == [("1", "replace"), ("3", "replace")]
    assert [(c.name, c.action) for c in plan if "weights kept; 'he'" in c.why] == [(n, "keep") for n in "024"]
    expected = model[4](F.silu(model[2](F.silu(model[0](x)))))
    torch.testing.assert_close(normalized(model, "swish")(x), expected, rtol=1e-12, atol=1e-12)

    # one that normalizes activations as well takes only the nonlinearities that read its output
    whole = Normalization(
        "whole",
        "-",
        "-",
        "-",
        "-",
        lambda features, ndim: nn.GroupNorm(1, features),
        activation=lambda *_: nn.Identity(),
    )
    monkeypatch.setitem(NORMALIZATIONS, "whole", whole)
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    for example in (None, torch.zeros(1, 3, 4, 4)):
        assert [(c.name, c.action) for c in normalization_plan(block, "whole", example=example)] == [
            ("1", "replace"),
            ("2", "replace"),
        ]

    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()

        def forward(self, x):
            return self.relu(x + self.relu(self.norm(self.conv(x))))

    plan = normalization_plan(Reused(), "whole")
    assert said(plan) == [("norm", "replace"), ("relu", "can't")]


def test_initial_weights_are_kept_and_said_so_or_drawn_on_request():
    model = nn.Sequential(nn.Conv2d(64, 96, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 50), nn.ReLU(), nn.Linear(50, 2))
    model[0].bias.data.fill_(3)
    kept = normalized(model, "selu")
    assert all(torch.equal(p, q) for p, q in zip(kept.parameters(), model.parameters(), strict=True))
    said_of = {c.name: c for c in normalization_plan(model, "selu") if "lecun" in c.why}
    assert list(said_of) == ["0", "3", "5"]
    assert all(c.action == "keep" and "give initialize= a seed" in c.why for c in said_of.values())

    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    drawn, again, other = (normalized(model, "selu", initialize=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p, q) for p, q in zip(drawn.parameters(), again.parameters(), strict=True))
    assert not torch.equal(drawn[0].weight, other[0].weight)
    assert not any(drawn[n].bias.any() for n in (0, 3, 5))
    n = 64 * 9
    weight = drawn[0].weight.detach().double().flatten()
    assert abs(float(weight.mean())) < 4 / (n * len(weight)) ** 0.5
    assert abs(float(weight.var()) * n - 1) < 4 * (2 / len(weight)) ** 0.5
    assert {c.name for c in normalization_plan(model, "selu", initialize=0) if "drawn anew" in c.why} == {"0", "3", "5"}
    # A normalization without initial weights of its own draws none; nor where= names no layer.
    assert torch.equal(normalized(model, "layer", initialize=0)[0].weight, model[0].weight)
    part = normalized(model, "selu", where="[0134]", initialize=0)
    assert torch.equal(part[5].weight, model[5].weight)
    assert torch.equal(part[3].weight, drawn[3].weight)
    with pytest.raises(UsageError, match=r"initialize is a seed, .* not True"):
        normalized(model, "selu", initialize=True)


def test_initial_weights_are_not_drawn_where_they_would_be_others_too():
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.ConvTranspose1d(4, 4, 1))
    tied[2].weight = tied[0].weight
    parametrizations.weight_norm(tied[4])
    plan = {c.name: c for c in normalization_plan(tied, "selu", initialize=0) if c.action == "can't"}
    assert {name: c.why.split(",")[0] for name, c in plan.items() if name in "02"} == dict.fromkeys(
        "02", "its weight is tied to another module's"
    )
    assert "transposed convolution" in plan["4"].why


def test_what_a_model_was_built_with_is_named_where_it_cant_go():
    model = build_model("mlp", norm="evonorm-s0", input_shape=(4,), output_size=2, hidden=(8, 8))
    refused = {change.name: change for change in normalization_plan(model, "none")}
    assert len(refused) == 2
    for change in refused.values():
        assert change.action == "can't"
        assert change.before.startswith("EvoNormS0")
        assert "build it anew" in change.why


@pytest.mark.parametrize("name", ["cosine", "evonorm-s0", "selu", "filter-response", "weight-standardization"])
def test_what_a_swap_put_in_can_be_swapped_again(name, draw):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    x = draw(5, 4)
    back = normalized(normalized(model, name, example=x), "none", example=x)
    if name == "weight-standardization":
        assert {type(m) for m in back.modules()} & {nn.GroupNorm} == set()
        assert not any("parametrizations" in key for key in back.state_dict())
    else:
        assert torch.equal(back(x), model(x))


@pytest.mark.parametrize("kind", ["linear", "convolution", "built"])
@pytest.mark.parametrize("name", ["cosine", "centered-cosine"])
def test_cosines_go_back_to_the_plain_map_over_the_same_weights(name, kind, draw):
    plain = {
        "linear": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        "convolution": lambda: nn.Sequential(nn.Conv2d(4, 8, 2, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        "built": lambda: build_model("mlp", input_shape=(4,), output_size=2, hidden=(8,)),
    }[kind]().double()
    x = draw(3, 4, 5, 5) if kind == "convolution" else draw(3, 4)
    own = build_model("mlp", norm=name, input_shape=(4,), output_size=2, hidden=(8,)).double()
    cosines = own if kind == "built" else normalized(plain, name)
    expected, back = cosines(x), normalized(cosines, "none")
    assert not torch.equal(expected, plain(x))
    assert {type(m) for m in back.modules()} == {type(m) for m in plain.modules()}
    assert torch.equal(back(x), plain(x))
    assert torch.equal(normalized(cosines, name)(x), expected)  # again is the same
    assert torch.equal(normalized(cosines, "layer")(x), normalized(plain, "layer")(x))
    assert torch.equal(cosines(x), expected)  # the given one keeps its own


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("second", ["layer", "filter-response", "none", "weight", "cosine", "selu"])
def test_what_was_inserted_is_exchanged_like_any_layer(second, traced, draw):
    model, x = mlp().requires_grad_(), draw(6, 3)
    model[1] = nn.ReLU()
    example = None if traced else x
    once = normalized(normalized(model, "batch", example=example), second, example=example)
    straight = normalized(model, second, example=example)
    torch.testing.assert_close(once(x), straight(x), rtol=1e-12, atol=1e-14)


def test_a_batch_norm_of_vectors_or_sequences_takes_nothing_that_needs_positions_unseen(draw):
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(torch.relu(self.norm(self.first(x) + self.second(x))))

    model, x = Sum().double(), draw(6, 4)
    for name in ("instance", "filter-response"):
        with pytest.raises(
            UsageError, match=f"norm: whether {name} has positions .* can't be seen here: give example="
        ):
            normalized(model, name)
    y = model.first(x) + model.second(x)
    z = y / (y.square() + 1e-6 + 1e-4).sqrt()
    torch.testing.assert_close(normalized(model, "filter-response", example=x)(x), model.head(torch.relu(z)))
    assert normalized(model, "layer")(x).isfinite().all()  # at each position alone: no matter how many


@pytest.mark.parametrize("name", ["norm-propagation", "scaled-weight-standardization", "weight-standardization"])
def test_a_normalization_of_weights_is_not_its_other_half_alone(name):
    def up():
        return nn.ConvTranspose2d(4, 4, 2)

    model = nn.Sequential(up(), nn.BatchNorm2d(4), nn.ReLU(), up())
    for bare in (nn.Sequential(up(), nn.ReLU(), up()), model):
        assert not [c for c in normalization_plan(bare, name) if c.before == "ReLU()"]
        with pytest.raises(UsageError, match="0: a transposed convolution's weight holds inputs before outputs"):
            normalized(bare, name)
    mixed = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), up())  # an arm of its own kind where there is a weight
    plan = normalization_plan(mixed, name)
    assert said(plan)[0] == ("0", "insert" if name == "weight-standardization" else "replace")
    if name != "weight-standardization":
        assert [c.action for c in plan if c.before == "ReLU()"] == ["replace"]


def test_instance_goes_only_where_positions_are_seen(draw):
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    batch = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).double()
    layer = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)).double()
    rows, tokens = draw(3, 4), draw(3, 5, 4)
    for model, place in ((plain, "0"), (layer, "1")):
        for example in (None, rows):
            with pytest.raises(UsageError, match=f"{place}: instance does not act on \\(N, F\\)") as refused:
                normalized(model, "instance", example=example)
            assert ("give example=" in str(refused.value)) == (example is None)
    for example in (None, rows):
        with pytest.raises(UsageError, match=r"1: instance does not act on \(N, F\)$"):
            normalized(batch, "instance", example=example)
    h = F.instance_norm(plain[0](tokens).movedim(-1, 1)).movedim(1, -1)
    new = normalized(plain, "instance", example=tokens)
    torch.testing.assert_close(new(tokens), plain[2](torch.relu(h)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, ValueError])
@pytest.mark.parametrize("part", ["build", "linear", "activation"])
def test_what_cant_be_built_is_a_place_that_cant(monkeypatch, error, part):
    def fails(*_):
        raise error("no room")

    parts = {"build": lambda *_: nn.Identity(), part: fails}
    broken = Normalization("broken", "-", "-", "-", "-", **parts)
    monkeypatch.setitem(NORMALIZATIONS, "broken", broken)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    place = {"build": "1", "linear": "0", "activation": "2"}[part]
    (change,) = [change for change in normalization_plan(model, "broken") if change.action == "can't"]
    assert (change.name, change.why) == (place, f"{error.__name__}: no room")
    with pytest.raises(UsageError, match=f"{place}: {error.__name__}: no room"):
        normalized(model, "broken")
    if part == "build":  # and the nonlinearity of what can't be built stays too
        parts["activation"] = lambda *_: nn.SiLU()
        monkeypatch.setitem(NORMALIZATIONS, "broken", Normalization("broken", "-", "-", "-", "-", **parts))
        assert said(normalization_plan(model, "broken")) == [("1", "can't")]
