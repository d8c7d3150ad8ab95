"""Several of what models have, at once: trained the same with an Observer as without, and measured as by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import landscape
from landscape.objective import model_loss
from landscape.probes import build_probe

PROBES = ["gradient_path", "covariate_shift", "activations", "updates", "curvature", "hessian_eigenpairs"]


def _probes():
    return [build_probe(name) for name in PROBES] + [build_probe("loss_slice", points=3)]


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(12, 5, generator=generator), torch.randint(0, 3, (12,), generator=generator)) for _ in range(3)
    ]


def _cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def _in_bfloat16(model, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return _cross_entropy(model, batch)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter, dropout and batch norm, checkpointed; two heads that share a weight."""

    def __init__(self, checkpointed=True):
        super().__init__()
        self.base, self.norm, self.drop = nn.Linear(5, 6).requires_grad_(False), nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.down, self.up = nn.Parameter(0.3 * torch.randn(5, 2)), nn.Parameter(0.3 * torch.randn(2, 6))
        self.act, self.head, self.other, self.unused = nn.Tanh(), nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(2, 2)
        self.other.weight = self.head.weight
        self.checkpointed = checkpointed

    def block(self, x):
        return self.drop(self.act(self.norm(self.base(x) + x @ self.down @ self.up)))

    def forward(self, x):
        h = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        return self.head(h) + self.other(h.square())


def _compiled():
    return torch.compile(Adapted(), backend="aot_eager")


def _parametrized():
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(5, 6)),
        nn.Tanh(),
        parametrizations.orthogonal(nn.Linear(6, 6)),
        nn.Tanh(),
        parametrizations.weight_norm(nn.Linear(6, 3)),
    )


def _stepping_in_backward():
    """Each weight is stepped as soon as its gradient is there; probes must not set that off."""

    def step(p):
        p.data.add_(p.grad, alpha=-0.01)

    net = Adapted(checkpointed=False)
    for p in net.parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(step)
    return net


@pytest.mark.parametrize(
    ("build", "loss_fn"),
    [
        (Adapted, _cross_entropy),
        (Adapted, _in_bfloat16),
        (_compiled, _in_bfloat16),
        (_parametrized, _cross_entropy),
        (_stepping_in_backward, _cross_entropy),
    ],
)
def test_training_is_bit_identical_with_much_at_once(build, loss_fn, batches, trained, same):
    def observed(model, optimizer):
        return landscape.Observer(model, loss_fn, _probes(), every=1, optimizer=optimizer, strict=True)

    assert same(trained(build, loss_fn, batches), trained(build, loss_fn, batches, observed))


