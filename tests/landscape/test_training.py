"""The training loop: pairs are pairs, a killed run resumes bit for bit, a diverged one is a result."""

import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from landscape.data import load_data
from landscape.errors import UsageError
from landscape.experiment import Arm, ProbeSpec, Spec, Study
from landscape.feed import Feed
from landscape.store import RunStore
from landscape.training import average_statistics, build_optimizer, train


def _study(**changes):
    settings = {
        "name": "t",
        "model": Spec("mlp", {"hidden": [8]}),
        "data": Spec("digits"),
        "arms": (Arm("none"), Arm("batch"), Arm("noisy-batch")),
        "learning_rates": (0.1,),
        "primary_rate": 0.1,
        "seeds": (0,),
        "steps": 12,
        "evaluate_every": 4,
        "full_batches": 2,
        "probes": (ProbeSpec("gradient_path", every=4), ProbeSpec("activations", every=4)),
    }
    return Study(**settings | changes)


def _run(study, arm=0):
    return next(run for run in study.runs() if run.arm == study.arms[arm])


def _frame(run, folder, **rest):
    with RunStore(folder) as store:
        train(run, store, **rest)
        store.finish()
    return RunStore(folder).frame()


@pytest.mark.parametrize("arm", [1, 2])
def test_a_run_stopped_anywhere_and_resumed_leaves_the_same_rows(tmp_path, arm, monkeypatch):
    run = _run(_study(), arm)
    whole = _frame(run, tmp_path / "whole")
    monkeypatch.setattr("landscape.training.CHECKPOINT_SECONDS", -1.0)  # a checkpoint after every step
    for stop in (1, 4, 7):

        class Stop(BaseException):
            pass

        evaluated = 0

        def die(progress, limit=stop, stop=Stop):
            nonlocal evaluated
            if progress.step >= limit:
                raise stop

        folder = tmp_path / str(stop)
        with RunStore(folder) as store, pytest.raises(Stop):
            train(run, store, progress=die)
        resumed = _frame(run, folder)
        assert whole.equals(resumed)


