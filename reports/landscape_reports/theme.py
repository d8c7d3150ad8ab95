"""How every figure looks: sizes, fonts, and one colour, mark, line and hatch per arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 6.85
"""Width of the page's text in inches (A4 less 18 mm on both sides): figures are drawn at the size they are placed."""

TALLEST: Final = 8.8
"""Largest height of a figure in inches: a page with a caption."""

THEME: Final[Mapping[str, Any]] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7.25,
    "ytick.labelsize": 7.25,
    "legend.fontsize": 7.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.handleheight": 1.1,
    "legend.columnspacing": 1.6,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.wspace": 0.04,
    "figure.dpi": 144,
    "text.parse_math": False,  # a user's "$" is a dollar
    "svg.fonttype": "none",
    "svg.hashsalt": "landscape-smoothness",
}
"""matplotlib settings, laid over matplotlib's own defaults, never over a user's style."""

Dash = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn, in every figure.

    Attributes:
        color: a colour that is told apart under colour blindness (Okabe and Ito; Tol's muted scheme).
        marker: matplotlib's marker.
        linestyle: matplotlib's dash pattern.
        hatch: matplotlib's hatch, which tells areas apart in grey.
    """

    color: str
    marker: str
    linestyle: Dash
    hatch: str


ARMS: Final[Mapping[str, ArmStyle]] = {
    "none": ArmStyle("#E69F00", "o", "-", "...."),
    "batch": ArmStyle("#0072B2", "s", (0, (5, 1.6)), "////"),
    "noisy-batch": ArmStyle("#009E73", "^", (0, (1.2, 1.4)), "\\\\\\\\"),
    "noise": ArmStyle("#CC79A7", "v", (0, (6, 1.5, 1.2, 1.5)), "xxxx"),
    "lp:1": ArmStyle("#56B4E9", "D", (0, (3, 1.2)), "||||"),
    "lp:2": ArmStyle("#D55E00", "P", (0, (8, 2)), "----"),
    "lp:inf": ArmStyle("#000000", "X", (0, (3, 1.2, 1, 1.2, 1, 1.2)), "++++"),
    "layer": ArmStyle("#7A7A7A", "*", (0, (1, 2.4)), "oo"),
}
"""Arms with a style of their own (Okabe and Ito's colours without the yellow, which fades on paper)."""

OTHERS: Final = (
    ArmStyle("#332288", "<", (0, (4, 1)), "xx"),
    ArmStyle("#117733", ">", "-", "\\\\"),
    ArmStyle("#AA4499", "h", (0, (2, 1)), "//"),
    ArmStyle("#999933", "d", (0, (7, 1.5, 1, 1.5)), ".."),
    ArmStyle("#661100", "p", (0, (1, 1)), "||"),
    ArmStyle("#44AA99", "8", (0, (5, 3)), "--"),
    ArmStyle("#882255", "H", (0, (3, 1, 1, 1)), "++"),
    ArmStyle("#6699CC", "o", (0, (10, 2)), "**"),
)
"""Styles of all other arms, taken in the order in which those come (Tol's muted scheme)."""


def arm_styles(labels: Iterable[str]) -> dict[str, ArmStyle]:
    """A style for each label: known arms keep theirs, others take the spare ones in order.

    Give it all arms of a report at once and an arm looks the same in every figure.

    >>> arm_styles(["mine", "batch"])["mine"] == OTHERS[0]
    True
    """
    styles: dict[str, ArmStyle] = {}
    spare = 0
    for label in dict.fromkeys(labels):
        if label in ARMS:
            styles[label] = ARMS[label]
        else:
            styles[label] = OTHERS[spare % len(OTHERS)]
            spare += 1
    return styles


def arm_style(label: str, arms: Iterable[str] = ()) -> ArmStyle:
    """The style of one arm among ``arms`` (all arms of a report, in order).

    >>> arm_style("batch").color
    '#0072B2'
    """
    return arm_styles([*arms, label])[label]


@dataclass(frozen=True)
class VerdictStyle:
    """A verdict's sign and colours: told apart by word, sign, fill and border, so also in grey."""

    sign: str
    ink: str
    fill: str
    border: str
    dashed: bool = False
    marker: str = "o"
    filled: bool = False


VERDICT_STYLES: Final[Mapping[str, VerdictStyle]] = {
    "holds": VerdictStyle("✓", "#ffffff", "#005B8F", "#005B8F", marker="o", filled=True),
    "fails": VerdictStyle("✗", "#A33B00", "#ffffff", "#A33B00", marker="X", filled=True),
    "undecided": VerdictStyle("?", "#222222", "#e4e4e4", "#e4e4e4", marker="o"),
    "untrained": VerdictStyle("∅", "#444444", "#ffffff", "#777777", dashed=True, marker="D"),
    "confounded": VerdictStyle("≈", "#444444", "#ffffff", "#777777", dashed=True, marker="D"),
    "not measured": VerdictStyle("–", "#555555", "#ffffff", "#cccccc", marker="D"),
}
"""How a verdict looks in tables and in the forest."""


def verdict_style(verdict: str) -> VerdictStyle:
    """The style of a verdict; an unknown word is drawn as "not measured"."""
    return VERDICT_STYLES.get(verdict, VERDICT_STYLES["not measured"])
