"""What ordinary tests don't meet: autocast around a probe, expanded buffers, half and complex weights, heads aside."""

import functools
import gc

import numpy as np
import pytest
import torch
from torch import nn

import landscape
from landscape.errors import ProbeError
from landscape.preserve import preserved
from landscape.probes import Moment, build_probe
from landscape.probes.curvature import gradient_curvature

ETAS = [0.1, 1.0, 5.0]


def _loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def _net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_inside_a_users_autocast_the_moved_weights_are_seen_and_its_cache_is_left_clean(batch):
    net = _net()
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        uncached, plain = landscape.gradient_path(net, _loss, batch, ETAS), _loss(net, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        path, after = landscape.gradient_path(net, _loss, batch, ETAS), _loss(net, batch)
    assert path.loss.tolist() == uncached.loss.tolist()
    assert path.gradient_distance.tolist() == uncached.gradient_distance.tolist()
    assert after.item() == plain.item()


def test_an_expanded_buffer_is_put_back_and_the_gradients_too(batch):
    net = _net()
    net.register_buffer("wide", torch.zeros(1, 3).expand(10, 3))
    net[0].weight.grad = kept = torch.ones(8, 6)
    with preserved(net):
        net.wide[:1] = 7.0
    landscape.gradient_path(net, _loss, batch, [0.1])
    assert net.wide.tolist() == [[0.0] * 3] * 10
    assert net.wide.stride() == (0, 1)
    assert net[0].weight.grad is kept


def test_a_submodule_made_in_forward_is_gone_afterwards(batch):
    class Grows(nn.Linear):
        def forward(self, x):
            if "extra" not in self._modules:
                self.extra = nn.Identity()
            return self.extra(super().forward(x))

    net = Grows(6, 3)
    landscape.gradient_path(net, _loss, batch, [0.1])
    assert list(net._modules) == []


def test_an_interrupt_while_things_are_put_back_costs_nothing(monkeypatch):
    net, interrupts = _net(), iter([KeyboardInterrupt])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    real = torch.set_rng_state

    def interrupted(state):
        for interrupt in interrupts:
            raise interrupt
        real(state)

    def disturbed():
        with preserved(net):
            monkeypatch.setattr(torch, "set_rng_state", interrupted)
            for tensor in [*net.parameters(), *net.buffers()]:
                tensor.data.fill_(9)

    with pytest.raises(KeyboardInterrupt):
        disturbed()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_weights_survive_a_set_extra_state_that_raises():
    class Stubborn(nn.Linear):
        def get_extra_state(self):
            return 1

        def set_extra_state(self, state):
            raise RuntimeError("no")

    net = Stubborn(2, 1)
    before, net.weight.grad = net.weight.detach().clone(), torch.ones(1, 2)
    with pytest.raises(RuntimeError, match="no"), preserved(net):
        net.weight.data.zero_()
    assert torch.equal(net.weight, before)
    assert net.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_have_sums_in_float32_and_their_own_rounding_floor(dtype):
    net = nn.Linear(400, 1, bias=False).to(dtype)
    net.weight.data.fill_(20.0)  # ||g||^2 = 160,000 overflows float16, and 0.3 is no bfloat16
    path = landscape.gradient_path(
        net, lambda model, _: model.weight.square().sum(dtype=torch.float32) / 2, None, [0.3]
    )
    assert float(path.step_sizes) == pytest.approx(0.3, rel=1e-6)
    assert float(path.gradient_norm) == pytest.approx(400.0, rel=1e-6)
    assert float(path.alignment) == pytest.approx(1.0, rel=1e-6)
    assert float(path.cosine) == pytest.approx(1.0, rel=1e-4)
    assert float(path.smoothness) == pytest.approx(1.0, rel=2 * torch.finfo(dtype).eps)
    tiny = landscape.gradient_path(
        net, lambda model, _: model.weight.square().sum(dtype=torch.float32) / 2, None, [1e-4]
    )
    assert not bool(tiny.resolved)


def test_complex_weights_are_pairs_of_real_numbers():
    net = nn.Linear(3, 1, bias=False).to(torch.complex64)
    quadratic = lambda model, _: 1.5 * model.weight.abs().square().sum()  # noqa: E731
    path = landscape.gradient_path(net, quadratic, None, [0.1, 0.2])
    assert path.smoothness.tolist() == pytest.approx([3.0, 3.0], rel=1e-5)
    assert path.cosine.tolist() == pytest.approx([1.0, 1.0], rel=1e-5)
    assert float(gradient_curvature(net, quadratic, None)) == pytest.approx(3.0, rel=1e-5)


def test_sparse_gradients_are_refused_by_name():
    net = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Flatten(), nn.Linear(8, 3))
    words = (torch.zeros(5, 2, dtype=torch.long), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ProbeError, match="sparse=False"):
        landscape.gradient_path(net, _loss, words, [0.1])


