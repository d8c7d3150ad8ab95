"""Definition 2.1 against derivations by hand in float64."""

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError, UsageError

LR = 0.05


@pytest.fixture
def two_layers():
    """y = W2 W1 x with the mean squared error per sample; gradients written out by hand."""
    generator = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    X, T, W1, W2 = rand(20, 3), rand(20, 2), rand(4, 3), rand(2, 4)
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(W1)
        net[1].weight.copy_(W2)

    def gradients(A, B):
        R = 2 * (X @ A.T @ B.T - T) / len(X)  # (N, 2)
        return B.T @ R.T @ X, R.T @ (X @ A.T)

    loss_fn = lambda model, batch: (model(batch[0]) - batch[1]).square().sum(1).mean()  # noqa: E731
    return net, loss_fn, (X, T), W1, W2, gradients


def _check(shift, G, moved, step, control):
    assert shift.layers == ("0", "1")
    assert float(shift.distance[0]) == 0.0
    assert float(shift.distance[1]) == pytest.approx(float((moved - G).norm()), rel=1e-10)
    assert float(shift.relative[1]) == pytest.approx(float((moved - G).norm() / G.norm()), rel=1e-10)
    cosine = (moved * G).sum() / (moved.norm() * G.norm())
    assert float(shift.cosine[1]) == pytest.approx(float(cosine), rel=1e-10)
    assert float(shift.moved_distance[1]) == pytest.approx(float(step.norm()), rel=1e-10)
    assert float(shift.distance_per_move[1]) == pytest.approx(float((moved - G).norm() / step.norm()), rel=1e-10)
    assert float(shift.control_distance[1]) == pytest.approx(float((control - G).norm()), rel=1e-10)
    assert shift.before == ((), ("0",))
    assert shift.ancestry == "graph"


def test_sgd_with_momentum_and_decay(two_layers):
    net, loss_fn, batch, W1, W2, gradients = two_layers
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, weight_decay=0.1)
    velocity = [torch.full_like(W1, 0.3), torch.full_like(W2, -0.2)]
    for p, v in zip(net.parameters(), velocity, strict=True):
        optimizer.state[p]["momentum_buffer"] = v.clone()
    G1, G2 = gradients(W1, W2)
    A = W1 - LR * (0.9 * velocity[0] + G1 + 0.1 * W1)
    B = W2 - LR * (0.9 * velocity[1] + G2 + 0.1 * W2)
    shift = landscape.covariate_shift(net, loss_fn, batch, optimizer)
    _check(shift, G2, gradients(A, W2)[1], A - W1, gradients(A, B)[1])
    for p, v in zip(net.parameters(), velocity, strict=True):
        assert torch.equal(optimizer.state[p]["momentum_buffer"], v)


def test_adam(two_layers):
    net, loss_fn, batch, W1, W2, gradients = two_layers
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, eps=1e-8)
    G1, G2 = gradients(W1, W2)
    A, B = (W - LR * G / (G.abs() + 1e-8) for W, G in ((W1, G1), (W2, G2)))  # the first step of Adam
    _check(
        landscape.covariate_shift(net, loss_fn, batch, optimizer),
        G2,
        gradients(A, W2)[1],
        A - W1,
        gradients(A, B)[1],
    )
    assert len(optimizer.state) == 0


def test_gradients_given_are_the_ones_stepped_with(two_layers):
    net, loss_fn, batch, W1, W2, gradients = two_layers
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    clipped = [g / 7 for g in gradients(W1, W2)]
    shift = landscape.covariate_shift(net, loss_fn, batch, optimizer, gradients=clipped)
    A, B = W1 - LR * clipped[0], W2 - LR * clipped[1]
    _check(shift, gradients(W1, W2)[1], gradients(A, W2)[1], A - W1, gradients(A, B)[1])


