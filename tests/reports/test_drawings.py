"""Drawings show their frames: lines, extents, marks; arms look the same everywhere; nothing empty."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from report_fixture import INF, NAN, ODD, example, figures

from landscape.analysis import Figure
from landscape.errors import UsageError
from landscape_reports import DRAWINGS, arm_style, draw, save_figures
from landscape_reports.drawing import all_arms, caption, svg
from landscape_reports.drawings.surface import SHADES
from landscape_reports.theme import ARMS, OTHERS, WIDTH, arm_styles

FIGURES = figures()


def made(kind: str, frame: pd.DataFrame, **options: object) -> Figure:
    return Figure("f", kind, frame, "title", "Caption.", "alt", options)


def words(canvas: Canvas) -> list[str]:
    return [t.get_text() for t in canvas.findobj(Text) if isinstance(t, Text) and t.get_text()]


def diverged_marks(canvas: Canvas) -> list[int]:
    return [len(line.get_xdata()) for ax in canvas.axes for line in ax.lines if line.get_gid() == "diverged"]


def test_there_is_a_figure_here_for_every_kind() -> None:
    assert {f.kind for f in FIGURES.values()} == set(DRAWINGS)


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_text_is_legible_and_nothing_leaves_the_figure(name: str) -> None:
    canvas = draw(FIGURES[name])
    assert canvas.get_figwidth() == pytest.approx(WIDTH)
    canvas.draw_without_rendering()
    assert all(t.get_fontsize() >= 7 for t in canvas.findobj(Text) if isinstance(t, Text))
    drawn = canvas.get_tightbbox()  # of everything that is drawn, in inches
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= canvas.get_figwidth() + 0.01
    assert drawn.y1 <= canvas.get_figheight() + 0.01


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_no_panel_is_empty(name: str) -> None:
    for ax in draw(FIGURES[name]).axes:
        assert ax.lines or ax.collections or ax.texts


def test_lines_follow_the_median_over_seeds() -> None:
    frame = pd.DataFrame(
        {"x": [0, 0, 0, 1, 1, 1], "y": [1.0, 2.0, 9.0, 4.0, 5.0, 6.0], "arm": "batch", "seed": [0, 1, 2] * 2}
    )
    ax = draw(made("lines", frame)).axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[2.0, 5.0]]
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 9.0)


def test_lines_are_one_per_arm_and_panel() -> None:
    canvas = draw(FIGURES["curves"])
    assert [len([x for x in ax.lines if x.get_gid() != "diverged"]) for ax in canvas.axes] == [5, 5]
    assert [ax.get_ylabel() for ax in canvas.axes] == ["loss", "accuracy"]


def test_a_line_stops_where_its_arm_diverges_and_is_marked_at_the_edge() -> None:
    frame = pd.DataFrame({"x": [0, 1, 2, 3], "y": [1.0, 2.0, INF, NAN], "arm": "none"})
    canvas = draw(made("lines", frame))
    line, marks = canvas.axes[0].lines
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True, True]
    assert marks.get_xdata().tolist() == [2.0, 3.0]
    assert "diverged (not finite)" in words(canvas)


def test_one_diverged_seed_of_three_does_not_hide_the_median() -> None:
    frame = pd.DataFrame({"x": 0, "y": [1.0, 3.0, NAN], "arm": "none", "seed": [0, 1, 2]})
    line = draw(made("lines", frame)).axes[0].lines[0]
    assert line.get_ydata().tolist() == [3.0]  # NaN ranks as +inf: the median of 1, 3, inf


def test_band_reaches_from_low_to_high() -> None:
    frame = pd.DataFrame({"x": [0, 1], "low": [0.25, 0.5], "high": [2.0, 8.0], "arm": "batch"})
    ax = draw(made("band", frame, y_log=True)).axes[0]
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    for band in bands:
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (0.25, 8.0)
    assert {band.get_hatch() for band in bands} == {None, ARMS["batch"].hatch}


def test_band_is_open_at_the_top_where_it_is_infinite() -> None:
    frame = pd.DataFrame({"x": [0, 1, 2], "low": [1.0, 1.0, 1.0], "high": [2.0, 3.0, INF], "arm": "none"})
    canvas = draw(made("band", frame))
    ax = canvas.axes[0]
    assert np.isfinite(ax.get_ylim()).all()
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(ax.get_ylim()[1])
    assert diverged_marks(canvas) == [1]


def test_a_band_from_zero_can_be_drawn_on_a_log_axis() -> None:
    frame = pd.DataFrame({"x": [0, 1], "low": [0.0, 0.1], "high": [1.0, 1.0], "arm": "none"})
    ax = draw(made("band", frame, y_log=True)).axes[0]
    assert ax.collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(ax.get_ylim()[0])


@pytest.mark.parametrize(("low", "high"), [(1 - 4e-7, 1.0), (2.30001, 2.30004), (0.0, 3.0), (-1e-9, 1e-9)])
def test_ticks_are_labelled_with_as_many_digits_as_tell_them_apart(low: float, high: float) -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0], "y": [low, high], "arm": "none"})
    (ax,) = draw(made("lines", frame)).axes
    ax.figure.canvas.draw()
    places, labels = ax.get_yticks(), [label.get_text() for label in ax.get_yticklabels()]
    assert len(set(labels)) == len(labels) > 2
    if "×" not in "".join(labels):
        read = [float(label.replace("−", "-")) for label in labels]
        assert read == pytest.approx(places, abs=0.01 * float(places[1] - places[0]))


def test_ridges_are_one_per_step_and_share_their_scale() -> None:
    canvas = draw(FIGURES["activations"])
    assert len(canvas.axes) == 4  # two layers, two arms
    assert {len(ax.lines) for ax in canvas.axes} == {10}
    tallest = [max(np.ptp(line.get_ydata()) for line in ax.lines) for ax in canvas.axes]
    assert max(tallest) == pytest.approx(1.7, rel=1e-3)


def test_forest_puts_each_interval_where_it_is() -> None:
    row = {"label": "A", "boundary": 0.1, "verdict": "holds", "group": "by step"}
    frame = pd.DataFrame([{**row, "mean": 0.5, "lower": 0.25, "upper": 0.75}])
    canvas = draw(made("forest", frame, fold=True))
    canvas.draw_without_rendering()
    drawn = [tuple(line.get_xdata()) for line in canvas.axes[0].lines]
    assert drawn == [(0.1, 0.1), (0.25, 0.75), (0.5,)]
    assert "✓ holds" in words(canvas)
    assert "2×" in words(canvas)  # 10 ** 0.30


def test_forest_says_not_measured_in_the_row() -> None:
    assert words(draw(FIGURES["forest"])).count("not measured") == 2


def test_dots_sit_at_their_values_and_infinite_ones_at_the_edge() -> None:
    canvas = draw(FIGURES["speed"])
    ax = canvas.axes[0]
    single = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_gid() != "diverged"]
    finite = FIGURES["speed"].frame["value"].replace(INF, np.nan).dropna()
    assert sorted(float(line.get_xdata()[0]) for line in single) == pytest.approx(sorted(finite))
    assert diverged_marks(canvas) == [1]


def _filled(canvas: Canvas, panel: int) -> ContourSet:
    (filled,) = [c for c in canvas.axes[panel].collections if isinstance(c, ContourSet) and c.filled]
    return filled


def test_a_plane_of_unequal_sides_is_filled_where_its_values_are() -> None:
    x, y = np.meshgrid([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0], indexing="ij")
    value = 10 ** (x / 2) * (1 + y)  # neither its mirror image nor its transpose looks the same
    frame = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": value.ravel()})
    for rows in (frame, frame.sample(frac=1, random_state=0)):  # in any order of rows
        filled = _filled(draw(made("surface", rows)), 0)
        for at in ((3.0, 1.0), (-1.0, 1.0), (0.0, 0.02), (2.0, 1.98)):
            exact = 10 ** (at[0] / 2) * (1 + at[1])
            levels = [k for k, path in enumerate(filled.get_paths()) if path.contains_point(at)]
            assert filled.levels[levels[-1]] <= exact * 1.1
            assert filled.levels[levels[-1] + 1] >= exact * 0.9


def test_levels_are_round_hold_every_value_and_are_the_same_for_all_planes() -> None:
    canvas = draw(FIGURES["plane"])
    one, two = _filled(canvas, 0).levels, _filled(canvas, 1).levels
    assert one.tolist() == two.tolist()
    values = FIGURES["plane"].frame["value"].replace(INF, np.nan).dropna()
    assert one[0] <= values.min() <= values.max() <= one[-1]
    assert [float(f"{level:.0e}") for level in one] == pytest.approx(one)  # one digit says it all


def test_a_plane_that_spans_little_or_dips_below_zero_has_even_levels() -> None:
    x, y = np.meshgrid(np.arange(4.0), np.arange(3.0))
    for shift in (100.0, -3.0):
        frame = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": (x + y).ravel() + shift})
        assert np.ptp(np.diff(_filled(draw(made("surface", frame)), 0).levels)) < 1e-9


def test_a_flat_plane_is_drawn() -> None:
    x, y = np.meshgrid(np.arange(4.0), np.arange(3.0))
    for height in (0.0, 2.5):
        frame = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": height})
        canvas = draw(made("surface", frame))
        canvas.draw_without_rendering()
        assert _filled(canvas, 0).levels[0] <= height <= _filled(canvas, 0).levels[-1]


def test_a_path_goes_from_its_ring_to_its_dot_in_its_own_plane() -> None:
    canvas = draw(FIGURES["plane"])
    lines = [{line.get_gid(): line for line in ax.lines} for ax in canvas.axes[:2]]
    assert "path" not in lines[0]
    points = FIGURES["plane"].options["path"]["batch"]
    assert lines[1]["path"].get_xydata().tolist() == [list(point) for point in points]
    first, last = (line for line in canvas.axes[1].lines if line.get_gid() == "end")
    assert first.get_markerfacecolor() == "white" != last.get_markerfacecolor()
    assert lines[0]["origin"].get_xydata().tolist() == [[0.0, 0.0]]


def test_a_plane_is_hatched_where_it_is_not_finite() -> None:
    canvas = draw(FIGURES["plane"])
    assert [ax.patch.get_hatch() for ax in canvas.axes[:2]] == ["xxxx", None]
    assert "Hatched: diverged" in caption(FIGURES["plane"])


def test_shades_get_darker_with_the_level_also_in_grey() -> None:
    grey = SHADES(np.linspace(0, 1, 50))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(grey) <= 0).all()
    assert grey[-1] > 0.2  # black lines still show


def test_spectra_are_drawn_at_their_densities_with_band_and_outliers() -> None:
    ax = draw(FIGURES["spectrum"]).axes[0]
    assert ax.get_yscale() == "log"
    curves = [line for line in ax.lines if line.get_gid() is None and len(line.get_xdata()) > 2]
    frame = FIGURES["spectrum"].frame
    for line, arm in zip(curves, ("none", "batch"), strict=True):
        density = frame[frame["arm"] == arm]["density"].to_numpy()
        floor = frame["density"].max() * 1e-7
        assert np.array_equal(line.get_ydata(), np.where(density >= floor, density, np.nan), equal_nan=True)
    marks = [line.get_xdata().tolist() for line in ax.lines if line.get_gid() == "outlier"]
    assert marks == [[12.0, 30.0, 55.0], [9.0, 14.0]]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(1.6 * frame[frame["arm"] == "none"]["density"].max())


def test_a_spectrum_with_factors_on_both_sides_of_zero_shows_negative_curvature() -> None:
    frame = pd.DataFrame({"position": [-100.0, -1.0, 0.0, 1.0, 1e4], "density": [1e-3, 1, 5, 1, 1e-4], "arm": "none"})
    canvas = draw(made("spectrum", frame, x_linear=1.0))
    canvas.draw_without_rendering()
    assert {"−100", "0", "1", "10,000"} <= set(words(canvas))
    assert canvas.axes[0].get_xlim()[0] < -100


def test_outliers_may_be_given_by_panel() -> None:
    frame = FIGURES["spectrum"].frame.assign(panel="first")
    frame = pd.concat([frame, frame.assign(panel="second")])
    canvas = draw(made("spectrum", frame, outliers={"second": {"batch": [9.0]}}))
    marks = [[line.get_xdata().tolist() for line in ax.lines if line.get_gid() == "outlier"] for ax in canvas.axes]
    assert marks == [[], [[9.0]]]


@pytest.mark.parametrize("kind", sorted(DRAWINGS))
def test_an_empty_frame_says_not_measured(kind: str) -> None:
    figure = made(kind, pd.DataFrame())
    assert words(draw(figure)) == ["not measured"]
    assert "Not measured" in caption(figure)


@pytest.mark.parametrize("value", [INF, NAN])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("kind", sorted(DRAWINGS))
def test_frames_without_a_finite_number_are_drawn_with_words(kind: str, log: bool, value: float) -> None:
    numbers = dict.fromkeys(("y", "low", "high", "value", "density", "mean", "lower", "upper"), [value] * 2)
    names = {"arm": "none", "category": "c", "label": "A", "verdict": "undecided", "group": "by step"}
    frame = pd.DataFrame({**numbers, "x": [0, 1], "step": [0, 1], "position": [0.0, 1.0], "boundary": 0.0, **names})
    canvas = draw(made(kind, frame, y_log=log, x_log=log))
    canvas.draw_without_rendering()
    said = " ".join(words(canvas))
    assert "not measured" in said or "no finite value" in said or kind == "forest"


def test_known_arms_have_their_own_style_everywhere() -> None:
    assert len({(s.color) for s in ARMS.values()}) == len(ARMS)
    assert len({s.marker for s in ARMS.values()}) == len({s.hatch for s in ARMS.values()}) == len(ARMS)
    assert arm_style("batch") == ARMS["batch"]
    colors = {to_hex(line.get_color()) for line in draw(FIGURES["speed"]).axes[0].lines}
    assert {ARMS["batch"].color.lower(), ARMS["none"].color.lower()} <= colors


def test_an_unknown_arm_looks_the_same_in_every_figure_of_a_report() -> None:
    arms = all_arms(example())
    style = arm_styles(arms)["my own norm"]
    assert style == OTHERS[0]
    for name in ("landscape", "curves", "speed"):
        drawn = draw(FIGURES[name], arms)
        assert style.color.lower() in {to_hex(x.get_color()) for ax in drawn.axes for x in ax.lines}
    assert arm_style(ODD, arms) == OTHERS[1]


def test_markup_in_labels_is_text() -> None:
    canvas = draw(FIGURES["odd"])
    assert canvas.axes[0].get_xlabel() == ODD
    assert ODD in words(canvas)
    assert "$\\frac{1}{" in svg(FIGURES["odd"]).decode()


def test_the_users_own_style_changes_nothing() -> None:
    before = svg(FIGURES["landscape"])
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert svg(FIGURES["landscape"]) == before
        assert matplotlib.rcParams["font.size"] == 20


def test_unknown_kind_and_missing_columns_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown kind 'line'; did you mean 'lines'"):
        draw(made("line", pd.DataFrame({"x": [1]})))
    with pytest.raises(UsageError, match=r"lacks the column\(s\) arm; it needs x, y, arm and got x, y"):
        draw(made("lines", pd.DataFrame({"x": [1], "y": [1]})))


def test_figures_are_saved_one_by_one(tmp_path: Path) -> None:
    paths = save_figures(example(), tmp_path / "figures")
    assert [p.name for p in paths][:2] == ["01-landscape.svg", "02-forest.svg"]
    assert len(paths) == 8
    assert all(p.read_bytes().startswith(b"<?xml") for p in paths)
    with pytest.raises(UsageError, match="did you mean 'png'"):
        save_figures(example(), tmp_path, format="pgn")
