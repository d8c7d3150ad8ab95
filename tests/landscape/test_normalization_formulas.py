"""Each further normalization against its formula in numpy, or against torch's own module; float64."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from landscape.errors import UsageError
from landscape.normalization import normalization, units_last
from landscape.normalization.cosine import EPS
from landscape.normalization.moments import gaussian_moments

SHAPES = {2: (12, 6), 3: (5, 6, 4), 4: (5, 6, 4, 3), 5: (3, 6, 2, 3, 2)}


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(7)


def activations(ndim: int) -> Tensor:
    """Activations of six units with different means and scales."""
    unit = (1, -1, *[1] * (ndim - 2))
    y = torch.randn(SHAPES[ndim], dtype=torch.float64)
    return y * torch.linspace(0.5, 3, 6).double().reshape(unit) + torch.linspace(-2, 1, 6).reshape(unit)


def trained(module: nn.Module) -> nn.Module:
    """The module in float64, its parameters moved off their initial values."""
    module = module.double()
    for p in module.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return module


def per_unit(p: Tensor, y: np.ndarray) -> np.ndarray:
    return p.detach().numpy().reshape(1, -1, *[1] * (y.ndim - 2))


def affine(module: nn.Module, y: np.ndarray) -> np.ndarray:
    return y * per_unit(module.weight, y) + per_unit(module.bias, y)


def same(ours: nn.Module, torchs: nn.Module, x: Tensor) -> None:
    """Equal in values and in the gradients of the input and of parameters with equal names."""
    torchs.load_state_dict(ours.state_dict())
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours(a), torchs(b)
    slope = torch.randn_like(y)
    ours_g = torch.autograd.grad((y * slope).sum(), [a, *ours.parameters()])
    torchs_g = torch.autograd.grad((z * slope).sum(), [b, *torchs.parameters()])
    for p, q in zip((y, *ours_g), (z, *torchs_g), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


TORCHS = [
    ("batch", 2, lambda: nn.BatchNorm1d(6)),
    ("batch", 3, lambda: nn.BatchNorm1d(6)),
    ("batch", 4, lambda: nn.BatchNorm2d(6)),
    ("batch", 5, lambda: nn.BatchNorm3d(6)),
    ("batch-per-step", 4, lambda: nn.BatchNorm2d(6)),
    ("layer", 2, lambda: nn.LayerNorm(6)),
    ("layer", 4, lambda: nn.GroupNorm(1, 6)),
    ("instance", 3, lambda: nn.InstanceNorm1d(6, affine=True)),
    ("instance", 4, lambda: nn.InstanceNorm2d(6, affine=True)),
    ("instance", 5, lambda: nn.InstanceNorm3d(6, affine=True)),
    ("group:3", 2, lambda: nn.GroupNorm(3, 6)),
    ("group:3", 4, lambda: nn.GroupNorm(3, 6)),
    ("rms", 2, lambda: nn.RMSNorm(6, eps=1e-5)),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "ndim", "torchs"), TORCHS)
def test_what_torch_has_is_torchs_in_values_and_gradients(name, ndim, torchs, training):
    ours, reference = trained(normalization(name).build(6, ndim)), torchs().double()
    for _ in range(2):  # running statistics that are not the initial ones
        ours(activations(ndim))
    same(ours.train(training), reference.train(training), activations(ndim))
    state = reference.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())  # both have moved alike


# --- of activations, within a sample -----------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "cls"), [(3, nn.InstanceNorm1d), (4, nn.InstanceNorm2d), (5, nn.InstanceNorm3d)])
def test_instance_is_torchs_and_alike_in_eval(ndim, cls):
    module, y = trained(normalization("instance").build(6, ndim)), activations(ndim)
    assert isinstance(module, cls)
    assert type(module).forward is cls.forward
    columns = y.numpy()
    dims = tuple(range(2, ndim))
    mean, var = columns.mean(dims, keepdims=True), columns.var(dims, keepdims=True)
    expected = affine(module, (columns - mean) / np.sqrt(var + 1e-5))
    np.testing.assert_allclose(module(y).detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(module(y), module.eval()(y))


def test_instance_does_not_act_on_vectors_and_is_refused_at_one_position():
    assert type(normalization("instance").build(6, 2)) is nn.Identity
    for shape in ((4, 6, 1), (6, 1), (4, 6, 1, 1), (6, 1, 1), (4, 6, 1, 1, 1)):  # with and without a batch
        ndim = len(shape) if shape[0] == 4 else len(shape) + 1
        module = normalization("instance").build(6, ndim)
        for training in (True, False):
            with pytest.raises(UsageError, match=f"^{type(module).__name__} .*got one per unit.*'layer', 'group:8'"):
                module.train(training)(torch.randn(shape))


@pytest.mark.parametrize(
    ("name", "groups", "in_space"), [("group:3", 3, 3), ("group:1", 1, 1), ("group:4", 3, 3), ("group:8", 3, 6)]
)
@pytest.mark.parametrize("ndim", SHAPES)
def test_group_is_torchs_with_the_largest_number_of_groups_that_have_a_variance(ndim, name, groups, in_space):
    module, y = normalization(name).build(6, ndim).double(), activations(ndim)
    groups = groups if ndim < 4 else in_space
    rows = y.transpose(1, 2).flatten(0, 1) if ndim == 3 else y
    expected = F.group_norm(rows, groups)
    if ndim == 3:
        expected = expected.reshape(5, 4, 6).transpose(1, 2)
    torch.testing.assert_close(module(y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["group:8", "weight-standardization"])
def test_eight_groups_of_eight_channels_are_eight_in_images_and_four_without_space(name):
    y = torch.randn(3, 8, 4, 4, dtype=torch.float64)
    build = normalization(name).build
    torch.testing.assert_close(build(8, 4).double()(y), F.group_norm(y, 8), rtol=1e-12, atol=1e-12)
    rows = y.flatten(2)[:, :, 0]
    torch.testing.assert_close(build(8, 2).double()(rows), F.group_norm(rows, 4), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ndim", [2, 4])
def test_one_group_is_layer_normalization(ndim):
    y = activations(ndim)
    group, layer = normalization("group:1").build(6, ndim).double(), normalization("layer").build(6, ndim).double()
    torch.testing.assert_close(group(y), layer(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["layer", "group:8", "evonorm-s0", "weight-standardization"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_one_unit_has_no_variance_and_is_refused(name, ndim):
    entry = normalization(name)
    with pytest.raises(UsageError, match="of 1 unit it leaves a constant"):
        entry.build(1, ndim) if entry.activation is None else entry.activation(nn.ReLU(), 1, ndim)


@pytest.mark.parametrize("ndim", [4, 5])
def test_rms_over_channels_and_space_is_torchs_with_gamma_per_channel(ndim):
    y = activations(ndim)
    ours = trained(normalization("rms").build(6, ndim))
    gamma = ours.weight.reshape(-1, *[1] * (ndim - 2)).expand(y.shape[1:])
    torch.testing.assert_close(ours(y), F.rms_norm(y, y.shape[1:], gamma, eps=1e-5), rtol=1e-12, atol=1e-12)


def test_rms_and_layer_of_vectors_are_torchs_and_of_sequences_torchs_at_each_step():
    y = activations(3)
    for name, cls in (("rms", nn.RMSNorm), ("layer", nn.LayerNorm)):
        ours = trained(normalization(name).build(6, 2))
        assert type(ours) is cls
        assert ours.eps == 1e-5
        steps = normalization(name).build(6, 3).double()
        steps.norm.load_state_dict(ours.state_dict())
        torch.testing.assert_close(units_last(steps)(y.transpose(1, 2)), ours(y.transpose(1, 2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("ndim", [3, 4, 5])
def test_filter_response_with_its_tlu(ndim):
    entry, y = normalization("filter-response"), activations(ndim)
    norm, tlu = trained(entry.build(6, ndim)), trained(entry.activation(nn.ReLU(), 6, ndim))
    square = (y.numpy() ** 2).mean(tuple(range(2, ndim)), keepdims=True)
    z = affine(norm, y.numpy() / np.sqrt(square + 1e-6))
    np.testing.assert_allclose(norm(y).detach().numpy(), z, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(tlu(norm(y)).detach().numpy(), np.maximum(z, per_unit(tlu.tau, z)), rtol=1e-12)


def test_filter_response_of_vectors_learns_its_eps():
    norm, y = normalization("filter-response").build(6, 2).double(), activations(2)
    assert torch.equal(norm.learned_eps, torch.full((6,), 1e-4).double())
    norm.learned_eps.data.copy_(torch.tensor([1.0, -1.0, 2.0, -2.0, 0.5, -0.5]))
    eps = 1e-6 + norm.learned_eps.detach().abs().numpy()
    np.testing.assert_allclose(norm(y).detach().numpy(), y.numpy() / np.sqrt(y.numpy() ** 2 + eps), rtol=1e-12)


@pytest.mark.parametrize("nonlinearity", [nn.Tanh(), nn.Sigmoid(), nn.Identity()])
def test_the_tlu_stands_for_a_relu_only_and_starts_as_one(nonlinearity):
    replace = normalization("filter-response").activation
    assert replace(nonlinearity, 6, 2) is nonlinearity
    y = activations(2)
    assert torch.equal(replace(nn.ReLU(), 6, 2).double()(y), y.relu())


@pytest.mark.parametrize("ndim", SHAPES)
def test_dynamic_tanh(ndim):
    module, y = trained(normalization("dynamic-tanh").build(6, ndim)), activations(ndim)
    expected = affine(module, np.tanh(module.alpha.item() * y.numpy()))
    np.testing.assert_allclose(module(y).detach().numpy(), expected, rtol=1e-12, atol=1e-14)
    assert normalization("dynamic-tanh").build(6, ndim).alpha.item() == 0.5


@pytest.mark.parametrize("ndim", [2, 4, 5])
def test_evonorm_is_over_groups_and_brings_its_nonlinearity(ndim):
    entry, y = normalization("evonorm-s0"), activations(ndim)
    assert type(entry.build(6, ndim)) is nn.Identity
    module = trained(entry.activation(nn.ReLU(), 6, ndim))
    values = y.numpy()
    std = np.empty_like(values)
    for group in (slice(0, 2), slice(2, 4), slice(4, 6)):
        part = values[:, group]
        std[:, group] = np.sqrt(part.var(axis=tuple(range(1, ndim)), keepdims=True) + 1e-5)
    expected = affine(module, values / (1 + np.exp(-per_unit(module.v, values) * values)) / std)
    np.testing.assert_allclose(module(y).detach().numpy(), expected, rtol=1e-10, atol=1e-13)


def test_evonorm_of_a_sequence_is_that_of_its_steps():
    replace, y = normalization("evonorm-s0").activation, activations(3)
    steps, vectors = replace(nn.ReLU(), 6, 3).double(), replace(nn.ReLU(), 6, 2).double()
    expected = torch.stack([vectors(y[:, :, t]) for t in range(4)], 2)
    torch.testing.assert_close(steps(y), expected, rtol=1e-12, atol=1e-14)


# --- of activations, over the batch ------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_batch_renorm_warms_up_as_batch_norm_in_values_and_gradients(ndim):
    ours, torchs, y = (
        normalization("batch-renorm").build(6, ndim),
        normalization("batch").build(6, ndim),
        activations(ndim),
    )
    ours, torchs = trained(ours), torchs.double()
    for p, q in zip(torchs.parameters(), ours.parameters(), strict=True):
        p.data.copy_(q)
    a, b = y.clone().requires_grad_(), y.clone().requires_grad_()
    for _ in range(3):
        z, w = ours(a), torchs(b)
    torch.testing.assert_close(z, w, rtol=1e-10, atol=1e-12)
    slope = torch.randn_like(z)
    (g,), (h,) = torch.autograd.grad((z * slope).sum(), a), torch.autograd.grad((w * slope).sum(), b)
    torch.testing.assert_close(g, h, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ndim", [2, 4])
def test_batch_renorm_after_the_schedule_with_r_and_d_held_constant(ndim):
    module = trained(normalization("batch-renorm:1").build(6, ndim))
    module.running_mean.copy_(torch.tensor([-4.0, -2.0, 0.0, 0.5, 1.0, 40.0]))
    module.running_std.copy_(torch.tensor([0.1, 0.2, 1.0, 2.0, 9.0, 4.0]))
    module.num_batches_tracked.fill_(100)
    mean0, std0 = module.running_mean.clone().numpy(), module.running_std.clone().numpy()
    y = activations(ndim).requires_grad_()
    columns = np.moveaxis(y.detach().numpy(), 1, -1).reshape(-1, 6)
    mean, std = columns.mean(0), np.sqrt(columns.var(0) + 1e-5)
    r, d = np.clip(std / std0, 1 / 3, 3), np.clip((mean - mean0) / std0, -5, 5)
    assert {1 / 3, 3.0} < {*r}  # some are clipped, and some are not
    assert {-5.0, 5.0} < {*d}
    z = module(y)
    unit = (1, 6, *[1] * (ndim - 2))
    normalized = (y.detach().numpy() - mean.reshape(unit)) / std.reshape(unit) * r.reshape(unit) + d.reshape(unit)
    np.testing.assert_allclose(z.detach().numpy(), affine(module, normalized), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(module.running_mean.numpy(), 0.9 * mean0 + 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(module.running_std.numpy(), 0.9 * std0 + 0.1 * std, rtol=1e-12)

    slope = torch.randn_like(z)
    (gradient,) = torch.autograd.grad((z * slope).sum(), y)
    scale = (torch.from_numpy(r) * module.weight.detach()).reshape(unit)
    batch = normalization("batch").build(6, ndim).double()
    (expected,) = torch.autograd.grad((batch(y) * scale * slope).sum(), y)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)

    mean, std = module.running_mean.numpy().reshape(unit), module.running_std.numpy().reshape(unit)
    expected = affine(module, (y.detach().numpy() - mean) / std)
    np.testing.assert_allclose(module.eval()(y).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_schedule_of_batch_renorm_is_the_papers_in_proportion():
    module = normalization("batch-renorm:5000").build(2, 2)
    for step, r_max, d_max in [
        (0, 1, 0),
        (5000, 1, 0),
        (15000, 1 + 2 * 10 / 35, 2.5),
        (25000, 1 + 2 * 20 / 35, 5),
        (40000, 3, 5),
        (90000, 3, 5),
    ]:
        module.num_batches_tracked.fill_(step)
        assert [float(bound) for bound in module.bounds()] == pytest.approx([r_max, d_max])


def test_batch_per_step_is_torchs_batch_norm_of_each_step():
    ours, y = trained(normalization("batch-per-step").build(6, 3)), activations(3)
    alone = [nn.BatchNorm1d(6).double() for _ in range(4)]
    for module in alone:
        module.weight.data.copy_(ours.weight)
        module.bias.data.copy_(ours.bias)
    a, b = y.clone().requires_grad_(), y.clone().requires_grad_()
    for training in (True, True, False):
        z = ours.train(training)(a)
        w = torch.stack([module.train(training)(b[:, :, t]) for t, module in enumerate(alone)], 2)
        torch.testing.assert_close(z, w, rtol=1e-10, atol=1e-12)
        slope = torch.randn_like(z)
        (g,), (h,) = torch.autograd.grad((z * slope).sum(), a), torch.autograd.grad((w * slope).sum(), b)
        torch.testing.assert_close(g, h, rtol=1e-9, atol=1e-12)


def test_batch_per_step_by_steps_and_beyond_the_last_that_it_keeps():
    cls = type(normalization("batch-per-step").build(6, 3))
    whole, stepwise, y = cls(6, steps=3).double(), cls(6, steps=3).double(), activations(3)
    together = whole(y)
    alone = torch.cat([stepwise(y[:, :, t : t + 1], first=t) for t in range(4)], 2)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    assert torch.equal(whole.running_mean, stepwise.running_mean)
    whole.eval()
    assert torch.equal(whole(y[:, :, [2, 2]], first=2)[:, :, 1], whole(y[:, :, [2]], first=2)[:, :, 0])
    assert torch.equal(whole(y)[:, :, 1:], whole(y[:, :, 1:], first=1))


@pytest.mark.parametrize("ndim", [2, 4, 5])
def test_without_steps_batch_per_step_is_batch_norm(ndim):
    assert type(normalization("batch-per-step").build(6, ndim)) is type(normalization("batch").build(6, ndim))


# --- of weights --------------------------------------------------------------------------------------

LAYERS = {
    "linear": lambda: nn.Linear(7, 6),
    "conv1d": lambda: nn.Conv1d(4, 6, 3, padding=1, stride=2, groups=2),
    "conv2d": lambda: nn.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
    "reflect": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "conv3d": lambda: nn.Conv3d(4, 6, 2, padding=1),
}
INPUTS = {
    "linear": (5, 7),
    "conv1d": (5, 4, 8),
    "conv2d": (5, 4, 6, 6),
    "reflect": (5, 4, 6, 6),
    "conv3d": (2, 4, 3, 3, 3),
}


def layer(kind: str) -> tuple[nn.Module, Tensor]:
    return LAYERS[kind]().double(), torch.randn(INPUTS[kind], dtype=torch.float64)


@pytest.mark.parametrize("kind", LAYERS)
def test_weight_is_torchs_in_values_and_gradients(kind):
    plain, x = layer(kind)
    ours = normalization("weight").linear(plain)
    theirs = parametrizations.weight_norm(LAYERS[kind]().double())
    for p in ours.parameters():
        p.data += 0.3 * torch.randn_like(p)
    same(ours, theirs, x)


@pytest.mark.parametrize("name", ["weight", "norm-propagation"])
def test_weight_starts_from_the_plain_network_and_propagation_from_rows_of_the_papers_length(name):
    plain, x = layer("conv2d")
    expected, weight = plain(x), plain.weight.detach().clone()
    ours = normalization(name).linear(plain)
    assert torch.equal(ours.parametrizations.weight.original1, weight)
    if name == "weight":
        torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-14)
    else:
        lengths = ours.weight.flatten(1).norm(dim=1)
        assert lengths.tolist() == pytest.approx([1 / 1.2112] * 6, rel=1e-4)


@pytest.mark.parametrize("kind", LAYERS)
def test_spectral_is_torchs_and_its_vectors_come_from_a_stream_of_their_own(kind):
    states = []
    for seed in (1, 2):
        torch.manual_seed(9)
        plain, x = layer(kind)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        states.append(normalization("spectral").linear(plain).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    ours, theirs = plain, parametrizations.spectral_norm(LAYERS[kind]().double())
    same(ours, theirs, x)
    for _ in range(300):  # one power iteration each
        ours(x)
    sigma = np.linalg.svd(ours.parametrizations.weight.original.detach().flatten(1).numpy(), compute_uv=False)[0]
    expected = ours.parametrizations.weight.original / sigma
    torch.testing.assert_close(ours.eval().weight, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", LAYERS)
def test_weight_standardization_and_the_scaled_one_by_hand(kind):
    plain, _ = layer(kind)
    w = plain.weight.detach().numpy().reshape(6, -1).copy()
    centered = w - w.mean(1, keepdims=True)
    once, scaled = (normalization(name).linear(layer(kind)[0]) for name in ("weight-standardization", SCALED))
    for module in (once, scaled):
        module.parametrizations.weight.original.data.copy_(plain.weight)
    shape = tuple(plain.weight.shape)
    expected = centered / (w.std(1, ddof=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(once.weight.detach().numpy(), expected.reshape(shape), rtol=1e-12)
    gain = scaled.parametrizations.weight[0].gain
    assert torch.equal(gain, torch.ones(6).double())
    gain.data.uniform_(0.5, 2)
    expected = centered / np.sqrt(w.shape[1] * w.var(1, keepdims=True)) * gain.detach().numpy()[:, None]
    np.testing.assert_allclose(scaled.weight.detach().numpy(), expected.reshape(shape), rtol=1e-12)


SCALED = "scaled-weight-standardization"


def patches(plain: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (N, places, units, n) and weights (units, n) of a linear map or 2-D convolution."""
    if isinstance(plain, nn.Linear):
        return x[:, None, None].expand(-1, 1, 6, -1), plain.weight
    mode = {"zeros": "constant"}.get(plain.padding_mode, plain.padding_mode)
    (top, left), (kh, kw), (dh, dw) = plain.padding, plain.kernel_size, plain.dilation
    x = F.pad(x, (left, left, top, top), mode=mode)
    taken = [
        x[:, :, i * dh : x.shape[2] - (kh - 1 - i) * dh, j * dw : x.shape[3] - (kw - 1 - j) * dw]
        for i, j in itertools.product(range(kh), range(kw))
    ]
    stacked = torch.stack(taken, 2)  # (N, C, kh kw, H, W)
    groups = stacked.unflatten(1, (plain.groups, -1)).flatten(2, 3).flatten(3)  # (N, groups, n, places)
    return groups.repeat_interleave(6 // plain.groups, 1).permute(0, 3, 1, 2), plain.weight.flatten(1)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "reflect"])
@pytest.mark.parametrize("name", ["cosine", "centered-cosine"])
def test_cosine_is_that_of_weights_and_patch(name, kind):
    plain, x = layer(kind)
    inputs, weights = patches(plain, x)
    if name == "centered-cosine":
        inputs, weights = inputs - inputs.mean(-1, keepdim=True), weights - weights.mean(-1, keepdim=True)
    expected = F.cosine_similarity(inputs, weights.expand_as(inputs), dim=-1)  # (N, places, units)
    ours = normalization(name).linear(plain)
    assert ours.weight is plain.weight
    ours.eps = 0.0
    if plain.bias is not None:
        expected = expected + plain.bias
    got = ours(x)[:, None] if kind == "linear" else ours(x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["conv1d", "conv3d"])
@pytest.mark.parametrize("name", ["cosine", "centered-cosine"])
def test_cosine_of_a_kernel_as_large_as_the_input_is_that_of_a_linear_map(name, kind):
    cls = {"conv1d": nn.Conv1d, "conv3d": nn.Conv3d}[kind]
    size = {"conv1d": (4,), "conv3d": (2, 2, 1)}[kind]
    convolution, linear = cls(3, 5, size).double(), nn.Linear(12, 5).double()
    linear.weight.data.copy_(convolution.weight.flatten(1))
    linear.bias.data.copy_(convolution.bias)
    x = torch.randn(4, 3, *size, dtype=torch.float64)
    normalize = normalization(name).linear
    torch.testing.assert_close(normalize(convolution)(x).flatten(1), normalize(linear)(x.flatten(1)), rtol=1e-9, atol=0)


SHIFTED = {
    "linear": (lambda: nn.Linear(27, 8), (6, 27)),
    "conv1d": (lambda: nn.Conv1d(3, 8, 9), (6, 3, 20)),
    "conv2d": (lambda: nn.Conv2d(3, 8, 3), (6, 3, 8, 8)),
    "reflect": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1, padding_mode="reflect"), (6, 4, 8, 8)),
    "circular": (lambda: nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2, padding_mode="circular"), (6, 3, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 8, 3), (6, 2, 5, 5, 5)),
    "zeros": (lambda: nn.Conv2d(3, 8, 3, padding=1), (6, 3, 8, 8)),
    "same": (lambda: nn.Conv2d(3, 8, (4, 3), padding="same"), (6, 3, 8, 8)),
}


