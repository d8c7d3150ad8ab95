"""The analyses, one per file: a grid, claims, tables and figures as data; no training and no drawing."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from landscape.analysis import Analysis


def _lazy(name: str) -> Callable[[], Analysis]:
    """Imports the file of an analysis when it is called: what ``ANALYSIS`` is there."""

    def load() -> Analysis:
        found: Analysis = import_module(f"landscape_analyses.{name.replace('-', '_')}").ANALYSIS
        return found

    return load


def _all() -> Analysis:
    """Every analysis of a paper as one; ``pairs`` and ``observed`` are about networks of one's own."""
    from landscape.book import book

    papers = [load() for name, load in ANALYSES.items() if name not in ("pairs", "observed", "all")]
    return book(
        "all",
        papers,
        title="Normalization and the loss landscape, paper by paper",
        question="Which published claims about normalization hold in real runs?",
    )


NAMES = (
    "santurkar",
    "normalizations",
    "learning-rate",
    "slices",
    "hessian-spectrum",
    "edge-of-stability",
    "mean-field",
    "recurrent",
    "transformer",
    "input-scale",
    "spectral-bias",
    "self-normalizing",
    "batch-size",
    "norm-propagation",
    "ioffe-szegedy",
    "cosine",
    "pairs",
    "observed",
)

#: The command line's name of an analysis -> a function that loads it.
ANALYSES: dict[str, Callable[[], Analysis]] = {name: _lazy(name) for name in NAMES} | {"all": _all}