class Wandering(nn.Module):
    """A criterion with a running centre, a counter, a history and generators of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(10))
        self.register_buffer("passing", torch.zeros(10), persistent=False)
        self.register_buffer("sparse", torch.eye(10).to_sparse())  # can't be compared: not kept
        self.scale = nn.Parameter(torch.full((10,), 0.9))
        self.calls, self.history, self.last, self.held, self.scales = 0, [], None, [self.centre], [self.scale]
        self.torch, self.numpy, self.python = torch.Generator(), np.random.default_rng(1), random.Random(1)
        self.mersenne = np.random.RandomState(1)

    def forward(self, logits, labels):
        if torch.is_grad_enabled():
            self.calls += 1
            self.history.append(self.calls % 3)
            with torch.no_grad():
                self.held[0].lerp_(logits.mean(0), 0.5)
                self.scales[0].mul_(0.99)
                self.passing.lerp_(self.centre, 0.5)
                self.last = self.passing.clone()
        noise = torch.randn(10, generator=self.torch) * (1 + self.python.random() + self.mersenne.rand())
        shift = self.centre + self.passing + (0 if self.last is None else self.last) + sum(self.history) / 100
        logits = logits * self.scale.detach()
        return nn.functional.cross_entropy(logits * (1 + self.numpy.random()) - shift + noise / 10, labels)


WANDERING = Wandering()


def wandering(model, batch):
    return WANDERING(model(batch[0]), batch[1])


def test_a_loss_with_a_state_of_its_own_goes_on_from_the_checkpoint(tmp_path, monkeypatch):
    global WANDERING
    monkeypatch.setattr("landscape.training.load_object", lambda name: wandering)
    monkeypatch.setattr("landscape.losses.load_object", lambda name: wandering)
    monkeypatch.setattr("landscape.training.CHECKPOINT_SECONDS", -1.0)
    run = _run(_study(loss="somebody:wandering"))
    whole = _frame(run, tmp_path / "whole")

    def die(progress):
        if progress.step >= 4:
            raise KeyboardInterrupt

    WANDERING = Wandering()  # a fresh process
    with RunStore(tmp_path / "stopped") as store, pytest.raises(KeyboardInterrupt):
        train(run, store, progress=die)
    WANDERING = Wandering()
    assert whole.equals(_frame(run, tmp_path / "stopped"))
    assert whole.query("quantity == 'loss'")["value"].nunique() > 2


def test_global_random_state_is_left_alone(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    _frame(_run(_study(), 2), tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_arms_of_a_seed_share_order_and_probe_batches_and_seeds_differ():
    study = _study()
    data = load_data("digits")
    feeds = [Feed(data, study, seed, torch.device("cpu")) for seed in (0, 0, 1)]
    for step in (0, 3, 11, 12):
        a, b, c = (feed.batch(step)[0] for feed in feeds)
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert torch.equal(feeds[0].held_out(3)[0], feeds[1].held_out(3)[0])
    assert not torch.equal(feeds[0].held_out(3)[0], feeds[0].held_out(4)[0])


def test_an_epoch_visits_every_example_once_and_drops_the_incomplete_batch():
    study, data = _study(batch_size=100), load_data("digits")
    data = dataclasses.replace(data, train=(torch.arange(1437.0).view(-1, 1, 1, 1), data.train[1]))
    feed = Feed(data, study, 0, torch.device("cpu"))
    seen = torch.cat([feed.batch(step)[0].flatten() for step in range(14)])
    assert feed.per_epoch == 14
    assert len(seen) == len(seen.unique()) == 1400
    assert not torch.equal(feed.batch(14)[0], feed.batch(0)[0])  # another order in the next epoch


def test_a_diverged_run_is_recorded_as_infinite_to_its_end(tmp_path):
    frame = _frame(_run(_study(learning_rates=(1e6,), primary_rate=1e6)), tmp_path)
    last = frame[(frame.step == 12) & (frame.quantity == "full_loss")].value
    assert last.tolist() == [math.inf]
    beta = frame[(frame.step == 8) & (frame.quantity == "effective_smoothness")].value
    assert beta.tolist() == [math.inf]


def test_full_batch_descent_and_regression(tmp_path):
    study = _study(
        model=Spec("deep_linear", {"layers": 3}),
        data=Spec("gaussian-regression"),
        batch_size=None,
        learning_rates=(1e-3,),
        primary_rate=1e-3,
        full_batches=None,
        probes=(),
    )
    frame = _frame(_run(study), tmp_path)
    rows = frame[frame.probe == "training"].pivot_table(index="step", columns="quantity", values="value")
    assert rows.loss[0] == pytest.approx(rows.full_loss[0], rel=1e-6)  # one batch: the same function
    assert rows.full_loss[12] < rows.full_loss[0]
    _, y = load_data("gaussian-regression", seed=0).train
    assert rows.chance_loss[0] == pytest.approx(float(y.square().sum(1).mean()), rel=1e-6)
    assert "test_accuracy" not in rows


def test_reestimated_statistics_are_the_mean_over_batches():
    from landscape.objective import Batches

    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    batches = [(torch.randn(20, 3) + k,) for k in range(3)]
    average_statistics(model, Batches(batches), lambda net, part: net(part[0]))
    expected = torch.stack([b[0].mean(0) for b in batches]).mean(0)
    torch.testing.assert_close(model[0].running_mean, expected)
    variance = torch.stack([b[0].var(0) for b in batches]).mean(0)
    torch.testing.assert_close(model[0].running_var, variance)
    assert not model.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 5000}, "batch_size 5000 with 1437 training examples"),
        ({"optimizer": Spec("sgdd")}, "did you mean 'sgd'"),
        ({"optimizer": Spec("sgd", {"momentun": 0.9})}, "momentun"),
        ({"optimizer": Spec("sgd", {"momentum": -1.0})}, "momentum"),
        ({"model": Spec("convnett")}, "did you mean 'convnet'"),
        ({"data": Spec("digitss")}, "did you mean 'digits'"),
        ({"probes": (ProbeSpec("gradient_pth"),)}, "did you mean 'gradient_path'"),
        ({"probes": (ProbeSpec("curvature", options={"o": 1}),)}, "probe 'curvature'"),
        ({"arms": (Arm("bacth"),)}, "did you mean 'batch'"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        _frame(_run(_study(**changes)), tmp_path)


def test_any_torch_optimizer_by_name():
    model = torch.nn.Linear(2, 1)
    assert isinstance(build_optimizer(Spec("Adam", {"betas": [0.8, 0.9]}), model, 0.1), torch.optim.Adam)


@pytest.mark.parametrize(
    ("model", "data", "accuracy"),
    [
        (Spec("transformer", {"features": 8, "heads": 2, "layers": 1}), Spec("text", {"context": 8}), True),
        (Spec("recurrent", {"hidden": 8, "layers": 1}), Spec("text", {"context": 8}), True),
        (Spec("recurrent", {"hidden": 8, "layers": 1}), Spec("digit-rows"), True),
        (Spec("mlp", {"hidden": [8]}), Spec("bag-of-words"), True),
        (Spec("phase_dnn", {"hidden": [8]}), Spec("wideband", {"samples": 512}), False),
        (
            Spec("phase_dnn", {"hidden": [8], "frequencies": [0, 23], "form": "parallel"}),
            Spec("wideband", {"samples": 512, "frequencies": [0, 23]}),
            False,
        ),
        (Spec("mlp", {"hidden": []}), Spec("two-features", {"scale": 3.0}), False),
    ],
)
def test_language_sequences_and_functions_are_trained_by_the_same_loop(tmp_path, model, data, accuracy):
    study = _study(
        model=model, data=data, batch_size=64, steps=40, evaluate_every=20, probes=(), learning_rates=(0.01,)
    )
    study = dataclasses.replace(study, primary_rate=0.01, optimizer=Spec("adam"))
    frame = _frame(_run(study, 1), tmp_path)
    loss = frame[frame["quantity"] == "full_loss"].sort_values("step")["value"]
    assert loss.iloc[-1] < loss.iloc[0]
    quantities = set(frame["quantity"])
    assert ({"train_accuracy", "test_accuracy", "test_accuracy_reestimated"} <= quantities) is accuracy
    if data.name == "text":  # a share of characters, not of windows
        final = frame[(frame["quantity"] == "test_accuracy") & (frame["step"] == 40)]["value"].item()
        assert final > 1.5 / 16


OWN_BATCH_NORM = """
from torch import nn

def build(input_shape, output_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, output_size))
"""


@pytest.mark.parametrize("own", [True, False])
def test_batches_of_one_are_refused_in_words_where_statistics_are_over_the_batch(tmp_path, own):
    """In a layer of ours and in one of torch's own that the user's model came with."""
    (tmp_path / "own_net.py").write_text(OWN_BATCH_NORM)
    model = Spec(f"{tmp_path / 'own_net.py'}:build") if own else Spec("mlp", {"hidden": [4]})
    run = _run(_study(model=model, arms=(Arm("batch"),), batch_size=1, probes=()))
    words = "one value per unit in training.*variance of one value is 0.*2 or more.*'layer', 'group:8'"
    with pytest.raises(UsageError, match=words):
        _frame(run, tmp_path / "run")
    within = _run(_study(model=model, arms=(Arm("layer"),), batch_size=1, probes=(), steps=2, evaluate_every=2))
    assert _frame(within, tmp_path / "within")["value"].notna().any()
