"""The Observer: when it measures, what it records, what it refuses."""

import warnings

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


def _warming_up(model, lr=0.1):
    """SGD whose rate is 0 at the first of its steps, as linear warm-ups begin."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 2))


@pytest.mark.parametrize("options", [{}, {"direction": "scale-invariant"}, {"direction": "update"}])
def test_a_warm_up_that_begins_at_rate_0_loses_that_step_only(setting, options):
    model, _, batches = setting
    optimizer, scheduler = _warming_up(model)
    probe = PROBES["gradient_path"](**options)
    observer = landscape.Observer(model, _loss, [probe], every=1, optimizer=optimizer, strict=True)
    for batch in batches[:4]:
        optimizer.zero_grad()
        _loss(model, batch).backward()
        observer.step(batch)
        optimizer.step()
        scheduler.step()
    frame = observer.frame()
    assert sorted(frame.step.unique()) == [1, 2, 3]
    assert sorted(frame.learning_rate.unique()) == [0.05, 0.1]


def test_a_window_of_its_own_is_swept_at_rate_0_too(setting):
    model, _, batches = setting
    optimizer, _ = _warming_up(model)
    probe = PROBES["gradient_path"](step_sizes=[0.1, 0.2])
    observer = landscape.Observer(model, _loss, [probe], every=1, optimizer=optimizer, strict=True)
    observer.step(batches[0])
    assert observer.frame().query("quantity == 'step_sizes'").value.tolist() == pytest.approx([0.1, 0.2])


def test_groups_with_different_rates_are_told_from_no_optimizer_and_the_update_needs_no_rate(setting):
    model, _, batches = setting
    optimizer = torch.optim.SGD([{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}])
    for given, why in ((optimizer, "groups have different ones"), (None, "there is none")):
        observer = landscape.Observer(model, _loss, ["gradient_path"], every=1, optimizer=given, strict=True)
        with pytest.raises(UsageError, match=why):
            observer.step(batches[0])
    update = PROBES["gradient_path"](direction="update")
    observer = landscape.Observer(model, _loss, [update], every=1, optimizer=optimizer, strict=True)
    observer.step(batches[0])
    assert len(observer.frame().query("quantity == 'loss'")) == 8


@pytest.mark.parametrize("form", ["step", "watch"])
def test_the_warning_names_the_users_own_line_each_time_that_a_cell_is_run(setting, form):
    model, optimizer, batches = setting
    cell = {"step": "obs.step(batch)", "watch": "for _ in obs.watch([batch]):\n    optimizer.step()"}[form]
    code = compile(cell, "<a cell>", "exec")

    def broken(model, batch):
        raise RuntimeError("half way")

    names = {"__name__": "__main__", "batch": batches[0], "optimizer": optimizer}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # what Python does by itself: the second of a line is dropped
        for _ in range(2):
            names["obs"] = landscape.Observer(model, broken, ["curvature"], every=1, optimizer=optimizer)
            exec(code, names)
    assert [one.filename for one in caught if "half way" in str(one.message)] == ["<a cell>"] * 2


@pytest.mark.parametrize("every", ["10", 2.5, [0, "5"], None])
def test_what_is_no_schedule_is_refused_instead_of_measuring_never(setting, every):
    model, optimizer, _ = setting
    with pytest.raises(UsageError, match="give a number of steps, a collection of steps, or a schedule"):
        landscape.Observer(model, _loss, ["gradient_path"], every=every, optimizer=optimizer)


def test_steps_may_be_numbers_of_any_kind(setting):
    model, optimizer, batches = setting
    observer = landscape.Observer(model, _loss, ["curvature"], every=torch.tensor([0, 3]), optimizer=optimizer)
    for batch in batches:
        observer.step(batch)
    assert sorted(observer.frame().step.unique()) == [0, 3]


def test_one_probe_may_be_named_without_a_list(setting):
    model, optimizer, _ = setting
    assert list(landscape.Observer(model, _loss, "gradient_path", optimizer=optimizer).probes) == ["gradient_path"]


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.functional.mse_loss])
def test_a_loss_of_outputs_and_targets_is_told_from_one_of_model_and_batch(setting, criterion):
    model, _, batches = setting
    with pytest.raises(UsageError, match=r"is a loss of outputs and targets; give .* lambda model, batch: criterion"):
        landscape.gradient_path(model, criterion, batches[0], [0.1])


def test_model_and_loss_exchanged(setting):
    model, optimizer, _ = setting
    with pytest.raises(UsageError, match=r"the model is a function, not an nn\.Module; it comes first"):
        landscape.Observer(_loss, model, ["gradient_path"], optimizer=optimizer)
    with pytest.raises(UsageError, match=r"step_sizes=0\.1: give several"):
        landscape.gradient_path(model, _loss, torch.ones(2, 3), 0.1)
