"""Numbers as they are printed."""

from __future__ import annotations

import doctest
import math

import pandas as pd
import pytest

import landscape_reports.formats
import landscape_reports.theme
from landscape.analysis import Claim, Figure, Interval, Measure, Table
from landscape_reports import draw
from landscape_reports.formats import effect, fold, number, p_value, plain, prose
from landscape_reports.tables import table_data


@pytest.mark.parametrize("module", [landscape_reports.formats, landscape_reports.theme])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("typed", "set_"),
    [
        ("||g' - g||", "‖g′ − g‖"),
        ("w - eta g", "w − ηg"),
        ("the sweep w - eta D^2 g, eta in [1/2, 4]", "the sweep w − ηD²g, η in [1/2, 4]"),
        ("lambda_1/lambda_10 over ||M||_F^2", "λ₁/λ₁₀ over ‖M‖_F²"),
        ("0.8 <= variance", "0.8 ≤ variance"),
        ("the step size eta.", "the step size η."),
        ("max L - min L", "max L − min L"),
    ],
)
def test_formulas_get_their_signs(typed: str, set_: str) -> None:
    assert prose(typed) == set_
    assert prose(set_) == set_


@pytest.mark.parametrize(
    "text",
    [
        "beta and theta of the arms' losses, batch-eta, eta.py:build, eta-inv",
        "study 's' has no arm 'x'; a || b",
        "one - a few - words; x=1e-3; 2^k; lambda_max; --norm group:4",
        "the layer's own, 'g'",
    ],
)
def test_what_is_no_formula_stays(text: str) -> None:
    assert prose(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (9.999, "10"), (0.09996, "0.1"), (123456.0, "123,000"), (1e6, "1×10⁶"), (-1.5e-9, "−1.5×10⁻⁹")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("factor", "text"),
    [(1.0, "1.00×"), (0.5, "0.50×"), (12.34, "12.3×"), (123.4, "123×"), (0.0123, "0.012×"), (2e5, "2.0×10⁵×")],
)
def test_folds(factor: float, text: str) -> None:
    assert fold(math.log10(factor)) == text


def claim(scale: str, supports: str = "smaller") -> Claim:
    return Claim("A", "a", "s", Measure("p", "q"), arm="batch", scale=scale, supports=supports)


def test_a_difference_is_printed_in_its_unit_with_equal_decimals() -> None:
    assert effect(claim("difference"), Interval(5, 0.0131, 0.0, 0.007, 0.0192)) == "+0.0131 [0.0070, 0.0192]"


def test_a_value_that_should_be_small_gets_its_own_sign_back() -> None:
    assert effect(claim("value"), Interval(5, -2.5, 0.0, -3.0, -2.0)) == "2.50 [2.00, 3.00]"


def test_an_infinite_interval_is_printed() -> None:
    assert effect(claim("log-ratio"), Interval(3, math.inf, math.inf, -math.inf, math.inf)) == "∞× [0, ∞]"
    assert effect(claim("difference"), Interval(3, math.nan, math.nan, -math.inf, math.inf)) == "– [−∞, ∞]"


@pytest.mark.parametrize(("p", "text"), [(1.0, "p = 1.00"), (0.0499, "p = 0.050"), (0.00021, "p = 0.00021")])
def test_p_values(p: float, text: str) -> None:
    assert p_value(p) == text


def test_plain_keeps_every_ordinary_sign() -> None:
    assert plain("a\nb\t\ud800é😀") == "a\nb\ufffd\ufffdé😀"


def test_decimals_of_a_table_column_line_up() -> None:
    frame = pd.DataFrame({"a": [0.991, 1.0, math.nan, math.inf], "b": [1, 2, 3, 4], "c": ["x", None, "y", "z"]})
    rows = table_data(Table("t", "T", frame))["rows"]
    assert [row[0] for row in rows] == ["0.991", "1.000", "–", "∞"]
    assert rows[1] == ["1.000", "2", "–"]


@pytest.mark.parametrize("count", [2, 6, 7, 10, 23])
def test_legends_stay_inside_the_page(count: int) -> None:
    frame = pd.DataFrame({"x": 0.0, "y": 1.0, "arm": ["an arm " * (1 + i % 4) for i in range(count)]})
    frame["arm"] += [str(i) for i in range(count)]
    canvas = draw(Figure("f", "lines", frame, "t", "c", "a"))
    canvas.draw_without_rendering()
    box = canvas.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= canvas.bbox.x1