@pytest.mark.parametrize("kind", SHIFTED)
def test_centered_cosine_keeps_its_digits_far_from_zero(kind):
    made, shape = SHIFTED[kind]
    plain, x = made(), torch.randn(shape)
    nn.init.zeros_(plain.bias)
    exact = normalization("centered-cosine").linear(copy.deepcopy(plain).double())
    z = normalization("centered-cosine").linear(plain)(x + 1000)
    assert z.shape == plain(x).shape
    assert z.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(z.double(), exact((x + 1000).double()), rtol=0, atol=2e-6)
    if kind not in ("zeros", "same"):  # where zeros are beside it, a shift is a difference that counts
        torch.testing.assert_close(exact(x.double() + 1000), exact(x.double()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["cosine", "centered-cosine"])
@pytest.mark.parametrize("kind", ["conv1d", "reflect", "same", "conv3d"])
def test_a_sample_without_a_batch_is_taken_as_torch_takes_it(name, kind):
    made, shape = SHIFTED[kind]
    ours, x = normalization(name).linear(made().double()), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(ours(x[0]), ours(x)[0], rtol=1e-10, atol=1e-12)


def test_a_dead_input_has_cosine_zero_and_finite_derivatives():
    for name, kind in itertools.product(("cosine", "centered-cosine"), ("linear", "reflect")):
        plain, x = layer(kind)
        ours, x = normalization(name).linear(plain), torch.zeros_like(x).requires_grad_()
        z = ours(x)
        assert torch.equal(z, plain.bias.reshape(1, -1, *[1] * (z.ndim - 2)).expand_as(z))
        (gradient,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), plain.weight)
        assert torch.isfinite(gradient).all()
        assert torch.isfinite(second).all()
    assert EPS < 1e-5


