"""A first linear layer shared along a line: the same function to rounding, and left alone wherever it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import landscape
from landscape.affine import SharedFirstLayer
from landscape.objective import Batches

ETAS = [0.01, 0.1, 1.0]


def mlp(*, bias: bool = True, inplace: bool = False, inputs: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(inputs, 8, bias=bias), nn.ReLU(inplace=inplace), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double()


def batch_of(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64), torch.arange(shape[0]) % 3


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]).reshape(-1, 3), batch[1])


class Count(torch.utils._python_dispatch.TorchDispatchMode):
    """Matrix products that are really computed, by how many inputs they sum over."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[int] = []
        self.columns: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.products.append(int(args[-2].shape[-1]))
            self.columns.append(int(args[-1].shape[-1]))
        return func(*args, **(kwargs or {}))


def by_hand(model: nn.Module, loss_fn: Callable, batch, etas=ETAS) -> tuple[list[float], list[float]]:
    """Loss and gradient distance with the weights really moved and every product computed."""
    p = [q for q in model.parameters() if q.requires_grad]
    start = [q.detach().clone() for q in p]
    g = torch.autograd.grad(loss_fn(model, batch), p)
    losses, distances = [], []
    for eta in etas:
        for q, w, v in zip(p, start, g, strict=True):
            q.data = w - eta * v
        loss = loss_fn(model, batch)
        h = torch.autograd.grad(loss, p, materialize_grads=True)
        losses.append(float(loss.detach()))
        distances.append(float(torch.cat([(a - b).flatten() for a, b in zip(h, g, strict=True)]).norm()))
    for q, w in zip(p, start, strict=True):
        q.data = w
    return losses, distances


