"""Slices against paraboloids written by hand, against models built anew at each point, and free of known mistakes."""

import copy

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import UsageError
from landscape.models import build_model
from landscape.objective import Batches


def _cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _batch(shape, n=16, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=dtype), torch.randint(0, 10, (n,), generator=generator)


def _axes_of(kind, model, batch, **options):
    """The axes themselves, read off slices of linear losses: L(w) = w_i gives d_i."""
    n = sum(p.numel() for p in model.parameters())

    def axis(i):
        def pick(model, batch):
            return torch.cat([p.flatten() for p in model.parameters()])[i]

        found = landscape.loss_slice(model, pick, batch, directions=kind, points=2, **options)
        at = found.coordinates[0]
        return (found.loss[1] - found.loss[0]).sum() / found.loss[0].numel() / (at[1] - at[0])

    return torch.stack([axis(i) for i in range(n)])


class Quadratic(nn.Module):
    def __init__(self, A, w):
        super().__init__()
        self.A, self.w = A, nn.Parameter(w)

    def forward(self, _):
        return self.w @ self.A @ self.w / 2


@pytest.fixture
def bowl():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return Quadratic(root @ root.T, torch.randn(6, generator=generator, dtype=torch.float64))


def test_a_quadratic_is_its_paraboloid_on_a_grid_of_unequal_sides(bowl):
    u, v = torch.eye(6, dtype=torch.float64)[:2] * torch.tensor([[2.0], [-0.5]], dtype=torch.float64)
    found = landscape.loss_slice(
        bowl, lambda m, b: m(b), None, directions=[u, v], extent=[(-1.0, 2.0), 0.7], points=(4, 7)
    )
    A, w = bowl.A, bowl.w.detach()
    for i, x in enumerate(torch.linspace(-1, 2, 4, dtype=torch.float64)):
        for j, y in enumerate(torch.linspace(-0.7, 0.7, 7, dtype=torch.float64)):
            step = x * u + y * v
            exact = w @ A @ w / 2 + w @ A @ step + step @ A @ step / 2
            assert float(found.loss[i, j]) == pytest.approx(float(exact), rel=1e-13)
    assert found.loss.shape == (4, 7)
    assert found.lengths.tolist() == [2.0, 0.5]
    frame = found.frame()  # rows as they are measured: y runs within x, always upwards
    assert frame["y"].tolist() == found.coordinates[1].tolist() * 4
    assert frame["x"].tolist() == [x for x in found.coordinates[0].tolist() for _ in range(7)]
    assert frame["loss"].tolist() == found.loss.flatten().tolist()


def test_the_middle_of_the_slice_is_the_loss_itself(bowl):
    for dimensions in (1, 2):
        found = landscape.loss_slice(
            bowl, lambda m, b: m(b), None, dimensions=dimensions, points=3, ignore_1d=False, seed=3
        )
        assert float(found.loss[(1,) * dimensions]) == float(found.loss0) == float(bowl(None).detach())


def test_gradient_and_eigenvector_axes_have_length_one_and_known_curvature(bowl):
    g = bowl.A @ bowl.w.detach()
    line = landscape.loss_slice(bowl, lambda m, b: m(b), None, directions="gradient", dimensions=1, points=3, extent=1)
    slope = (line.loss[2] - line.loss[0]) / 2
    assert float(slope) == pytest.approx(-float(g.norm()), rel=1e-10)
    values, vectors = torch.linalg.eigh(bowl.A)
    for given in (3 * vectors.T.flip(0), [[2 * v] for v in vectors.T.flip(0)]):
        plane = landscape.loss_slice(bowl, lambda m, b: m(b), None, directions="eigen", eigenvectors=given, points=3)
        bends = (plane.loss[2, 1] + plane.loss[0, 1], plane.loss[1, 2] + plane.loss[1, 0])
        assert [float(b - 2 * plane.loss0) for b in bends] == pytest.approx(values.flip(0)[:2].tolist(), rel=1e-9)
        assert abs(float(plane.cosine)) < 1e-12
    plane = landscape.loss_slice(bowl, lambda m, b: m(b), None, directions="gradient", points=3)
    assert abs(float(plane.cosine)) < 1e-12  # orthogonal although the gradient is not of length 1 to begin with
    assert plane.lengths.tolist() == pytest.approx([1.0, 1.0])