@pytest.mark.parametrize("name", ["weight-standardization", SCALED, "cosine", "centered-cosine"])
def test_a_unit_with_one_input_is_refused_where_it_has_no_variance(name):
    with pytest.raises(UsageError, match="one input to a unit have no variance"):
        normalization(name).linear(nn.Linear(1, 4))


def test_weights_without_a_length_to_divide_by_are_refused_and_others_are_finite():
    for name, kind in itertools.product(DIVIDING, ("linear", "conv2d")):
        plain, x = layer(kind)
        nn.init.zeros_(plain.weight)
        with pytest.raises(UsageError, match=rf"weights .*in this {type(plain).__name__}.*length, which is 0"):
            normalization(name).linear(plain)
        assert type(plain) in (nn.Linear, nn.Conv2d)  # a refused layer is left as it was
        plain, x = layer(kind)
        plain.weight.data[4] = 0.7 if name == "centered-cosine" else 0.0
        if name == "spectral":
            assert normalization(name).linear(plain)(x).isfinite().all()
            continue
        equal = "equal" if name == "centered-cosine" else "zero"
        with pytest.raises(UsageError, match=f"weights of unit 4 are all {equal}"):
            normalization(name).linear(plain)


DIVIDING = ["cosine", "centered-cosine", "weight", "norm-propagation", "norm-propagation:1", "spectral"]


