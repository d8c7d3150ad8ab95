"""Numbers of whole runs, against tables made by hand; and claims that are decided at best rates."""

import pandas as pd
import pytest

from landscape.analysis import Claim, Measure
from landscape.derived import each_run, largest_stable_rate, per_run, steps_to, worst_moments
from landscape.experiment import Arm, Experiment, Spec, Study
from landscape.figures import Panel, at_end, dots, over_layers, over_rates, over_steps
from landscape.frames import plane
from landscape.statistics import decide_claims

STUDY = Study("s", Spec("mlp"), Spec("digits"), (Arm("none"), Arm("batch")), (0.1, 1.0), 0.1, (0, 1, 2), steps=20)
ACCURACY = {"none": (0.2, 0.4, 0.6), "batch": (0.3, 0.7, 0.7)}


def rows(quantity, value, *, arm, rate, seed, step, probe="training", layer=""):
    return {
        "study": "s",
        "arm": arm,
        "learning_rate": rate,
        "seed": seed,
        "step": step,
        "probe": probe,
        "version": 1,
        "variant": "",
        "statistics": "batch",
        "dtype": "float32",
        "batch": "",
        "layer": layer,
        "quantity": quantity,
        "index": 0,
        "value": value,
    }


@pytest.fixture
def frame():
    """At rate 1 "none" diverges and "batch" trains twice as well; seeds differ by a hundredth."""
    found = []
    for arm, accuracies in ACCURACY.items():
        for rate in (0.1, 1.0):
            for seed in (0, 1, 2):
                key = {"arm": arm, "rate": rate, "seed": seed}
                found.append(rows("chance_loss", 2.0, step=0, **key))
                for step, accuracy in zip((0, 10, 20), accuracies, strict=True):
                    loss = (1.5 if rate == 0.1 else 0.75) + 0.01 * seed
                    lost = arm == "none" and rate == 1.0
                    found.append(rows("full_loss", float("inf") if lost else loss, step=step, **key))
                    found.append(rows("test_accuracy", accuracy, step=step, **key))
                if arm == "none" and rate == 1.0:
                    found.append(rows("diverged", 1.0, step=10, **key))
    return pd.DataFrame(found)


def test_steps_to_a_level_and_never(frame):
    found = steps_to(frame, STUDY, "steps_to_half", 0.5, quantity="test_accuracy")
    assert set(found["probe"]) == {"derived"}
    assert found.set_index(["arm", "learning_rate", "seed"])["value"].to_dict() == {
        (arm, rate, seed): 20.0 if arm == "none" else 10.0
        for arm in ACCURACY
        for rate in (0.1, 1.0)
        for seed in (0, 1, 2)
    }
    never = steps_to(frame, STUDY, "steps", {0: 0.9, 1: 0.2, 2: 0.2}, quantity="test_accuracy")
    assert never[never["seed"] == 0]["value"].eq(float("inf")).all()
    assert never[never["seed"] == 1]["value"].max() == 0
    below = steps_to(frame, STUDY, "steps", 0.25, below=True, quantity="test_accuracy")
    assert below.groupby("arm")["value"].max().to_dict() == {"none": 0.0, "batch": float("inf")}


def test_best_value_of_a_run(frame):
    found = per_run(frame, STUDY, "best", max, quantity="test_accuracy")
    assert found.groupby("arm")["value"].agg(["min", "max"]).values.tolist() == [[0.7, 0.7], [0.6, 0.6]]


def test_a_number_of_each_run_and_no_rows_without_runs(frame):
    losses = frame[(frame["quantity"] == "full_loss") & (frame["learning_rate"] == 0.1)]
    found = each_run(losses, STUDY, "sum", lambda own: own["value"].sum())
    assert found.groupby("seed")["value"].unique().map(list).to_dict() == {
        seed: [pytest.approx(3 * (1.5 + 0.01 * seed))] for seed in (0, 1, 2)
    }
    none = each_run(losses.iloc[:0], STUDY, "sum", lambda own: 1 / 0)
    assert none.empty
    assert none[["learning_rate", "seed", "value"]].dtypes.equals(found[["learning_rate", "seed", "value"]].dtypes)


def test_the_worst_layer_is_the_farthest_from_a_standard_normal():
    moments = {"fc1.activation": (-0.3, 1.1), "fc2.activation": (0.2, 0.6)}
    found = pd.concat(
        pd.DataFrame(
            [
                rows("mean", mean, arm="none", rate=0.1, seed=0, step=0, probe="moments", layer=layer),
                rows("variance", variance, arm="none", rate=0.1, seed=0, step=0, probe="moments", layer=layer),
            ]
        )
        for layer, (mean, variance) in moments.items()
    ).assign(variant="nonlinearity output")
    mean, variance = worst_moments(found, STUDY)
    assert mean[["quantity", "value"]].values.tolist() == [["worst_mean", 0.3]]
    assert variance[["quantity", "value"]].values.tolist() == [["worst_variance", 0.4]]


