"""State that modules keep for themselves: generators, lists and dicts, buffers that grow, copies that can't be made."""

import collections
import copy
import functools
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError

PROBES = ("gradient_path", "covariate_shift", "activations", "updates", "curvature")


def _loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _observed(model, optimizer):
    return landscape.Observer(model, _loss, PROBES, every=1, optimizer=optimizer, strict=True)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=generator), torch.randint(0, 3, (8,), generator=generator)


class Noisy(nn.Module):
    """Noise from a generator of its own, of the kind that ``kind`` makes."""

    def __init__(self, kind):
        super().__init__()
        self.a, self.act, self.generator = nn.Linear(5, 3), nn.Tanh(), kind(0)

    def forward(self, x):
        draw = self.generator.random() if hasattr(self.generator, "random") else self.generator.rand()
        return self.act(self.a(x)) * (1 + draw)


@pytest.mark.filterwarnings("error:.*gave two losses")
@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState, random.Random])
def test_a_generator_that_a_module_keeps_draws_the_same_at_every_point_and_goes_on_where_it_was(
    kind, batch, trained, same
):
    build = lambda: Noisy(kind)  # noqa: E731
    assert same(trained(build, _loss, [batch] * 3), trained(build, _loss, [batch] * 3, _observed))
    net = build()
    path = landscape.gradient_path(net, _loss, batch, [1e-9])
    assert float(path.loss) == pytest.approx(float(path.loss0), rel=1e-6)
    fresh = kind(0)
    draw = fresh.random() if hasattr(fresh, "random") else fresh.rand()
    expected = nn.functional.cross_entropy(net.act(net.a(batch[0])) * (1 + draw), batch[1])
    assert float(_loss(net, batch)) == float(expected)


class Remembering(nn.Module):
    """Lists, dicts, sets and deques that every forward changes, and a loss that looks at them."""

    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Linear(5, 3), nn.Tanh()
        self.aux, self.seen, self.last = [], {"calls": 0, "shapes": [(0, 0)]}, collections.deque(maxlen=2)
        self.kinds, self.counts = {"none"}, collections.Counter()

    def forward(self, x):
        self.aux.append(self.a.weight.square().sum())
        self.seen["calls"] += 1
        self.seen["shapes"].append(tuple(x.shape))
        self.last.append(float(x.sum()))
        self.kinds.add(x.dtype)
        self.counts[len(x)] += 1
        return self.act(self.a(x)) * (1 + self.seen["calls"])

    def kept(self):
        return len(self.aux), dict(self.seen), list(self.last), set(self.kinds), dict(self.counts)


@pytest.mark.filterwarnings("error:.*gave two losses")
def test_lists_dicts_sets_and_deques_come_back_before_every_evaluation_and_at_the_end(batch, trained, same):
    loss_fn = lambda model, b: _loss(model, b) + 0.1 * sum(model.aux[1:])  # noqa: E731
    net = Remembering()
    lists = net.aux, net.seen, net.seen["shapes"]
    path = landscape.gradient_path(net, loss_fn, batch, [1e-9])
    assert float(path.loss) == pytest.approx(float(path.loss0), rel=1e-6)
    expected = nn.functional.cross_entropy(net.act(net.a(batch[0])) * 2, batch[1])  # at the first call
    assert float(path.loss0) == pytest.approx(float(expected), rel=1e-6)
    assert net.kept() == Remembering().kept()
    assert (net.aux, net.seen, net.seen["shapes"]) == lists
    assert net.aux is lists[0]
    assert net.seen["shapes"] is lists[2]
    with_, without = [], []

    def built(kept):
        kept.append(Remembering())
        return kept[-1]

    clear = lambda model, b: (model.aux.clear(), _loss(model, b))[1]  # noqa: E731
    ends = [
        trained(lambda: built(without), clear, [batch] * 3),
        trained(lambda: built(with_), clear, [batch] * 3, _observed),
    ]
    assert same(*ends)
    assert with_[0].kept() == without[0].kept()


