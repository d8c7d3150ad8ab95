"""One drawing per file: ``draw(canvas, frame, options, styles)`` puts a tidy frame on an empty figure.

``DRAWINGS`` maps a figure's kind to its function. Each function's docstring names the columns and options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure

from landscape_reports.drawings import band, bars, forest, lines, ridgeline, spectrum, surface
from landscape_reports.theme import ArmStyle

if TYPE_CHECKING:
    import pandas as pd

Drawing = Callable[[Figure, "pd.DataFrame", Mapping[str, Any], Mapping[str, ArmStyle]], None]

DRAWINGS: Final[dict[str, Drawing]] = {
    "lines": lines.draw,
    "band": band.draw,
    "ridgeline": ridgeline.draw,
    "forest": forest.draw,
    "bars": bars.draw,
    "surface": surface.draw,
    "spectrum": spectrum.draw,
}
"""Figure kind -> the function that draws it."""