def test_a_plane_has_its_loss_at_each_place():
    x, y = (-1.0, 0.0, 2.0), (5.0, 7.0)
    swept = {"x": x, "y": y, "loss": [10 * a + b for a in x for b in y]}
    found = plane(
        pd.DataFrame(
            [(q, k, v) for q, vs in swept.items() for k, v in enumerate(vs)], columns=["quantity", "index", "value"]
        ).sample(frac=1.0, random_state=0)
    )
    assert len(found) == 6
    assert (found["value"] == 10 * found["x"] + found["y"]).all()


def test_the_largest_rate_that_trains_stands_at_the_primary_rate(frame):
    found = largest_stable_rate(frame, STUDY)
    assert found.groupby("arm")["value"].unique().map(list).to_dict() == {"none": [0.1], "batch": [1.0]}
    assert set(found["learning_rate"]) == {0.1}


def test_a_reference_that_trains_at_every_rate_of_the_grid_has_no_largest_one(frame):
    found = largest_stable_rate(frame, STUDY, against=("batch",))
    assert set(found["arm"]) == {"none"}  # batch trains at 1.0, the top: it may train at 10, too
    assert set(largest_stable_rate(frame, STUDY, against=("none",))["arm"]) == {"none", "batch"}
    claim = Claim("c", "x", "s", Measure.derived("largest_stable_rate"), "none", "batch", "larger", window="end")
    both = pd.concat([frame, found], ignore_index=True)
    (verdict,) = decide_claims([claim], Experiment("e", (STUDY,)), both)
    assert verdict.verdict == "not measured"  # not "fails": how much larger is unknown
    lost = (frame["arm"] == "batch") & (frame["learning_rate"] == 1.0) & (frame["quantity"] == "full_loss")
    once = frame.assign(value=frame["value"].where(~lost | (frame["seed"] == 2), float("inf")))
    kept = largest_stable_rate(once, STUDY)
    assert kept[kept["arm"] == "batch"].set_index("seed")["value"].to_dict() == {0: 0.1, 1: 0.1, 2: 1.0}
    # Not the other two seeds alone: they are those in which batch does worse.
    assert set(largest_stable_rate(once, STUDY, against=("batch",))["arm"]) == {"none"}


def test_a_claim_at_best_rates_compares_each_arm_at_its_own(frame):
    claim = Claim(
        "c", "lower loss", "s", Measure("training", "full_loss", batch=""), "batch", window="end", rate="best"
    )
    (verdict,) = decide_claims([claim], Experiment("e", (STUDY,)), frame)
    assert (verdict.equal.arm_rate, verdict.equal.reference_rate) == (1.0, 0.1)
    assert verdict.verdict == "holds"
    assert verdict.best is verdict.equal
    assert verdict.equal.seeds[0] == pytest.approx(0.30103, abs=1e-5)  # log10(1.5 / .75)


def test_figures_hold_what_was_picked(frame):
    accuracy = Panel("accuracy", {"probe": "training", "quantity": "test_accuracy"}, guide=0.5)
    steps = over_steps("a", STUDY, frame, [accuracy], title="t")
    assert sorted(steps.frame.query("arm == 'none' and seed == 0")["y"]) == [0.2, 0.4, 0.6]
    assert steps.options["guide"] == {"accuracy": 0.5}
    rates = over_rates("a", STUDY, frame, [accuracy], title="t")
    assert set(rates.frame["x"]) == {0.1, 1.0}
    assert set(rates.frame["y"]) == {0.6, 0.7}
    dotted = dots("a", STUDY, frame, [Panel("loss", {"quantity": "full_loss"})], rates={"batch": 1.0}, title="t")
    assert dotted.frame["value"].tolist() == pytest.approx([0.76])
    table = at_end("t", "T", STUDY, frame, {"accuracy": {"quantity": "test_accuracy"}, "none": {"quantity": "x"}}).frame
    assert table["arm"].tolist() == ["none", "none", "batch", "batch"]
    assert table["accuracy"].tolist() == ["0.6", "0.6", "0.7", "0.7"]


def test_layers_stand_in_the_order_of_their_numbers():
    key = {"arm": "none", "rate": 0.1, "seed": 0, "step": 0, "probe": "activations"}
    layers = {"fc10": 10.0, "fc2": 2.0, "fc1": 1.0}
    frame = pd.DataFrame([rows("std", value, layer=layer, **key) for layer, value in layers.items()])
    figure = over_layers("a", STUDY, frame, [Panel("std", {"quantity": "std"})], step=0, title="t")
    assert figure.frame.sort_values("x")["y"].tolist() == [1.0, 2.0, 10.0]