def test_filter_axes_are_gaussian_and_scaled_filter_by_filter():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).double()
    model[3].weight.data.mul_(5)
    axis = _axes_of("filter", model, None, dimensions=1)
    sizes = [p.numel() for p in model.parameters()]
    blocks = [b.view_as(p) for b, p in zip(axis.split(sizes), model.parameters(), strict=True)]
    for block, (name, p) in zip(blocks, model.named_parameters(), strict=True):
        if p.ndim < 2:  # biases, gamma and beta stay
            assert float(block.abs().max()) == 0.0, name
        else:
            expected = p.detach().flatten(1).norm(dim=1)
            torch.testing.assert_close(block.flatten(1).norm(dim=1), expected, rtol=1e-8, atol=1e-10)
    found = landscape.loss_slice(model, lambda m, b: m(b).square().mean(), torch.randn(4, 2, 4, 4).double(), points=2)
    assert found.still == ("0.bias", "1.weight", "1.bias", "3.bias")
    every = _axes_of("filter", model, None, dimensions=1, ignore_1d=False)
    assert [float(b.norm()) for b in every.split(sizes)] == pytest.approx(
        [float(p.detach().norm()) for p in model.parameters()], rel=1e-8
    )


def test_draws_are_gaussian_and_belong_to_the_seed():
    model = nn.Linear(5000, 1, bias=False).double()
    model.weight.data.fill_(1.0)
    axes = {}
    for seed in (0, 0, 1):
        found = landscape.loss_slice(
            model, lambda m, b: m.weight.pow(4).mean(), None, dimensions=1, points=(2,), seed=seed
        )
        axes.setdefault(seed, []).append(found.loss.tolist())
    assert axes[0][0] == axes[0][1] != axes[1][0]
    # L(+-1) = mean (1 +- z)^4 = 1 + 6 mean z^2 + mean z^4 on the average: 10 for a Gaussian, 8.8 for a uniform [-1, 1].
    # Four standard errors of mean z^4 with n = 5000: 4 sqrt(96 / 5000) = 0.55 (the scaling to mean z^2 = 1 lowers it).
    low, high = axes[0][0]
    assert abs((low + high) / 2 - 10) < 0.55
    # mean (1 + z)^4 - mean (1 - z)^4 = 8 mean z + 8 mean z^3: zero for symmetric draws, 8.5 for uniform [0, 1] ones
    assert abs(low - high) < 4 * 8 * (22 / 5000) ** 0.5


def test_a_slice_is_what_models_built_anew_at_each_point_give():
    model = build_model("convnet", norm="batch", input_shape=(1, 8, 8), output_size=10, channels=(4, "M", 8))
    batches = [_batch((1, 8, 8), 12), _batch((1, 8, 8), 4, seed=1)]
    n = sum(p.numel() for p in model.parameters())
    axes = torch.randn(2, n, generator=torch.Generator().manual_seed(1)) / 10
    found = landscape.loss_slice(model, _cross_entropy, batches, directions=axes, points=(2, 3))

    def anew(x, y):
        other = copy.deepcopy(model).train()
        move = (x * axes[0] + y * axes[1]).split([p.numel() for p in other.parameters()])
        for p, d in zip(other.parameters(), move, strict=True):
            p.data.add_(d.view_as(p))
        losses = [float(_cross_entropy(copy.deepcopy(other), b).detach()) for b in batches]
        return (12 * losses[0] + 4 * losses[1]) / 16  # by size, and a mean

    for i, x in enumerate((-1.0, 1.0)):
        for j, y in enumerate((-1.0, 0.0, 1.0)):
            assert float(found.loss[i, j]) == pytest.approx(anew(x, y), rel=1e-5)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_running_statistics_are_never_in_a_direction_and_the_model_is_left_alone(statistics):
    model = build_model("mlp", norm="batch", input_shape=(6,), output_size=10, hidden=(8,))
    model.fc1.norm.running_var.fill_(1e-4)  # a move of size one would make it negative, and the loss NaN
    batch = _batch((6,))
    _cross_entropy(model, batch).backward()
    before = copy.deepcopy((model.state_dict(), [p.grad for p in model.parameters()]))
    flags = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    state = torch.get_rng_state()
    found = landscape.loss_slice(model, _cross_entropy, batch, points=5, extent=3, statistics=statistics)
    assert bool(found.loss.isfinite().all())
    assert not any("running" in name for name in found.still)
    after = (model.state_dict(), [p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert flags == ([p.requires_grad for p in model.parameters()], [m.training for m in model.modules()])
    assert torch.equal(state, torch.get_rng_state())


def test_statistics_decide_which_function_is_sliced():
    model = build_model("mlp", norm="batch", input_shape=(6,), output_size=10, hidden=(8,))
    batch = _batch((6,))
    values = {
        s: float(landscape.loss_slice(model, _cross_entropy, batch, points=2, statistics=s).loss0)
        for s in ("batch", "running")
    }
    assert values["batch"] == pytest.approx(
        float(_cross_entropy(copy.deepcopy(model).train(), batch).detach()), rel=1e-6
    )
    assert values["running"] == pytest.approx(
        float(_cross_entropy(copy.deepcopy(model).eval(), batch).detach()), rel=1e-6
    )


def test_every_point_sees_the_same_draws():
    model = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.5), nn.Linear(50, 10))
    still = torch.zeros(sum(p.numel() for p in model.parameters()))
    still[0] = 1e-12  # moves nothing in float32
    found = landscape.loss_slice(model, _cross_entropy, _batch((6,)), directions=[still], points=4)
    assert len(set(found.loss.tolist())) == 1