def test_a_gradient_of_zero_is_flat():
    path = landscape.gradient_path(nn.Linear(2, 1), lambda model, _: 0 * model.weight.sum(), None, ETAS)
    assert path.smoothness.tolist() == [0.0] * 3
    assert float(path.effective_smoothness) == float(path.secant_slope) == 0.0


def test_one_gradient_lives_through_a_pass():
    """w, g and one more: the gradient of the point before is gone when the next pass begins."""
    net = nn.Linear(1234, 1, bias=False)
    alive = []

    def counting(model, batch):
        gc.collect()
        tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.numel() == 1234 and not t.requires_grad]
        alive.append(len({t.data_ptr() for t in tensors}))
        return model.weight.square().sum()

    landscape.gradient_path(net, counting, None, [0.1, 0.2, 0.3])
    assert alive == [1, 2, 2, 2]  # saved w; then g with it
    alive.clear()
    landscape.gradient_path(net, counting, landscape.Batches([0, 0, 0], [1, 1, 1]), [0.1])
    assert alive == [1, 2, 2, 2, 3, 3]  # and the mean so far


def test_a_head_aside_that_the_loss_does_not_use_hides_no_ancestry(batch):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.aside, self.head = nn.Linear(8, 2), nn.Linear(8, 3)

        def forward(self, x):
            h = self.stem(x).relu()
            self.aside(h)
            return self.head(self.left(h) + self.right(h))

    net = Heads()
    shift = landscape.covariate_shift(net, _loss, batch, torch.optim.SGD(net.parameters(), lr=0.1))
    before = dict(zip(shift.layers, shift.before, strict=True))
    assert shift.ancestry == "graph"
    assert before["right"] == ("stem",)
    assert before["head"] == ("stem", "left", "right")


def test_a_network_that_diverged_has_no_shift_of_zero(batch):
    net = _net()
    well = landscape.activation_statistics(net, _loss, batch)
    net[0].weight.data.fill_(float("nan"))
    ill = landscape.activation_statistics(net, _loss, batch)
    for a, b in ((well, ill), (ill, well), (ill, ill)):
        assert not torch.isfinite(landscape.activation_shift(a, b).distance).any()
    shift = landscape.covariate_shift(net, _loss, batch, torch.optim.SGD(net.parameters(), lr=0.1))
    assert shift.distance_per_move[0] == 0.0
    assert not torch.isfinite(shift.distance_per_move[1])


def test_an_output_is_read_before_the_next_module_works_in_place(batch):
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    (site, _) = landscape.activation_statistics(net, _loss, batch, sites=["output"]).sites
    exact = net[0](batch[0])
    assert float(site.low) == float(exact.min()) < 0
    torch.testing.assert_close(site.mean, exact.mean(0))


@pytest.mark.parametrize(
    ("module", "shape", "units"),
    [
        (nn.Linear(6, 8), (4, 5, 7, 6), 8),
        (nn.LayerNorm(6), (4, 5, 7, 6), 6),
        (nn.Linear(6, 8), (4, 5, 6), 8),
        (nn.Conv1d(3, 5, 2), (4, 3, 9), 5),
        (nn.BatchNorm1d(3), (4, 3, 9), 3),
        (nn.GroupNorm(1, 3), (4, 3, 9), 3),
        (nn.Conv2d(3, 5, 2), (4, 3, 9, 9), 5),
        (nn.Conv2d(3, 5, 2), (1, 3, 9, 9), 5),
    ],
)
def test_units_lie_on_the_axis_that_the_module_says(module, shape, units):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = landscape.activation_statistics(
        nn.Sequential(module), lambda m, b: m(b).sum(), x, sites=["output", "post-norm"]
    )
    assert found.sites[0].mean.shape == (units,)


