"""The PDF: one typst template, the report as JSON, figures as SVG. Same report, same bytes."""

from __future__ import annotations

import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

import matplotlib

from landscape.analysis import Report
from landscape.errors import LandscapeError
from landscape_reports.content import Data, document
from landscape_reports.drawing import all_figures, size_mm, svg

STANDARD: Final = "ua-1"
"""PDF/UA-1: tagged, titled, figures with words for those who can't see them."""


def pdf_bytes(report: Report) -> bytes:
    """Typeset a report.

    Only fonts that come with matplotlib and typst are used, no network and no clock.

    Raises:
        LandscapeError: typst can't compile the report; its own message is inside.
        UsageError: a figure can't be drawn.
    """
    with tempfile.TemporaryDirectory(prefix="landscape-report-") as name:
        folder = Path(name)
        images: dict[int, Data] = {}
        for position, (figure, arms) in enumerate(all_figures(report)):
            image = svg(figure, arms)
            file = f"figure-{position}.svg"
            (folder / file).write_bytes(image)
            width, height = size_mm(image)
            images[id(figure)] = {"file": file, "width": width, "height": height}
        data = json.dumps(document(report, images), allow_nan=False)
        (folder / "report.json").write_text(data, encoding="utf-8")
        template = resources.files("landscape_reports").joinpath("template.typ").read_text(encoding="utf-8")
        (folder / "template.typ").write_text(template, encoding="utf-8")
        return compile_typst(folder / "template.typ")


def compile_typst(source: Path) -> bytes:
    """Compile a typst file to a tagged PDF, with the pinned fonts only.

    Raises:
        LandscapeError: typst's message, where it can't be compiled.
    """
    import typst

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    try:
        return typst.compile(
            str(source),
            root=str(source.parent),
            format="pdf",
            font_paths=[str(fonts)],
            ignore_system_fonts=True,
            pdf_standards=[STANDARD],
        )
    except typst.TypstError as error:
        raise LandscapeError(
            f"typst could not typeset the report: {error.diagnostic or error}\n"
            "The measurements are safe; report.json holds the verdicts. "
            "Check the installed typst version (`landscape doctor`), then run `landscape report` again."
        ) from error