def test_a_checkpoint_under_autocast_with_dropout_gives_the_numbers_of_none(batches):
    def measured(checkpointed):
        torch.manual_seed(3)
        net = Adapted(checkpointed)
        sgd = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        obs = landscape.Observer(net, _in_bfloat16, _probes(), optimizer=sgd, strict=True)
        _in_bfloat16(net, batches[0]).backward()
        obs.step(batches[0])
        return obs.frame()

    plain, saved = measured(False), measured(True)
    assert len(plain) > 100
    assert saved.value.to_numpy() == pytest.approx(plain.value.to_numpy(), rel=1e-5, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("overflow", [1.0, 1e38])
def test_a_loop_with_a_gradient_scaler_is_bit_identical_and_measured_unscaled(batches, overflow, same):
    """float16 autocast, scaled by 65536; with a step that overflows, which the scaler leaves out."""

    def loss_fn(model, batch):
        with torch.autocast("cpu", dtype=torch.float16):
            loss = _cross_entropy(model, batch[:2])
        return loss * batch[2]

    def run(observed):
        torch.manual_seed(1)
        net = Adapted(checkpointed=False)
        sgd = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
        scaler, obs = torch.amp.GradScaler("cpu"), None
        loop = [(*batch, torch.tensor(factor)) for batch, factor in zip(batches, (1.0, overflow, 1.0), strict=True)]
        if observed:
            obs = landscape.Observer(net, loss_fn, _probes(), every=1, optimizer=sgd, strict=True)
        for batch in loop if obs is None else obs.watch(loop):
            sgd.zero_grad()
            scaler.scale(loss_fn(net, batch)).backward()
            scaler.step(sgd)
            scaler.update()
        return [net.state_dict(), sgd.state_dict(), scaler.state_dict(), torch.get_rng_state()], obs

    (without, _), (with_, obs) = run(False), run(True)
    assert same(without, with_)
    assert obs.steps == (3 if overflow == 1.0 else 2)  # a step that is left out is no step
    frame = obs.frame()
    assert frame[frame.quantity == "gradient_norm"].value.max() < 100


class Shared(nn.Module):
    """A tied weight, a frozen layer and a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.frozen = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)
        self.b.weight, self.unused = self.a.weight, nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.b(self.frozen(self.a(x).tanh()).tanh())


def test_curvature_of_tied_frozen_and_unused_weights_is_that_of_the_matrix_by_torch_func():
    torch.manual_seed(0)
    net = Shared().double()
    batch = torch.randn(6, 3).double(), torch.randint(0, 3, (6,))
    start = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in start.values()]

    def loss(vector):
        parts = zip(start.items(), vector.split(sizes), strict=True)
        moved = {name: part.view_as(p) for (name, p), part in parts}
        return F.cross_entropy(torch.func.functional_call(net, moved, (batch[0],)), batch[1])

    w = torch.cat([p.flatten() for p in start.values()])
    exact = torch.linalg.eigvalsh(torch.func.hessian(loss)(w)).flip(0)
    pairs = landscape.hessian_eigenpairs(net, _cross_entropy, batch, k=3, tol=1e-9)
    torch.testing.assert_close(pairs.eigenvalues, exact[:3], rtol=1e-8, atol=1e-12)
    g = torch.func.grad(loss)(w)
    along = torch.func.jvp(torch.func.grad(loss), (w,), (g,))[1] @ g / (g @ g)
    torch.testing.assert_close(landscape.gradient_curvature(net, _cross_entropy, batch), along, rtol=1e-10, atol=0)


def _adapted_gpt2(transformers):
    """GPT-2 with tied embeddings and low-rank adapters beside its attention, dropout on."""

    class Adapter(nn.Module):
        def __init__(self, base):
            super().__init__()
            rows, columns = base.weight.shape
            self.base = base
            self.down, self.up = nn.Parameter(0.1 * torch.randn(rows, 2)), nn.Parameter(0.1 * torch.randn(2, columns))

        def forward(self, x):
            return self.base(x) + x @ self.down @ self.up

    torch.manual_seed(0)
    sizes = {"vocab_size": 17, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    net = transformers.GPT2LMHeadModel(config).requires_grad_(False)
    for layer in net.transformer.h:
        layer.attn.c_attn = Adapter(layer.attn.c_attn)
    return net.train()


def test_adapters_on_a_gpt2_with_tied_embeddings(trained, same):
    transformers = pytest.importorskip("transformers")
    build = lambda: _adapted_gpt2(transformers)  # noqa: E731
    words = torch.randint(0, 17, (4, 6), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": words, "labels": words, "attention_mask": torch.ones_like(words)}

    def observed(model, optimizer):
        return landscape.Observer(model, model_loss, _probes(), every=1, optimizer=optimizer, strict=True)

    ends = [trained(build, model_loss, [batch] * 2, observer) for observer in (None, observed)]
    assert same(*ends)

    net, free = build().double(), build().double().requires_grad_(True)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    assert len(names) == 4
    draws = torch.get_rng_state()
    path = landscape.gradient_path(net, model_loss, batch, [0.5])
    chosen = landscape.gradient_path(free, model_loss, batch, [0.5], parameters="*.c_attn.[du]*")
    there = copy.deepcopy(net)

    def gradient(model):
        torch.set_rng_state(draws)  # the same units dropped
        loss = model_loss(model, batch)
        return loss, torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])

    g = gradient(net)[1]
    for p, step in zip([p for p in there.parameters() if p.requires_grad], g, strict=True):
        p.data.sub_(step, alpha=0.5)
    loss, h = gradient(there)
    distance = torch.cat([(a - b).flatten() for a, b in zip(h, g, strict=True)]).norm()
    for found in (path, chosen):
        assert float(found.loss) == pytest.approx(float(loss.detach()), rel=1e-12)
        assert float(found.gradient_distance) == pytest.approx(float(distance), rel=1e-9)