def test_a_histogram_counts_beyond_what_float32_can():
    """More than 2^24 entries in one bin: adding 1 to a float32 stops there."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    x = torch.zeros(2**24 + 2**22, 1)
    x[0] = 1.0
    (site,) = landscape.activation_statistics(net, lambda m, b: m(b).mean(), x).sites
    assert float(site.histogram.sum() * (site.high - site.low) / 48) == pytest.approx(1.0, rel=1e-6)


def test_without_a_fixed_batch_activations_say_that_it_was_the_steps_own(batch):
    probe = build_probe("activations", histograms=False)
    moment = functools.partial(Moment, _net(), _loss, batch, 0)
    assert {row.batch for row in probe.measure(moment())} == {"same"}
    assert {row.batch for row in probe.measure(moment(batches={"fixed": batch}))} == {"fixed"}


def test_one_failing_variant_leaves_the_others_of_its_probe_measuring(batch):
    net = _net()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    probes = [build_probe("gradient_path"), build_probe("gradient_path", on="held-out")]
    obs = landscape.Observer(net, _loss, probes, every=1, optimizer=sgd)
    with pytest.warns(UserWarning, match="gradient_path#2.*no batch 'held-out'"):
        obs.step(batch)
    obs.step(batch)
    assert set(obs.failures) == {"gradient_path#2"}
    assert set(obs.frame().step) == {0, 1}


def test_beta_at_the_learning_rate_is_only_given_where_the_sweep_has_it(batch):
    moment = Moment(_net(), _loss, batch, 0, learning_rate=0.1)
    said = lambda **options: {row.quantity for row in build_probe("gradient_path", **options).measure(moment)}  # noqa: E731
    assert "scaled_smoothness" in said() & said(multiples=[1.0]) & said(step_sizes=[0.1])
    assert "scaled_smoothness" not in said(multiples=[0.5, 2**0.5, 4.0]) | said(step_sizes=[0.3])


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_parametrized_weight_belongs_to_the_layer_whose_input_it_meets(batch, wrap):
    net = nn.Sequential(wrap(nn.Linear(6, 8)), nn.Tanh(), wrap(nn.Linear(8, 3)))
    shift = landscape.covariate_shift(net, _loss, batch, torch.optim.SGD(net.parameters(), lr=0.1))
    assert (shift.layers, shift.before, shift.ancestry) == (("0", "2"), ((), ("0",)), "graph")
    assert shift.distance[0] == 0.0
    assert shift.distance[1] > 0.0
    found = landscape.activation_statistics(net, _loss, batch, sites=["output", "pre-norm"])
    assert [(site.layer, len(site.mean)) for site in found.sites] == [("0", 8), ("2", 3)]


@pytest.mark.parametrize("layers", [None, ["3"]])
def test_gradients_that_a_scaler_still_holds_are_refused_by_name(batch, layers):
    net = _net()
    moment = Moment(net, _loss, batch, 0, torch.optim.SGD(net.parameters(), lr=0.1), 0.1)
    (65536 * _loss(net, batch)).backward()
    with pytest.raises(ProbeError, match="unscale_"):
        list(build_probe("covariate_shift", layers=layers).measure(moment))
    net.zero_grad()
    (64 * _loss(net, batch)).backward()  # a sum over micro-batches
    assert list(build_probe("covariate_shift", layers=layers).measure(moment))


@pytest.mark.parametrize("draws_before", [0, 1, 2])  # the second normal number of a pair waits outside the generator
@pytest.mark.parametrize("draws_inside", [1, 2, 624])
def test_numpys_legacy_generator_goes_on_where_it_was(draws_before, draws_inside):
    np.random.seed(3)
    np.random.standard_normal(draws_before)
    expected = np.random.RandomState()
    expected.set_state(np.random.get_state())
    with preserved(nn.Linear(1, 1)) as snapshot:
        inside = np.random.standard_normal(draws_inside)
        snapshot.rewind()
        again = np.random.standard_normal(draws_inside)
    assert (inside == again).all()
    assert (np.random.standard_normal(700) == expected.standard_normal(700)).all()
