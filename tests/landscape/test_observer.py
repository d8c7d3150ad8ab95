"""The Observer: when it measures, what it records, what it refuses."""

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import UsageError
from landscape.probes import PROBES, Measurement


def _loss(model, batch):
    return model(batch).square().mean()


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, list(torch.randn(7, 5, 3))


def _loop(observer, model, optimizer, batches):
    for batch in observer.watch(batches):
        optimizer.zero_grad()
        _loss(model, batch).backward()
        optimizer.step()


def test_schedules_and_the_tidy_frame(setting):
    model, optimizer, batches = setting
    probes = ["gradient_path", landscape.Scheduled(PROBES["curvature"](), {0, 5})]
    with landscape.Observer(model, _loss, probes, every=3, optimizer=optimizer) as obs:
        _loop(obs, model, optimizer, batches)
    frame = obs.frame()
    assert sorted(frame[frame.probe == "gradient_path"].step.unique()) == [0, 3, 6]
    assert sorted(frame[frame.probe == "curvature"].step.unique()) == [0, 5]
    assert (frame.learning_rate == 0.1).all()
    betas = frame[(frame.quantity == "smoothness") & (frame.step == 3)]
    assert betas["index"].tolist() == list(range(8))
    assert set(frame.variant) == {"gradient/scaled", ""}


def test_watch_and_step_measure_the_same_numbers(setting):
    model, optimizer, batches = setting
    start = {k: v.clone() for k, v in model.state_dict().items()}
    watched = landscape.Observer(model, _loss, ["gradient_path"], every=1, optimizer=optimizer)
    _loop(watched, model, optimizer, batches)
    model.load_state_dict(start)
    by_hand = landscape.Observer(model, _loss, ["gradient_path"], every=1, optimizer=optimizer)
    for batch in batches:
        optimizer.zero_grad()
        _loss(model, batch).backward()
        by_hand.step(batch)
        optimizer.step()
    assert watched.frame().equals(by_hand.frame())


def test_both_forms_at_once_are_an_error(setting):
    model, optimizer, batches = setting
    obs = landscape.Observer(model, _loss, ["curvature"], optimizer=optimizer)
    obs.step(batches[0])
    with pytest.raises(UsageError, match="not both"):
        next(iter(obs.watch(batches)))


def test_watch_takes_its_hook_off_again(setting):
    model, optimizer, batches = setting
    obs = landscape.Observer(model, _loss, ["curvature"], optimizer=optimizer)
    for _ in obs.watch(batches):
        break
    import gc

    gc.collect()
    assert not optimizer._optimizer_step_pre_hooks


def test_wrong_arguments(setting):
    model, *_ = setting
    with pytest.raises(UsageError, match="did you mean 'curvature'"):
        landscape.Observer(model, _loss, ["curvatur"])
    with pytest.raises(UsageError, match="every=0"):
        landscape.Observer(model, _loss, ["curvature"], every=0)
    with pytest.raises(UsageError, match="pass optimizer="):
        next(iter(landscape.Observer(model, _loss, ["curvature"]).watch([])))


class Breaks:
    name, version = "breaks", 1

    def measure(self, moment):
        yield Measurement(self.name, "before", 1.0)
        raise RuntimeError("half way")


def test_a_failing_probe_is_recorded_warned_about_once_and_never_stops_training(setting):
    model, optimizer, batches = setting
    obs = landscape.Observer(model, _loss, [Breaks(), "curvature"], every=1, optimizer=optimizer)
    with pytest.warns(UserWarning, match="'breaks' failed at step 0.*RuntimeError: half way") as caught:
        _loop(obs, model, optimizer, batches)
    assert len(caught) == 1
    assert obs.failures == {"breaks": "RuntimeError: half way"}
    assert set(obs.frame().probe) == {"curvature"}
    with pytest.raises(RuntimeError, match="half way"):
        landscape.Observer(model, _loss, [Breaks()], strict=True).step(batches[0])


def test_state_dict_resumes_steps_and_the_memory_of_probes(setting):
    model, _, batches = setting
    net = nn.Sequential(model, nn.ReLU())
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)

    def run(obs, part):
        for batch in part:
            sgd.zero_grad()
            _loss(net, batch).backward()
            obs.step(batches[0])
            sgd.step()

    start = {k: v.clone() for k, v in net.state_dict().items()}
    whole = landscape.Observer(net, _loss, ["activations"], every=2, optimizer=sgd)
    run(whole, batches)
    net.load_state_dict(start)
    first = landscape.Observer(net, _loss, ["activations"], every=2, optimizer=sgd)
    run(first, batches[:3])
    second = landscape.Observer(net, _loss, ["activations"], every=2, optimizer=sgd)
    second.load_state_dict(first.state_dict())
    run(second, batches[3:])
    frame = whole.frame()
    assert frame[frame.step >= 3].reset_index(drop=True).equals(second.frame())
    assert "shift_first" in set(frame.quantity)
