"""Normalization layers exchanged or taken away: outputs against torch's functions, everything else as it was."""

from __future__ import annotations

import copy
import random

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape
from landscape import UsageError, normalization_plan, normalized
from landscape.normalization import NORMALIZATIONS

ACTIONS = {"replace", "remove", "insert", "keep", "can't"}


def actions(plan):
    return {change.name: change.action for change in plan}


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("example", [None, (torch.zeros(2, 3, 7, 7, dtype=torch.float64),)])
def test_every_normalization_leaves_the_given_model_alone_and_runs(residual, draw, name, example):
    hook = residual.head.register_forward_hook(lambda *_: None)
    residual.blocks[0].eval().conv1.weight.requires_grad_(False)
    residual.head.weight.grad = torch.ones_like(residual.head.weight)
    before = {key: value.clone() for key, value in residual.state_dict().items()}
    modules = {key: (id(m), type(m), m.training) for key, m in residual.named_modules()}
    state = torch.get_rng_state(), random.getstate(), str(np.random.get_state())

    new = normalized(residual, name, example=example)
    plan = normalization_plan(residual, name, example=example)

    assert (state[1], state[2]) == (random.getstate(), str(np.random.get_state()))
    assert torch.equal(state[0], torch.get_rng_state())
    assert {key: (id(m), type(m), m.training) for key, m in residual.named_modules()} == modules
    assert residual.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in residual.state_dict().items())
    assert [key for key, p in residual.named_parameters() if not p.requires_grad] == ["blocks.0.conv1.weight"]
    assert residual.head.weight.grad is not None
    assert hook.id in residual.head._forward_hooks

    kept = [key for key in before if not {"bn1", "bn2", "1"} & set(key.split(".")[:-1])]
    after = new.state_dict()
    moved = {change.name for change in plan if change.action == "replace" and "weights" in change.why}
    for key in kept:
        if key.rpartition(".")[0] not in moved:
            assert torch.equal(after[key], before[key]), key
    assert {change.action for change in plan} <= ACTIONS
    assert not {id(p) for p in new.parameters()} & {id(p) for p in residual.parameters()}
    new.train()
    loss = new(draw(4, 3, 7, 7)).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or p.grad.isfinite().all() for p in new.parameters())


def test_none_is_the_network_without_its_layers(residual, draw):
    x = draw(2, 3, 7, 7)
    plan = normalization_plan(residual, "none")
    assert actions(plan) == dict.fromkeys(
        ["stem.1", *(f"blocks.{block}.bn{k}" for block in (0, 1) for k in (1, 2))], "remove"
    )
    assert all("running statistics are dropped" in change.why and "not folded" in change.why for change in plan)
    h = torch.relu(residual.stem[0](x))
    for block in residual.blocks:
        h = torch.relu(h + block.conv2(torch.relu(block.conv1(h))))
    assert torch.equal(normalized(residual, "none")(x), residual.head(h.mean((2, 3))))
    assert not any("norm" in key or "running" in key for key in normalized(residual, "none").state_dict())


def test_a_batch_norm_becomes_a_layer_norm(residual, draw):
    x = draw(2, 3, 7, 7)
    h = torch.relu(F.group_norm(residual.stem[0](x), 1))
    for block in residual.blocks:
        inner = block.conv2(torch.relu(F.group_norm(block.conv1(h), 1)))
        h = torch.relu(h + F.group_norm(inner, 1))
    torch.testing.assert_close(normalized(residual, "layer")(x), residual.head(h.mean((2, 3))), rtol=1e-12, atol=1e-12)


def test_tokens_are_normalized_one_by_one_and_over_the_batch(draw):
    x = draw(3, 5, 8)
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)).double()
    h = model[0](x)
    batch = F.batch_norm(h.flatten(0, 1), None, None, training=True).reshape(h.shape)
    torch.testing.assert_close(normalized(model, "batch")(x), model[2](batch), rtol=1e-12, atol=1e-12)
    # another sequence after it changes nothing of a token that is normalized by itself
    model[1] = nn.BatchNorm1d(8).double()
    layered = normalized(model, "layer", where=lambda name: name == "1")
    assert layered[1].units.axis == "first"