class Growing(nn.Module):
    """Takes the size of a buffer from its input, in place, as observers of ranges do."""

    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Linear(5, 3), nn.Tanh()
        self.register_buffer("largest", torch.zeros(0))

    def forward(self, x):
        with torch.no_grad():
            self.largest.resize_(x.shape[1]).copy_(x.abs().amax(0))
        return self.act(self.a(x / self.largest))


def test_a_buffer_that_changes_its_size_in_place_gets_it_back(batch, trained, same):
    net = Growing()
    held = net.largest
    landscape.gradient_path(net, _loss, batch, [0.1])
    assert net.largest is held
    assert held.shape == (0,)
    assert same(trained(Growing, _loss, [batch] * 3), trained(Growing, _loss, [batch] * 3, _observed))


class Freezing(nn.Module):
    """Trains one layer at one call and the other at the next."""

    def __init__(self):
        super().__init__()
        self.a, self.act, self.b, self.calls = nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), 0

    def forward(self, x):
        self.calls += 1
        self.a.requires_grad_(self.calls % 2 == 0)
        return self.b(self.act(self.a(x)))


def test_what_a_forward_freezes_is_trained_again_as_it_was(batch, trained, same):
    net = Freezing()
    landscape.gradient_path(net, _loss, batch, [0.1])
    assert all(p.requires_grad for p in net.parameters())
    ends = [trained(Freezing, _loss, [batch] * 3, observer) for observer in (None, _observed)]
    assert same(*ends)


class Momentum(nn.Module):
    """A target network that every forward moves towards the one that is trained, written in one of the usual ways."""

    def __init__(self, way):
        super().__init__()
        self.online, self.act, self.head = nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
        self.target, self.way = nn.Linear(5, 4).requires_grad_(False), way

    def forward(self, x):
        for p, q in zip(self.target.parameters(), self.online.parameters(), strict=True):
            if self.way == "in place":
                p.data.mul_(0.5).add_(0.5 * q.detach().data)
            elif self.way == "bound anew":
                p.data = 0.5 * p.data + 0.5 * q.data
            else:
                with torch.no_grad():
                    p.lerp_(q, 0.5)
        return self.head(self.act(self.online(x)) - self.target(x))


@pytest.mark.filterwarnings("error:.*gave two losses")
@pytest.mark.parametrize("way", ["in place", "bound anew", "under no_grad"])
def test_frozen_weights_that_a_forward_moves_are_the_same_at_every_point(way, batch, trained, same):
    build = lambda: Momentum(way)  # noqa: E731
    net = build()
    before = [p.detach().clone() for p in net.parameters()]
    path = landscape.gradient_path(net, _loss, batch, [1e-9] * 3)
    assert path.loss.tolist() == pytest.approx([float(path.loss0)] * 3, rel=1e-6)
    half = [0.5 * p + 0.5 * q for p, q in zip(net.target.parameters(), net.online.parameters(), strict=True)]
    by_hand = net.act(net.online(batch[0])) - nn.functional.linear(batch[0], *half)
    assert float(path.loss0) == pytest.approx(float(nn.functional.cross_entropy(net.head(by_hand), batch[1])), rel=1e-6)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    ends = [trained(build, _loss, [batch] * 3, observer) for observer in (None, _observed)]
    assert same(*ends)


