"""No probe changes a user's training by one bit: weights, buffers, optimizer, gradients, flags, random states."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

import landscape
from landscape.models import MODELS, build_model
from landscape.normalization import NORMALIZATIONS
from landscape.probes import PROBES

SHAPES = {
    "convnet": (1, 8, 8),
    "vgg": (3, 32, 32),
    "deep_linear": (10,),
    "mlp": (12,),
    "lenet": (1, 12, 12),
    "resnet": (1, 4, 4),
    "inception": (1, 4, 4),
    "recurrent": (3, 5),
    "transformer": (3, 5),
    "phase_dnn": (1,),
}
SMALL = {
    "convnet": {"channels": (4, "M", 8)},
    "vgg": {"width": 32},
    "deep_linear": {"layers": 5},
    "mlp": {"hidden": (8, 8)},
    "lenet": {},
    "resnet": {"depth": 8, "width": 16, "option": "B"},
    "inception": {"channels": (2, "M", 2)},
    "recurrent": {"hidden": 4, "layers": 1},
    "transformer": {"features": 4, "heads": 2, "layers": 1},
    "phase_dnn": {"frequencies": (1, 2, 3, 4, 5), "form": "parallel", "hidden": (4,)},  # ten outputs
}


def _loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _batches(shape, steps=4):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, *shape, generator=generator), torch.randint(0, 10, (8,), generator=generator))
        for _ in range(steps)
    ]


def _train(model, batches, observer=None, momentum=0.9):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    obs = observer(model, optimizer) if observer else None
    for batch in batches:
        optimizer.zero_grad()
        _loss(model, batch).backward()
        if obs is not None:
            obs.step(batch)
        optimizer.step()
    return {
        "state": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "grads": [p.grad for p in model.parameters()],
        "flags": [m.training for m in model.modules()],
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()),
    }


def _same(a, b):
    """Bit for bit, through any nest."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


# Four normalizations on the plain networks; on the others, the two with statistics and draws.
EVERY_MODEL = [
    (name, norm)
    for name in sorted(MODELS)
    for norm in ("none", "batch", "noisy-batch", "lp:1")
    if name in ("convnet", "deep_linear", "mlp", "vgg") or norm in ("batch", "noisy-batch")
]
EVERY_NORM = [("convnet" if "in space" in entry.needs else "mlp", norm) for norm, entry in NORMALIZATIONS.items()]


@pytest.mark.parametrize(("name", "norm"), list(dict.fromkeys(EVERY_MODEL + EVERY_NORM)))
def test_training_with_every_probe_at_every_step_is_bit_identical_to_training_without(name, norm):
    def build():
        return build_model(name, norm=norm, input_shape=SHAPES[name], output_size=10, **SMALL[name])

    batches = _batches(SHAPES[name])
    held = {"held-out": batches[0], "full": landscape.Batches(batches[:2]), "fixed": batches[1]}
    few = {
        "hessian_trace": {"products": 8},
        "spectral_density": {"draws": 1, "steps": 3},
        "loss_slice": {"points": 3},
        "input_lipschitz": {"iterations": 2},
    }
    absent = {"theorems"} if norm != "batch" else set()  # what there is nothing to measure for
    absent |= set() if "batch" in norm or norm.startswith("lp") else {"statistics_noise"}
    absent |= {"bands"}  # of functions of one variable
    absent |= {"moments"} if name in ("deep_linear", "recurrent") else set()
    absent |= set() if name in ("recurrent", "transformer") else {"positions"}
    probes = [
        *(cls(**few.get(kind, {})) for kind, cls in PROBES.items() if kind not in absent),
        PROBES["gradient_path"](direction="update", on="held-out", multiples=(0.5, 4.0)),
        PROBES["gradient_path"](direction="random", on="full", step_sizes=(0.1,), statistics="running"),
        PROBES["gradient_path"](direction="scale-invariant", multiples=(1.0,)),
    ]

    def observed(model, optimizer):
        return landscape.Observer(model, _loss, probes, every=1, optimizer=optimizer, batches=held, strict=True)

    assert _same(_train(build(), batches), _train(build(), batches, observed))


class Fails(nn.Module):
    """Raises at its n-th forward, after having moved everything it can."""

    def __init__(self, at):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 10))
        self.calls, self.at = 0, at

    def forward(self, x):
        self.calls += 1
        random.random(), np.random.rand()
        out = self.net(x)
        if landscape.is_probing():
            self.eval()
        if landscape.is_probing() and self.net[0].weight.grad is not None:
            raise AssertionError(".grad is visible while probing")
        if landscape.is_probing() and self.calls >= self.at:
            raise KeyboardInterrupt
        return out


