"""Models, batches and losses as other people write them: the numbers are right, or the refusal says why."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import landscape
from landscape.errors import ProbeError, UsageError
from landscape.probes import PROBES
from landscape.stepping import learning_rate

FIRST_ORDER = ("gradient_path", "covariate_shift", "activations", "updates")


class Net(nn.Module):
    """Two inputs, two layers; how it is called and what it returns is up to ``style``."""

    def __init__(self, style="plain"):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.act, self.b = nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)
        self.style = style

    def logits(self, x, scale):
        return self.b(self.act(self.a(x) * scale))

    def forward(self, x, scale=None, labels=None):
        logits = self.logits(x, scale)
        if self.style == "plain":
            return logits
        loss = F.cross_entropy(logits, labels)
        if self.style == "dataclass":
            return Output(loss, logits, (logits,))
        return (logits, loss) if self.style == "tuple" else {"loss": loss, "logits": logits}


@dataclasses.dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor
    hidden: Any


class Pair(NamedTuple):
    x: torch.Tensor
    rest: Any


@dataclasses.dataclass
class Record:
    x: torch.Tensor
    scale: torch.Tensor
    labels: torch.Tensor


def _data():
    generator = torch.Generator().manual_seed(3)
    x, scale = torch.randn(16, 5, generator=generator), torch.rand(16, 1, generator=generator)
    return x, scale, torch.randint(0, 3, (16,), generator=generator)


def _plain(model, batch):
    x, scale, labels = batch
    return F.cross_entropy(model(x, scale), labels)


STYLES = {
    "dict batch, dict output": ("dict", lambda x, s, y: {"x": x, "scale": s, "labels": y}, lambda m, b: m(**b)["loss"]),
    "dict batch, dataclass output": (
        "dataclass",
        lambda x, s, y: {"labels": y, "scale": s, "x": x},
        lambda m, b: m(**b).loss,
    ),
    "tuple batch, (logits, loss)": ("tuple", lambda x, s, y: (x, s, y), lambda m, b: m(*b)[1]),
    "nested batch": (
        "dict",
        lambda x, s, y: [(x, {"scale": s}), y],
        lambda m, b: m(b[0][0], b[0][1]["scale"], b[1])["loss"],
    ),
    "named tuple batch": ("plain", lambda x, s, y: Pair(x, [s, y]), lambda m, b: _plain(m, (b.x, *b.rest))),
    "dataclass batch": ("plain", Record, lambda m, b: _plain(m, (b.x, b.scale, b.labels))),
    "loss with a dimension": ("plain", lambda *all: all, lambda m, b: _plain(m, b).reshape(1)),
    "list batch, as a DataLoader collates": ("plain", lambda x, s, y: [x, s, y], _plain),
}


ALL = (*FIRST_ORDER, "curvature", "hessian_eigenpairs", "hessian_trace", "signals", "moments", "loss_slice")


def _measured(model, loss_fn, batch, probes=(*FIRST_ORDER, "curvature"), **options):
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    obs = landscape.Observer(model, loss_fn, probes, optimizer=sgd, strict=True, **options)
    loss_fn(model, batch).backward()
    obs.step(batch)
    return obs.frame()


@pytest.mark.parametrize("style", STYLES)
def test_batches_and_outputs_of_any_shape_give_the_numbers_of_the_plain_form(style):
    returns, pack, loss_fn = STYLES[style]
    plain = _measured(Net(), _plain, _data(), ALL)
    other = _measured(Net(returns), loss_fn, pack(*_data()), ALL)
    assert set(plain.probe) == set(ALL)
    assert len(plain) > 100
    assert other.equals(plain)


@pytest.mark.parametrize("style", STYLES)
def test_batches_of_any_shape_are_measured_in_another_arithmetic(style):
    returns, pack, loss_fn = STYLES[style]
    probes = ["gradient_path", "activations", "curvature"]  # the others see the float32 gradients
    wide = _measured(Net(returns), loss_fn, pack(*_data()), probes, dtype=torch.float64)
    double = tuple(t.double() if t.is_floating_point() else t for t in _data())
    by_hand = _measured(Net().double(), _plain, double, probes)
    assert wide.value.tolist() == by_hand.value.tolist()


class Leftovers(nn.Module):
    """A network with everything aside: a frozen layer, an unused one, tied weights, a parameter the loss cuts off."""

    def __init__(self, tied=True):
        super().__init__()
        self.inner = Net()
        self.frozen = nn.Linear(5, 5)
        nn.init.eye_(self.frozen.weight), nn.init.zeros_(self.frozen.bias)
        for p in self.frozen.parameters():
            p.requires_grad_(False)
        self.unused, self.cut = nn.Linear(9, 9), nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        if tied:
            self.same = self.inner.b

    def forward(self, x, scale):
        self.calls += 1
        return self.inner(self.frozen(x), scale) + 0 * self.cut.detach()


def test_a_list_of_tensors_is_no_list_of_batches_to_any_function():
    """A loss that takes rows apart would measure each tensor as a mini-batch, without a word."""
    net, rows = nn.Linear(4, 4), [torch.randn(6, 4), torch.randn(6, 4)]
    rebuilt = lambda model, batch: (model(batch[0]) - batch[1]).square().mean()  # noqa: E731
    for probe in (
        landscape.hessian_eigenpairs,
        landscape.hessian_trace,
        landscape.loss_slice,
        landscape.gradient_noise,
    ):
        with pytest.raises(UsageError, match="could be several mini-batches or one"):
            probe(net, rebuilt, rows)
    with torch.no_grad():
        expected = rebuilt(net, rows)
    assert landscape.loss_slice(net, rebuilt, tuple(rows), points=3).loss0 == expected


def test_frozen_unused_and_tied_parameters_change_no_number():
    plain, other = _measured(Net(), _plain, _data()), _measured(Leftovers(), _plain, _data())
    for probe in ("gradient_path", "covariate_shift", "curvature"):
        a, b = (frame[frame.probe == probe] for frame in (plain, other))
        # Parameters that nothing depends on have the gradient zero, so they add nothing to any norm.
        assert b.value.to_numpy() == pytest.approx(a.value.to_numpy(), rel=1e-5, abs=1e-6, nan_ok=True)
    assert set(other[other.probe == "covariate_shift"].layer) == {"inner.a", "inner.b"}


def test_training_with_leftovers_dropout_and_counters_is_bit_identical(trained, same):
    class Noisy(Leftovers):
        def forward(self, x, scale):
            return super().forward(F.dropout(x, 0.3, self.training), scale) * (1 + 0.1 * np.random.rand())

    batches = [_data() for _ in range(3)]
    probes = [*FIRST_ORDER, "curvature"]

    def observed(model, optimizer):
        return landscape.Observer(model, _plain, probes, every=1, optimizer=optimizer, strict=True)

    without = trained(Noisy, _plain, batches)
    assert int(without["buffers"]["calls"]) == 3
    assert without["gradients"][-1] is None  # .cut has none
    assert same(without, trained(Noisy, _plain, batches, observed))


def test_dropout_draws_the_same_units_at_every_point_of_a_sweep():
    net = nn.Sequential(nn.Linear(5, 40), nn.Dropout(0.5), nn.Linear(40, 3)).double()
    x, _, y = _data()
    x, seed = x.double(), 11
    loss_fn = lambda m, b: F.cross_entropy(m(b[0]), b[1])  # noqa: E731
    torch.manual_seed(seed)
    path = landscape.gradient_path(net, loss_fn, (x, y), [0.5, 1.0])

    def at(weights):
        torch.manual_seed(seed)
        return loss_fn(lambda z: torch.func.functional_call(net, weights, (z,)), (x, y))

    weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    gradient = torch.autograd.grad(at(weights), list(weights.values()))
    for k, eta in enumerate([0.5, 1.0]):
        moved = {name: (w - eta * g).detach() for (name, w), g in zip(weights.items(), gradient, strict=True)}
        assert float(path.loss[k]) == pytest.approx(float(at(moved)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_measured_in_float32_where_asked(dtype, trained, same):
    half = lambda: Net().to(dtype)  # noqa: E731
    batch = tuple(t.to(dtype) if t.is_floating_point() else t for t in _data())
    asked = _measured(half(), _plain, batch, dtype=torch.float32)
    # The same weights, rounded to half, in a float32 network from the start.
    by_hand = _measured(half().float(), _plain, tuple(t.float() if t.is_floating_point() else t for t in batch))
    own = asked.probe.isin(["gradient_path", "curvature", "activations"])  # the others see the half gradients
    assert asked[own].value.to_numpy() == pytest.approx(by_hand[own].value.to_numpy(), rel=1e-6, nan_ok=True)
    rough = _measured(half(), _plain, batch, probes=["gradient_path"])
    assert (rough.value.to_numpy() != asked[asked.probe == "gradient_path"].value.to_numpy()).any()
    assert set(asked[asked.probe == "curvature"].dtype) == {"float32"}

    def observed(model, optimizer):
        probes = [*FIRST_ORDER, "curvature"]
        return landscape.Observer(model, _plain, probes, every=1, optimizer=optimizer, dtype=torch.float32, strict=True)

    assert same(trained(half, _plain, [batch] * 2), trained(half, _plain, [batch] * 2, observed))


@pytest.mark.parametrize("select", ["inner.b.*", lambda name: "inner.b" in name])
def test_a_subset_of_the_parameters_is_what_freezing_the_others_gives(select, trained, same):
    frozen = Leftovers()
    for name, p in frozen.named_parameters():
        p.requires_grad_("inner.b" in name)
    by_hand, chosen = _measured(frozen, _plain, _data()), _measured(Leftovers(), _plain, _data(), parameters=select)
    rows = by_hand.probe.isin(["gradient_path", "curvature", "covariate_shift"])
    assert by_hand[rows].value.tolist() == chosen[rows].value.tolist()
    assert set(chosen[chosen.probe == "covariate_shift"].layer) == {"inner.b"}
    whole = _measured(Leftovers(), _plain, _data())
    assert (whole[whole.probe == "curvature"].value.tolist()) != chosen[chosen.probe == "curvature"].value.tolist()

    def observed(model, optimizer):
        probes = [*FIRST_ORDER, "curvature"]
        return landscape.Observer(model, _plain, probes, every=1, optimizer=optimizer, parameters=select, strict=True)

    assert same(trained(Leftovers, _plain, [_data()] * 3), trained(Leftovers, _plain, [_data()] * 3, observed))
    with pytest.raises(UsageError, match="matches none of the 7 trainable parameters of Leftovers"):
        landscape.Observer(Leftovers(), _plain, ["curvature"], parameters="lora.*")


def _compiled_whole(net):
    return torch.compile(net, backend="aot_eager"), _plain


def _compiled_part(net):
    net.a = torch.compile(net.a, backend="aot_eager")
    return net, _plain


def _compiled_in_place(net):
    net.compile(backend="aot_eager")
    return net, _plain


def _compiled_loss(net):
    return net, torch.compile(_plain, backend="aot_eager")


@pytest.mark.parametrize("compiled", [_compiled_whole, _compiled_part, _compiled_in_place, _compiled_loss])
def test_what_torch_compiled_is_probed_eagerly_trains_on_compiled_and_is_not_compiled_again(compiled, trained, same):
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    net, loss_fn = compiled(Net())
    frame = _measured(net, loss_fn, _data())
    eager = _measured(Net(), _plain, _data())
    rows = eager.probe.isin(["gradient_path", "curvature", "activations"])
    assert frame[rows].value.tolist() == eager[rows].value.tolist()
    counters.clear()
    loss_fn(net, _data())
    assert counters["stats"]["unique_graphs"] == 0  # what was compiled before is still there

    def build():
        return compiled(Net())[0]

    def observed(model, optimizer):
        probes = [*FIRST_ORDER, "curvature"]
        return landscape.Observer(model, loss_fn, probes, every=1, optimizer=optimizer, strict=True)

    batches = [_data()] * 3
    assert same(trained(build, loss_fn, batches), trained(build, loss_fn, batches, observed))


class Checkpointed(Net):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant, self.drop = reentrant, nn.Dropout(0.3)

    def forward(self, x, scale):
        block = lambda h: self.drop(self.act(self.a(h) * scale))  # noqa: E731
        inner = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return self.b(inner)


def test_gradient_checkpointing_changes_no_number(trained, same):
    def measured(reentrant):
        torch.manual_seed(5)
        return _measured(Checkpointed(reentrant), _plain, _data())

    plain, saved = measured(None), measured(False)
    assert saved.value.to_numpy() == pytest.approx(plain.value.to_numpy(), rel=1e-6, nan_ok=True)

    def observed(model, optimizer):
        return landscape.Observer(model, _plain, ["gradient_path", "curvature"], every=1, optimizer=optimizer)

    build, batches = (lambda: Checkpointed(False)), [_data()] * 3
    assert same(trained(build, _plain, batches), trained(build, _plain, batches, observed))


def test_reentrant_checkpointing_is_refused_with_what_to_do():
    x, scale, y = _data()
    batch = x.requires_grad_(), scale, y  # else it hides its parameters from any backward, which torch warns about

    class Deeper(Checkpointed):
        """torch raises by itself where a wanted parameter lies before the checkpoint, and not where none does."""

        def __init__(self):
            super().__init__(True)
            self.first = nn.Linear(5, 5)

        def forward(self, x, scale):
            return super().forward(self.first(x), scale)

    for net in (Checkpointed(True), Deeper()):
        for probe in (lambda m, *rest: landscape.gradient_path(m, *rest, [0.1]), landscape.gradient_curvature):
            with pytest.raises(ProbeError, match=r"use_reentrant=True.*pass use_reentrant=False"):
                probe(net, _plain, batch)


def test_a_part_without_a_second_derivative_is_named_and_first_order_probes_go_on():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad.clone()

    class Custom(Net):
        def forward(self, x, scale):
            return Once.apply(super().forward(x, scale))

    net = Custom()
    obs = landscape.Observer(net, _plain, ["curvature", "gradient_path"], optimizer=torch.optim.SGD(net.parameters()))
    with pytest.warns(UserWarning, match=r"'curvature' failed.*no second derivative.*once_differentiable"):
        obs.step(_data())
    assert set(obs.frame().probe) == {"gradient_path"}


@pytest.fixture
def one_process():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def _sharded(net):
    from torch.distributed.fsdp import fully_shard

    fully_shard(net, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
    return net


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (nn.parallel.DistributedDataParallel, "DistributedDataParallel is not supported: its gradients are synchro"),
        (nn.DataParallel, "DataParallel is not supported: it copies its parameters"),
        (_sharded, "FSDPModule is not supported: its parameters are shards"),
        (lambda net: nn.Sequential(net, nn.Linear(3, 3, device="meta")), "Sequential lie on several devices"),
    ],
)
def test_what_is_spread_over_processes_or_devices_is_refused_before_training(one_process, wrap, name):
    net = wrap(Net())
    with pytest.raises(ProbeError, match=name):
        landscape.Observer(net, _plain, ["gradient_path"])
    with pytest.raises(ProbeError, match=name):
        landscape.gradient_path(net, _plain, _data(), [0.1])


def test_parameter_groups_with_rates_of_their_own_have_no_one_rate_and_it_is_said():
    net = Net()
    groups = [{"params": net.a.parameters(), "lr": 0.1}, {"params": net.b.parameters(), "lr": 0.2}]
    sgd = torch.optim.SGD(groups, lr=0.1)
    assert learning_rate(sgd) is None
    update = PROBES["gradient_path"](direction="update", step_sizes=(0.5, 1.0))
    obs = landscape.Observer(net, _plain, ["gradient_path", update], optimizer=sgd)
    with pytest.warns(UserWarning, match=r"'gradient_path' failed.*step_sizes"):
        obs.step(_data())
    assert set(obs.frame().variant) == {"update/fixed"}
