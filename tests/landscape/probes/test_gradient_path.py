"""gradient_path against closed forms in float64; none of the oracles calls the code under test."""

import math

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError, UsageError


class Point(nn.Module):
    """A model that is nothing but its parameter vector."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)


@pytest.fixture
def quadratic():
    """L = w'Hw/2 - b'w with a known H, at a known w."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    H = A @ A.T + torch.eye(6, dtype=torch.float64)
    b = torch.randn(6, generator=generator, dtype=torch.float64)
    w = torch.randn(6, generator=generator, dtype=torch.float64)
    return Point(w.clone()), (lambda model, batch: model.w @ H @ model.w / 2 - b @ model.w), H, b, w


ETAS = [0.01, 0.05, 0.2]


def test_every_field_on_a_quadratic_equals_its_closed_form(quadratic):
    model, loss_fn, H, b, w = quadratic
    path = landscape.gradient_path(model, loss_fn, None, ETAS)
    g = H @ w - b
    L = lambda x: float(x @ H @ x / 2 - b @ x)  # noqa: E731
    points = [w - eta * g for eta in ETAS]
    losses = torch.tensor([L(x) for x in points], dtype=torch.float64)
    gradients = [H @ x - b for x in points]
    distance = torch.tensor([float((h - g).norm()) for h in gradients], dtype=torch.float64)
    eta = torch.tensor(ETAS, dtype=torch.float64)
    loss0 = L(w)
    expected = {
        "loss": losses,
        "gradient_distance": distance,
        "cosine": torch.stack([h @ g / (h.norm() * g.norm()) for h in gradients]),
        "smoothness": distance / (eta * g.norm()),
        "first_order_ratio": (loss0 - losses) / (eta * g.norm() ** 2),
        "step_sizes": eta,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(path, name), value, rtol=1e-10, atol=0, msg=name)
    beta = float((H @ g).norm() / g.norm())  # the same at every radius of a quadratic
    scalars = {
        "loss0": loss0,
        "gradient_norm": float(g.norm()),
        "direction_norm": float(g.norm()),
        "effective_smoothness": beta,
        "secant_slope": float(((losses - loss0).abs() / (eta * g.norm())).max()),
        "loss_range": float(losses.max() - losses.min()),
        "loss_range_with_origin": float(max(losses.max(), loss0) - min(losses.min(), loss0)),
        "rise": max(0.0, float(losses.max()) - loss0),
        "drop": loss0 - float(losses.min()),
        "predictiveness": float(distance.max()),
        "predictiveness_low": float(distance.min()),
        "alignment": 1.0,
    }
    for name, value in scalars.items():
        assert float(getattr(path, name)) == pytest.approx(value, rel=1e-10), name
    assert path.resolved.all()


def test_the_sweep_descends(quadratic):
    """Public copies of figure 4 have been seen to ascend."""
    model, loss_fn, *_ = quadratic
    path = landscape.gradient_path(model, loss_fn, None, [1e-4])
    assert float(path.loss) < float(path.loss0)


def test_step_sizes_default_to_eight_between_half_and_four_times_the_rate(quadratic):
    model, loss_fn, *_ = quadratic
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sizes = landscape.gradient_path(model, loss_fn, None, optimizer=optimizer).step_sizes
    assert len(sizes) == 8
    assert float(sizes[0]) == pytest.approx(0.05)
    assert float(sizes[-1]) == pytest.approx(0.4)
    ratios = sizes[1:] / sizes[:-1]
    torch.testing.assert_close(ratios, torch.full_like(ratios, 8 ** (1 / 7)))


def test_update_direction_with_momentum_is_the_next_step_itself(quadratic):
    model, loss_fn, H, b, w = quadratic
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    velocity = torch.arange(6, dtype=torch.float64)
    optimizer.state[model.w]["momentum_buffer"] = velocity.clone()
    path = landscape.gradient_path(model, loss_fn, None, [0.1], direction="update", optimizer=optimizer)
    after = w - 0.1 * (0.9 * velocity + (H @ w - b) + 0.01 * w)
    assert float(path.loss) == pytest.approx(float(after @ H @ after / 2 - b @ after), rel=1e-12)
    assert torch.equal(optimizer.state[model.w]["momentum_buffer"], velocity)


def test_custom_direction(quadratic):
    model, loss_fn, H, *_ = quadratic
    v = torch.linspace(-1, 1, 6, dtype=torch.float64)
    path = landscape.gradient_path(model, loss_fn, None, [0.3], direction=v)
    assert float(path.smoothness) == pytest.approx(float((H @ v).norm() / v.norm()), rel=1e-12)
    with pytest.raises(UsageError, match=r"shape \(6,\), not \(5,\)"):
        landscape.gradient_path(model, loss_fn, None, [0.3], direction=v[:5])


