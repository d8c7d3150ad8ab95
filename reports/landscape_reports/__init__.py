"""The report on paper: drawings by kind, one theme, the PDF and its machine-readable verdicts.

from landscape_reports import draw, figures, save_figures, write_report

write_report(report, Path("runs/santurkar-quick"))   # report.pdf and report.json
draw(report.headline)                                # a matplotlib figure, in a notebook too
figures(observer.frame())                            # by name, whatever was measured
"""

from __future__ import annotations

from landscape_reports.drawing import draw, figures, save_figures
from landscape_reports.drawings import DRAWINGS
from landscape_reports.theme import arm_style
from landscape_reports.write import write_report

__all__ = ["DRAWINGS", "arm_style", "draw", "figures", "save_figures", "write_report"]
