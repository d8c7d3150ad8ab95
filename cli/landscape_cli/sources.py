"""Where an experiment comes from: a shipped analysis, a TOML file, or a Python file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.analysis import Analysis
    from landscape.experiment import Experiment
    from landscape.terms import Terms


@dataclass(frozen=True)
class Source:
    """What ``run`` was asked for.

    Attributes:
        analysis: what is decided and drawn.
        experiment: what is trained.
        name: kept in the manifest, so that ``report`` finds the analysis again.
        preset: the preset used, or "".
        out: the folder if no --out is given.
        terms: how errors of the plan name what was asked for; as a file does if None.
    """

    analysis: Analysis
    experiment: Experiment
    name: str
    preset: str
    out: Path
    terms: Terms | None = None


def load_source(name: str, preset: str | None, *, allow_code: bool) -> Source:
    """The analysis and experiment that ``name`` means.

    Raises:
        UsageError: no such analysis, file or preset; or the file is not what it has to be.
    """
    from landscape.errors import UsageError

    path = Path(name)
    if path.suffix == ".toml":
        from landscape.toml import read_toml

        if preset is not None:
            raise UsageError(f"{name} is one experiment and has no presets: leave --preset out, or use --set")
        return Source(shipped("pairs"), read_toml(path, allow_code=allow_code), "pairs", "", Path("runs") / path.stem)
    if path.suffix == ".py":
        analysis = _from_file(name)
        used, experiment = _preset(analysis, preset)
        out = path.stem if preset is None else f"{path.stem}-{used}"
        return Source(analysis, experiment, name, used, Path("runs") / out)
    analysis = shipped(name)
    used, experiment = _preset(analysis, preset)
    return Source(analysis, experiment, name, used, Path("runs") / f"{name}-{used}")


def analysis_named(name: str) -> tuple[Analysis, str]:
    """The analysis that a folder's manifest names, and a note where it is not here: no code is imported."""
    from landscape_analyses import ANALYSES

    if name in ANALYSES:
        return ANALYSES[name](), ""
    asked = f"{name!r}" if name else "no analysis"
    note = (
        f"the folder was made by {asked}, which is not one of the shipped analyses, and a report imports no code: "
        "drawn by 'pairs' instead. `landscape run` draws it by its own"
    )
    return ANALYSES["pairs"](), note


def shipped(name: str) -> Analysis:
    """A shipped analysis.

    Raises:
        UsageError: there is none of that name.
    """
    from landscape.errors import UsageError, nearest
    from landscape_analyses import ANALYSES

    if name not in ANALYSES:
        raise UsageError(
            f"there is no analysis {name!r}; {nearest(name, list(ANALYSES))}. Or give a .toml or .py file "
            "(`landscape init FILE.toml` writes one)"
        )
    return ANALYSES[name]()


def _preset(analysis: Analysis, preset: str | None) -> tuple[str, Experiment]:
    from landscape.errors import UsageError, nearest

    known = list(analysis.presets)
    used = preset or ("quick" if "quick" in known or not known else known[0])
    if not known:
        raise UsageError(
            f"there is nothing to run in {analysis.name!r}: it draws what landscape.Observer(..., to=FOLDER) wrote; "
            "look at that with `landscape show FOLDER` or `landscape report FOLDER`"
        )
    if used not in analysis.presets:
        raise UsageError(f"analysis {analysis.name!r} has no preset {used!r}; {nearest(used, known)}")
    return used, analysis.presets[used]()


def _from_file(name: str) -> Analysis:
    from landscape.analysis import Analysis
    from landscape.errors import LandscapeError, UsageError
    from landscape.imports import load_object

    try:
        found: Any = load_object(f"{name}:ANALYSIS")
        if callable(found) and not isinstance(found, Analysis):
            found = found()
    except LandscapeError as error:
        if "has no 'ANALYSIS'" not in str(error):
            raise
        raise UsageError(
            f"{name} defines no ANALYSIS, which `landscape run` would carry out; a network of your own goes with "
            f"`landscape compare {name}:FUNCTION --data FILE.py:FUNCTION`"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise UsageError(f"{name} raises {type(error).__name__}: {error}; --debug shows where") from error
    if not isinstance(found, Analysis):
        raise UsageError(
            f"{name}: ANALYSIS is a {type(found).__name__}; it must be a landscape.analysis.Analysis, or a function "
            "that returns one"
        )
    return found
