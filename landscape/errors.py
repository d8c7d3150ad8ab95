"""Errors that say what happened, where, why and what to do."""

from __future__ import annotations

import sys
import warnings


class LandscapeError(Exception):
    """Something a user can understand and mend; the command line prints it without a traceback.

    Attributes:
        exit_code: what the command line returns: 1 for work that failed, 2 for bad usage.
    """

    exit_code = 1


class UsageError(LandscapeError, ValueError):
    """An argument, option or file of the user's is not what it has to be."""

    exit_code = 2


class NormalizationError(UsageError):
    """A normalization that can't act on this model, or on a batch of this size."""


class DataError(LandscapeError):
    """A data file is missing, damaged or not the file it is said to be."""


class StoreError(LandscapeError):
    """A run's folder can't be read or written."""


class ProbeError(LandscapeError):
    """A probe can't measure this model; the message names the place."""


def nearest(name: str, known: list[str]) -> str:
    """Words that point from a wrong name to the right ones, in whatever case, for the end of an error message.

    >>> nearest("bacth", ["batch", "layer"])
    "did you mean 'batch'? Known: batch, layer"
    """
    import difflib

    lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    listed = ", ".join(known)
    return f"did you mean {lower[close[0]]!r}? Known: {listed}" if close else f"known: {listed}"


def warn(text: str) -> None:
    """Warn at the line of the user's own code that led here, however deep it calls.

    It is said each time, also where a notebook's cell is run again: Python keeps a second one to itself.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    where = frame.f_globals.get("__name__", "")
    warnings.warn_explicit(text, UserWarning, frame.f_code.co_filename, frame.f_lineno, module=where)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("landscape", "torch", "contextlib")
