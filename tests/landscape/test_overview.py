"""Figures of everything measured: which, with which numbers, in a notebook and on paper."""

import inspect
import io
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import torch
from torch import nn

import landscape
import landscape.training
from landscape.overview import overview
from landscape.probes import PROBES
from landscape.words import QUANTITIES
from landscape_reports import figures


@pytest.fixture(scope="module")
def frame():
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(10) for layer in (nn.Linear(4, 4), nn.Tanh())))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_fn = lambda model, x: model(x).square().mean()  # noqa: E731
    probes = ["curvature", "gradient_path", landscape.probes.build_probe("gradient_path", direction="random")]
    obs = landscape.Observer(net, loss_fn, [*probes, "updates", "activations"], every=2, optimizer=sgd, strict=True)
    for x in obs.watch(torch.randn(5, 8, 4)):
        sgd.zero_grad()
        loss_fn(net, x).backward()
        sgd.step()
    return obs.frame()


def test_every_probe_and_variant_has_its_figures_with_the_measured_numbers(frame):
    drawn = {figure.name: figure for figure in overview(frame)}
    assert list(drawn) == [
        "gradient_path-gradient-scaled-sweep",
        "gradient_path-gradient-scaled",
        "gradient_path-random-scaled-sweep",
        "gradient_path-random-scaled",
        "activations-sweep",
        "activations",
        "curvature",
        "updates",
    ]
    own = frame[frame.quantity == "gradient_curvature"]
    line = drawn["curvature"].frame.query("panel == 'curvature along the gradient'")
    assert (line.x.tolist(), line.y.tolist()) == (own.step.tolist(), own.value.tolist())
    sweep = frame.query("variant == 'random/scaled' and quantity == 'loss' and step == 2").value
    band = drawn["gradient_path-random-scaled-sweep"].frame.query("panel == 'loss along the path' and x == 2")
    assert (band.low.tolist(), band.high.tolist()) == ([sweep.min()], [sweep.max()])


def table(**quantities):
    """A long table of two steps and two layers: quantity -> its values at (step 0, step 1) of layer a, then b."""
    rows = [
        {"step": step, "probe": "mine", "layer": layer, "quantity": name, "value": values[2 * at + step]}
        for name, values in quantities.items()
        for at, layer in enumerate("ab")
        for step in (0, 1)
    ]
    return pd.DataFrame(rows).assign(variant="", batch="same", statistics="batch", index=0)


def test_what_does_not_change_is_said_and_not_drawn():
    (figure,) = overview(table(moves=[1.0, 2.0, 3.0, 4.0], still=[1.0] * 4, first_still=[0.0, 0.0, 1.0, 2.0]))
    assert figure.options["panels"] == ["moves", "first still"]
    assert set(figure.frame[figure.frame.panel == "first still"].arm) == {"b"}
    assert figure.caption.endswith("Not drawn, as it is constant: still 1; first still 0 in a.")


def test_a_line_that_diverged_or_is_all_there_is_stays():
    (figure,) = overview(table(lost=[float("inf")] * 4, moves=[1.0, 2.0, 1.0, 2.0]))
    assert figure.options["panels"] == ["lost", "moves"]
    (figure,) = overview(table(still=[2.0] * 4))
    assert figure.options["panels"] == ["still"]


def test_an_arm_that_stays_is_drawn_beside_one_that_moves():
    arms = [table(loss=values).query("layer == 'a'") for values in ([1.0, 1.0, 0, 0], [1.0, 2.0, 0, 0])]
    (figure,) = overview(pd.concat([one.assign(arm=arm) for one, arm in zip(arms, "xy", strict=True)]))
    assert set(figure.frame.arm) == {"x", "y"}


def test_words_are_of_quantities_that_exist_and_tell_them_apart():
    for probe, words in QUANTITIES.items():
        source = Path(inspect.getfile(PROBES.get(probe, landscape.training))).read_text()
        assert [name for name in words if name not in source] == []
        assert len(set(words.values())) == len(words)


def test_of_many_layers_some_are_shown_and_it_is_said(frame):
    (updates,) = (figure for figure in overview(frame) if figure.name == "updates")
    arms = list(dict.fromkeys(updates.frame.arm))
    assert arms[0] == "0.weight"
    assert arms[-1] == "18.weight"
    assert len(arms) == 8
    assert "8 of 10 layers" in updates.caption


def test_several_arms_are_one_line_each_with_their_seeds(frame):
    runs = [
        frame[frame.probe == "updates"].assign(arm=arm, seed=seed, value=lambda f, k=seed: f.value + k)
        for arm in ("none", "batch")
        for seed in (0, 10)
    ]
    (figure,) = overview(pd.concat(runs, ignore_index=True))
    assert set(figure.frame.arm) == {"none", "batch"}
    (first, second) = figure.frame.query("panel == 'norm of the weight' and arm == 'batch' and x == 0").y
    middle = frame.query("quantity == 'weight_norm' and step == 0").value.median()
    assert (first, second) == pytest.approx((middle, middle + 10))
    assert "Median over layers" in figure.caption


def test_a_notebook_shows_them_as_pictures_without_pyplot(frame):
    shown = figures(frame[frame.probe == "curvature"])
    assert list(shown) == ["curvature"]
    picture = matplotlib.image.imread(io.BytesIO(shown["curvature"]._repr_png_()), format="png")
    assert picture.shape[1] > 800
    assert picture[..., :3].min() < 0.5  # something is drawn on it


def test_every_figure_can_be_drawn(frame):
    shown = figures(frame)
    assert [len(canvas.axes) > 0 for canvas in shown.values()] == [True] * len(shown)