@pytest.mark.parametrize("probe", ["gradient_path", "covariate_shift", "curvature", "eigenpairs", "activations"])
def test_a_probe_that_is_interrupted_half_way_leaves_no_trace(probe):
    model = Fails(at=2)
    batch = _batches((3,))[0]
    optimizer = torch.optim.Adam(model.parameters())
    _loss(model, batch).backward()
    optimizer.step()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()]))
    flags, calls, states = (
        [m.training for m in model.modules()],
        model.calls,
        (random.getstate(), torch.get_rng_state()),
    )
    call = {
        "gradient_path": lambda: landscape.gradient_path(model, _loss, batch, [0.1, 0.2]),
        "covariate_shift": lambda: landscape.covariate_shift(model, _loss, batch, optimizer),
        "curvature": lambda: landscape.gradient_curvature(model, _loss, batch),
        "eigenpairs": lambda: landscape.hessian_eigenpairs(model, _loss, batch),
        "activations": lambda: landscape.activation_statistics(model, _loss, batch),
    }[probe]
    model.at = (
        calls + 1 if probe in ("activations", "curvature", "eigenpairs") else calls
    )  # the counter rewinds between passes
    with pytest.raises(KeyboardInterrupt):
        call()
    assert _same(before, (model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()]))
    assert flags == [m.training for m in model.modules()]
    assert model.calls == calls
    assert _same(states, (random.getstate(), torch.get_rng_state()))
    assert not landscape.is_probing()
    assert not model.net[0]._forward_hooks
    assert not model.net[0]._forward_pre_hooks


def test_grad_keeps_its_identity_and_nothing_is_added_to_it():
    model = nn.Linear(3, 10)
    batch = _batches((3,))[0]
    _loss(model, batch).backward()
    held, value = model.weight.grad, model.weight.grad.clone()
    landscape.gradient_path(
        model, lambda m, b: (lambda x: (x.backward(retain_graph=True), x)[1])(_loss(m, b)), batch, [0.1]
    )
    assert model.weight.grad is held
    assert torch.equal(held, value)


def test_a_probe_between_forward_and_backward_does_not_disturb_the_users_graph():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    model[1].eval()  # in eval, running statistics are saved for backward
    batch = _batches((3,))[0]
    expected = torch.autograd.grad(_loss(model, batch), list(model.parameters()))
    loss = _loss(model, batch)
    landscape.gradient_path(model, _loss, batch, [0.1])
    assert _same(list(expected), list(torch.autograd.grad(loss, list(model.parameters()))))


def test_spectral_norm_extra_state_generators_and_plain_attributes_come_back():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 10))
            self.old = nn.utils.weight_norm(nn.Linear(10, 10))
            self.generator = torch.Generator().manual_seed(5)
            self.cache, self.calls, self.extra = torch.zeros(2), 0, 0

        def get_extra_state(self):
            return {"extra": self.extra}

        def set_extra_state(self, state):
            self.extra = state["extra"]

        def forward(self, x):
            self.calls += 1
            self.extra += 1
            self.cache += 1
            self.made_here = self.calls
            return self.old(self.linear(x)) + torch.rand(1, generator=self.generator)

    with pytest.warns(FutureWarning, match="weight_norm"):
        model = Odd()
    batch = _batches((3,))[0]
    u = {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    state, weight = model.generator.get_state(), model.old.weight.clone()
    held = model.old.weight
    path = landscape.gradient_path(model, _loss, batch, [1e-7])
    assert float(path.loss) == pytest.approx(float(path.loss0), abs=1e-5)  # every pass saw the same draw
    assert _same(u, {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)})
    assert torch.equal(model.generator.get_state(), state)
    assert model.old.weight is held
    assert torch.equal(held, weight)
    assert (model.calls, model.extra, model.cache.tolist()) == (0, 0, [0.0, 0.0])
    assert not hasattr(model, "made_here")


class Book:
    """An object of the user's own, which a module's forward writes into."""

    calls = 0


def test_state_that_no_snapshot_can_put_back_is_named_in_a_warning():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.book = nn.Linear(3, 10), Book()

        def forward(self, x):
            self.book.calls += 1
            return self.linear(x) * self.book.calls

    model = Remembers()
    observer = landscape.Observer(model, _loss, [PROBES["gradient_path"](step_sizes=(0.1,))], every=1)
    with pytest.warns(UserWarning, match="Remembers gave two losses"):
        observer.step(_batches((3,))[0])


def test_users_hooks_stay_and_can_tell_probing_from_training():
    model = nn.Sequential(nn.Linear(3, 10))
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(landscape.is_probing()))
    batch = _batches((3,))[0]
    landscape.gradient_path(model, _loss, batch, [0.1])
    _loss(model, batch)
    assert seen == [True, True, False]


def test_compiled_models_are_probed_eagerly_and_stay_compiled():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 10))
    batch = _batches((3,))[0]
    eager = landscape.gradient_path(model, _loss, batch, [0.1])
    compiled = torch.compile(model, backend="eager")
    path = landscape.gradient_path(compiled, _loss, batch, [0.1])
    assert float(path.smoothness) == float(eager.smoothness)
    assert landscape.activation_statistics(compiled, _loss, batch).sites[0].layer == "1"


def test_tied_parameters_move_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model, x = Tied().double(), torch.randn(5, 3, dtype=torch.float64)
    W = model.a.weight.detach().clone()
    path = landscape.gradient_path(model, lambda m, x: m(x).square().sum(), x, [1e-3])
    leaf = W.clone().requires_grad_()
    (g,) = torch.autograd.grad((x @ leaf.T @ leaf.T).square().sum(), leaf)
    assert float(path.gradient_norm) == pytest.approx(float(g.norm()), rel=1e-12)
    moved = W - 1e-3 * g
    assert float(path.loss) == pytest.approx(float((x @ moved.T @ moved.T).square().sum()), rel=1e-12)
    assert model.b.weight is model.a.weight
    assert torch.equal(model.a.weight, W)
