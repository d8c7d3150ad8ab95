"""Theorems 4.1, 4.2 and Lemma 4.5 of Santurkar et al. 2018, both sides, in float64."""

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError


def _by_hand(z_of, y, loss_of):
    """Gradients and Hessians of a batch of one unit by torch.func, through a normalization written out here."""
    g = torch.func.grad(loss_of)(z_of(y))
    v = torch.func.grad(lambda y: loss_of(z_of(y)))(y)
    H_y = torch.func.hessian(lambda y: loss_of(z_of(y)))(y)
    H_z = torch.func.hessian(loss_of)(z_of(y))
    return g, v, H_y, H_z


@pytest.mark.parametrize("seed", range(3))
def test_theorems_of_one_unit_without_eps_as_printed_with_one_over_m(seed):
    """An oracle of its own: no module, no probe; the paper's setting (eps = 0) and its last term with 1/m."""
    generator = torch.Generator().manual_seed(seed)
    m, gamma, beta = 12, 1.7, 0.3
    y, a = (torch.randn(m, generator=generator, dtype=torch.float64) for _ in range(2))
    sigma = y.std(correction=0)

    def z_of(y):
        return gamma * (y - y.mean()) / y.std(correction=0) + beta

    def loss_of(z):
        return (torch.sin(z) * a).sum() + z.pow(3).mean()

    g, v, H_y, H_z = _by_hand(z_of, y, loss_of)
    hat = (y - y.mean()) / sigma
    scale = gamma**2 / sigma**2
    right = scale * (g @ g - g.sum() ** 2 / m - (g @ hat) ** 2 / m)
    assert float(v @ v) == pytest.approx(float(right), rel=1e-10)
    right = scale * (v @ H_z @ v) - gamma / (m * sigma**2) * (g @ hat) * (v @ v)
    assert float(v @ H_y @ v) == pytest.approx(float(right), rel=1e-10)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_the_eps_form_on_a_convolutional_net(eps):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=eps), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5)
    ).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.5, 1.5, -2.0]))
        net[1].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    batch = (torch.randn(6, 2, 6, 6, dtype=torch.float64), torch.randint(0, 5, (6,)))
    loss_fn = lambda model, b: nn.functional.cross_entropy(model(b[0]), b[1])  # noqa: E731
    bounds = landscape.theorem_bounds(net, loss_fn, batch)
    assert float(bounds.error_41) < 1e-10
    assert float(bounds.error_42) < 1e-10
    # The left sides against hooks and nested autograd on the very model.
    y = net[0](batch[0]).detach().requires_grad_()
    loss = nn.functional.cross_entropy(net[2:](net[1](y)), batch[1])
    (v,) = torch.autograd.grad(loss, y, create_graph=True)
    torch.testing.assert_close(bounds.left_41, v.detach().square().sum((0, 2, 3)))
    (hv,) = torch.autograd.grad((v * v.detach()).sum(), y)
    assert float(bounds.left_42) == pytest.approx(float((hv * v).sum().detach()), rel=1e-9)
    assert bounds.reduction.min() >= 0


def test_leaving_eps_out_is_noticed():
    """The printed form, evaluated with eps in the variance, is off by more than the identity's error."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(1, eps=0.2, affine=False).double()
    y = torch.randn(8, 1, dtype=torch.float64, requires_grad=True)
    z = norm(y)
    g = torch.cos(torch.arange(8.0, dtype=torch.float64)).view(8, 1)
    (v,) = torch.autograd.grad(z, y, g)
    s2 = y.detach().var(correction=0) + 0.2
    hat = (y - y.mean()).detach() / s2.sqrt()
    printed = (g.square().sum() - g.sum() ** 2 / 8 - (g * hat).sum() ** 2 / 8) / s2
    assert abs(float(v.square().sum() / printed) - 1) > 1e-4


def test_lemma_45_is_the_distance_to_the_ray():
    generator = torch.Generator().manual_seed(0)
    W0, W = (torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(2))
    W = W if float(W0 @ W) > 0 else -W
    k = torch.linspace(0, 3, 300001, dtype=torch.float64)
    nearest = (W0 - k[:, None] * W).square().sum(1).min()
    claimed = (W0 - W) @ (W0 - W) - (W @ W - W @ W0) ** 2 / (W @ W)
    assert float(nearest) == pytest.approx(float(claimed), rel=1e-9)


def test_no_trace_and_errors():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    landscape.theorem_bounds(net, lambda m, x: m(x).square().mean(), torch.randn(8, 3), "1")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with pytest.raises(ProbeError, match="no batch-normalization layer '2'; it has 1"):
        landscape.theorem_bounds(net, lambda m, x: m(x).mean(), torch.randn(8, 3), "2")
    with pytest.raises(ProbeError, match="it has none"):
        landscape.theorem_bounds(nn.Linear(3, 1), lambda m, x: m(x).mean(), torch.randn(8, 3))
