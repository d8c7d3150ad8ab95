"""Eigenpairs of losses whose Hessian is known, and every mistake that curvature tools have been seen to make."""

import copy
import math
import statistics

import pytest
import torch
from curvature_cases import batch_of, classify, dense_hessian, seeded_net, softmax_hessian, squares
from torch import nn

import landscape
from landscape.errors import ProbeError, UsageError
from landscape.probes import Moment, build_probe


def _mlp(features=6, hidden=8, classes=3):
    return seeded_net(lambda: nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, classes)))


def _outermost(H, k):
    return torch.linalg.eigvalsh(H).flip(0)[:k].tolist()


def test_linear_regression_by_hand():
    x = batch_of(40, 5, 2)[0]
    net = seeded_net(lambda: nn.Linear(5, 1))
    pairs = landscape.hessian_eigenpairs(net, squares, (x, x[:, :1] * 2), k=6, tol=1e-12)
    X = torch.cat([x, torch.ones(40, 1, dtype=torch.float64)], dim=1)
    H = 2 * X.T @ X / 40
    assert pairs.eigenvalues.tolist() == pytest.approx(_outermost(H, 6), rel=1e-10)
    V = pairs.eigenvectors
    torch.testing.assert_close(V @ H, pairs.eigenvalues[:, None] * V, rtol=0, atol=1e-9)
    assert pairs.gradient_energy == pytest.approx(1.0, rel=1e-9)  # six directions are all there are


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_softmax_regression_by_hand(operator):
    x, y = batch_of(50, 6, 4)
    net = seeded_net(lambda: nn.Linear(6, 4, bias=False))
    pairs = landscape.hessian_eigenpairs(net, classify, (x, y), k=3, tol=1e-10, operator=operator)
    H = softmax_hessian(net.weight.detach(), x)  # linear in w: the Gauss-Newton matrix is the Hessian
    assert pairs.eigenvalues.tolist() == pytest.approx(_outermost(H, 3), rel=1e-8)
    g = torch.autograd.grad(classify(net, (x, y)), net.weight)[0].reshape(-1)
    share = (torch.linalg.eigh(H).eigenvectors[:, -3:].T @ g).square().sum() / g.square().sum()
    assert pairs.gradient_energy == pytest.approx(float(share), rel=1e-3)


def test_a_two_layer_linear_net_by_hand_negative_curvature_and_gauss_newton():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    a, b, x, y = 0.5, -0.3, 2.0, 1.0
    with torch.no_grad():
        net[0].weight.fill_(a), net[1].weight.fill_(b)
    batch = (torch.tensor([[x]], dtype=torch.float64), torch.tensor([[y]], dtype=torch.float64))
    # L = (abx - y)^2; with r = abx - y: L_aa = 2 b^2 x^2, L_bb = 2 a^2 x^2, L_ab = 2 a b x^2 + 2 r x
    r, mixed = a * b * x - y, 2 * a * b * x * x
    H = torch.tensor([[2 * b * b * x * x, mixed + 2 * r * x], [mixed + 2 * r * x, 2 * a * a * x * x]]).double()
    G = torch.tensor([[2 * b * b * x * x, mixed], [mixed, 2 * a * a * x * x]]).double()
    low, high = torch.linalg.eigvalsh(H).tolist()
    assert low < 0 < high

    def one(**options):
        return float(landscape.hessian_eigenpairs(net, squares, batch, tol=1e-9, **options).eigenvalues)

    assert one() == pytest.approx(high, rel=1e-6)
    assert one(which="smallest") == pytest.approx(low, rel=1e-6)
    assert one(which="magnitude") == pytest.approx(high, rel=1e-6)
    assert one(operator="ggn") == pytest.approx(float(torch.linalg.eigvalsh(G)[1]), rel=1e-6)