@pytest.mark.parametrize(("dimensions", "convolution", "norm"), [
    (1, nn.Conv1d, nn.BatchNorm1d), (2, nn.Conv2d, nn.BatchNorm2d), (3, nn.Conv3d, nn.BatchNorm3d),
])  # fmt: skip
def test_convolutions_of_one_two_and_three_dimensions(draw, dimensions, convolution, norm):
    x = draw(2, 3, *[6] * dimensions)
    model = nn.Sequential(convolution(3, 4, 3), norm(4), convolution(4, 2, 3)).double()
    axes = [0, *range(2, 2 + dimensions)]
    h = model[0](x)
    expected = model[2]((h - h.mean(axes, keepdim=True)) / (h.var(axes, keepdim=True, correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)  # the oracle is batch normalization
    lp = normalized(model, "lp:2")
    rms = h.square().mean(axes, keepdim=True)
    by_hand = model[2]((h - h.mean(axes, keepdim=True)) / (rms + 1e-5).sqrt())
    torch.testing.assert_close(lp(x), by_hand, rtol=1e-9, atol=1e-9)
    layered = normalized(model, "layer")(x)  # a sequence's steps by themselves, an image as a whole
    steps = F.layer_norm(h.movedim(1, -1), (4,)).movedim(-1, 1) if dimensions == 1 else F.group_norm(h, 1)
    torch.testing.assert_close(layered, model[2](steps), rtol=1e-9, atol=1e-9)


def test_what_is_there_already_is_kept_with_its_settings(draw):
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6, eps=0.1), nn.Linear(6, 2)).double()
    nn.init.constant_(model[1].weight, 3.0)
    (change,) = normalization_plan(model, "layer")
    assert (change.name, change.action) == ("1", "keep")
    x = draw(4, 6)
    assert torch.equal(normalized(model, "layer")(x), model(x))


def test_a_kept_name_is_no_pretext_for_another_normalization():
    noisy = normalized(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), "noisy-batch")
    assert "Noisy" in normalization_plan(noisy, "batch")[0].before
    assert normalization_plan(noisy, "batch")[0].action == "replace"
    assert type(normalized(noisy, "batch")[1].norm) is type(NORMALIZATIONS["batch"].build(4, 2))
    again = normalization_plan(normalized(noisy, "batch"), "batch")  # and ours is torch's, of whatever dimension
    assert [(change.name, change.action) for change in again] == [("1", "keep")]


def test_again_and_back(residual, draw):
    x = draw(2, 3, 7, 7)
    once, twice = normalized(residual, "layer"), normalized(normalized(residual, "batch"), "layer")
    twice = normalized(normalized(twice, "lp:1"), "layer")
    assert once.state_dict().keys() == twice.state_dict().keys()
    assert torch.equal(once(x), twice(x))
    assert torch.equal(normalized(twice, "none")(x), normalized(residual, "none")(x))
    assert actions(normalization_plan(once, "layer")).values() == {"keep"} or set(
        actions(normalization_plan(once, "layer")).values()
    ) == {"keep"}


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4)
        self.again = self.norm
        self.parts = nn.ModuleDict({"norm": self.norm})
        self.plain = [self.norm, ("a", self.norm)]
        self.table = {"norm": self.norm}

    def forward(self, x):
        x = self.plain[0](self.linear(self.norm(x)))
        return self.head(self.table["norm"](self.parts["norm"](self.plain[1][1](self.again(self.linear(x))))))