def test_held_out_batch_is_evaluated_along_the_gradient_of_the_other():
    """L_c(w) = ||w - c||^2 / 2: g = w - c, and along it the loss of another c has a closed form."""
    w, c, other = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 2.0], [0.0, 0.5], [3.0, -1.0]))
    loss_fn = lambda model, target: (model.w - target).square().sum() / 2  # noqa: E731
    path = landscape.gradient_path(Point(w.clone()), loss_fn, c, [0.25], evaluate_on=other)
    g = w - c
    moved = w - 0.25 * g
    assert float(path.loss0) == pytest.approx(float((w - other).square().sum() / 2))
    assert float(path.loss) == pytest.approx(float((moved - other).square().sum() / 2))
    assert float(path.gradient_distance) == pytest.approx(0.25 * float(g.norm()))
    assert float(path.alignment) == pytest.approx(float(g @ (w - other) / (g.norm() * (w - other).norm())))


def _mlp(dtype=torch.float64):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def _classify(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _data(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 4, generator=generator, dtype=dtype), torch.randint(0, 3, (16,), generator=generator)


def test_scale_invariant_beta_survives_function_preserving_rescaling_and_raw_beta_does_not():
    model, batch = _mlp(), _data()
    with torch.no_grad():
        model[0].bias.zero_()
    raw, invariant = [], []
    for factor in (1.0, 4.0):
        with torch.no_grad():
            model[0].weight.mul_(factor)
            model[2].weight.div_(factor)
        select = "*.weight"  # biases of a ReLU net are not covered by layer-wise rescaling
        raw.append(landscape.gradient_path(model, _classify, batch, [0.1], parameters=select))
        invariant.append(
            landscape.gradient_path(model, _classify, batch, [0.1], parameters=select, direction="scale-invariant")
        )
    assert float(invariant[1].smoothness) == pytest.approx(float(invariant[0].smoothness), rel=1e-9)
    assert float(raw[1].smoothness) != pytest.approx(float(raw[0].smoothness), rel=0.1)


def test_micro_batches_average_to_the_whole_batch_with_unequal_sizes():
    model, (x, y) = _mlp(), _data()
    parts = landscape.Batches([(x[:5], y[:5]), (x[5:], y[5:])])
    whole = landscape.gradient_path(model, _classify, (x, y), [0.1, 1.0])
    split = landscape.gradient_path(model, _classify, parts, [0.1, 1.0])
    for name in ("loss", "gradient_distance", "smoothness", "cosine"):
        torch.testing.assert_close(getattr(split, name), getattr(whole, name), rtol=1e-10, atol=1e-14)


def test_dropout_draws_the_same_mask_at_every_point():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 3)).double()
    tiny = landscape.gradient_path(model, _classify, _data(), [1e-9])
    assert float(tiny.loss) == pytest.approx(float(tiny.loss0), abs=1e-6)  # another mask moves the loss by ~0.1


def test_statistics_modes_and_frozen_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    batch = _data()
    expected = {}
    for mode, training in (("batch", True), ("running", False)):
        model[1].train(training)
        expected[mode] = float(_classify(model, batch).detach())
        model[1].reset_running_stats()
    model.train()
    for mode, value in expected.items():
        path = landscape.gradient_path(model, _classify, batch, [0.1], statistics=mode)
        assert float(path.loss0) == pytest.approx(value, rel=1e-12), mode
    model[1].eval()  # frozen by the user inside a training model: it stays frozen
    assert float(landscape.gradient_path(model, _classify, batch, [0.1]).loss0) == pytest.approx(expected["running"])
    model.eval()  # an evaluating model is probed on the loss that would be trained
    assert float(landscape.gradient_path(model, _classify, batch, [0.1]).loss0) == pytest.approx(expected["batch"])


def test_what_stops_being_finite_ranks_as_infinite_and_is_kept():
    model = Point(torch.tensor([1.0]))
    loss_fn = lambda model, batch: model.w.sqrt().sum() + model.w.square().sum()  # noqa: E731
    path = landscape.gradient_path(model, loss_fn, None, [0.01, 1.0])  # the second point has w < 0: sqrt is NaN
    assert math.isinf(float(path.loss_range))
    assert math.isinf(float(path.effective_smoothness))
    assert float(path.effective_smoothness_index) == 1
    assert math.isfinite(float(path.loss[0]))


def test_unused_and_aliased_gradients():
    """An unused parameter has gradient zero; autograd hands one tensor out for both terms of a sum."""
    model = nn.ParameterDict({k: nn.Parameter(torch.tensor([2.0], dtype=torch.float64)) for k in "abc"})
    path = landscape.gradient_path(model, lambda m, _: (m["a"] + m["b"]).square().sum(), None, [0.1])
    assert float(path.gradient_norm) == pytest.approx(math.sqrt(2) * 8)  # g = 2(a + b) = 8 for a and for b
    assert float(path.smoothness) == pytest.approx(4.0)  # along (1, 1) the curvature of (a + b)^2 is 4


def test_a_result_below_the_rounding_floor_says_so():
    path = landscape.gradient_path(_mlp(torch.float32), _classify, _data(torch.float32), [1e-9, 0.1])
    assert path.resolved.tolist() == [False, True]