def test_top_five_of_a_trained_net_within_the_tolerance_of_the_dense_hessian():
    net, batch = _mlp(), batch_of(60, 6, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        classify(net, batch).backward()
        optimizer.step()
    H = dense_hessian(net, classify, batch)
    for seed in range(3):
        pairs = landscape.hessian_eigenpairs(net, classify, batch, k=5, seed=seed)
        assert pairs.eigenvalues.tolist() == pytest.approx(_outermost(H, 5), rel=1e-3)
        assert pairs.converged


def test_unequal_batches_are_weighted_and_a_list_is_batches():
    net, (x, y) = _mlp(), batch_of(64, 6, 3)
    parts = [(x[:60], y[:60]), (x[60:], y[60:])]  # an unweighted mean is 30 % off elsewhere
    H = dense_hessian(net, classify, (x, y))
    for operator in ("hessian", "ggn"):
        whole = landscape.hessian_eigenpairs(net, classify, (x, y), k=2, tol=1e-9, operator=operator)
        split = landscape.hessian_eigenpairs(net, classify, parts, k=2, tol=1e-9, operator=operator)
        assert split.eigenvalues.tolist() == pytest.approx(whole.eigenvalues.tolist(), rel=1e-7)
        assert split.gradient_energy == pytest.approx(whole.gradient_energy, rel=1e-5)
    assert landscape.hessian_eigenpairs(net, classify, parts, k=2, tol=1e-9).eigenvalues.tolist() == pytest.approx(
        _outermost(H, 2), rel=1e-7
    )
    equal = landscape.hessian_eigenpairs(net, classify, landscape.Batches(parts, [1.0, 1.0]), tol=1e-9)
    halves = (dense_hessian(net, classify, parts[0]) + dense_hessian(net, classify, parts[1])) / 2
    assert float(equal.eigenvalues) == pytest.approx(_outermost(halves, 1)[0], rel=1e-7)


def _normed():
    return seeded_net(
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3), nn.Linear(3, 3)
        )
    )