def test_what_is_not_finite_is_the_highest_there_is():
    found = landscape.loss_slice(
        nn.Linear(1, 1),
        lambda m, b: (m.weight.sum() - 1e6).log(),
        None,
        directions=[torch.tensor([1.0, 0.0])],
        points=2,
    )
    assert found.loss.tolist() == [float("inf")] * 2


# -- the shared first layer


def _unshared(model, batch):
    """The same loss of a first layer that can't be shared: its input is a copy."""
    return nn.functional.cross_entropy(model(batch[0].clone()), batch[1])


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
def test_a_shared_first_layer_changes_nothing_but_rounding(norm, dimensions, dtype, tolerance):
    model = build_model("mlp", norm=norm, input_shape=(3, 4, 4), output_size=10, hidden=(16, 16)).to(dtype)
    batches = [_batch((3, 4, 4), 12, dtype=dtype), _batch((3, 4, 4), 7, seed=1, dtype=dtype)]
    options = {"directions": "gradient", "dimensions": dimensions, "points": 3}  # moves biases as well
    shared = landscape.loss_slice(model, _cross_entropy, batches, **options)
    plain = landscape.loss_slice(model, _unshared, batches, **options)
    assert (shared.shared, plain.shared) == (True, False)
    torch.testing.assert_close(shared.loss, plain.loss, rtol=tolerance, atol=tolerance)


def _reads_the_weight(model, batch):
    return _cross_entropy(model, batch) + model[0].weight.detach().square().sum()


def _writes_into_the_batch(model, batch):
    loss = _cross_entropy(model, batch)
    batch[0].mul_(0.9)
    return loss


def _two_inputs(model, batch):
    return _cross_entropy(model, batch) + _cross_entropy(model, (batch[0].flip(1), batch[1]))


def _half_of_it(model, batch):
    return _cross_entropy(model, (batch[0][:8], batch[1][:8])) + _cross_entropy(model, (batch[0][8:], batch[1][8:]))


def _autocast(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return _cross_entropy(model, batch).float()


@pytest.mark.parametrize(
    ("loss_fn", "shared"),
    [(_reads_the_weight, True), (_two_inputs, True), (_half_of_it, True), (_autocast, False)],
)
def test_whatever_the_loss_does_the_shared_layer_gives_what_a_model_moved_by_hand_gives(loss_fn, shared):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 10))
    batch = _batch((6,))
    axes = torch.randn(2, sum(p.numel() for p in model.parameters()), generator=torch.Generator().manual_seed(2))
    found = landscape.loss_slice(model, loss_fn, batch, directions=axes, points=2)
    assert found.shared is shared
    moved = copy.deepcopy(model)
    for p, d in zip(
        moved.parameters(), (axes[0] - axes[1]).split([p.numel() for p in moved.parameters()]), strict=True
    ):
        p.data.add_(d.view_as(p))
    with torch.no_grad():
        assert float(found.loss[1, 0]) == pytest.approx(float(loss_fn(moved, batch)), rel=1e-5)


