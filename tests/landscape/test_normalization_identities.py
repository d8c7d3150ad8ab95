"""What the papers prove of their normalizations: exact in float64, or within standard errors of a closed form."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.models import build_model
from landscape.models.blocks import block, initialized
from landscape.normalization import normalization


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(7)


def without_eps(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if hasattr(part, "eps"):
            part.eps = 1e-30  # torch refuses 0
    return module


# --- scale invariance (Ioffe & Szegedy 2015, section 3.3, and what follows for others) ----------------

INVARIANT = [
    "batch",
    "lp:1",
    "lp:2",
    "lp:inf",
    "batch-renorm",
    "batch-per-step",
    "layer",
    "instance",
    "group:8",
    "rms",
    "filter-response",
    "weight-standardization",
    "scaled-weight-standardization",
    "cosine",
    "centered-cosine",
    "spectral",
    "norm-propagation",
]
OUTSIDE = ["none", "noise", "dynamic-tanh", "evonorm-s0", "selu"]


def scaled(name: str, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z, dL/du, dL/dW and W of a convolution with weights ``scale`` W at input u."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=generator).requires_grad_()
    slope = torch.randn(4, 4, 5, 5, dtype=torch.float64, generator=generator)
    made = block(nn.Conv2d(3, 4, 3, padding=1), name, 4, 4, "relu")
    made.linear.weight.data.normal_(generator=torch.Generator().manual_seed(1)).mul_(scale)
    made.linear.bias.data.zero_()
    made.normalize_weights()
    made = without_eps(made.double())
    (weight,) = [p for key, p in made.named_parameters() if p.shape == (4, 3, 3, 3)]
    torch.manual_seed(3)
    z = made(u)
    du, dw = torch.autograd.grad((z * slope).sum(), [u, weight])
    return z, du, dw, weight


@pytest.mark.parametrize("name", INVARIANT)
def test_scaled_weights_give_the_same_output_and_gradients_that_shrink_with_the_scale(name):
    z, du, dw, w = scaled(name, 1.0)
    z_a, du_a, dw_a, _ = scaled(name, 4.0)
    torch.testing.assert_close(z_a, z, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(du_a, du, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dw_a, dw / 4, rtol=1e-9, atol=1e-12)
    assert abs((dw * w).sum().item()) < 1e-10 * (dw.norm() * w.norm()).item()  # <w, dL/dw> = 0


@pytest.mark.parametrize("name", OUTSIDE)
def test_others_are_not_scale_invariant(name):
    assert not torch.allclose(scaled(name, 1.0)[0], scaled(name, 4.0)[0], rtol=1e-2)


def test_weight_normalization_is_invariant_in_its_direction():
    layer = normalization("weight").linear(nn.Linear(6, 4).double())
    x = torch.randn(5, 6, dtype=torch.float64)
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    slope = torch.randn(5, 4, dtype=torch.float64)
    z, (dg, dv) = layer(x), torch.autograd.grad((layer(x) * slope).sum(), [g, v])
    v.data *= 4
    torch.testing.assert_close(layer(x), z, rtol=1e-12, atol=0)
    dg_a, dv_a = torch.autograd.grad((layer(x) * slope).sum(), [g, v])
    torch.testing.assert_close(dg_a, dg, rtol=1e-12, atol=0)
    torch.testing.assert_close(dv_a, dv / 4, rtol=1e-10, atol=1e-14)
    # Salimans & Kingma 2016, equation 3: dL/dg = <dL/dw, v> / |v|, and dL/dv is orthogonal to v.
    dw = slope.T @ x
    torch.testing.assert_close(dg[:, 0], (dw * v).sum(1) / v.norm(dim=1), rtol=1e-10, atol=1e-14)
    assert (dv * v).sum(1).abs().max() < 1e-12


# --- cosine normalization (Luo et al. 2017) ------------------------------------------------------------


@pytest.mark.parametrize("name", ["cosine", "centered-cosine"])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_cosines_stay_within_one_whatever_the_size_of_weights_and_inputs(kind, name):
    plain = nn.Linear(8, 200, bias=False) if kind == "linear" else nn.Conv2d(2, 200, 2, padding=1, bias=False)
    plain = plain.double()
    plain.weight.data.normal_().mul_(100)
    ours = normalization(name).linear(plain)
    x = torch.randn(50, 8, dtype=torch.float64) if kind == "linear" else torch.randn(4, 2, 5, 5, dtype=torch.float64)
    z = ours(1000 * x)
    assert z.abs().max() <= 1 + 1e-12
    assert z.abs().max() > 0.9
    if kind == "linear":
        assert ours(1000 * plain.weight.detach()).diagonal().tolist() == pytest.approx([1.0] * 200, abs=1e-8)


def test_centered_cosine_is_invariant_to_shifts_and_scales_and_the_plain_one_to_scales_alone():
    x = torch.randn(20, 8, dtype=torch.float64)
    moved = []
    for name in ("cosine", "centered-cosine"):
        ours = normalization(name).linear(nn.Linear(8, 5).double())
        ours.eps = 0.0
        z = ours(x)
        torch.testing.assert_close(ours(3 * x), z, rtol=1e-12, atol=1e-14)
        moved.append((ours(x + 7) - z).abs().max().item())
        ours.weight.data += 5
        moved.append((ours(x) - z).abs().max().item())
    assert min(moved[:2]) > 0.1
    assert max(moved[2:]) < 1e-12


def test_centered_cosine_of_patches_is_invariant_to_shifts_where_nothing_is_padded():
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    ours = normalization("centered-cosine").linear(nn.Conv2d(2, 5, 3).double())
    ours.eps = 0.0
    torch.testing.assert_close(ours(2 * x + 7), ours(x), rtol=1e-9, atol=1e-11)


def test_the_gradient_of_a_cosine_is_bounded_by_the_inverse_of_the_inputs_length():
    ours = normalization("cosine").linear(nn.Linear(8, 1, bias=False).double())
    x = torch.randn(500, 8, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(ours(x).sum(), x)
    product = gradient.norm(dim=1) * x.norm(dim=1)  # sqrt(1 - z^2)
    assert product.max() <= 1
    torch.testing.assert_close(product, (1 - ours(x).square()).sqrt()[:, 0], rtol=1e-5, atol=1e-6)


# --- normalization propagation (Arpit et al. 2016) ----------------------------------------------------


def propagating(inputs: int, units: int, gamma: float | None) -> nn.Module:
    made = block(nn.Linear(inputs, units), "norm-propagation", units, 2, "relu")
    made.linear.bias.data.zero_()
    made.linear.weight.data.normal_()
    made.normalize_weights()
    made = made.double()
    if gamma is not None:
        made.linear.parametrizations.weight.original0.data.fill_(gamma)
    return made


def errors_off(sample: Tensor, expected: float) -> float:
    """How many standard errors the mean of a sample is from what is expected."""
    sample = sample.detach()
    return abs(float(sample.mean()) - expected) / float(sample.std() / math.sqrt(sample.numel()))


def test_the_constants_of_propagation():
    rescaled = normalization("norm-propagation").activation(nn.ReLU(), 4, 2)
    assert rescaled.mean == pytest.approx(math.sqrt(1 / (2 * math.pi)), rel=1e-13)
    assert rescaled.std == pytest.approx(math.sqrt((1 - 1 / math.pi) / 2), rel=1e-13)
    assert round(1 / rescaled.std, 6) == 1.712859  # also the gain of normalizer-free networks
    gained = normalization("scaled-weight-standardization").activation(nn.ReLU(), 4, 2)
    assert 1 / gained.std == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)), rel=1e-13)
    for f, std in ((nn.Sigmoid(), 0.2082), (nn.Tanh(), 0.6278)):
        assert normalization("norm-propagation").activation(f, 4, 2).std == pytest.approx(std, abs=2e-4)


def test_propagation_takes_a_unit_gaussian_to_mean_0_and_variance_1():
    """A unit's pre-activation is exactly N(0, 1): independent over samples."""
    o = propagating(5, 1, gamma=1.0)(torch.randn(200_000, 5, dtype=torch.float64))[:, 0]
    assert errors_off(o, 0.0) < 4
    assert errors_off(o.square(), 1.0) < 4