@pytest.mark.parametrize("call", ["hessian_eigenpairs", "hessian_trace", "spectral_density"])
@pytest.mark.parametrize("training", [True, False])
def test_no_trace_grad_buffers_flags_and_draws(call, training):
    net, batch = _normed(), batch_of(32, 6, 3)
    classify(net, batch).backward()
    net.train(training)
    held = [p.grad for p in net.parameters()]
    before, state = copy.deepcopy((net.state_dict(), held)), torch.get_rng_state()
    getattr(landscape, call)(net, classify, batch)
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), net.state_dict().values(), strict=True))
    assert all(p.grad is g for p, g in zip(net.parameters(), held, strict=True))  # nothing accumulates into it
    assert all(torch.equal(a, b) for a, b in zip(before[1], held, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert {module.training for module in net.modules()} == {training}


def test_a_second_solve_gives_the_same_and_another_seed_agrees():
    net, batch = _normed(), batch_of(32, 6, 3)
    first, again, other = (landscape.hessian_eigenpairs(net, classify, batch, k=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.eigenvalues, again.eigenvalues)
    assert torch.equal(first.eigenvectors, again.eigenvectors)
    assert other.eigenvalues.tolist() == pytest.approx(first.eigenvalues.tolist(), rel=2e-3)


def test_batch_statistics_are_those_of_training_and_running_ones_can_be_asked_for():
    net = seeded_net(lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)))
    batch = batch_of(32, 6, 3)
    values = {}
    for statistics_mode, flag in (("batch", True), ("running", False)):
        twin = copy.deepcopy(net).train(flag)
        values[statistics_mode] = _outermost(dense_hessian(twin, classify, batch), 1)[0]
        found = landscape.hessian_eigenpairs(net, classify, batch, tol=1e-8, statistics=statistics_mode)
        assert float(found.eigenvalues) == pytest.approx(values[statistics_mode], rel=1e-6)
    assert values["batch"] != pytest.approx(values["running"], rel=0.05)


def test_a_parameter_that_the_loss_does_not_use():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(6, 3), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    net, batch = seeded_net(Spare), batch_of(32, 6, 3)
    for operator in ("hessian", "ggn"):
        pairs = landscape.hessian_eigenpairs(net, classify, batch, operator=operator, tol=1e-8)
        alone = landscape.hessian_eigenpairs(net.used, classify, batch, operator=operator, tol=1e-8)
        assert float(pairs.eigenvalues) == pytest.approx(float(alone.eigenvalues), rel=1e-7)
        assert float(pairs.eigenvectors[0, 21:].abs().max()) < 1e-6


def test_blocks_of_layers_and_parameters():
    net, batch = _mlp(), batch_of(40, 6, 3)
    H = dense_hessian(net, classify, batch)

    def one(**options):
        return float(landscape.hessian_eigenpairs(net, classify, batch, tol=1e-9, **options).eigenvalues)

    assert one(layers=["2"]) == pytest.approx(_outermost(H[56:, 56:], 1)[0], rel=1e-6)
    assert one(parameters="*.weight", layers=["0"]) == pytest.approx(_outermost(H[:48, :48], 1)[0], rel=1e-6)
    assert one(layers=["0", "2"]) == pytest.approx(_outermost(H, 1)[0], rel=1e-6)
    with pytest.raises(UsageError, match="layer '1' has no trainable parameter"):
        one(layers=["1"])


def test_micro_batches_whose_graphs_are_not_kept_give_the_same_also_with_dropout():
    net, (x, y) = _normed(), batch_of(60, 6, 3)
    parts = [(x[:40], y[:40]), (x[40:], y[40:])]
    kept = landscape.hessian_eigenpairs(net, classify, parts, k=2, tol=1e-8)
    vectors = landscape.eigenpairs_memory(net, k=2)
    again = landscape.hessian_eigenpairs(net, classify, parts, k=2, tol=1e-8, memory_limit=vectors)
    assert again.eigenvalues.tolist() == pytest.approx(kept.eigenvalues.tolist(), rel=1e-9)


def test_graphs_of_several_batches_are_kept_only_where_the_memory_allows_it():
    net, (x, y) = _mlp(), batch_of(64, 6, 3)
    forwards = []
    net.register_forward_hook(lambda *_: forwards.append(1))
    parts = [(x[:32], y[:32]), (x[32:], y[32:])]
    pairs = landscape.hessian_eigenpairs(net, classify, parts)
    assert len(forwards) == 3  # one to see what it saves, then one a batch
    forwards.clear()
    limit = landscape.eigenpairs_memory(net)
    tight = landscape.hessian_eigenpairs(
        net, classify, [(x[i::2].repeat(40, 1), y[i::2].repeat(40)) for i in (0, 1)], memory_limit=limit
    )
    assert len(forwards) == 3 + 2 * tight.products
    assert float(tight.eigenvalues) == pytest.approx(float(pairs.eigenvalues), rel=2e-3)


def test_memory_is_stated_restarted_under_and_refused_in_words():
    net, batch = _mlp(), batch_of(40, 6, 3)
    n = sum(p.numel() for p in net.parameters())
    assert landscape.eigenpairs_memory(net, k=2, max_basis=20) == 8 * n * 24
    free = landscape.hessian_eigenpairs(net, classify, batch, k=2, tol=1e-6)
    tight = landscape.hessian_eigenpairs(net, classify, batch, k=2, tol=1e-6, memory_limit=8 * n * 14)
    assert tight.products > 10  # a basis of ten vectors: it restarted
    assert tight.eigenvalues.tolist() == pytest.approx(free.eigenvalues.tolist(), rel=1e-5)
    with pytest.raises(ProbeError, match=r"4 vectors of 83 numbers need .* GiB, and .* may be taken on cpu"):
        landscape.hessian_eigenpairs(net, classify, batch, k=2, memory_limit=8 * n * 4 - 1)
    with pytest.raises(UsageError, match="max_basis=5 can't hold a solve for k=2: 6 at least, or 0"):
        landscape.hessian_eigenpairs(net, classify, batch, k=2, max_basis=5)
    with pytest.raises(UsageError, match="k must be 1 to 83"):
        landscape.hessian_eigenpairs(net, classify, batch, k=84)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_smallest_budget_gives_the_same_pairs(k):
    net, batch = _mlp(), batch_of(40, 6, 3)
    free = landscape.hessian_eigenpairs(net, classify, batch, k=k, tol=1e-8, max_products=2000)
    budget = landscape.eigenpairs_memory(net, k=k, max_basis=k + 4)
    tight = landscape.hessian_eigenpairs(net, classify, batch, k=k, tol=1e-8, max_products=2000, memory_limit=budget)
    assert tight.converged
    assert tight.products > k + 4  # it restarted
    assert tight.eigenvalues.tolist() == pytest.approx(free.eigenvalues.tolist(), rel=1e-7)
    assert (tight.eigenvectors @ free.eigenvectors.T).abs().diagonal().tolist() == pytest.approx([1.0] * k, abs=1e-5)


def test_gradient_checkpointing_and_attention_have_curvature():
    class Block(nn.Module):
        def __init__(self, checkpointed):
            super().__init__()
            self.qkv, self.out, self.checkpointed = nn.Linear(4, 12), nn.Linear(4, 3), checkpointed

        def attend(self, x):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

        def forward(self, x):
            if self.checkpointed:
                return self.out(torch.utils.checkpoint.checkpoint(self.attend, x, use_reentrant=False).mean(dim=1))
            return self.out(self.attend(x).mean(dim=1))

    plain = seeded_net(lambda: Block(False))
    thrifty = copy.deepcopy(plain)
    thrifty.checkpointed = True
    x = torch.randn(8, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = (x, torch.arange(8) % 3)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        true = _outermost(dense_hessian(plain, classify, batch), 2)
    for net in (plain, thrifty):
        for operator in ("hessian", "ggn"):
            found = landscape.hessian_eigenpairs(net, classify, batch, k=2, tol=1e-8, operator=operator)
            if operator == "hessian":
                assert found.eigenvalues.tolist() == pytest.approx(true, rel=1e-6)
    kept = landscape.hessian_trace(plain, classify, batch, products=200, operator="ggn")
    again = landscape.hessian_trace(thrifty, classify, batch, products=200, operator="ggn")
    assert again.value == pytest.approx(kept.value, rel=1e-9)


def _decayed(model, batch):
    return classify(model, batch) + 0.1 * sum(p.square().sum() for p in model.parameters())


def _twice(model, batch):
    return classify(model, batch) + classify(model, batch)


def _linear(model, batch):
    return model(batch[0]).mean()


@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [(_decayed, "past its output"), (_twice, "called the model 2 times"), (_linear, "linear in the output")],
)
def test_gauss_newton_is_refused_where_it_is_not_defined(loss_fn, words):
    net, batch = _mlp(), batch_of(20, 6, 3)
    with pytest.raises(ProbeError, match=words):
        landscape.hessian_eigenpairs(net, loss_fn, batch, operator="ggn")
    assert landscape.hessian_eigenpairs(net, loss_fn, batch).converged


def test_gauss_newton_of_an_output_in_a_dict():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = _mlp()

        def forward(self, x):
            return {"logits": self.net(x), "count": torch.ones(()), "hidden": (x, None)}

    net, batch = Named(), batch_of(20, 6, 3)
    named = landscape.hessian_eigenpairs(
        net, lambda m, b: nn.functional.cross_entropy(m(b[0])["logits"], b[1]), batch, operator="ggn", tol=1e-8
    )
    plain = landscape.hessian_eigenpairs(net.net, classify, batch, operator="ggn", tol=1e-8)
    assert float(named.eigenvalues) == pytest.approx(float(plain.eigenvalues), rel=1e-7)


def test_complex_weights_and_unknown_words_are_refused():
    net = nn.Linear(3, 1, bias=False).to(torch.complex64)
    with pytest.raises(ProbeError, match="'weight' is complex"):
        landscape.hessian_eigenpairs(net, lambda m, _: m.weight.abs().square().sum(), None)
    with pytest.raises(UsageError, match="did you mean 'ggn'"):
        landscape.hessian_eigenpairs(_mlp(), classify, batch_of(8, 6, 3), operator="gnn")


def test_float32_agrees_with_float64():
    net, (x, y) = _mlp(), batch_of(60, 6, 3)
    exact = landscape.hessian_eigenpairs(net, classify, (x, y), k=3, tol=1e-9)
    single = landscape.hessian_eigenpairs(net.float(), classify, (x.float(), y), k=3, tol=1e-5)
    assert single.eigenvectors.dtype == torch.float32
    assert single.eigenvalues.tolist() == pytest.approx(exact.eigenvalues.tolist(), rel=2e-5)


def _training(probe, steps=12):
    net, batch = _mlp(), batch_of(60, 6, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    rows = []
    for step in range(steps):
        rows.append(list(probe.measure(Moment(net, classify, batch, step, optimizer, 0.2))))
        optimizer.zero_grad()
        classify(net, batch).backward()
        optimizer.step()
    return net, batch, rows


def _number(rows, quantity, index=0):
    return next(row.value for row in rows if row.quantity == quantity and row.index == index)


def test_the_probe_starts_warm_and_follows_the_top_eigenvalue():
    _, _, rows = _training(build_probe("hessian_eigenpairs", verify_every=100), steps=20)
    assert [_number(step, "verified") for step in rows[:2]] == [1.0, 0.0]
    assert statistics.median(_number(step, "products") for step in rows[1:]) <= 5 < _number(rows[0], "products")


def test_rows_of_the_probe():
    _, batch, rows = _training(build_probe("hessian_eigenpairs", k=2, layers=["0", "2"]), steps=1)
    fresh = _mlp()
    H = dense_hessian(fresh, classify, batch)
    for layer, block in (("0", H[:56, :56]), ("2", H[56:, 56:])):
        own = [row for row in rows[0] if row.layer == layer]
        top = _outermost(block, 2)
        assert [_number(own, "eigenvalue", i) for i in (0, 1)] == pytest.approx(top, rel=1e-3)
        assert _number(own, "step_sharpness") == pytest.approx(0.2 * top[0], rel=1e-3)
        assert 0.0 <= _number(own, "gradient_energy") <= 1.0
        assert {row.variant for row in own} == {"hessian/largest"}
    assert len({(row.quantity, row.index, row.layer) for row in rows[0]}) == len(rows[0])


def test_the_probe_goes_on_from_its_state():
    whole = _training(build_probe("hessian_eigenpairs"), steps=4)[2]
    probe = build_probe("hessian_eigenpairs")
    net, batch, _ = _training(probe, steps=3)
    state = probe.state_dict()
    resumed = build_probe("hessian_eigenpairs")
    resumed.load_state_dict(copy.deepcopy(state))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    rows = list(resumed.measure(Moment(net, classify, batch, 3, optimizer, 0.2)))
    assert [row.value for row in rows] == [row.value for row in whole[3]]


def test_a_network_that_diverged_is_measured_as_infinite():
    net, batch = _mlp(), batch_of(20, 6, 3)
    net[0].weight.data.fill_(math.nan)
    probe = build_probe("hessian_eigenpairs")
    rows = list(probe.measure(Moment(net, classify, batch, 0, None, 0.1)))
    assert _number(rows, "eigenvalue") == _number(rows, "step_sharpness") == math.inf
    assert _number(rows, "converged") == 0.0
    assert landscape.hessian_trace(net, classify, batch, products=10).value == math.inf


def test_every_is_checked():
    with pytest.raises(UsageError, match="verify_every=0"):
        build_probe("hessian_eigenpairs", verify_every=0)
