"""Lipschitz bounds: convolutions against matrices filled by hand, chains against dense Jacobians, lower below upper."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape
from landscape.errors import ProbeError
from landscape.models import build_model
from landscape.probes.operator_norm import TOLERANCE, operator_norm


def _x(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _above(found, exact):
    """From above, and by no more than half of the tolerance, which is one on squares."""
    assert exact <= found <= exact * (1 + 0.51 * TOLERANCE)


def _toeplitz(conv, height, width):
    """The matrix of a zero-padded convolution, entry by entry from its definition."""
    k, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    if conv.padding == "same":
        total = [d * (n - 1) for d, n in zip(dilation, k, strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = list(conv.padding)
    rows = (height + before[0] + after[0] - dilation[0] * (k[0] - 1) - 1) // stride[0] + 1
    columns = (width + before[1] + after[1] - dilation[1] * (k[1] - 1) - 1) // stride[1] + 1
    kernel = conv.weight.detach().numpy()
    out, per_group = kernel.shape[:2]
    matrix = np.zeros((out, rows, columns, conv.in_channels, height, width))
    for o, r, c, i, a, b in itertools.product(
        range(out), range(rows), range(columns), range(per_group), range(k[0]), range(k[1])
    ):
        y, x = r * stride[0] + a * dilation[0] - before[0], c * stride[1] + b * dilation[1] - before[1]
        if 0 <= y < height and 0 <= x < width:
            group = o // (out // conv.groups)
            matrix[o, r, c, group * per_group + i, y, x] += kernel[o, i, a, b]
    return matrix.reshape(out * rows * columns, -1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"padding": "same"},
        {"stride": 2},
        {"stride": 2, "padding": 1},
        {"padding": 2, "dilation": 2},
        {"padding": "same", "dilation": (1, 2), "kernel_size": (2, 3)},
        {"groups": 2, "padding": 1},
        {"groups": 4, "stride": (1, 2), "padding": (0, 1)},
        {"kernel_size": 1},
    ],
)
def test_a_convolutions_norm_is_that_of_its_matrix(options):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, **{"kernel_size": 3, **options}).double()
    found = landscape.input_lipschitz(conv, _x(2, 4, 6, 5), tolerance=1e-8, iterations=2000)
    exact = float(np.linalg.norm(_toeplitz(conv, 6, 5), 2))
    _above(float(found.upper), exact)
    assert float(found.lower) == pytest.approx(exact, rel=1e-6)  # it is linear: the same at every sample


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 5, 3, padding=1, stride=2), (3, 9)),
        (nn.Conv3d(2, 2, 2, padding=1), (2, 3, 3, 4)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
        (nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 4, 4)),
        (nn.ConvTranspose1d(4, 2, 3, groups=2), (4, 5)),
        (nn.AvgPool2d(3, stride=2, padding=1), (2, 6, 6)),
        (nn.AdaptiveAvgPool2d((3, 2)), (2, 5, 5)),
        (nn.AdaptiveAvgPool2d(1), (2, 4, 4)),
        (nn.Linear(5, 7), (5,)),
        (nn.Linear(5, 7), (3, 5)),
        (nn.utils.parametrizations.weight_norm(nn.Linear(5, 7)), (5,)),
    ],
)
def test_affine_layers_have_the_norm_of_their_dense_matrix(layer, shape):
    layer = copy.deepcopy(layer).double()
    n = int(np.prod(shape))
    with torch.no_grad():
        basis = torch.eye(n, dtype=torch.float64).view(n, *shape)
        matrix = (layer(basis) - layer(torch.zeros(1, *shape, dtype=torch.float64))).flatten(1)
    found = landscape.input_lipschitz(layer, _x(2, *shape))
    _above(float(found.upper), float(torch.linalg.matrix_norm(matrix, 2)))


@pytest.mark.parametrize(
    "spectrum", [[3.0] * 5, [0.0] * 4, [1.0] + [1.0 - 1e-7] * 99, list(np.linspace(0, 1, 300) ** 0.1)]
)
def test_the_norm_of_clustered_and_crowded_spectra(spectrum):
    d = torch.tensor(spectrum, dtype=torch.float64)
    q = torch.linalg.qr(_x(len(d), len(d)))[0]
    _above(operator_norm(lambda v: d * (q @ v), (len(d),)), float(d.max()))


def test_batch_normalization_is_affine_in_evaluation():
    norm = nn.BatchNorm1d(3).double()
    norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0]))
    norm.weight.data.copy_(torch.tensor([2.0, -3.0, 1.0]))
    found = landscape.input_lipschitz(norm.train(), _x(4, 3))
    assert float(found.upper) == pytest.approx(3 / (0.25 + norm.eps) ** 0.5, rel=1e-12)
    assert float(found.lower) == pytest.approx(float(found.upper), rel=1e-6)
    assert norm.training


@pytest.mark.parametrize(
    "module",
    [
        nn.ReLU(), nn.LeakyReLU(2.0), nn.PReLU(init=1.5), nn.ELU(1.3), nn.SELU(), nn.CELU(0.5), nn.GELU(),
        nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.Softsign(), nn.Hardtanh(),
        nn.Hardswish(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Softshrink(), nn.ReLU6(),
    ],
)  # fmt: skip
def test_slopes_of_activations_are_bounded_and_the_bound_is_met(module):
    x = torch.linspace(-12, 12, 48001, dtype=torch.float64)[:, None].requires_grad_()
    module = copy.deepcopy(module).double()
    steepest = float(torch.autograd.grad(module(x).sum(), x)[0].abs().max())
    bound = float(landscape.input_lipschitz(module, x.detach()[::4000]).upper)
    assert steepest <= bound * (1 + 1e-12)
    assert bound <= steepest * 1.001


def test_softmax_is_bounded_by_one_half_and_reaches_it():
    found = landscape.input_lipschitz(nn.Softmax(1), torch.tensor([[0.0, 0.0, -50.0], [1.0, 2.0, 3.0]]).double())
    assert float(found.lower) == pytest.approx(0.5, rel=1e-6)
    assert float(found.upper) == 0.5


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        (nn.MaxPool2d(2), 4),
        (nn.MaxPool2d(3, 2), 7),
        (nn.MaxPool2d(3, 1, padding=1), 4),
        (nn.MaxPool2d(3, 2, dilation=2), 9),
        (nn.MaxPool2d((2, 3), 3), 7),
        (nn.AdaptiveMaxPool2d(2), 4),
    ],
)
def test_max_pools_count_the_windows_that_an_entry_lies_in(pool, size):
    indices = torch.arange(size * size, dtype=torch.float64).view(1, 1, size, size)
    peak = 0
    for i in range(size * size):  # one entry above all others wins every window it lies in
        image = torch.zeros_like(indices)
        image.view(-1)[i] = 1.0
        peak = max(peak, int(pool(image).sum()))
    found = landscape.input_lipschitz(pool, indices)
    assert float(found.upper) == pytest.approx(peak**0.5)
    assert float(found.lower) <= float(found.upper) * (1 + 1e-9)


def test_linear_networks_have_the_norm_of_the_product():
    net = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)]).double()
    product = torch.linalg.multi_dot([layer.weight.detach() for layer in reversed(net)])
    found = landscape.input_lipschitz(net, _x(3, 6), tolerance=1e-10, iterations=3000)
    exact = float(torch.linalg.matrix_norm(product, 2))
    assert found.per_sample.tolist() == pytest.approx([exact] * 3, rel=1e-7)
    layers = [float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) for layer in net]
    assert [link.constant for link in found.layers] == pytest.approx(layers, rel=TOLERANCE)
    assert np.prod(layers) <= float(found.upper) <= np.prod(layers) * (1 + 4 * TOLERANCE)
    assert found.frame()["kind"].tolist() == ["Linear"] * 4


NETS = [
    ("mlp", (12,), {"hidden": (16, 16), "activation": "tanh"}),
    ("convnet", (1, 8, 8), {"channels": (4, "M", 8)}),
    ("vgg", (3, 32, 32), {"width": 32}),
]


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(("name", "shape", "options"), NETS)
def test_lower_is_the_dense_jacobians_norm_and_below_upper(name, shape, options, norm):
    net = build_model(name, norm=norm, input_shape=shape, output_size=10, **options).double()
    x = _x(2, *shape)
    if norm == "batch":  # running statistics that differ from those of any batch
        net(3 * x + 1)
    found = landscape.input_lipschitz(net, (x, torch.zeros(2)), tolerance=1e-7, iterations=1000)
    for k in range(2):
        jacobian = torch.autograd.functional.jacobian(copy.deepcopy(net).eval(), x[k : k + 1]).view(10, -1)
        assert float(found.per_sample[k]) == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-4)
    assert float(found.lower) == float(found.per_sample.max()) <= float(found.upper)
    assert found.unknown == ()
    assert found.converged
    early = landscape.input_lipschitz(net, x, iterations=1)  # a lower bound at any number of iterations
    assert not early.converged
    assert bool((early.per_sample <= found.per_sample * (1 + 1e-6)).all())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return x + self.b(self.a(x))


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(4, 4), nn.Linear(4, 4), function

    def forward(self, x):
        return self.b(self.function(self.a(x)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return 2 * self.a(x)


def _hooked():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[0].register_forward_hook(lambda module, args, output: 10 * output)
    return net


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Residual(), "the network's output is not the output of b"),
        (Functional(F.relu), "b: its input is not the output of a as it was"),
        (Functional(lambda y: y.mul_(3)), "b: its input is not the output of a as it was"),
        (Functional(lambda y: y[:, [0, 0, 0, 0]]), "b: its input is not the output of a"),
        (Twice(), "the network's output is not the output of a"),
        (_hooked(), "0: it has hooks"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "1: the Lipschitz constant of LayerNorm is not known"),
        (nn.Sequential(nn.Linear(4, 4), nn.Hardshrink()), "constant of Hardshrink"),
        (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), "not"),
    ],
)
def test_what_is_no_chain_of_known_layers_is_named_and_has_no_upper_bound(net, reason):
    x = _x(2, 3, 4, dtype=torch.float32) if isinstance(net, nn.TransformerEncoderLayer) else _x(2, 4).float()
    found = landscape.input_lipschitz(net, x)
    assert found.upper is None
    assert any(reason in said for said in found.unknown)
    assert float(found.lower) > 0


def test_views_in_place_nonlinearities_and_dropout_keep_a_chain():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.drop = nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Dropout(0.5)
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.drop(self.relu(self.conv(x))).flatten(1))

    found = landscape.input_lipschitz(Net(), _x(2, 1, 4, 4).float())
    assert found.unknown == ()
    assert [link.kind for link in found.layers] == ["Conv2d", "ReLU", "Dropout", "Linear"]
    assert float(found.lower) <= float(found.upper)


def test_nothing_is_left_behind():
    net = build_model("convnet", norm="batch", input_shape=(1, 8, 8), output_size=10, channels=(4, "M", 8))
    x = _x(4, 1, 8, 8).float()
    before, batch, state = copy.deepcopy(net.state_dict()), x.clone(), torch.get_rng_state()
    landscape.input_lipschitz(net, x)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert net.training
    assert torch.equal(x, batch)
    assert torch.equal(state, torch.get_rng_state())
    in_place = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))
    y = _x(2, 3).float()
    kept = y.clone()
    landscape.input_lipschitz(in_place, y)
    assert torch.equal(y, kept)


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (nn.Embedding(5, 2), torch.zeros(3, dtype=torch.long), "floating-point inputs"),
        (nn.BatchNorm1d(3, track_running_stats=False), _x(4, 3).float(), "depend on each other"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(6, 1)), _x(2, 3).float(), "one tensor with the 2 samples first"),
    ],
)
def test_what_has_no_jacobian_of_one_sample_is_refused(net, x, message):
    with pytest.raises(ProbeError, match=message):
        landscape.input_lipschitz(net, x)


def test_a_function_without_a_second_derivative_is_named():
    with pytest.raises(ProbeError, match="hardsigmoid_backward"):
        landscape.input_lipschitz(nn.Hardsigmoid(), _x(2, 3).float())


def test_an_output_without_a_graph_is_refused():
    class Detached(nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(ProbeError, match="was it detached"):
        landscape.input_lipschitz(Detached(3, 2), _x(2, 3).float())


def test_a_network_of_several_inputs_is_told_to_be_wrapped():
    class Two(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    with pytest.raises(ProbeError, match=r"Two can't be called with the inputs alone.*'scale'.*wrap it"):
        landscape.input_lipschitz(Two(2, 1), torch.ones(3, 2))
