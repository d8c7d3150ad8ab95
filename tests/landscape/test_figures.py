"""The shared figures and tables: which rows they take, in which order, and what they say of what never came."""

import math

import pandas as pd
import pytest

from landscape.experiment import Arm, Spec, Study
from landscape.figures import Panel, at_end, dots, over_layers, over_rates, over_steps, over_studies

STUDY = Study("s", Spec("mlp"), Spec("digits"), (Arm("none"), Arm("batch")), (0.1, 1.0), 0.1, seeds=(0, 1, 2), steps=20)
LOSS = {"probe": "training", "quantity": "full_loss"}
PANEL = Panel("full loss", LOSS)


def loss(arm: str, rate: float, seed: int, step: int) -> float:
    return 100 * (arm == "batch") + 10 * rate + seed + step / 100


def rows(quantity="full_loss", probe="training", of=loss, study="s", layers=("",)):
    found = [
        (study, arm, rate, seed, step, probe, quantity, layer, of(arm, rate, seed, step) + k)
        for arm in ("batch", "none")
        for rate in (1.0, 0.1)
        for seed in (2, 0, 1)
        for step in (20, 0, 10)
        for k, layer in enumerate(layers)
    ]
    columns = ["study", "arm", "learning_rate", "seed", "step", "probe", "quantity", "layer", "value"]
    return pd.DataFrame(found, columns=columns).assign(index=0, variant="", batch="")


def drawn(figure):
    return {tuple(row) for row in figure.frame[["x", "y", "arm", "seed"]].itertuples(index=False)}


def test_over_steps_takes_one_rate_of_one_study():
    frame = pd.concat([rows(), rows(study="other", of=lambda *run: -1.0), rows("test_loss", of=lambda *run: -2.0)])
    figure = over_steps("f", STUDY, frame, [PANEL], title="t")
    expected = {(x, loss(a, 0.1, s, x), a, s) for x in (0, 10, 20) for a in ("none", "batch") for s in (0, 1, 2)}
    assert drawn(figure) == expected
    assert len(figure.frame) == len(expected)
    assert figure.options["arms"] == ["none", "batch"]
    assert {
        y for _, y, arm, _ in drawn(over_steps("f", STUDY, frame, [PANEL], title="t", rate=1.0)) if arm == "none"
    } == {loss("none", 1.0, s, x) for s in (0, 1, 2) for x in (0, 10, 20)}


def test_over_rates_and_studies_take_the_last_step():
    assert drawn(over_rates("f", STUDY, rows(), [PANEL], title="t")) == {
        (r, loss(a, r, s, 20), a, s) for r in (0.1, 1.0) for a in ("none", "batch") for s in (0, 1, 2)
    }
    figure = over_studies("f", {8.0: STUDY}, rows(), [PANEL], x_label="batch size", title="t")
    assert drawn(figure) == {(8.0, loss(a, 0.1, s, 20), a, s) for a in ("none", "batch") for s in (0, 1, 2)}
    assert figure.options["x_log"]


def test_layers_are_in_the_order_of_their_numbers():
    frame = rows(layers=("fc10", "fc2", "fc1"))  # values + 0, + 1, + 2
    figure = over_layers("f", STUDY, frame, [PANEL], step=0, title="t")
    one = figure.frame[(figure.frame["arm"] == "none") & (figure.frame["seed"] == 0)].sort_values("x")
    assert one["x"].tolist() == [1, 2, 3]
    assert one["y"].tolist() == [loss("none", 0.1, 0, 0) + k for k in (2, 1, 0)]


def test_a_table_has_medians_at_the_end_and_says_what_never_came():
    steps = rows("steps_to_goal", "derived", lambda arm, rate, seed, step: math.inf if arm == "none" else 7.0 + seed)
    lost = rows("test_loss", of=lambda arm, rate, seed, step: math.inf if rate == 1.0 else 0.5)
    columns = {
        "loss": LOSS,
        "steps": {"probe": "derived", "quantity": "steps_to_goal"},
        "test": {"quantity": "test_loss"},
        "nothing": {"quantity": "absent"},
    }
    table = at_end("t", "title", STUDY, pd.concat([rows(), steps, lost]), columns).frame
    assert table.columns.tolist() == ["arm", "lr", "loss", "steps", "test"]
    assert table["arm"].tolist() == ["none", "none", "batch", "batch"]  # as the study has them
    assert table["lr"].tolist() == [0.1, 1.0, 0.1, 1.0]
    assert table["loss"].tolist() == ["2.2", "11.2", "102", "111"]  # seed 1 is the median, step 20 the last
    assert table["steps"].tolist() == ["never", "never", "8", "8"]
    assert table["test"].tolist() == ["0.5", "diverged", "0.5", "diverged"]


@pytest.mark.parametrize("log", [False, True])
def test_a_dot_is_the_mean_of_each_seeds_median_with_its_t_interval(log):
    figure = dots("f", STUDY, rows(), [Panel("full loss", LOSS, log=log)], rates={"none": 1.0}, title="t")
    (row,) = figure.frame.itertuples()
    middle = [loss("none", 1.0, seed, 10) for seed in (0, 1, 2)]
    scaled = [math.log10(m) for m in middle] if log else middle
    mean = sum(scaled) / 3
    half = 4.302653 * math.sqrt(sum((m - mean) ** 2 for m in scaled) / 2 / 3)  # t(2, 97.5 %), from a table
    found = [math.log10(v) if log else v for v in (row.value, row.low, row.high)]
    assert found == pytest.approx([mean, mean - half, mean + half], rel=1e-6)
    assert ("logarithm" in figure.caption) == log


def test_nothing_measured_is_an_empty_figure_and_table():
    empty = rows().iloc[:0]
    for figure in (
        over_steps("f", STUDY, empty, [PANEL], title="t"),
        over_steps("f", STUDY, empty, [], title="t"),
        over_layers("f", STUDY, empty, [PANEL], step=0, title="t"),
        dots("f", STUDY, empty, [PANEL], rates={"none": 0.1}, title="t"),
    ):
        assert figure.frame.empty
    assert at_end("t", "title", STUDY, empty, {"loss": LOSS}).frame.empty
