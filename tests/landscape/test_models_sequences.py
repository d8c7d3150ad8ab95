"""Recurrent networks and transformers: against torch's own modules, and what a position may see."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape
from landscape.errors import UsageError
from landscape.models import build_model
from landscape.normalization import NORMALIZATIONS
from landscape.probes import PROBES
from landscape.streams import stream

VECTORS = {"input_shape": (5, 3), "output_size": 4}
TOKENS = {"input_shape": (6,), "output_size": 7}
SMALL = {"recurrent": {"hidden": 8, "layers": 2}, "transformer": {"features": 8, "heads": 2, "layers": 2}}

# "instance" is over all positions, later ones too; the others have no formula for what leaves a gated cell.
REFUSED = {
    "recurrent": {"instance", "selu", "selu:0.05", "evonorm-s0", "norm-propagation"},
    "transformer": {"instance"},
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def tokens(samples: int) -> torch.Tensor:
    return torch.randint(0, 7, (samples, 6), generator=stream(0, "tokens"))


def put(parameter: nn.Parameter, value: torch.Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)


# --- against torch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "theirs"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_recurrent_networks_are_torchs(cell, theirs):
    model = build_model("recurrent", cell=cell, **VECTORS, **SMALL["recurrent"]).double()
    reference = theirs(3, 8, 2, batch_first=True).double()
    for k, layer in enumerate((model.layers.layer1, model.layers.layer2)):
        bias = torch.randn(len(layer.input.linear.bias), generator=stream(0, f"bias{k}"), dtype=torch.float64)
        put(layer.input.linear.bias, bias)
        put(getattr(reference, f"weight_ih_l{k}"), layer.input.linear.weight)
        put(getattr(reference, f"weight_hh_l{k}"), layer.hidden.linear.weight)
        put(getattr(reference, f"bias_ih_l{k}"), bias)
        put(getattr(reference, f"bias_hh_l{k}"), torch.zeros(len(bias)))
    x = torch.randn(4, 5, 3, dtype=torch.float64, generator=stream(0, "x"))
    states, _ = reference(x)
    torch.testing.assert_close(model(x), model.output(states[:, -1]))


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_transformers_are_torchs(placement):
    settings = TOKENS | SMALL["transformer"] | {"norm": "layer", "placement": placement}
    model = build_model("transformer", **settings).double()
    x = model.embedding(tokens(3)) + model.position.weight
    mask = torch.full((6, 6), float("-inf"), dtype=torch.float64).triu(1)
    for layer in model.layers:
        reference = nn.TransformerEncoderLayer(
            8, 2, 32, dropout=0, batch_first=True, norm_first=placement == "pre"
        ).double()
        attention, network = layer.attention.branch, layer.network.branch
        three = [child.linear.weight for child in (attention.query, attention.key, attention.value)]
        put(reference.self_attn.in_proj_weight, torch.cat(three))
        for mine, other in (
            (attention.out.linear, reference.self_attn.out_proj),
            (network.expand.linear, reference.linear1),
            (network.contract.linear, reference.linear2),
        ):
            put(other.weight, mine.weight)
            put(other.bias, mine.bias)
        x = reference(x, src_mask=mask)
    if placement == "pre":
        x = F.layer_norm(x, (8,))
    expected = x @ model.output.linear.weight.T
    torch.testing.assert_close(model(tokens(3)), expected.transpose(1, 2))


def test_without_normalization_pre_and_post_are_one_network():
    pre, post = (build_model("transformer", placement=p, **TOKENS, **SMALL["transformer"]) for p in ("pre", "post"))
    assert torch.equal(pre(tokens(2)), post(tokens(2)))
    normalized = build_model("transformer", norm="layer", **TOKENS, **SMALL["transformer"])
    assert not torch.allclose(pre(tokens(2)), normalized(tokens(2)))


def test_parameters_by_hand():
    V, T, d, L = 27, 16, 12, 3
    layer = 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d
    by_hand = V * d + T * d + L * layer + 2 * d + d * V + V
    model = build_model("transformer", norm="layer", input_shape=(T,), output_size=V, features=d, heads=3, layers=L)
    assert sum(p.numel() for p in model.parameters()) == by_hand
    H = 10
    for cell, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        by_hand = sum(gates * H * (inputs + H + 1) for inputs in (8, H)) + H * 10 + 10
        model = build_model("recurrent", cell=cell, hidden=H, input_shape=(8, 8), output_size=10)
        assert sum(p.numel() for p in model.parameters()) == by_hand


# --- what a position sees ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "norm"), [(n, k) for n in SMALL for k in NORMALIZATIONS if k not in REFUSED[n]])
def test_in_language_no_position_sees_a_later_one(name, norm):
    model = build_model(name, norm=norm, **TOKENS, **SMALL[name]).eval()
    x = tokens(2)
    other = x.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 7
    before, after = model(x), model(other)
    assert before.shape == (2, 7, 6)
    torch.testing.assert_close(before[:, :, :4], after[:, :, :4], rtol=0, atol=1e-6)
    assert (before[:, :, 4:] - after[:, :, 4:]).abs().max() > 1e-4


@pytest.mark.parametrize(("name", "norm"), [(n, k) for n in SMALL for k in sorted(REFUSED[n] & {*NORMALIZATIONS})])
def test_what_cant_act_there_is_refused_by_name(name, norm):
    with pytest.raises(UsageError, match=f"the normalization '{norm}'"):
        build_model(name, norm=norm, **TOKENS, **SMALL[name])


def test_in_classification_positions_see_each_other():
    model = build_model("transformer", task="classification", **TOKENS, **SMALL["transformer"])
    inside, seen = torch.randn(6, 8, generator=stream(0, "x")), []
    for last in (0.0, 1.0):
        inside[-1] = last
        seen.append(model.layers.layer1.attention.branch(inside))
    assert ((seen[0] - seen[1]).abs().amax(1) > 1e-4).all()


def test_classification_averages_tokens_or_takes_the_last_state():
    x = torch.randn(3, 5, 3, generator=stream(0, "x"))
    model = build_model("transformer", **VECTORS, **SMALL["transformer"])
    inside = (model.embedding(x) + model.position.weight).flatten(0, 1)
    expected = model.output(model.layers(inside).unflatten(0, (3, 5)).mean(1))
    torch.testing.assert_close(model(x), expected)
    tokens_to_class = build_model(
        "recurrent", input_shape=(6,), output_size=2, task="classification", vocabulary=7, hidden=4
    )
    assert tokens_to_class(tokens(3)).shape == (3, 2)
    assert tokens_to_class.embedding.weight.shape == (7, 4)


def test_embeddings_are_standard_normal_and_the_same_in_each_arm():
    plain, arm = (
        build_model("transformer", norm=norm, input_shape=(64,), output_size=64, features=64)
        for norm in ("none", "layer")
    )
    for name in ("embedding", "position"):
        weight = plain.get_submodule(name).weight
        assert torch.equal(weight, arm.get_submodule(name).weight)
        assert abs(weight.mean()) < 4 / 64
        assert abs(weight.square().mean() - 1) < 4 * (2**0.5) / 64
    assert not torch.equal(plain.embedding.weight, plain.position.weight)


# --- statistics -------------------------------------------------------------------------------------


def test_batch_statistics_over_all_steps_and_of_each_step():
    x = torch.randn(16, 5, 3, generator=stream(0, "x")).double()
    x[:, :, 0] += torch.arange(5)  # steps differ
    plain = build_model("recurrent", **VECTORS, **SMALL["recurrent"]).double()
    y = (x @ plain.layers.layer1.input.linear.weight.T).detach()
    for norm, dims in (("batch", (0, 1)), ("batch-per-step", (0,))):
        model = build_model("recurrent", norm=norm, **VECTORS, **SMALL["recurrent"]).double()
        seen = []
        handle = model.layers.layer1.norm.register_forward_hook(lambda m, args, out, seen=seen: seen.append(out))
        model(x)
        handle.remove()
        expected = (y - y.mean(dims, keepdim=True)) / (y.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()
        got = seen[0]
        got = got.unflatten(0, (16, 5)) if norm == "batch" else got.transpose(1, 2)
        torch.testing.assert_close(got, expected)


def test_in_the_recurrence_each_step_is_normalized_by_its_own_statistics():
    x = torch.randn(16, 5, 3, generator=stream(0, "x")).double()
    settings = VECTORS | {"cell": "rnn", "hidden": 8, "layers": 1, "placement": "recurrence"}
    for norm, dim in (("layer", 1), ("batch-per-step", 0)):
        model = build_model("recurrent", norm=norm, **settings).double()
        layer = model.layers.layer1

        def standardized(y, dim=dim):
            return (y - y.mean(dim, keepdim=True)) / (y.var(dim, correction=0, keepdim=True) + 1e-5).sqrt()

        h = torch.zeros(16, 8, dtype=torch.float64)
        for t in range(5):
            a, b = x[:, t] @ layer.input.linear.weight.T, h @ layer.hidden.linear.weight.T
            h = (standardized(a) + standardized(b)).tanh()
        torch.testing.assert_close(model(x), model.output(h))
    running = layer.recurrence.norm.running_var[:5].mean(1)  # of batch-per-step: nothing comes in at the first step
    assert running[0] < running[1:].min()
    assert len(set(running.tolist())) == 5


@pytest.mark.parametrize("norm", ["batch", "lp:1", "noisy-batch", "instance"])
def test_statistics_over_all_steps_are_refused_in_the_recurrence(norm):
    with pytest.raises(
        UsageError, match=f"'{norm}' is over (batch|space).*later steps are not there yet: use 'batch-per-step'"
    ):
        build_model("recurrent", norm=norm, placement="recurrence", **VECTORS)


def test_instance_normalization_is_over_the_positions_of_one_sequence():
    x = torch.randn(3, 5, 3, generator=stream(0, "x")).double()
    model = build_model("recurrent", norm="instance", cell="rnn", **VECTORS, **SMALL["recurrent"]).double()
    layer = model.layers.layer1
    seen = []
    layer.norm.register_forward_hook(lambda m, args, out: seen.append(out.transpose(1, 2)))
    whole = model(x)
    torch.testing.assert_close(seen[0], F.instance_norm((x @ layer.input.linear.weight.T).mT).mT)
    torch.testing.assert_close(whole[1:2], model(x[1:2]))  # a batch of one is as good
    transformer = build_model("transformer", norm="instance", **VECTORS, **SMALL["transformer"]).double()
    y = torch.randn(15, 8, generator=stream(0, "y")).double()
    expected = F.instance_norm(y.unflatten(0, (3, 5)).mT).mT.flatten(0, 1)
    torch.testing.assert_close(transformer.final(y), expected)
    with pytest.raises(UsageError, match=r"'instance' is over .* and there is one position"):
        build_model("transformer", norm="instance", input_shape=(1, 3), output_size=4)


# --- nonlinearities in a plain cell -----------------------------------------------------------------


def test_evonorm_stands_for_the_tanh_of_a_plain_cell():
    x = torch.randn(4, 5, 3, generator=stream(0, "x")).double()
    model = build_model("recurrent", norm="evonorm-s0", cell="rnn", hidden=8, layers=1, **VECTORS).double()
    layer, h = model.layers.layer1, torch.zeros(4, 8, dtype=torch.float64)
    for t in range(5):
        y = x[:, t] @ layer.input.linear.weight.T + h @ layer.hidden.linear.weight.T
        spread = (y.unflatten(1, (4, 2)).var(2, correction=0, keepdim=True) + 1e-5).sqrt()
        h = ((y * y.sigmoid()).unflatten(1, (4, 2)) / spread).flatten(1)
    torch.testing.assert_close(model(x), model.output(h))


@pytest.mark.parametrize("norm", ["norm-propagation:1", "scaled-weight-standardization", "selu", "selu:0.1"])
def test_what_keeps_variances_by_constants_keeps_them_from_step_to_step(norm):
    """States of 10 steps on independent N(0, 1) inputs: mean 0, variance 1, as for a feed-forward layer.

    A random network of 512 units has moments of its own, within a few times 1 / sqrt(512) of these.
    """
    steps, width = 10, 512
    settings = {"input_shape": (steps, width), "output_size": 2, "hidden": width, "layers": 1, "cell": "rnn"}
    x = torch.randn(64, steps, width, generator=stream(0, "x"))
    moments = {}
    for name in (norm, "none"):
        model = build_model("recurrent", norm=name, **settings)
        layer = model.layers.layer1
        torch.manual_seed(0)  # of the dropout
        states = layer(x.flatten(0, 1)).unflatten(0, (64, steps))
        moments[name] = states.mean((0, 2)), states.var((0, 2))
    mean, variance = moments[norm]
    assert mean.abs().max() < 0.1
    # At the first step there is no state yet: half of the variance comes in, and SELU's returns to 1 from there.
    assert variance[5:].min() > 0.9
    assert variance.max() < 1.15
    assert moments["none"][1][-1] < 0.6


def test_the_input_and_the_state_are_one_row_of_unit_length_together():
    model = build_model("recurrent", norm="norm-propagation:1", cell="rnn", **VECTORS, **SMALL["recurrent"]).double()
    layer = model.layers.layer1
    row = layer.share * torch.cat([layer.input.linear.weight, layer.hidden.linear.weight], 1)
    torch.testing.assert_close(row.norm(dim=1), torch.ones(8, dtype=torch.float64))
    h, x = torch.randn(2, 8, generator=stream(0, "h")).double(), torch.randn(2, 5, 3, generator=stream(0, "x")).double()
    mean, std = layer.activation.mean, layer.activation.std
    h = torch.zeros_like(h)
    for t in range(5):
        h = ((torch.cat([x[:, t], h], 1) @ row.T).tanh() - mean) / std
    torch.testing.assert_close(layer(x.flatten(0, 1)).unflatten(0, (2, 5))[:, -1], h)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_scaled_weights_of_a_gated_cell_are_standardized_and_its_functions_stay(cell):
    name = "scaled-weight-standardization"
    model = build_model("recurrent", norm=name, cell=cell, **VECTORS, **SMALL["recurrent"]).double()
    for block in (model.layers.layer1.input, model.layers.layer1.hidden):
        weight = block.linear.weight
        torch.testing.assert_close(weight.mean(1), torch.zeros(len(weight), dtype=torch.float64))
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight), dtype=torch.float64))
    assert not [m for m in model.modules() if type(m).__name__ == "Rescaled"]


# --- probes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_language_models_train_under_every_probe(name):
    model = build_model(name, norm="layer", **TOKENS, **SMALL[name])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x = tokens(8)
    batch = x, (x + 1) % 7  # the next letter of the alphabet: one step back is enough

    def loss_fn(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    few = {"hessian_trace": {"products": 8}, "spectral_density": {"draws": 1, "steps": 3}}
    # No batch normalization; tokens are no numbers to differentiate by; no function of one variable.
    unfit = {"theorems", "input_lipschitz", "bands"}
    unfit |= {"moments"} if name == "recurrent" else set()  # its nonlinearities are inside the cell
    probes = [cls(**few.get(kind, {})) for kind, cls in PROBES.items() if kind not in unfit]
    held = {"held-out": batch, "full": landscape.Batches([batch, (x[:4], batch[1][:4])]), "fixed": batch}
    observer = landscape.Observer(model, loss_fn, probes, every=20, optimizer=optimizer, batches=held, strict=True)
    first = loss_fn(model, batch).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        observer.step(batch)
        optimizer.step()
    assert loss_fn(model, batch).item() < 0.7 * first
    frame = observer.frame()
    assert set(frame["probe"]) == {probe.name for probe in probes}
    shift = frame[(frame["probe"] == "covariate_shift") & (frame["quantity"] == "distance")]
    assert shift["value"].notna().all()
