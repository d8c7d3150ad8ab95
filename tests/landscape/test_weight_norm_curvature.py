"""Curvature of torch's own weight norm, whose fused backward can't be differentiated again rightly (torch 2.13)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from landscape.products import curvature_operator


def old(layer: nn.Module) -> nn.Module:
    return nn.utils.weight_norm(layer)


def new(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer)


def columns(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer, dim=1)


def whole(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer, dim=None)


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("normalize", [old, new, columns, whole])
def test_the_hessian_is_that_of_finite_differences(normalize) -> None:
    """Every column; along the gradient alone the fused form happens to be right, since g is orthogonal to v."""
    torch.manual_seed(0)
    model = nn.Sequential(normalize(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).double()
    batch = torch.randn(8, 3).double(), torch.randn(8, 2).double()
    p = list(model.parameters())
    n = sum(q.numel() for q in p)

    def gradient(shift: Tensor) -> Tensor:
        for q, change in zip(p, torch.split(shift, [q.numel() for q in p]), strict=True):
            q.data += change.view_as(q)
        found = torch.autograd.grad(loss_fn(model, batch), p)
        for q, change in zip(p, torch.split(shift, [q.numel() for q in p]), strict=True):
            q.data -= change.view_as(q)
        return torch.cat([g.flatten() for g in found])

    units = torch.eye(n, dtype=torch.float64)
    expected = torch.stack([(gradient(1e-5 * e) - gradient(-1e-5 * e)) / 2e-5 for e in units])
    with curvature_operator(model, loss_fn, batch) as H:
        found = torch.stack([H(e) for e in units])
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert torch.allclose(found, found.T, rtol=1e-12, atol=1e-14)