def test_a_module_used_twice_stays_one_module(draw):
    model = Shared().double()
    plan = normalization_plan(model, "batch")
    assert [(change.name, change.action) for change in plan] == [("norm", "replace")]
    new = normalized(model, "batch")
    places = [new.norm, new.again, new.parts["norm"], new.plain[0], new.plain[1][1], new.table["norm"]]
    assert len({id(place) for place in places}) == 1
    assert len([m for m in new.modules() if isinstance(m, nn.BatchNorm1d)]) == 1
    assert isinstance(model.plain[0], nn.LayerNorm)
    assert model.plain[0] is model.norm
    new(draw(5, 4))
    assert int(new.norm.norm.num_batches_tracked) == 6


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm = nn.Embedding(7, 4), nn.LayerNorm(4)
            self.hidden, self.act, self.head = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(self.act(self.hidden(self.norm(self.embedding(ids)))))

    ids = torch.tensor([[1, 2, 3], [3, 4, 5]])
    for name in NORMALIZATIONS:
        new = normalized(Tied(), name, example=ids)
        assert new.head.weight is new.embedding.weight, name
        assert new(ids).shape == (2, 3, 7)


def test_flags_dtype_and_hooks_go_along():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(torch.bfloat16)
    model[1].eval().requires_grad_(False)
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    new = normalized(model, "layer")
    assert (new.training, new[1].training, new[1].norm.training) == (True, False, False)
    assert {p.dtype for p in new.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in new[1].parameters())
    new(torch.zeros(2, 4, dtype=torch.bfloat16))
    assert calls == [1]


def test_a_forward_that_reads_its_layers_attributes_still_can(draw):
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(4, eps=0.5), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.norm(x.to(self.norm.weight.dtype)) * self.norm.eps)

    model = Reads().double()
    x = draw(3, 4)
    assert torch.equal(normalized(model, "none")(x), model.head(x * 0.5))
    half = F.batch_norm(x, None, None, training=True) * 0.5
    torch.testing.assert_close(normalized(model, "batch")(x), model.head(half), rtol=1e-12, atol=1e-12)


def test_where_is_a_pattern_or_a_predicate(residual):
    plan = normalization_plan(residual, "layer", where="blocks.1.*")
    assert [change.name for change in plan] == ["blocks.1.bn1", "blocks.1.bn2"]
    assert plan == normalization_plan(residual, "layer", where=lambda name: name.startswith("blocks.1"))
    new = normalized(residual, "layer", where="blocks.1.*")
    assert isinstance(new.blocks[0].bn1, nn.BatchNorm2d)
    assert isinstance(new.blocks[1].bn1.norm, nn.GroupNorm)


def test_the_model_itself_can_be_the_layer(draw):
    x = draw(4, 6)
    new = normalized(nn.LayerNorm(6).double(), "batch")
    torch.testing.assert_close(new(x), F.batch_norm(x, None, None, training=True), rtol=1e-12, atol=1e-12)


def test_a_layer_over_channels_and_space_has_its_channels_for_units(draw):
    x = draw(2, 3, 4, 4)
    model = nn.Sequential(nn.LayerNorm((3, 4, 4)), nn.Conv2d(3, 2, 1)).double()
    expected = model[1](F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(normalized(model, "batch")(x), expected, rtol=1e-12, atol=1e-12)


def test_look_alikes_are_told_by_structure(draw):
    class MyRMSNorm(nn.Module):  # as in language models: units last
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.ones(6)), 1e-6

        def forward(self, hidden_states):
            return self.weight * hidden_states / hidden_states.square().mean(-1, keepdim=True).sqrt()

    class ChannelNorm(nn.Module):  # units on dimension 1, which only an input shows
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6))

        def forward(self, x):
            return x / x.square().mean(1, keepdim=True).sqrt() * self.weight[:, None]

    class GatedNorm(MyRMSNorm):
        def forward(self, hidden_states, gate=None):
            return super().forward(hidden_states)

    class ActiveNorm(nn.GroupNorm):
        def __init__(self) -> None:
            super().__init__(2, 6)
            self.act = nn.ReLU()

    class NormBlock(nn.Module):  # a block with a norm in its name is none
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x):
            return self.linear(x)

    rms = nn.Sequential(NormBlock(), MyRMSNorm(), nn.Linear(6, 2)).double()
    x = draw(3, 5, 6)
    h = rms[0](x)
    expected = rms[2](F.layer_norm(h, (6,)))
    torch.testing.assert_close(normalized(rms, "layer")(x), expected, rtol=1e-12, atol=1e-12)
    y = draw(3, 6, 5)
    channels = nn.Sequential(nn.Conv1d(6, 6, 1), ChannelNorm(), nn.Conv1d(6, 2, 1)).double()
    expected = channels[2](F.batch_norm(channels[0](y), None, None, training=True))
    new = normalized(channels, "batch", example=y)
    torch.testing.assert_close(new(y), expected, rtol=1e-12, atol=1e-12)
    for odd, why in ((GatedNorm(), "takes hidden_states, gate"), (ActiveNorm(), "more than normalize")):
        (change,) = normalization_plan(nn.Sequential(nn.Linear(6, 6), odd, nn.Linear(6, 2)), "batch")
        assert change.action == "can't"
        assert why in change.why
        with pytest.raises(UsageError, match=why):
            normalized(nn.Sequential(nn.Linear(6, 6), odd, nn.Linear(6, 2)), "batch")