@pytest.mark.parametrize("name", DIVIDING)
def test_weights_too_small_for_a_length_in_their_arithmetic_are_refused(name):
    plain = nn.Linear(6, 4)
    plain.weight.data *= 1e-30  # their squares are zero in float32
    with pytest.raises(UsageError, match="length, which is 0"):
        normalization(name).linear(plain)


# --- with the nonlinearity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "by_hand"),
    [
        (nn.ReLU(), lambda z: max(z, 0.0)),
        (nn.Tanh(), math.tanh),
        (nn.Sigmoid(), lambda z: 1 / (1 + math.exp(-z))),
        (nn.ReLU6(), lambda z: min(max(z, 0.0), 6.0)),
        (nn.Hardtanh(-0.5, 0.5), lambda z: min(max(z, -0.5), 0.5)),
        (nn.Hardtanh(-1.5, 2.5), lambda z: min(max(z, -1.5), 2.5)),
        (nn.PReLU(init=0.125), lambda z: max(z, 0.125 * z)),
    ],
)
def test_moments_of_nonlinearities_by_another_quadrature(f, by_hand):
    def expectation(g):
        def weighted(z):
            return g(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        kinks = [-12, -1.5, -0.5, 0, 0.5, 2.5, 6, 12]
        return sum(quad(weighted, a, b, epsabs=1e-14)[0] for a, b in itertools.pairwise(kinks))

    mean = expectation(by_hand)
    std = math.sqrt(expectation(lambda z: (by_hand(z) - mean) ** 2))
    assert gaussian_moments(f) == pytest.approx((mean, std), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("f", [nn.ReLU(), nn.Tanh(), nn.Sigmoid()])
def test_propagation_standardizes_the_nonlinearity_and_scaled_standardization_scales_it(f):
    y = activations(2)
    mean, std = gaussian_moments(f)
    propagated = normalization("norm-propagation").activation(f, 6, 2)
    scaled = normalization(SCALED).activation(f, 6, 2)
    torch.testing.assert_close(propagated(y), (f(y) - mean) / std, rtol=1e-14, atol=0)
    torch.testing.assert_close(scaled(y), f(y) / std, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["norm-propagation", SCALED])
@pytest.mark.parametrize(
    ("f", "why"),
    [
        (nn.PReLU(6), "does not take them as such.*same values for all units"),
        (nn.GLU(), "its values depend on several"),
        (nn.Softmax(0), "its values depend on several"),
        (nn.Softmax2d(), "does not take them as such"),
    ],
)
def test_a_nonlinearity_that_is_no_function_of_single_numbers_is_refused(name, f, why):
    with pytest.raises(UsageError, match=f"moments of a {type(f).__name__} .*{why}"):
        normalization(name).activation(f, 6, 2)


def test_moments_are_taken_on_a_copy_in_float64():
    f = nn.PReLU()
    assert gaussian_moments(f) == gaussian_moments(nn.PReLU().double())
    assert f.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["norm-propagation", SCALED, "selu", "selu:0.1"])
def test_a_network_without_nonlinearity_stays_one(name):
    nothing = nn.Identity()
    assert normalization(name).activation(nothing, 6, 2) is nothing


def test_selu_is_torchs_and_its_dropout_torchs():
    y = activations(2)
    assert type(normalization("selu").activation(nn.ReLU(), 6, 2)) is nn.SELU
    dropped = normalization("selu:0.3").activation(nn.ReLU(), 6, 2)
    torch.manual_seed(5)
    got = dropped(y)
    torch.manual_seed(5)
    assert torch.equal(got, nn.AlphaDropout(0.3)(F.selu(y)))
    assert torch.equal(dropped.eval()(y), F.selu(y))