def test_the_rounding_allowance_covers_a_float32_network():
    """ROUNDING_UNITS is no guess: float32 gradients of the shipped nets err by less, against float64."""
    from landscape.models import build_model
    from landscape.probes.gradient_path import ROUNDING_UNITS

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 1, 8, 8, generator=generator), torch.randint(0, 10, (64,), generator=generator)
    for norm in ("none", "batch"):
        model = build_model("convnet", norm=norm, input_shape=(1, 8, 8), output_size=10)
        rough = torch.autograd.grad(_classify(model, (x, y)), list(model.parameters()))
        model.double()
        exact = torch.autograd.grad(_classify(model, (x.double(), y)), list(model.parameters()))
        error = torch.cat([(a.double() - b).flatten() for a, b in zip(rough, exact, strict=True)]).norm()
        size = torch.cat([b.flatten() for b in exact]).norm()
        assert 0 < float(error / size) < ROUNDING_UNITS * torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_sizes": None}, "pass optimizer= or step_sizes="),
        ({"step_sizes": [0.1, -1.0]}, "must be finite numbers > 0"),
        ({"step_sizes": []}, "must be finite numbers > 0"),
        ({"step_sizes": [float("nan")]}, "must be finite numbers > 0"),
        ({"step_sizes": [0.1], "direction": "gradeint"}, "did you mean 'gradient'"),
        ({"step_sizes": [0.1], "direction": "update"}, "pass optimizer="),
        ({"step_sizes": [0.1], "statistics": "population"}, "use 'batch'"),
        ({"step_sizes": [0.1], "parameters": "nothing.*"}, "matches none"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        landscape.gradient_path(_mlp(), _classify, _data(), **arguments)


def test_groups_with_different_rates_need_step_sizes():
    model = _mlp()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "lr": 0.2}]
    )
    with pytest.raises(UsageError, match="different learning rates"):
        landscape.gradient_path(model, _classify, _data(), optimizer=optimizer)
    path = landscape.gradient_path(model, _classify, _data(), optimizer=optimizer, direction="update")
    assert float(path.step_sizes[0]) == pytest.approx(0.5)


def test_no_cosine_is_above_one():
    worst = []
    for seed in range(20):
        slope = torch.randn(999, generator=torch.Generator().manual_seed(seed))
        model = nn.Linear(999, 1, bias=False)
        path = landscape.gradient_path(model, lambda m, b: (m.weight[0] * b).sum(), slope, [0.1, 0.2])
        worst += [path.cosine.max(), path.alignment]
    assert 1.0 - 1e-6 < float(torch.stack(worst).min()) <= float(torch.stack(worst).max()) <= 1.0


def test_a_rate_of_0_is_no_window():
    model = _mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.raises(UsageError, match="learning rate is 0"):
        landscape.gradient_path(model, _classify, _data(), optimizer=optimizer)


def test_models_that_cannot_be_probed():
    frozen = _mlp().requires_grad_(False)
    with pytest.raises(ProbeError, match="no trainable parameter"):
        landscape.gradient_path(frozen, _classify, _data(), [0.1])
    with pytest.raises(ProbeError, match="run one forward pass first"):
        landscape.gradient_path(nn.LazyLinear(3), _classify, _data(), [0.1])
    with pytest.raises(UsageError, match=r"scalar tensor.*shape \(16,\)"):
        landscape.gradient_path(_mlp(), lambda m, b: m(b[0]).sum(1), _data(), [0.1])
    with pytest.raises(ProbeError, match="without a graph"):
        landscape.gradient_path(_mlp(), lambda m, b: _classify(m, b).detach(), _data(), [0.1])


def test_frame_has_a_row_per_step_size():
    frame = landscape.gradient_path(_mlp(), _classify, _data(), [0.1, 0.2, 0.4]).frame()
    assert frame.step_sizes.tolist() == pytest.approx([0.1, 0.2, 0.4])
    assert frame.direction.unique().tolist() == ["gradient"]


def test_random_direction_is_as_long_as_the_gradient_and_depends_on_the_seed_alone():
    model, batch = _mlp(), _data()
    paths = [landscape.gradient_path(model, _classify, batch, [0.1], direction="random", seed=s) for s in (0, 0, 1)]
    assert float(paths[0].direction_norm) == pytest.approx(float(paths[0].gradient_norm))
    assert float(paths[0].loss) == float(paths[1].loss) != float(paths[2].loss)


def test_curvature_along_the_gradient(quadratic):
    model, loss_fn, H, b, w = quadratic
    g = H @ w - b
    value = landscape.gradient_curvature(model, loss_fn, None)
    assert float(value) == pytest.approx(float(g @ H @ g / (g @ g)), rel=1e-12)
    assert float(landscape.gradient_curvature(model, lambda m, _: m.w.sum(), None)) == 0.0


def test_curvature_over_micro_batches_is_that_of_the_mean_loss():
    model, (x, y) = _mlp(), _data()
    parts = landscape.Batches([(x[:5], y[:5]), (x[5:], y[5:])])
    whole = landscape.gradient_curvature(model, _classify, (x, y))
    assert float(landscape.gradient_curvature(model, _classify, parts)) == pytest.approx(float(whole), rel=1e-10)
