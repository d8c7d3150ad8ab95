"""When an Observer measures: fixed steps, ever more seldom, and within a share of training time."""

import pytest
import torch
from torch import nn

import landscape
from landscape.errors import UsageError
from landscape.schedules import Budget, Logarithmic, schedule


@pytest.mark.parametrize("per_decade", [1, 3, 10, 25])
def test_logarithmic_steps_are_the_rounded_powers_and_no_others(per_decade):
    expected = {0} | {round(10 ** (k / per_decade)) for k in range(4 * per_decade + 1)}
    assert {step for step in range(10_001) if Logarithmic(per_decade).due(step)} == expected


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def _spend(budget, clock, steps, step_seconds, measure_seconds, first=0):
    for step in range(first, first + steps):
        clock.now += step_seconds(step)
        if budget.due(step):
            assert step == 0 or budget.measuring <= budget.share * budget.training
            cost = measure_seconds(step)
            clock.now += cost
            budget.spent(step, cost)


@pytest.mark.parametrize("share", [0.02, 0.1, 1.0])
def test_measuring_stays_within_its_share_of_training_time_and_uses_it(share):
    clock = Clock()
    budget = Budget(share, clock=clock)
    _spend(budget, clock, 5000, lambda step: 0.01 + 0.01 * (step % 3), lambda step: 0.1 + 0.05 * (step % 2))
    training, measuring = clock.now - 100.0 - sum(0.1 + 0.05 * (s % 2) for s in budget.steps), budget.measuring
    assert measuring == pytest.approx(sum(0.1 + 0.05 * (s % 2) for s in budget.steps))
    assert measuring <= share * training + 0.05  # costs differ by 0.05 from one measurement to the next
    assert measuring > share * training - 0.2
    assert budget.steps[0] == 0


def test_a_budget_goes_on_after_a_restart_and_its_steps_can_be_taken_again():
    def whole():
        clock = Clock()
        return clock, Budget(0.1, clock=clock)

    clock, one = whole()
    _spend(one, clock, 400, lambda _: 0.01, lambda _: 0.05)
    clock, first = whole()
    _spend(first, clock, 150, lambda _: 0.01, lambda _: 0.05)
    later, second = whole()
    later.now = 9e9  # another process, another clock
    second.load_state_dict(first.state_dict())
    _spend(second, later, 250, lambda _: 0.01, lambda _: 0.05, first=150)
    # The step whose beginning no clock saw (the first one after a restart) does not count as training.
    assert abs(len(second.steps) - len(one.steps)) <= 1
    assert second.steps[: len(first.steps)] == first.steps
    again = schedule(second.steps)
    assert [step for step in range(400) if again.due(step)] == second.steps


@pytest.mark.parametrize("wrong", [lambda: Budget(0.0), lambda: Budget(float("inf")), lambda: Logarithmic(0)])
def test_schedules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        wrong()


def test_an_observer_asks_a_schedule_that_probes_share_once_and_keeps_its_steps_in_its_state():
    class Thirds:
        def __init__(self):
            self.asked, self.told = [], []

        def due(self, step):
            self.asked.append(step)
            return step % 3 == 0

        def spent(self, step, seconds):
            self.told.append((step, seconds > 0))

    net, thirds, budget = nn.Linear(2, 1), Thirds(), Budget(1e9)
    probes = ["curvature", "gradient_path", landscape.Scheduled(landscape.probes.build_probe("updates"), budget)]
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_fn = lambda model, x: model(x).square().mean()  # noqa: E731
    obs = landscape.Observer(net, loss_fn, probes, every=thirds, optimizer=sgd, strict=True)
    for x in obs.watch(torch.ones(7, 4, 2)):
        sgd.zero_grad()
        loss_fn(net, x).backward()
        sgd.step()
    assert thirds.asked == list(range(7))
    assert thirds.told == [(0, True), (3, True), (6, True)]
    assert budget.steps == list(range(7))
    other = landscape.Observer(net, loss_fn, ["curvature"], every=Budget(0.5))
    with pytest.raises(ValueError, match="argument 2"):
        other.load_state_dict(obs.state_dict())
    own = Budget(0.1)
    same = landscape.Observer(
        net, loss_fn, ["curvature", "gradient_path", landscape.Scheduled(probes[2].probe, own)], every=3
    )
    same.load_state_dict(obs.state_dict())
    assert (same.steps, own.steps) == (7, list(range(7)))