class Centred(nn.Module):
    """A criterion with a running centre, a counter, a list and dropout, as self-supervised losses have them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))
        self.drop, self.calls, self.log = nn.Dropout(0.5), 0, []

    def forward(self, logits, labels):
        with torch.no_grad():
            self.centre.mul_(0.9).add_(0.1 * logits.mean(0))
        self.calls += 1
        self.log.append(self.calls)
        return self.calls * nn.functional.cross_entropy(self.drop(logits - self.centre), labels)

    def of_model(self, model, batch):
        return self(model(batch[0]), batch[1])

    def kept(self):
        return self.centre.tolist(), self.calls, list(self.log)


CRITERION = Centred()


def _by_global(model, batch):
    return CRITERION(model(batch[0]), batch[1])


def _by_closure(criterion):
    inner = lambda logits, labels: criterion(logits, labels)  # noqa: E731
    return lambda model, batch: inner(model(batch[0]), batch[1])


def _by_partial(criterion):
    return functools.partial(lambda crit, model, batch: crit(model(batch[0]), batch[1]), criterion)


@pytest.mark.filterwarnings("error:.*gave two losses")
@pytest.mark.parametrize(
    ("criterion", "wrap"),
    [
        (CRITERION, lambda one: _by_global),
        (Centred(), _by_closure),
        (Centred(), _by_partial),
        (Centred(), lambda one: one.of_model),
    ],
)
def test_a_criterion_with_a_state_of_its_own_is_put_back_like_the_model(criterion, wrap, batch, trained, same):
    loss_fn = wrap(criterion)
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    path = landscape.gradient_path(net, loss_fn, batch, [1e-9] * 3)
    assert path.loss.tolist() == pytest.approx([float(path.loss0)] * 3, rel=1e-6)
    assert criterion.kept() == ([0.0, 0.0, 0.0], 0, [])

    def observed(model, optimizer):
        return landscape.Observer(model, loss_fn, PROBES, every=1, optimizer=optimizer, strict=True)

    ends = []
    for observer in (None, observed):
        fresh = Centred()
        criterion.centre.zero_()
        criterion.calls, criterion.log = fresh.calls, fresh.log
        build = lambda: copy.deepcopy(net)  # noqa: E731
        ends.append((trained(build, loss_fn, [batch] * 3, observer), criterion.kept()))
    assert same(*ends)
    assert ends[0][1][1] == 3
    criterion.centre.zero_()
    criterion.calls, criterion.log = 0, []


def test_a_generator_that_a_loss_draws_from_draws_the_same_at_every_point(batch):
    generator, net = torch.Generator().manual_seed(3), nn.Linear(5, 3)

    def loss_fn(model, one):
        return _loss(model, (one[0] + torch.randn(one[0].shape, generator=generator), one[1]))

    path = landscape.gradient_path(net, loss_fn, batch, [1e-9] * 2)
    noise = torch.randn(batch[0].shape, generator=torch.Generator().manual_seed(3))
    by_hand = float(_loss(net, (batch[0] + noise, batch[1])).detach())
    assert [float(path.loss0), *path.loss.tolist()] == pytest.approx([by_hand] * 3, rel=1e-6)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(5, 3)
        self.lock = threading.Lock()


class Waiting(nn.Linear):
    def __init__(self):
        super().__init__(5, 3)
        self.head = nn.LazyLinear(3)  # never called, so it never has values


@pytest.mark.parametrize(
    ("build", "options", "said"),
    [
        (Locked, {"dtype": torch.float64}, "Locked can't be copied.*dtype=torch.float64 measures on a copy"),
        (Waiting, {}, "Waiting has lazy parameters without values: run one forward pass first"),
    ],
)
def test_a_moment_that_can_not_be_had_is_recorded_once_and_training_goes_on(batch, build, options, said):
    net = build()
    sgd = torch.optim.SGD([net.weight, net.bias], lr=0.1)
    obs = landscape.Observer(net, _loss, ["gradient_path", "curvature"], every=1, optimizer=sgd, **options)

    def trained_on():
        for part in obs.watch([batch] * 3):
            sgd.zero_grad()
            _loss(net, part).backward()
            sgd.step()

    with pytest.warns(UserWarning, match=said) as warned:
        trained_on()
    assert len(warned) == 2
    assert set(obs.failures) == {"gradient_path", "curvature"}
    assert obs.steps == 3
    strict = landscape.Observer(net, _loss, ["curvature"], optimizer=sgd, strict=True, **options)
    with pytest.raises(ProbeError, match=said):
        strict.step(batch)