def test_gamma_and_beta_of_earlier_layers_are_moved_and_those_of_the_layer_itself_are_not():
    """An affine norm after layer 1 whose weight is frozen: only gamma and beta can shift layer 2."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.LayerNorm(2)).double()
    net[0].requires_grad_(False)
    loss_fn = lambda model, x: model(x).square().mul(torch.arange(1.0, 3.0)).sum()  # noqa: E731
    x = torch.randn(8, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    shift = landscape.covariate_shift(net, loss_fn, x, optimizer)
    assert shift.layers == ("2",)
    loss_fn(net, x).backward()
    expected = torch.cat([0.01 * p.grad for p in net[1].parameters()]).norm()
    assert float(shift.moved_distance[0]) == pytest.approx(float(expected), rel=1e-10)
    assert float(shift.distance[0]) > 0


class Branches(nn.Module):
    """c(a(x) + b(x)), where b comes after a in call order and is no descendant of it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(3, 3, bias=False) for _ in range(3))

    def forward(self, x):
        return self.c(self.a(x) + self.b(x))


def test_before_means_ancestors_in_the_graph_not_call_order():
    net = Branches().double()
    shift = landscape.covariate_shift(
        net, lambda m, x: m(x).square().mean(), torch.randn(5, 3).double(), torch.optim.SGD(net.parameters(), 0.1)
    )
    assert dict(zip(shift.layers, shift.before, strict=True)) == {"a": (), "b": (), "c": ("a", "b")}


def test_a_checkpoint_that_hides_its_weights_is_refused():
    from torch.utils.checkpoint import checkpoint

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 1)

        def forward(self, x):
            return self.b(checkpoint(self.a, x.requires_grad_(), use_reentrant=True))

    net = Hidden()
    with pytest.raises(ProbeError, match="use_reentrant=False"):
        landscape.covariate_shift(
            net, lambda m, x: m(x).mean(), torch.randn(5, 3), torch.optim.SGD(net.parameters(), 0.1)
        )


def test_refusals(two_layers):
    net, loss_fn, batch, *_ = two_layers
    sgd = torch.optim.SGD(net.parameters(), lr=LR)
    with pytest.raises(ProbeError, match="LBFGS"):
        landscape.covariate_shift(net, loss_fn, batch, torch.optim.LBFGS(net.parameters()))
    with pytest.raises(UsageError, match=r"no layer '2'.*Known: 0, 1|no layer '2': known: 0, 1"):
        landscape.covariate_shift(net, loss_fn, batch, sgd, layers=["2"])
    other = nn.Linear(2, 2)
    with pytest.raises(UsageError, match="owns none"):
        landscape.covariate_shift(net, loss_fn, batch, torch.optim.SGD(other.parameters(), lr=LR))
    table = nn.Embedding(5, 2, sparse=True)
    with pytest.raises(ProbeError, match="sparse"):
        landscape.covariate_shift(
            table, lambda m, x: m(x).sum(), torch.tensor([1]), torch.optim.SGD(table.parameters(), 0.1)
        )


def test_a_scheduler_wrapped_optimizer_with_groups_steps_as_itself(two_layers):
    net, loss_fn, batch, W1, W2, gradients = two_layers
    optimizer = torch.optim.SGD([{"params": [net[0].weight], "lr": 0.2}, {"params": [net[1].weight]}], lr=LR)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    G1, G2 = gradients(W1, W2)
    A, B = W1 - 0.2 * G1, W2 - LR * G2
    shift = landscape.covariate_shift(net, loss_fn, batch, optimizer)
    _check(shift, G2, gradients(A, W2)[1], A - W1, gradients(A, B)[1])


def test_no_cosine_is_above_one():
    largest = []
    for seed in range(20):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # nothing moves: each cosine is 1
        x = torch.randn(8, 30)
        shift = landscape.covariate_shift(model, lambda m, b: m(b).square().mean(), x, optimizer=optimizer)
        largest += [shift.cosine.max(), shift.control_cosine.max()]
    assert 1.0 - 1e-6 < float(torch.stack(largest).min()) <= float(torch.stack(largest).max()) <= 1.0