def _held_before(model):
    """Ways to read a first layer's weight: none, calls that are seen, and ways that nobody can see."""
    weight, array = model[0].weight, model[0].weight.detach().numpy()
    alias = weight.data
    return {
        "not at all": lambda: 0.0,
        "in a call": lambda: weight.detach().square().sum(),
        "in a list": lambda: torch.cat([p.reshape(-1) for p in (weight, model[2].weight)]).square().sum(),
        "by keyword": lambda: torch.sum(input=weight),
        "by the bias": lambda: model[0].bias.sum(),
        "by a functional call": lambda: torch.func.functional_call(model, dict(model.named_parameters()), (X,)).sum(),
        "by vmap": lambda: torch.func.vmap(model)(X[None]).sum(),
        "through an alias": lambda: alias.square().sum(),
        "through an array": lambda: float((array**2).sum()),
        "at some points only": lambda: weight.abs().sum() if float(model[2].weight.detach()[0, 0]) > 0 else 0.0,
    }


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("way", list(_held_before(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10)))))
def test_whoever_reads_a_shared_layers_weight_finds_what_belongs_there(way):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10)).double()
    read, batch = _held_before(model)[way], _batch((6,), dtype=torch.float64)
    start = [p.detach().clone() for p in model.parameters()]
    sizes = [p.numel() for p in start]
    axes = torch.randn(2, sum(sizes), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = landscape.loss_slice(model, lambda m, b: _cross_entropy(m, b) + read(), batch, directions=axes, points=4)
    assert found.shared
    for i, x in enumerate(found.coordinates[0].tolist()):
        for j, y in enumerate(found.coordinates[1].tolist()):
            for p, w, d in zip(model.parameters(), start, (x * axes[0] + y * axes[1]).split(sizes), strict=True):
                p.data.copy_(w + d.view_as(w))
            with torch.no_grad():
                by_hand = _cross_entropy(model, batch) + read()
            assert float(found.loss[i, j]) == pytest.approx(float(by_hand), rel=1e-12)


def test_an_interrupt_half_way_puts_everything_back():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 10)).eval()
    before, calls = copy.deepcopy(model.state_dict()), []

    def interrupted(model, batch):
        calls.append(float(model[3].weight.detach()[0, 0]))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return _cross_entropy(model, batch)

    with pytest.raises(KeyboardInterrupt):
        landscape.loss_slice(model, interrupted, _batch((6,)), points=3)
    assert len(set(calls)) > 2  # the weights were on their way
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert not any(module.training for module in model.modules())
    assert not landscape.is_probing()


def test_an_input_that_changes_between_points_is_not_taken_for_the_one_that_was_noted():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10)).double()
    axis = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    axis[-1] = 1e-30  # moves nothing in float64
    x, y = _batch((6,), dtype=torch.float64)
    expected, z = [], x.clone()
    for _ in range(5):  # w itself, then four points beside it
        expected.append(float(_cross_entropy(model, (z, y)).detach()))
        z.mul_(0.9)
    found = landscape.loss_slice(model, _writes_into_the_batch, (x, y), directions=[axis], points=4)
    assert [float(found.loss0), *found.loss.tolist()] == pytest.approx(expected, rel=1e-12)


def test_a_weight_computed_from_another_parameter_is_not_shared():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 10))
    assert not landscape.loss_slice(model, _cross_entropy, _batch((6,)), points=2).shared


# -- trajectories


