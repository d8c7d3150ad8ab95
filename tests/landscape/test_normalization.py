"""Every normalization against its formula, written out in numpy and float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.models import build_model
from landscape.normalization import FAMILIES, LpNorm, normalization

SHAPES = {2: (12, 3), 3: (6, 3, 4), 4: (5, 3, 4, 2)}
PER_UNIT = ["batch", "lp:1", "lp:2", "lp:inf", "noisy-batch", "batch-renorm"]


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(7)


def activations(ndim: int, seed: int = 0) -> Tensor:
    """Float64 activations whose units have different means and scales."""
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[ndim]
    unit = (1, -1, *[1] * (ndim - 2))
    y = torch.randn(shape, generator=generator, dtype=torch.float64)
    return y * torch.tensor([0.5, 2.0, 3.0]).double().reshape(unit) + torch.tensor([1.0, -2.0, 0.3]).reshape(unit)


def built(name: str, ndim: int) -> nn.Module:
    """The normalization in float64, with gamma and beta that are not 1 and 0."""
    module = normalization(name).build(3, ndim).double()
    for parameter_name, p in module.named_parameters():
        value = [0.5, 1.5, -2.0] if parameter_name.endswith("weight") else [0.1, -0.2, 0.3]
        p.data.copy_(torch.tensor(value, dtype=torch.float64))
    return module


def by_unit(y: Tensor) -> np.ndarray:
    """(N, C, ...) as (values, C), for statistics over batch and space."""
    return np.moveaxis(y.detach().numpy(), 1, -1).reshape(-1, 3)


def as_activation(values: np.ndarray, ndim: int) -> np.ndarray:
    shape = SHAPES[ndim]
    return np.moveaxis(values.reshape(shape[0], *shape[2:], 3), -1, 1)


GAMMA, BETA = np.array([0.5, 1.5, -2.0]), np.array([0.1, -0.2, 0.3])


def norm_by_hand(columns: np.ndarray, p: str) -> np.ndarray:
    if p == "1":
        return np.abs(columns).mean(0)
    if p == "2":
        return np.sqrt((columns**2).mean(0))
    if p == "3":
        return np.cbrt((np.abs(columns) ** 3).mean(0))
    return np.abs(columns).max(0)


# --- formulas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("p", ["1", "2", "inf", "3"])
def test_lp_in_training_is_its_formula(p, ndim):
    y = activations(ndim)
    columns = by_unit(y)
    expected = (columns - columns.mean(0)) / np.sqrt(norm_by_hand(columns, p) ** 2 + 1e-5) * GAMMA + BETA
    np.testing.assert_allclose(
        built(f"lp:{p}", ndim)(y).detach().numpy(), as_activation(expected, ndim), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("p", ["1", "2", "inf"])
def test_lp_in_eval_uses_running_mean_and_norm(p, ndim):
    module = built(f"lp:{p}", ndim)
    first, second, third = (activations(ndim, seed) for seed in range(3))
    module(first)
    module(second)
    a, b = by_unit(first), by_unit(second)
    mean = 0.9 * (0.1 * a.mean(0)) + 0.1 * b.mean(0)
    norm = 0.9 * (0.9 * 1 + 0.1 * norm_by_hand(a, p)) + 0.1 * norm_by_hand(b, p)
    np.testing.assert_allclose(module.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(module.running_norm.numpy(), norm, rtol=1e-12)
    assert int(module.num_batches_tracked) == 2

    module.eval()
    tracked = module.running_mean.clone()
    expected = (by_unit(third) - mean) / np.sqrt(norm**2 + 1e-5) * GAMMA + BETA
    np.testing.assert_allclose(module(third).detach().numpy(), as_activation(expected, ndim), rtol=1e-12, atol=1e-14)
    assert torch.equal(module.running_mean, tracked)  # eval moves nothing


def test_lp_without_momentum_averages_over_batches_and_can_start_again():
    module = LpNorm(3, p=1.0, momentum=None).double()
    batches = [activations(4, seed) for seed in range(4)]
    for y in batches:
        module(y)
    norms = [np.abs(by_unit(y)).mean(0) for y in batches]
    np.testing.assert_allclose(module.running_norm.numpy(), np.mean(norms, axis=0), rtol=1e-12)
    module.reset_running_stats()
    assert module.running_mean.tolist() == [0, 0, 0]
    assert module.running_norm.tolist() == [1, 1, 1]
    assert int(module.num_batches_tracked) == 0


@pytest.mark.parametrize("ndim", SHAPES)
def test_batch_norm_is_its_formula_in_training_and_eval(ndim):
    module, y = built("batch", ndim), activations(ndim)
    columns = by_unit(y)
    n = len(columns)
    expected = (columns - columns.mean(0)) / np.sqrt(columns.var(0) + 1e-5) * GAMMA + BETA
    np.testing.assert_allclose(module(y).detach().numpy(), as_activation(expected, ndim), rtol=1e-10, atol=1e-12)

    running_var = 0.9 + 0.1 * columns.var(0) * n / (n - 1)
    expected = (columns - 0.1 * columns.mean(0)) / np.sqrt(running_var + 1e-5) * GAMMA + BETA
    np.testing.assert_allclose(module.eval()(y).detach().numpy(), as_activation(expected, ndim), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ndim", SHAPES)
def test_layer_norm_is_over_all_units_of_a_sample_or_step_with_gamma_per_unit(ndim, training):
    module = normalization("layer").build(3, ndim).double().train(training)
    for key, p in module.named_parameters():
        p.data.copy_(torch.from_numpy(GAMMA if key.endswith("weight") else BETA))
    y = activations(ndim)
    unit = (1, 3, *[1] * (ndim - 2))
    dims = 1 if ndim == 3 else tuple(range(1, ndim))
    mean, var = y.numpy().mean(dims, keepdims=True), y.numpy().var(dims, keepdims=True)
    expected = (y.numpy() - mean) / np.sqrt(var + 1e-5) * GAMMA.reshape(unit) + BETA.reshape(unit)
    np.testing.assert_allclose(module(y).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_none_and_torch_modules_are_what_they_are_said_to_be():
    y = activations(4)
    assert isinstance(normalization("none").build(3, 4), nn.Identity)
    assert torch.equal(built("none", 4)(y), y)
    for ndim, cls in ((2, nn.BatchNorm1d), (3, nn.BatchNorm1d), (4, nn.BatchNorm2d), (5, nn.BatchNorm3d)):
        module = normalization("batch").build(3, ndim)
        assert isinstance(module, cls)
        assert type(module).forward is cls.forward  # nothing is added but the refusal of one value
        assert repr(module) == repr(cls(3))
        assert module.state_dict().keys() == cls(3).state_dict().keys()
    assert type(built("layer", 2)) is nn.LayerNorm
    assert type(built("layer", 4)) is nn.GroupNorm


# --- what the docstring of lp says -----------------------------------------------------------------


def test_lp2_leaves_less_variance_than_batch_norm_where_a_unit_has_a_mean():
    y = torch.randn(4096, 1, dtype=torch.float64)
    y = (y - y.mean()) / y.std(correction=0) * 2 + 3  # variance 4, mean 3, exactly
    out = LpNorm(1, p=2.0).double()(y)
    assert out.var(correction=0).item() == pytest.approx(4 / (4 + 9), rel=1e-4)


def test_lp2_is_batch_norm_where_units_have_no_mean():
    y = activations(2)
    y = y - y.mean(0)
    np.testing.assert_allclose(
        built("lp:2", 2)(y).detach().numpy(), built("batch", 2)(y).detach().numpy(), rtol=1e-10, atol=1e-12
    )


def test_output_scale_on_gaussian_pre_activations():
    y = torch.randn(200, 500, dtype=torch.float64)
    deviations = {p: LpNorm(500, p=p).double()(y).std(0).mean().item() for p in (1.0, 2.0, math.inf)}
    # Delta method: the mean over 500 units of 200 values has a standard error below .003.
    assert deviations[1.0] == pytest.approx(math.sqrt(math.pi / 2), abs=0.01)
    assert deviations[2.0] == pytest.approx(1.0, abs=0.01)
    assert deviations[math.inf] == pytest.approx(0.35, abs=0.02)


@pytest.mark.parametrize("name", ["lp:1", "lp:2", "lp:inf", "lp:3"])
def test_lp_of_units_that_are_zero_throughout_has_finite_gradients(name):
    y = torch.zeros(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(normalization(name).build(3, 2)(y).pow(2).sum(), y, create_graph=True)
    assert torch.isfinite(gradient).all()
    (second,) = torch.autograd.grad(gradient.sum(), y)
    assert torch.isfinite(second).all()


# --- noise ------------------------------------------------------------------------------------------


def draws(times: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """s and m of many training forwards, each (times, *shape): a = 0 shows m, a = 1 shows s + m."""
    module = normalization("noise").build(shape[1], len(shape))
    s, m = [], []
    for seed in range(times):
        torch.manual_seed(seed)
        shift = module(torch.zeros(shape, dtype=torch.float64))
        torch.manual_seed(seed)
        s.append(module(torch.ones(shape, dtype=torch.float64)) - shift)
        m.append(shift)
    return torch.stack(s), torch.stack(m)


def standard_errors_off(sample: Tensor, mean: float) -> float:
    return abs(float(sample.mean()) - mean) / float(sample.std() / math.sqrt(sample.numel()))


def test_noise_has_the_moments_of_its_definition():
    s, m = draws(1500, (16, 8))
    mu, sigma = m.mean((1, 2)), s.mean((1, 2))  # one of each per forward, up to the spread of 128 draws
    assert standard_errors_off(mu, 0.0) < 4
    assert standard_errors_off(sigma, 1.125) < 4
    within = 1 / 128  # the variance that averaging 128 draws leaves
    assert standard_errors_off(mu**2, 1 / 12 + within * 0.2**2 / 12) < 4
    assert standard_errors_off((sigma - 1.125) ** 2, 0.25**2 / 12 + within * 0.1**2) < 4
    assert standard_errors_off(m.var((1, 2)), 0.2**2 / 12) < 4
    assert standard_errors_off(s.var((1, 2)), 0.1**2) < 4  # 0.1 is the standard deviation of s
    assert float((m.amax((1, 2)) - m.amin((1, 2))).max()) <= 0.2 + 1e-12  # m is uniform, within 0.1 of mu
    assert float(m.abs().max()) <= 0.6
    kurtosis = ((s - sigma[:, None, None]) ** 4).mean() / ((s - sigma[:, None, None]) ** 2).mean() ** 2
    assert float(kurtosis) == pytest.approx(3.0, abs=0.1)  # Gaussian, where a uniform would have 1.8


def test_noise_is_drawn_per_sample_and_channel_and_constant_over_space():
    module = normalization("noise").build(3, 4)
    shift = module(torch.zeros(5, 3, 4, 2))
    assert torch.equal(shift, shift[:, :, :1, :1].expand_as(shift))
    assert len(shift[:, :, 0, 0].flatten().unique()) == 15


def test_noise_is_new_at_each_forward_the_same_after_reseeding_and_absent_in_eval():
    module, y = normalization("noise").build(3, 2), activations(2)
    torch.manual_seed(3)
    first, second = module(y), module(y)
    torch.manual_seed(3)
    again = module(y)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    state = torch.get_rng_state()
    assert torch.equal(module.eval()(y), y)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("ndim", SHAPES)
def test_noisy_batch_is_batch_norm_with_the_noise_after_it(ndim):
    y = activations(ndim)
    noisy, batch, noise = built("noisy-batch", ndim), built("batch", ndim), built("noise", ndim)
    torch.manual_seed(5)
    out = noisy(y)
    torch.manual_seed(5)
    assert torch.equal(out, noise(batch(y)))
    assert torch.equal(noisy.eval()(y), batch.eval()(y))
    assert noisy.state_dict().keys() == batch.state_dict().keys()


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
@pytest.mark.parametrize("name", PER_UNIT)
def test_one_value_per_unit_is_refused_in_training_and_fine_in_eval(name, shape):
    module = normalization(name).build(3, len(shape))
    words = rf"^{type(module).__name__} takes .*one value per unit in training, shape \(1, 3.*"
    words += r"variance of one value is 0.*batch of 2 or more.*drop_last=True.*'layer', 'group:8'"
    with pytest.raises(UsageError, match=words):
        module(torch.randn(shape))
    assert module.eval()(torch.randn(shape)).shape == shape


@pytest.mark.parametrize("name", PER_UNIT)
def test_one_image_is_enough_where_space_gives_more_values(name):
    assert torch.isfinite(normalization(name).build(3, 4)(torch.randn(1, 3, 2, 2))).all()


@pytest.mark.parametrize("name", ["none", "noise", "layer"])
def test_batch_size_one_is_fine_within_a_sample(name):
    assert torch.isfinite(normalization(name).build(3, 2)(torch.randn(1, 3))).all()


def test_what_a_loop_around_torchs_own_expects_of_one_value_it_gets():
    with pytest.raises(ValueError, match="one value per unit"):
        normalization("batch").build(3, 2)(torch.randn(1, 3))
    with pytest.raises(ValueError, match="expected 4D input"):  # what torch refuses it still does in its own words
        normalization("batch").build(3, 4)(torch.randn(1, 3))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bacth", "'batch'"),
        ("lp", "did you mean 'lp:"),
        ("lp:l", "a number from 1 on"),
        ("lp:", "a number from 1 on, or inf, as in 'lp:1'"),
        ("group", "did you mean 'group:8'"),
        ("grup:8", "did you mean 'group:8'"),
        ("group:0", "a whole number from 1 on, as in 'group:8'"),
        ("group:x", "a whole number from 1 on, as in 'group:8'"),
        ("group:2.0", "a whole number from 1 on, as in 'group:8'"),
        ("group:", "a whole number from 1 on, as in 'group:8'"),
        ("group:²", "a whole number from 1 on, as in 'group:8'"),
        ("batch-renorm:-1", "a whole number of batches from 1 on, as in 'batch-renorm:5000'"),
        ("selu:1", "between 0 and 1, as in 'selu:0.05'; without dropout it is 'selu'"),
        ("selu:0", "between 0 and 1"),
        ("selu:many", "between 0 and 1"),
        ("lp:1_0", "no spaces and underscores after the colon; write 'lp:10'"),
        ("lp: 1", "write 'lp:1'"),
        ("selu:0.05 ", "write 'selu:0.05'"),
        ("group:1 6", "write 'group:16'"),
        ("batch:8", "did you mean 'batch'"),
        ("cosine-centered", "did you mean '.*cosine'"),
        ("Layer", "did you mean 'layer'"),
        ("GROUP:8", "did you mean 'group:8'"),
        ("batch-norm", "did you mean 'batch'"),
        ("BatchNorm2d", "did you mean 'batch'"),
        ("layernorm", "did you mean 'layer'"),
        ("RMSNorm", "did you mean 'rms'"),
        ("weight_normalization", "did you mean 'weight'"),
        ("norm", "there is no normalization 'norm'"),
        (None, "by its name, as in 'batch' or 'none', not by None"),
        (8, "by its name, .* not by 8"),
        (["batch"], r"by its name, .* not by \['batch'\]"),
    ],
)
def test_wrong_names_point_to_right_ones(name, hint):
    with pytest.raises(UsageError, match=hint):
        normalization(name)


@pytest.mark.parametrize("argument", ["0.5", "0", "-1", "nan", "", "two"])
def test_lp_orders_that_are_no_norm_are_refused(argument):
    with pytest.raises(UsageError, match=f"'lp:{argument}': p has to be a number from 1 on"):
        FAMILIES["lp"](argument)


def test_families_name_what_they_build():
    assert normalization("lp:2.0").name == "lp:2"
    assert normalization("group:04").name == "group:4"
    assert normalization("selu:.1").name == "selu:0.1"
    assert normalization("batch-renorm:5000").name == "batch-renorm:5000"
    assert (
        normalization("lp:1.5").formula
        == "z = gamma (y - mean) / sqrt(norm^2 + 1e-5) + beta, norm = (mean |y|^1.5)^(1/1.5)"
    )


@pytest.mark.parametrize("family", ["lp", "norm-propagation", "selu"])
@pytest.mark.parametrize("argument", ["0.123456789", "0.30000000000000004", "0.1", "1e-07", "0.5"])
def test_a_name_with_many_digits_is_read_again_as_the_same_number(family, argument):
    argument = argument if family != "lp" else f"{1 + float(argument)!r}"
    name = normalization(f"{family}:{argument}").name
    assert float(name.partition(":")[2]) == float(argument)
    assert normalization(name).name == name


def test_a_network_starts_with_the_number_that_was_asked_for():
    model = build_model("mlp", norm="norm-propagation:0.123456789", input_shape=(4,), output_size=2, hidden=[3])
    assert model.fc1.linear.weight.norm(dim=1).tolist() == pytest.approx([0.123456789] * 3, rel=3e-7)


@pytest.mark.parametrize("name", ["batch", "noisy-batch"])
def test_activations_of_too_many_dimensions_are_refused(name):
    with pytest.raises(UsageError, match="2, 3, 4 or 5 dimensions, units on dimension 1, not 6"):
        normalization(name).build(3, 6)