def test_propagation_keeps_moments_through_ten_layers():
    x = torch.randn(400, 256, dtype=torch.float64)
    for _ in range(10):
        x = propagating(256, 256, gamma=1.0)(x)
        assert abs(x.mean()) < 0.1
        assert 0.8 < x.var() < 1.2


@pytest.mark.parametrize(("gamma", "growth"), [(1.0, 1 / (1 - 1 / math.pi)), (None, 1.0)])
def test_squared_gradients_grow_by_1467_a_layer_of_propagation_and_not_at_all_with_its_gamma(gamma, growth):
    made = propagating(200, 200, gamma)
    x = torch.randn(4000, 200, dtype=torch.float64).requires_grad_()
    g = torch.randn(4000, 200, dtype=torch.float64)
    (back,) = torch.autograd.grad((made(x) * g).sum(), x)
    assert errors_off(back.square().sum(1) / 200, growth) < 4
    assert growth in (1.0, pytest.approx(1.46694, abs=1e-5))


# --- self-normalizing networks (Klambauer et al. 2017) ------------------------------------------------


def moments(mean: float, variance: float, omega: float, tau: float) -> np.ndarray:
    """Mean and variance of selu(N(mean omega, variance tau)), by quadrature on both sides of the kink."""
    center, spread = mean * omega, math.sqrt(variance * tau)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = np.zeros(3)
    for low, high in ((center - 12 * spread, 0.0), (0.0, center + 12 * spread)):
        y = low + (nodes + 1) / 2 * (high - low)
        p = weights * (high - low) / 2 * np.exp(-(((y - center) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
        f = F.selu(torch.from_numpy(y)).numpy()
        total += [p.sum(), p @ f, p @ f**2]
    assert total[0] == pytest.approx(1, abs=1e-9)
    return np.array([total[1], total[2] - total[1] ** 2])


def test_selus_constants_are_their_closed_forms():
    e, root = math.e, math.erfc(1 / math.sqrt(2))
    alpha = -math.sqrt(2 / math.pi) / (math.sqrt(e) * root - 1)
    denominator = 2 + math.pi - 2 * math.sqrt(e) * (2 + math.pi) * root + e * math.pi * root**2
    denominator += 2 * e**2 * math.erfc(math.sqrt(2))
    lam = (1 - math.sqrt(e) * root) * math.sqrt(2 * math.pi / denominator)
    selu = normalization("selu").activation(nn.ReLU(), 4, 2)
    y = torch.tensor([1.0, -1.0, -100.0], dtype=torch.float64)
    expected = [lam, lam * alpha * (math.exp(-1) - 1), -lam * alpha]
    assert selu(y).tolist() == pytest.approx(expected, rel=1e-12)


def test_selu_has_the_fixed_point_0_1_and_contracts_towards_it():
    assert moments(0, 1, 0, 1) == pytest.approx([0, 1], abs=1e-12)
    step = 1e-5
    jacobian = np.column_stack(
        [
            (moments(step, 1, 0, 1) - moments(-step, 1, 0, 1)) / (2 * step),
            (moments(0, 1 + step, 0, 1) - moments(0, 1 - step, 0, 1)) / (2 * step),
        ]
    )
    np.testing.assert_allclose(jacobian, [[0, 0.088835], [0, 0.782648]], atol=2e-6)
    assert np.linalg.norm(jacobian, 2) < 0.788


def test_selus_domain_is_mapped_into_itself():
    """Theorem 1: mean in [-.1, .1], variance in [.8, 1.5], omega in [-.1, .1], tau in [.95, 1.1]."""
    grid = [np.linspace(*ends, 5) for ends in ((-0.1, 0.1), (0.8, 1.5), (-0.1, 0.1), (0.95, 1.1))]
    images = np.array([moments(*point) for point in np.stack(np.meshgrid(*grid), -1).reshape(-1, 4)])
    assert np.abs(images[:, 0]).max() < 0.068
    assert images[:, 1].min() > 0.803
    assert images[:, 1].max() < 1.482


def test_a_deep_selu_network_keeps_mean_and_variance():
    model = build_model("mlp", norm="selu", input_shape=(256,), output_size=2, hidden=[256] * 32)
    x = torch.randn(500, 256)
    for layer in list(model.children())[:-1]:
        x = layer(x)
        assert abs(x.mean().item()) < 0.1
        assert 0.8 < x.var().item() < 1.2


@pytest.mark.parametrize(("rate", "a", "b"), [(0.05, 0.954844, 0.083936), (0.1, 0.921285, 0.161970)])
def test_alpha_dropout_has_its_closed_form_and_keeps_mean_and_variance(rate, a, b):
    dropped = normalization(f"selu:{rate}").activation(nn.ReLU(), 4, 2)
    y = torch.randn(400_000, dtype=torch.float64)
    got, kept = dropped(y), a * F.selu(y) + b
    low = a * -1.7580993408473766 + b
    is_low = (got - low).abs() < 1e-5
    torch.testing.assert_close(got[~is_low], kept[~is_low], rtol=1e-4, atol=1e-5)
    assert errors_off(is_low.double(), rate) < 4
    assert errors_off(got, 0.0) < 4
    assert errors_off(got.square(), 1.0) < 4


# --- batch normalization at initialization (Yang et al. 2019) -----------------------------------------


def per_unit_growth(y: Tensor) -> Tensor:
    """||J'g||^2 / (B sigma^2) per unit for batch normalization of y (B, units) and a Gaussian gradient g."""
    norm = without_eps(normalization("batch").build(y.shape[1], 2).double())
    y = y.detach().requires_grad_()
    (back,) = torch.autograd.grad((norm(y) * torch.randn_like(y)).sum(), y)
    return back.square().mean(0)


@pytest.mark.parametrize("batch", [16, 64])
def test_squared_gradients_grow_by_b_minus_2_over_b_minus_3_in_linear_networks(batch):
    """Exactly, for Gaussian pre-activations: E 1/s^2 = B / (B - 3), and two directions of B are projected out."""
    growth = per_unit_growth(torch.randn(batch, 40_000, dtype=torch.float64))
    assert errors_off(growth, (batch - 2) / (batch - 3)) < 4


def test_squared_gradients_grow_by_pi_over_pi_minus_1_in_relu_networks():
    """Half of the gradient passes the ReLU; the variance of what follows is (1 - 1/pi) / 2. The batch is large."""
    growth = []
    for _ in range(6):
        z = torch.randn(1024, 400, dtype=torch.float64).requires_grad_()
        norm = without_eps(normalization("batch").build(400, 2).double())
        weight = torch.randn(400, 400, dtype=torch.float64) / 20
        y = norm(z.relu() @ weight.T)
        (back,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), z)
        growth.append(back.square().mean())
    sample = torch.stack(growth)
    spread = float(sample.std() / math.sqrt(len(sample)))
    assert abs(float(sample.mean()) - math.pi / (math.pi - 1)) < 4 * spread + 4 / 1024  # O(1/B) is left


# --- rank (Daneshmand et al. 2020) --------------------------------------------------------------------


def effective_rank(H: Tensor) -> float:
    M = H @ H.T
    return float(M.trace() ** 2 / M.square().sum())


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_rank_stays_near_sqrt_d_with_batch_norm_and_collapses_without(activation):
    d = 32
    for seed in range(3):
        rank = {}
        for norm in ("none", "batch"):
            layers = OrderedDict((f"fc{i}", block(nn.Linear(d, d), norm, d, 2, activation)) for i in range(1, 201))
            network = initialized(nn.Sequential(layers), "he" if activation == "relu" else "lecun", seed).double()
            x = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            H = without_eps(network)(x)
            rank[norm] = effective_rank(H / H.norm())
        assert rank["none"] < 1.5  # of 16 at the start
        assert 0.5 * math.sqrt(d) < rank["batch"] < 2 * math.sqrt(d)