def noted(model: nn.Module, loss_fn: Callable, batch) -> int:
    """How many layers are shared along a line."""
    first = SharedFirstLayer(list(model.parameters()), batch)
    with first:
        loss_fn(model, batch)
    return len(first._layers)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_a_shared_first_layer_gives_what_moving_the_weights_gives(bias, inplace):
    model, batch = mlp(bias=bias, inplace=inplace), batch_of(6, 3, 4)
    losses, distances = by_hand(model, cross_entropy, batch)
    assert noted(model, cross_entropy, batch) == 1
    path = landscape.gradient_path(model, cross_entropy, batch, ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


def test_two_products_of_the_first_layer_serve_the_whole_sweep():
    model, batch = mlp(), batch_of(6, 12)
    with Count() as count:
        landscape.gradient_path(model, cross_entropy, batch, ETAS)
    forward = [inner for inner in count.products if inner == 12]  # the backward ones sum over 6 samples, 8 or 3 units
    assert len(forward) == 2


def test_sequences_several_uses_and_frozen_biases():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].bias.requires_grad_(False)

    def twice(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:  # the same layer on two inputs
        x, y = batch
        return cross_entropy(model, (x[:, :2].reshape(-1, 5), y.repeat_interleave(2))) + model(x[:, 2]).square().mean()

    batch = batch_of(6, 3, 5)
    losses, distances = by_hand(model, twice, batch)
    path = landscape.gradient_path(model, twice, batch, ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


def test_a_weight_that_the_loss_also_penalizes_is_really_moved():
    def penalized(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model, batch) + model[1].weight.pow(4).sum()

    model, batch = mlp(), batch_of(6, 12)
    losses, distances = by_hand(model, penalized, batch)
    path = landscape.gradient_path(model, penalized, batch, ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


def dropped(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model, (nn.functional.dropout(batch[0], 0.5), batch[1]))


def learned_input(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model, (batch[0].detach().requires_grad_(), batch[1]))


def autocast(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return cross_entropy(model.float(), (batch[0].float(), batch[1]))


def vmapped(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(torch.func.vmap(lambda x: model(x[None])[0])(batch[0]), batch[1])


@pytest.mark.parametrize("loss_fn", [dropped, learned_input, autocast, vmapped])
def test_what_the_batch_does_not_feed_unchanged_is_not_shared(loss_fn):
    assert noted(mlp(), loss_fn, batch_of(6, 12)) == 0


def test_a_parametrized_weight_and_several_batches_are_not_shared():
    model = mlp()
    torch.nn.utils.parametrizations.weight_norm(model[1])
    assert noted(model, cross_entropy, batch_of(6, 12)) == 0
    several = Batches([batch_of(6, 12), batch_of(6, 12)])
    assert noted(mlp(), lambda m, b: cross_entropy(m, b[0]), several) == 0


def test_an_input_written_to_between_evaluations_is_computed_again():
    model, (x, y) = mlp(), batch_of(6, 12)

    def drifting(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:  # a user's bug, measured as it is
        batch[0].mul_(1.5)
        return cross_entropy(model, batch)

    expected, _ = by_hand(model, drifting, (x.clone(), y))
    path = landscape.gradient_path(model, drifting, (x.clone(), y), ETAS)
    assert path.loss.tolist() == pytest.approx(expected, rel=1e-12)


def test_held_out_evaluation_shares_that_batch():
    model, batch, other = mlp(), batch_of(6, 12), (batch_of(6, 12)[0] + 1, batch_of(6, 12)[1])
    p = list(model.parameters())
    start = [q.detach().clone() for q in p]
    g = torch.autograd.grad(cross_entropy(model, batch), p)
    for q, w, v in zip(p, start, g, strict=True):
        q.data = w - 0.1 * v
    expected = float(cross_entropy(model, other).detach())
    for q, w in zip(p, start, strict=True):
        q.data = w
    path = landscape.gradient_path(model, cross_entropy, batch, [0.1], evaluate_on=other)
    assert float(path.loss[0]) == pytest.approx(expected, rel=1e-12)


def gradient_penalty(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A loss that holds its own gradient: the shared layer has to be differentiable twice."""
    loss = cross_entropy(model, batch)
    g = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    return loss + torch.stack([x.square().sum() for x in g]).sum()


def test_a_loss_that_holds_its_own_gradient():
    model, batch = mlp(), batch_of(6, 12)
    assert noted(model, gradient_penalty, batch) == 1
    losses, distances = by_hand(model, gradient_penalty, batch)
    path = landscape.gradient_path(model, gradient_penalty, batch, ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


def test_weights_that_nothing_else_reads_are_left_behind_until_something_does():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    x, w = torch.randn(3, 6), list(model.parameters())
    start, axis = [p.detach().clone() for p in w], [torch.ones_like(p) for p in w]
    first = SharedFirstLayer(w, x)
    with torch.no_grad():
        with first:
            model(x)
        first.leave_late(True)
        first.move(start, axis, 0.5)
        assert [torch.equal(p, q) for p, q in zip(w, start, strict=True)] == [True, True, False, False]
        with first.at([axis], [0.5]):
            y = model(x)
            assert torch.equal(w[0], start[0] - 0.5)  # handed to a call, it moves before the call is made
        torch.testing.assert_close(y, model(x))
        assert torch.equal(w[1], start[1] - 0.5)
    x.mul_(2.0)
    first.leave_late(True)
    assert not first.leaves_late  # its input may be computed anew each time


def wide(**options) -> nn.Sequential:
    """A first layer of 48 inputs: with four examples its gradient has rank four, and is compared in four columns."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 32, **options), nn.ReLU(inplace=True), nn.Linear(32, 3)).double()
    return model


def reading_the_weight(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model, batch) + model[0].weight.pow(4).sum()


def fed_twice(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model, batch) + model(batch[0][:2]).square().mean()


def scaled_by_its_gradient(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    loss = cross_entropy(model, batch)
    g = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return loss * (1 + sum(x.norm() for x in g))


def after_its_own_backward(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    cross_entropy(model, batch).backward()
    size = sum(p.grad.norm() for p in model.parameters())
    for p in model.parameters():
        p.grad = None
    return cross_entropy(model, batch) * size


def checkpointed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    y = torch.utils.checkpoint.checkpoint(model, batch[0], use_reentrant=False)
    return nn.functional.cross_entropy(y, batch[1])


def hooked(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A hook of the user's on the weight, set anew at every call; clamping twice is clamping once."""
    model[0].weight.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
    return cross_entropy(model, batch)


def at_some_points(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    if model[2].bias.abs().max() > 0.111:  # where the longer steps lead
        return model[2].bias.square().sum()
    return cross_entropy(model, batch)


def same_inputs_twice(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model, batch) + model(batch[0]).square().mean()


def penalized_at_w(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    penalty = model[0].weight.pow(4).sum() if model[2].bias.abs().max() < 0.111 else 0.0
    return cross_entropy(model, batch) + penalty


def fed_twice_at_w(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    more = model(batch[0][:2]).square().mean() if model[2].bias.abs().max() < 0.111 else 0.0
    return cross_entropy(model, batch) + more


def twice_beyond_w(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    more = model(batch[0]).square().mean() if model[2].bias.abs().max() > 0.111 else 0.0
    return cross_entropy(model, batch) + more


def hooked_output(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A hook of the user's between the loss and the layer."""
    y = model[0](batch[0])
    y.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
    return nn.functional.cross_entropy(model[2](y.relu()), batch[1])


def hooked_node(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A hook of the user's between the layer and its weight."""
    y = model[0](batch[0])
    y.grad_fn.register_hook(lambda given, _: tuple(None if g is None else 3 * g for g in given))
    return nn.functional.cross_entropy(model[2](y.relu()), batch[1])


class WritesIntoItsGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z * 1.0

    @staticmethod
    def backward(ctx, g):
        return g.mul_(0.1)


def beside_one_that_writes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A sum hands the same derivatives to both its terms, and what the first layer got is written to afterwards."""
    z = WritesIntoItsGradient.apply(model[2].weight[:1].expand(len(batch[0]), -1))
    return nn.functional.cross_entropy(model[2](model[0](batch[0]) + z), batch[1])


def through_torch_func(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A gradient by the last layer alone, in whose transform the first one is called."""

    def of_last(weight: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.func.functional_call(model, {"2.weight": weight}, batch[0]), batch[1])

    return of_last(model[2].weight) + torch.func.grad(of_last)(model[2].weight).square().sum()


LOSSES = [
    at_some_points,
    same_inputs_twice,
    penalized_at_w,
    fed_twice_at_w,
    twice_beyond_w,
    hooked_output,
    hooked_node,
    beside_one_that_writes,
    through_torch_func,
    cross_entropy,
    reading_the_weight,
    fed_twice,
    gradient_penalty,
    scaled_by_its_gradient,
    after_its_own_backward,
    checkpointed,
    hooked,
]


@pytest.mark.parametrize("loss_fn", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("inputs", ["independent", "repeated", "zero"])
def test_gradients_compared_within_the_span_of_the_inputs(loss_fn, inputs):
    model, (x, y) = wide(), batch_of(4, 48)
    if inputs == "repeated":
        x = x[[0, 1, 1, 0]]
    if inputs == "zero":
        x = x * torch.tensor([[1.0], [0.0], [1.0], [0.0]], dtype=x.dtype)
    losses, distances = by_hand(model, loss_fn, (x, y))
    path = landscape.gradient_path(model, loss_fn, (x, y), ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_checkpointed_sequences(bias):
    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        y = torch.utils.checkpoint.checkpoint(model, batch[0], use_reentrant=False)
        return nn.functional.cross_entropy(y.flatten(0, 1), batch[1].repeat_interleave(3))

    model, batch = wide(bias=bias), batch_of(4, 3, 48)
    losses, distances = by_hand(model, loss_fn, batch)
    path = landscape.gradient_path(model, loss_fn, batch, ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


def test_a_batch_of_unequal_lengths_is_not_shared():
    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(torch.cat(list(model(batch[0]).unbind())), batch[1])

    (x, y), model = batch_of(4, 48), wide()
    losses, distances = by_hand(model, cross_entropy, (x, y))
    path = landscape.gradient_path(model, loss_fn, (torch.nested.nested_tensor([x[:1], x[1:]]), y), ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


def test_a_weight_that_is_a_vector_is_not_shared():
    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 48, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.weight)

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(batch[0]).tanh().mean()

    model, batch = Projection(), batch_of(4, 48)
    losses, distances = by_hand(model, loss_fn, batch)
    path = landscape.gradient_path(model, loss_fn, batch, ETAS)
    assert path.loss.tolist() == pytest.approx(losses, rel=1e-12)
    assert path.gradient_distance.tolist() == pytest.approx(distances, rel=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_first_layer_takes_its_whole_gradient_once(bias):
    model, batch = wide(bias=bias), batch_of(4, 48)
    p = list(model.parameters())
    with Count() as count:
        path = landscape.gradient_path(model, cross_entropy, batch, ETAS)
    assert count.columns.count(48) == 1  # at w; the points' have four columns
    g = torch.autograd.grad(cross_entropy(model, batch), p)
    cosines = []
    for eta in ETAS:
        with torch.no_grad():
            moved = [q - eta * v for q, v in zip(p, g, strict=True)]
        call = dict(zip((name for name, _ in model.named_parameters()), moved, strict=True))
        for q in moved:
            q.requires_grad_()
        loss = nn.functional.cross_entropy(torch.func.functional_call(model, call, batch[0]), batch[1])
        h = torch.cat([x.flatten() for x in torch.autograd.grad(loss, moved)])
        cosines.append(float(torch.cosine_similarity(h, torch.cat([x.flatten() for x in g]), dim=0)))
    assert path.cosine.tolist() == pytest.approx(cosines, abs=1e-12)


def test_float32_within_the_span_is_as_near_to_float64_as_whole_gradients_are():
    model, (x, y) = wide(), batch_of(4, 48)
    _, true = by_hand(model, cross_entropy, (x, y))
    single = (x.float(), y)
    _, whole = by_hand(model.float(), cross_entropy, single)
    within = landscape.gradient_path(model, cross_entropy, single, ETAS).gradient_distance.tolist()
    for a, b, c in zip(within, whole, true, strict=True):
        assert abs(a - c) <= max(4 * abs(b - c), 1e-6 * c)


def test_a_nan_among_the_inputs_ranks_as_infinitely_rough():
    (x, y) = batch_of(4, 48)
    x[0, 0] = float("nan")
    path = landscape.gradient_path(wide(), cross_entropy, (x, y), ETAS)
    assert path.gradient_distance.tolist() == [float("inf")] * 3
