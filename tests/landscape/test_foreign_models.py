"""Losses, wrappers and weights that other people have: numbers against the same thing done by hand."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.utils import prune

import landscape
from landscape.errors import ProbeError, UsageError
from landscape.probes import PROBES
from landscape.probes.signals import layer_signals
from landscape.probes.updates import layer_updates
from landscape.products import curvature_operator


def _cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 5, generator=generator).double(), torch.randint(0, 3, (12,), generator=generator)


def _net(outputs=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


def _moved(model, vector):
    """A copy of the model at w + vector."""
    twin = copy.deepcopy(model)
    for p, step in zip(twin.parameters(), vector.split([p.numel() for p in twin.parameters()]), strict=True):
        p.data.add_(step.view_as(p))
    return twin


def _gradient(model, loss_fn, batch):
    """By central differences: no derivative of torch's."""
    n, h = sum(p.numel() for p in model.parameters()), 1e-5
    steps = h * torch.eye(n, dtype=torch.float64)
    at = lambda step: float(loss_fn(_moved(model, step), batch).detach())  # noqa: E731
    return torch.tensor([(at(step) - at(-step)) / (2 * h) for step in steps], dtype=torch.float64)


def _slope_of_input(model, batch):
    """(dy/dx - x)^2: the residual of a differential equation, which the loss differentiates for itself."""
    x = batch[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return (slope - x).square().mean()


def _tangent(model, batch):
    """The same derivative forward, past a residual connection that has a tangent whatever the model's is."""
    with forward_ad.dual_level():
        x = forward_ad.make_dual(batch[0], torch.ones_like(batch[0]))
        value, tangent = forward_ad.unpack_dual(model(x) + x.sum(1, keepdim=True))
        return (tangent - value).square().mean()


def _per_sample(model, batch):
    return torch.func.vmap(torch.func.grad(lambda x: model(x).sum()))(batch[0]).square().mean()


def _called_functionally(model, batch):
    doubled = {name: 2 * p for name, p in model.named_parameters()}
    return torch.func.functional_call(model, doubled, (batch[0],)).square().mean()


def _slope_of_weights(model, batch):
    """A penalty on the gradient of the weights themselves."""
    loss = model(batch[0]).square().mean()
    return loss + sum(g.square().sum() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=True))


@pytest.mark.parametrize("loss_fn", [_slope_of_input, _tangent, _per_sample, _called_functionally, _slope_of_weights])
def test_losses_that_differentiate_for_themselves_are_followed_along_a_sweep_and_a_slice(batch, loss_fn):
    net = _net(1)
    g, eta = _gradient(net, loss_fn, batch), 0.2
    path = landscape.gradient_path(net, loss_fn, batch, [eta])
    there = _moved(net, -eta * g)
    assert float(path.loss) == pytest.approx(float(loss_fn(there, batch).detach()), rel=1e-8)
    assert float(path.gradient_distance) == pytest.approx(
        float((_gradient(there, loss_fn, batch) - g).norm()), rel=1e-6
    )
    direction = torch.randn(g.numel(), generator=torch.Generator().manual_seed(1)).double()
    line = landscape.loss_slice(net, loss_fn, batch, directions=[direction], extent=1, points=3)
    by_hand = [float(loss_fn(_moved(net, x * direction), batch).detach()) for x in (-1, 0, 1)]
    assert line.loss.tolist() == pytest.approx(by_hand, rel=1e-12)
    if loss_fn is _per_sample:
        for read in (landscape.activation_statistics, layer_signals):
            with pytest.raises(ProbeError, match=r"called inside a transform of torch.func.*on the whole batch"):
                read(net, loss_fn, batch)
    else:
        (site,) = landscape.activation_statistics(net, loss_fn, batch).sites
        weights = 2 * net[0].weight if loss_fn is _called_functionally else net[0].weight
        bias = 2 * net[0].bias if loss_fn is _called_functionally else net[0].bias
        exact = (batch[0] @ weights.T + bias).detach().float()
        torch.testing.assert_close(site.mean, exact.mean(0))