def test_a_path_is_projected_by_least_squares_and_says_what_the_plane_misses():
    model = nn.Linear(5, 1, bias=False).double()
    w = model.weight.detach().flatten()
    e = torch.eye(5, dtype=torch.float64)
    u, v = e[0], e[0] + e[1]  # not orthogonal
    points = [w + 2 * u - 3 * v + 4 * e[2], w + u, w + v - 4 * e[2]]
    found = landscape.loss_slice(
        model, lambda m, b: m.weight.sum(), None, directions=[u, v], trajectory=points, points=3
    )
    exact = torch.tensor([[2.0, -3.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(found.path.points, exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.path.distance, torch.tensor([4.0, 0.0, 4.0], dtype=torch.float64))
    cloud = torch.stack(points) - torch.stack(points).mean(0)
    shares = [cloud[:, :k].square().sum() / cloud.square().sum() for k in (1, 2)]
    assert found.path.explained_variance.tolist() == pytest.approx([float(s) for s in shares], rel=1e-12)
    for k in (0, 1):  # the slice holds w and the path
        at = found.coordinates[k]
        assert float(at[0]) < min(0.0, float(exact[:, k].min())) <= max(0.0, float(exact[:, k].max())) < float(at[-1])


def test_principal_axes_are_those_of_the_singular_value_decomposition():
    model = build_model("mlp", norm="batch", input_shape=(6,), output_size=10, hidden=(8,)).double()
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    steps = torch.randn(7, len(flat), generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(0)
    run = flat + steps - steps[-1]
    snapshots = []
    for point in run:  # as state dicts, with running statistics that must not count
        other = copy.deepcopy(model)
        for p, d in zip(other.parameters(), point.split([p.numel() for p in other.parameters()]), strict=True):
            p.data.copy_(d.view_as(p))
        other.fc1.norm.running_var.fill_(1e9)
        snapshots.append(other.state_dict())
    found = landscape.loss_slice(
        model,
        _cross_entropy,
        _batch((6,), dtype=torch.float64),
        directions="trajectory",
        trajectory=snapshots,
        points=(3, 2),
    )
    _, s, V = torch.linalg.svd(run - run.mean(0), full_matrices=False)
    share = (s.square() / s.square().sum()).cumsum(0)[:2]
    torch.testing.assert_close(found.path.explained_variance, share, rtol=1e-10, atol=0)
    expected = (run - flat) @ V[:2].T
    torch.testing.assert_close(found.path.points.abs(), expected.abs(), rtol=1e-8, atol=1e-8)
    assert found.directions == ("principal axis 1", "principal axis 2")
    assert found.path.points[-1].abs().max() < 1e-9  # the run ended at w


# -- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": "fliter"}, "did you mean 'filter'"),
        ({"directions": "eigen"}, "needs eigenvectors="),
        ({"directions": "trajectory"}, "needs trajectory="),
        ({"directions": "trajectory", "trajectory": [torch.zeros(9), torch.ones(9)]}, "fewer than 2 dimensions"),
        ({"directions": [torch.zeros(9)]}, "direction 1 has length 0"),
        ({"directions": [torch.ones(3)]}, r"shape \(9,\), not \(3,\)"),
        ({"directions": [{"weight": torch.ones(1, 8)}]}, "no entry for 'bias'"),
        ({"directions": [[torch.ones(8), torch.ones(1)]]}, "blocks of the parameters' shapes"),
        ({"directions": torch.ones(3, 9)}, "1 or 2 dimensions"),
        ({"dimensions": 3}, "1 or 2 dimensions"),
        ({"points": (3, 3, 3)}, "one for each of the 2 axes"),
        ({"points": 1}, "one number of 2 or more"),
        ({"extent": (1.0,)}, "all 2 axes"),
        ({"extent": [(1.0, 0.0), 1.0]}, "all 2 axes"),
        ({"statistics": "train"}, "statistics='train' is not known"),
        ({"trajectory": [torch.zeros(9)]}, "at least two snapshots"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        landscape.loss_slice(nn.Linear(8, 1), lambda m, x: m(x).mean(), torch.ones(2, 8), **options)


def test_a_list_of_tensors_is_not_guessed_at():
    with pytest.raises(UsageError, match=r"several mini-batches or one \[x, label\]"):
        landscape.loss_slice(nn.Linear(8, 1), _cross_entropy, [torch.ones(2, 8), torch.ones(2)])
    found = landscape.loss_slice(
        nn.Linear(8, 1), lambda m, x: m(x).mean(), Batches([torch.ones(2, 8), torch.ones(3, 8)]), points=2
    )
    assert found.loss.shape == (2, 2)


def test_all_parameters_one_dimensional():
    with pytest.raises(UsageError, match="ignore_1d=False"):
        landscape.loss_slice(nn.BatchNorm1d(3), lambda m, x: m(x).mean(), torch.randn(4, 3))