def test_torchs_transformer_layer_runs_its_modules_also_in_eval(draw):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()
    x = draw(2, 5, 8)
    for name in ("none", "batch"):
        new = normalized(model, name)
        with torch.no_grad():
            fast = new(x)
        torch.testing.assert_close(fast, new(x.requires_grad_()).detach(), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(fast, model(x), atol=1e-3)


def test_a_plan_is_a_table_and_frozen(residual):
    plan = normalization_plan(residual, "layer")
    frame = pd.DataFrame(plan)
    assert list(frame.columns) == ["name", "before", "after", "action", "why"]
    assert len(frame) == len(plan) == 5
    with pytest.raises(AttributeError):
        plan[0].action = "keep"
    new = dict(normalized(residual, "layer").named_modules())
    for change in plan:  # what is said is what is there
        assert repr(new[change.name].norm) == change.after


@pytest.mark.parametrize(
    ("make", "name", "options", "message"),
    [
        (lambda: nn.LayerNorm(4), "bacth", {}, "did you mean 'batch'"),
        (lambda: nn.LayerNorm(4), "layer:3", {}, "there is no normalization 'layer:3'"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "batch", {"where": "encoder.*"}, "these are called"),
        (lambda: nn.Sequential(nn.ReLU()), "batch", {}, "no linear map before its output layer"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), "batch", {}, "no linear map before its output layer"),
        (lambda: nn.Linear(4, 4), "batch", {}, "no linear map before its output layer"),
        (lambda: nn.Sequential(nn.LazyLinear(4), nn.LayerNorm(4)), "batch", {}, "run one forward pass first"),
        (lambda: nn.LayerNorm(4), "batch", {"example": torch.zeros(2, 3)}, "can't be run on the example"),
        (lambda: "a model", "batch", {}, "takes an nn.Module, not a str"),
        (lambda: nn.LSTM(4, 4), "batch", {}, "LSTM computes its gates in one fused call"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make, name, options, message):
    with pytest.raises(UsageError, match=message):
        normalized(make(), name, **options)


def test_a_model_that_cant_be_copied_says_so():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    model.kept = model[0](torch.zeros(1, 4))  # a tensor with a graph
    with pytest.raises(UsageError, match="can't be copied"):
        normalized(model, "none")


def test_a_compiled_model_gives_an_eager_copy():
    model = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), backend="aot_eager")
    assert [change.name for change in normalization_plan(model, "batch")] == ["1"]
    assert type(normalized(model, "batch")) is nn.Sequential


def test_a_copy_of_a_copy_is_whole(residual, draw):
    new = normalized(residual, "batch")
    again = copy.deepcopy(new)
    x = draw(2, 3, 7, 7)
    assert torch.equal(again(x), new(x))
    assert landscape.Change is type(normalization_plan(residual, "batch")[0])