def test_layers_inside_a_transform_are_taken_in_the_order_of_their_calls(batch):
    """The tensors of vmap show no graph: layers without ancestors would have a shift of exactly 0."""
    per_sample = lambda model, b: F.cross_entropy(torch.func.vmap(lambda x: model(x))(b[0]), b[1])  # noqa: E731
    net = _net()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    found, plain = (landscape.covariate_shift(net, loss, batch, sgd) for loss in (per_sample, _cross_entropy))
    assert (found.ancestry, plain.ancestry) == ("call order", "graph")
    assert found.before == plain.before == ((), ("0",))
    assert float(plain.distance[1]) > 0.0
    torch.testing.assert_close(found.distance, plain.distance)


def test_a_comparison_trains_on_a_loss_that_differentiates_its_input():
    x = torch.linspace(-1, 1, 32)[:, None]
    build = lambda: nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))  # noqa: E731
    done = landscape.compare(build, ((x, x**2), (x, x**2)), norms=["layer"], steps=2, seeds=1, loss_fn=_slope_of_input)
    assert done.failed == ()
    rows = done.frame().query("arm == 'none' and step == 0")
    full = rows[rows.quantity == "full_loss"].value.item()
    assert full == pytest.approx(rows[rows.quantity == "loss0"].value.iloc[0], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_under_autocast_is_rounded_at_the_moved_weights_as_training_would(batch, dtype):
    net, data = _net().float(), (batch[0].float(), batch[1])

    def loss_fn(model, b):
        with torch.autocast("cpu", dtype=dtype):
            return F.cross_entropy(model(b[0]), b[1])

    gradient = torch.autograd.grad(loss_fn(net, data), list(net.parameters()))
    path = landscape.gradient_path(net, loss_fn, data, [0.1, 0.7])
    for eta, found, distance in zip([0.1, 0.7], path.loss, path.gradient_distance, strict=True):
        there = copy.deepcopy(net)
        for p, g in zip(there.parameters(), gradient, strict=True):
            p.data.sub_(g, alpha=eta)
        loss = loss_fn(there, data)
        assert float(found) == float(loss.detach())  # the same operations: to the bit
        moved = torch.autograd.grad(loss, list(there.parameters()))
        by_hand = torch.cat([(a - b).flatten() for a, b in zip(moved, gradient, strict=True)]).norm()
        assert float(distance) == pytest.approx(float(by_hand), rel=1e-5)
    plain = landscape.gradient_path(net, _cross_entropy, data, [0.1, 0.7])
    assert (plain.loss != path.loss).all()  # and not those of float32


class Scaled(nn.Module):
    """What it does not have itself it hands on to the module inside, as adapters do."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.factor = inner, nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x):
        return self.factor * self.inner(x)


def test_a_wrapper_that_hands_on_attributes_is_not_taken_for_the_compiled_part_inside(batch):
    plain, wrapped = Scaled(_net()), Scaled(torch.compile(_net(), backend="aot_eager"))
    expected = landscape.gradient_path(plain, _cross_entropy, batch, [0.1])
    assert float(expected.loss0) == pytest.approx(float(_cross_entropy(plain, batch).detach()), rel=1e-12)
    found = landscape.gradient_path(wrapped, _cross_entropy, batch, [0.1])
    assert found.loss.tolist() == expected.loss.tolist()
    assert found.gradient_norm == expected.gradient_norm


def test_names_of_a_partly_compiled_model_are_those_of_the_eager_one(batch):
    eager, partly = _net(), _net()
    partly[0] = torch.compile(partly[0], backend="aot_eager")
    whole = torch.compile(_net(), backend="aot_eager")
    expected = landscape.gradient_path(eager, _cross_entropy, batch, [0.1], parameters="0.weight")
    for net in (partly, whole):
        assert landscape.gradient_path(net, _cross_entropy, batch, [0.1], parameters="0.weight").loss == expected.loss
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        obs = landscape.Observer(net, _cross_entropy, list(NAMED), optimizer=sgd, parameters="[02].*", strict=True)
        _cross_entropy(net, batch).backward()
        obs.step(batch)
        assert {name: set(rows.layer) for name, rows in obs.frame().groupby("probe")} == NAMED
        one = landscape.hessian_eigenpairs(net, _cross_entropy, batch, layers=["0"]).eigenvalues
        torch.testing.assert_close(
            one, landscape.hessian_eigenpairs(eager, _cross_entropy, batch, layers=["0"]).eigenvalues
        )


NAMED = {
    "covariate_shift": {"0", "2"},
    "activations": {"1"},
    "signals": {"0", "2"},
    "updates": {"0.weight", "2.weight"},
}


class Tied(nn.Module):
    """An encoder and a decoder that share their embedding."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3))
        self.decoder[0].weight = self.encoder.weight
        self.double()

    def forward(self, x):
        return self.decoder(self.encoder(x).tanh())


@pytest.mark.parametrize("select", ["decoder.*", lambda name: name.startswith("decoder.")])
def test_a_tied_parameter_is_chosen_by_any_of_its_names(batch, select):
    torch.manual_seed(0)
    net = Tied()
    frozen = copy.deepcopy(net).requires_grad_(False)
    for p in frozen.decoder.parameters():
        p.requires_grad_(True)
    by_hand = landscape.gradient_path(frozen, _cross_entropy, batch, [0.1])
    assert landscape.gradient_path(net, _cross_entropy, batch, [0.1], parameters=select).loss == by_hand.loss
    obs = landscape.Observer(
        net, _cross_entropy, ["gradient_path"], parameters=select, optimizer=torch.optim.SGD(net.parameters(), lr=0.1)
    )
    obs.step(batch)
    frame = obs.frame()
    assert frame[frame.quantity == "gradient_norm"].value.item() == float(by_hand.gradient_norm)
    with curvature_operator(net, _cross_entropy, batch, layers=["decoder"]) as H:
        assert H.parameters.numel == sum(p.numel() for p in net.decoder.parameters())


def test_a_layer_that_is_not_there_and_one_that_is_frozen_are_told_apart(batch):
    net = _net()
    net[0].requires_grad_(False)
    with pytest.raises(UsageError, match="layer '0' has no trainable parameter: choose one that has"):
        landscape.hessian_eigenpairs(net, _cross_entropy, batch, layers=["0"])
    with pytest.raises(UsageError, match="there is no layer '3'"):
        landscape.hessian_eigenpairs(net, _cross_entropy, batch, layers=["3"])


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(5, 6, dtype=torch.complex64), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(self.a(x.to(self.a.weight.dtype)).abs())


@pytest.mark.filterwarnings("error:Casting complex")
def test_complex_weights_keep_their_imaginary_parts_in_another_arithmetic(batch):
    net, wide = Complex(), Complex()
    wide.a.to(torch.complex128), wide.b.double()
    probes = ["gradient_path", PROBES["gradient_path"](direction="scale-invariant"), "curvature", "loss_slice"]
    probes.append(PROBES["gradient_path"](direction="random"))

    def measured(model, data, **options):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        obs = landscape.Observer(model, _cross_entropy, probes, optimizer=sgd, strict=True, **options)
        obs.step(data)
        return obs.frame().value.tolist()

    found = measured(net, (batch[0].float(), batch[1]), dtype=torch.float64)
    assert found == measured(wide, (batch[0].float().double(), batch[1]))


def test_complex_directions_have_imaginary_parts_and_filters_lengths():
    net = nn.Linear(3, 1, bias=False, dtype=torch.complex128)
    quadratic = lambda model, _: 1.5 * model.weight.abs().square().sum()  # noqa: E731
    path = landscape.gradient_path(net, quadratic, None, [0.1], direction="scale-invariant")
    length = net.weight.detach().abs().square().sum()  # of the one filter, D^2; g = 3 w, so beta_D = 3 D^2
    assert float(path.smoothness) == pytest.approx(float(3 * length), rel=1e-12)
    # Where only the imaginary part curves, a direction of real numbers alone would be flat.
    line = landscape.loss_slice(net, lambda m, _: m.weight.imag.square().sum(), None, dimensions=1, points=3)
    assert float(line.loss.diff(n=2)) > 1e-3


class Keeping(torch.optim.Optimizer):
    """Plain descent, twice as fast: how much faster is an attribute of its own."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.times, self.stepped = 2.0, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.stepped += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-self.times * group["lr"])


def test_an_optimizer_of_ones_own_steps_on_a_copy_with_all_that_it_holds(batch):
    net = _net()
    mine = Keeping(net.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(mine, 1)  # puts a wrapper of its own in the place of .step
    path = landscape.gradient_path(net, _cross_entropy, batch, [1.0], direction="update", optimizer=mine)
    assert float(path.direction_norm) == pytest.approx(
        2 * float(_gradient(net, _cross_entropy, batch).norm()), rel=1e-6
    )
    assert mine.stepped == 0
    sgd = torch.optim.SGD(net.parameters(), lr=0.2)
    mine_shift, shift = (landscape.covariate_shift(net, _cross_entropy, batch, one) for one in (mine, sgd))
    assert torch.equal(mine_shift.distance, shift.distance)
    wide = landscape.Observer(net, _cross_entropy, ["updates"], optimizer=mine, dtype=torch.float32, strict=True)
    _cross_entropy(net, batch).backward()
    wide.step(batch)
    assert mine.stepped == 0


def test_accelerates_optimizer_is_watched_where_it_steps(batch):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    plain, net = _net(), _net()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch), batch_size=6)
    net, optimizer, loader = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1), loader)
    probes = ["gradient_path", "covariate_shift", "updates"]
    obs = landscape.Observer(net, _cross_entropy, probes, every=1, optimizer=optimizer, strict=True)
    for part in obs.watch(loader):
        optimizer.zero_grad()
        accelerator.backward(_cross_entropy(net, part))
        optimizer.step()
    assert set(obs.frame().step) == {0, 1}
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1)
    for start in (0, 6):
        sgd.zero_grad()
        _cross_entropy(plain, (batch[0][start : start + 6], batch[1][start : start + 6])).backward()
        sgd.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), net.parameters(), strict=True))


def test_what_does_not_step_or_calls_no_hooks_is_said(batch):
    net = _net()

    class Bare:
        param_groups = [{"params": list(net.parameters()), "lr": 0.1}]  # noqa: RUF012

    with pytest.raises(UsageError, match=r"Bare calls no hooks before its step: call observer\.step"):
        next(landscape.Observer(net, _cross_entropy, ["updates"], optimizer=Bare()).watch([batch]))
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters(), lr=0.1), 1)
    with pytest.raises(UsageError, match="StepLR, which has no param_groups"):
        landscape.Observer(net, _cross_entropy, ["updates"], optimizer=scheduler)


def _weight_normed(net):
    net[0] = nn.utils.weight_norm(net[0])
    return net


def _pruned(net):
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


def _with_a_table(net):
    net.register_module("1", Table())
    return net


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.linspace(-1, 1, 36).view(6, 6)  # no buffer

    def forward(self, x):
        return (x @ self.table.to(x.dtype) if x.dtype is torch.float64 else x @ self.table).tanh()


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("change", [_weight_normed, _pruned, _with_a_table])
def test_models_with_tensors_aside_are_measured_in_another_arithmetic(batch, change, trained, same):
    half = (batch[0].bfloat16(), batch[1])
    build = lambda: change(_net().bfloat16() if change is not _with_a_table else _net()).to(torch.bfloat16)  # noqa: E731

    def fixed():
        net = build()
        if change is _with_a_table:
            net[1].table = net[1].table.bfloat16()
        return net

    def observed(model, optimizer):
        probes = ["gradient_path", "curvature", "updates"]
        return landscape.Observer(
            model, _cross_entropy, probes, every=1, optimizer=optimizer, dtype=torch.float32, strict=True
        )

    net = fixed()
    obs = observed(net, torch.optim.SGD(net.parameters(), lr=0.1))
    _cross_entropy(net, half).backward()
    obs.step(half)
    frame = obs.frame()
    wide = fixed().float()
    if change is _with_a_table:
        wide[1].table = wide[1].table.float()
    by_hand = landscape.gradient_curvature(wide, _cross_entropy, (half[0].float(), half[1]))
    assert frame[frame.quantity == "gradient_curvature"].value.item() == pytest.approx(float(by_hand), rel=1e-6)
    assert same(trained(fixed, _cross_entropy, [half] * 2), trained(fixed, _cross_entropy, [half] * 2, observed))


def test_another_arithmetic_goes_for_named_batches_and_for_what_the_optimizer_remembers(batch):
    half = (batch[0].bfloat16(), batch[1])
    net = _net().bfloat16()
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(3):
        adam.zero_grad()
        _cross_entropy(net, half).backward()
        adam.step()
    held = {"fixed": half, "held-out": half, "full": landscape.Batches([half, half])}
    probes = ["updates", "activations", PROBES["gradient_path"](on="held-out"), PROBES["curvature"](on="full")]
    obs = landscape.Observer(
        net, _cross_entropy, probes, optimizer=adam, batches=held, dtype=torch.float64, strict=True
    )
    obs.step(half)
    frame = obs.frame().set_index(["probe", "quantity", "layer"]).value
    moments = [adam.state[net[0].weight][name].double() for name in ("exp_avg", "exp_avg_sq")]
    w, g = net[0].weight.detach().double(), net[0].weight.grad.double()
    m, v = 0.9 * moments[0] + 0.1 * g, 0.999 * moments[1] + 0.001 * g**2  # Kingma & Ba 2015, algorithm 1, t = 4
    step = 0.1 * (m / (1 - 0.9**4)) / ((v / (1 - 0.999**4)).sqrt() + 1e-8)
    found = frame["updates", "relative_update", "0.weight"]
    assert float(found) == pytest.approx(float(step.norm() / w.norm()), rel=1e-9)
    wide = landscape.gradient_curvature(copy.deepcopy(net).double(), _cross_entropy, (half[0].double(), half[1]))
    assert float(frame["curvature", "gradient_curvature", ""]) == pytest.approx(float(wide), rel=1e-9)


def test_batches_that_can_be_gone_through_once_or_hold_nothing_are_refused_with_what_to_do(batch):
    net, (x, y) = _net(), batch
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    for probe in (landscape.hessian_eigenpairs, landscape.loss_slice, landscape.gradient_curvature):
        with pytest.raises(UsageError, match=r"takes no DataLoader.*pass a batch of it, or Batches\(list\(loader\)\)"):
            probe(net, _cross_entropy, loader)
        with pytest.raises(UsageError, match="a batch is a generator, which can be gone through once: pass list"):
            probe(net, _cross_entropy, (part for part in [batch]))
    with pytest.raises(UsageError, match="batch 1 of 2 is empty"):
        landscape.Batches([batch, (x[:0], y[:0])])
    with pytest.raises(UsageError, match="batch 0 of 1 is empty"):
        landscape.hessian_eigenpairs(net, _cross_entropy, (x[:0], y[:0]))
    through = lambda model, parts: torch.stack([_cross_entropy(model, part) for part in parts]).mean()  # noqa: E731
    whole = landscape.gradient_path(net, _cross_entropy, batch, [0.1])
    torch.testing.assert_close(landscape.gradient_path(net, through, loader, [0.1]).loss, whole.loss)


def test_a_batch_counts_the_examples_of_its_first_tensor_that_has_some(batch):
    parts = [
        {"temperature": torch.tensor(1.0), "x": batch[0][:9]},
        {"temperature": torch.tensor(1.0), "x": batch[0][9:]},
    ]
    assert landscape.Batches(parts).weights == [0.75, 0.25]
    arrays = [(part["x"].numpy(), None) for part in parts]
    assert landscape.Batches(arrays).weights == [0.75, 0.25]
    graphs = [Forms(None), Forms(None)]
    with pytest.raises(UsageError, match=r"how many examples batch 0 has can't be seen in a Forms.*weights=\["):
        landscape.Batches(graphs)
    assert landscape.Batches(graphs, [1, 3]).weights == [0.25, 0.75]


def test_a_learning_rate_of_zero_has_no_window_and_a_warm_up_loses_no_probe(batch):
    net = _net()
    sgd = torch.optim.SGD(net.parameters(), lr=1.0)
    warm_up = torch.optim.lr_scheduler.LambdaLR(sgd, lambda step: 0.1 * step)
    obs = landscape.Observer(net, _cross_entropy, ["gradient_path", "updates"], every=1, optimizer=sgd, strict=True)
    for part in obs.watch([batch] * 3):
        sgd.zero_grad()
        _cross_entropy(net, part).backward()
        sgd.step()
        warm_up.step()
    steps = {probe: sorted(set(rows.step)) for probe, rows in obs.frame().groupby("probe")}
    assert steps == {"gradient_path": [1, 2], "updates": [0, 1, 2]}
    with pytest.raises(UsageError, match="learning rate is 0"):
        landscape.gradient_path(net, _cross_entropy, batch, optimizer=torch.optim.SGD(net.parameters(), lr=0.0))


@dataclasses.dataclass
class Forms:
    """What loss functions return."""

    value: torch.Tensor


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda loss: loss.item(), "it returned float"),
        (lambda loss: loss.expand(4), r"it returned shape \(4,\)"),
        (lambda loss: Forms(loss), "it returned Forms"),
        (lambda loss: None, "it returned NoneType"),
        (lambda loss: (loss, loss), "it returned tuple"),
    ],
)
def test_a_loss_that_is_no_scalar_tensor_is_refused_by_its_type(batch, give, said):
    with pytest.raises(UsageError, match=said):
        landscape.gradient_path(_net(), lambda m, b: give(_cross_entropy(m, b)), batch, [0.1])
    with pytest.raises(UsageError, match=said):
        landscape.hessian_eigenpairs(_net(), lambda m, b: give(_cross_entropy(m, b)), batch)


def _replicated(net):
    from torch.distributed._composable.replicate import replicate

    return replicate(net)


@pytest.fixture
def one_process():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def _fully_sharded(net):
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(net, device_id=torch.device("cpu"))


def _distributed(net):
    from torch.distributed.tensor import distribute_module

    distribute_module(net[0], torch.distributed.init_device_mesh("cpu", (1,)))
    net[0].requires_grad_(False)
    return net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (nn.parallel.DistributedDataParallel, "DistributedDataParallel is not supported"),
        (_replicated, "DDP is not supported: its gradients are synchronised"),
        (_fully_sharded, "FullyShardedDataParallel is not supported: its parameters are shards"),
        (_distributed, "parameter '0.weight' is a DTensor"),
        (nn.DataParallel, "DataParallel is not supported"),
        (torch.jit.script, "TorchScript, whose state can't be put back: probe the eager module"),
        (lambda net: net.to("meta"), "on the meta device, where they have no values"),
        (lambda net: nn.ReLU(), "ReLU has no trainable parameter"),
        (lambda net: net.requires_grad_(False), "Sequential has no trainable parameter"),
    ],
)
def test_models_that_can_not_be_probed_are_refused_at_every_entry(one_process, batch, wrap, said):
    net = wrap(_net())
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    entries = [
        lambda: landscape.Observer(net, _cross_entropy, ["gradient_path"]),
        lambda: landscape.gradient_path(net, _cross_entropy, batch, [0.1]),
        lambda: landscape.hessian_eigenpairs(net, _cross_entropy, batch),
        lambda: landscape.loss_slice(net, _cross_entropy, batch),
        lambda: landscape.covariate_shift(net, _cross_entropy, batch, sgd),
        lambda: landscape.activation_statistics(net, _cross_entropy, batch),
    ]
    if "not supported" in said:
        entries.append(lambda: layer_updates(net, sgd))
    for entry in entries:
        with pytest.raises(ProbeError, match=said):
            entry()


def test_the_module_inside_distributed_data_parallel_can_be_watched(one_process, batch, trained, same):
    def observed(model, optimizer):
        probes = ["gradient_path", "covariate_shift", "curvature"]
        return landscape.Observer(model.module, _cross_entropy, probes, every=1, optimizer=optimizer, strict=True)

    build = lambda: nn.parallel.DistributedDataParallel(_net())  # noqa: E731
    assert same(trained(build, _cross_entropy, [batch] * 3), trained(build, _cross_entropy, [batch] * 3, observed))


def test_what_is_partly_on_the_meta_device_is_probed_where_that_part_is_not_called_and_named_where_it_is(batch):
    net = _net()
    expected = landscape.gradient_path(net, _cross_entropy, batch, [0.1]).loss
    net.aside = nn.Linear(3, 3, device="meta").requires_grad_(False)
    without = lambda model, b: _cross_entropy(model[:3], b)  # noqa: E731
    assert landscape.gradient_path(net, without, batch, [0.1]).loss == expected
    with pytest.raises(ProbeError, match=r"aside.weight of Sequential is on the meta device.*load it first"):
        landscape.gradient_path(net, _cross_entropy, batch, [0.1])
