"""What a folder has to be before runs go into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from landscape.errors import StoreError, UsageError
from landscape.experiment import Experiment
from landscape.store.files import store_errors
from landscape.store.identity import check_keys, differences, union
from landscape.store.manifest import Manifest, changes, read_manifest

#: By how much a loss differs, relatively, where the code is the same: here, and with another processor or torch.
SAME_LOSS, SAME_LOSS_ELSEWHERE = 1e-6, 1e-3


def refuse_foreign(path: Path) -> None:
    """Refuse a folder that holds what isn't ours.

    Raises:
        UsageError: naming some of it.
    """
    # What a crash before the first experiment.json can have left; no run has started by then.
    ours = {".lock", "manifest.json", ".manifest.json.part", ".experiment.json.part"}
    if not any((path / "runs").glob("*")):
        ours.add("runs")
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
    if others:
        raise UsageError(
            f"{path} holds other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}) and no "
            f"experiment: choose an empty or new folder, e.g. --out {path / 'run'}"
        )


def stored(path: Path) -> Experiment:
    """The experiment of a folder.

    Raises:
        StoreError: if it can't be read.
    """
    file = path / "experiment.json"
    with store_errors(file):
        text = file.read_bytes()
    try:
        experiment = Experiment.from_json(text.decode())
        if not experiment.studies:
            raise ValueError("it has no study")
        return experiment
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{file}: not an experiment of this version ({type(error).__name__}: {error}); "
            "use another --out, or the landscape version that wrote it"
        ) from error


def extend(path: Path, asked: Experiment, manifest: Manifest) -> tuple[Experiment, Manifest]:
    """The experiment and manifest of a folder and of what is asked now, together.

    Raises:
        UsageError: if it is another experiment or other data; shows what differs and an ``--out`` to use.
    """
    earlier = stored(path)
    before = read_manifest(path)
    differ = differences(earlier, asked)
    for kind, what in (("data", "data checksum"), ("networks", "network behind the model's name (checksum)")):
        old, new = before.get(kind, {}), manifest.get(kind, {})
        differ += [
            f"{study}.{what}: {old[study]} stored, {new[study]} asked"
            for study in sorted(new.keys() & old.keys())
            if new[study] != old[study]
        ]
    told = changes(before, manifest)
    close = SAME_LOSS_ELSEWHERE if told else SAME_LOSS
    differ += _other_code(before.get("losses", {}), manifest.get("losses", {}), close)
    if differ:
        shown = "".join(f"\n  {line}" for line in differ[:8])
        more = f"\n  and {len(differ) - 8} more" if len(differ) > 8 else ""
        raise UsageError(f"{path} holds another experiment:{shown}{more}\nUse another folder: --out {_free(path)}")
    both = union(earlier, asked)
    check_keys(both)
    notes = [*before["warnings"], *(note for note in told if note not in before["warnings"])]
    merged = {key: before.get(key, {}) | manifest.get(key, {}) for key in ("data", "networks", "changes")}
    merged["losses"] = manifest.get("losses", {}) | before.get("losses", {})  # the first of each, or they would drift
    return both, manifest | before | {"warnings": notes} | merged


def _other_code(before: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> list[str]:
    """Where the user's code gives another loss before training than it gave when the folder was made."""
    return [
        f"{name}: the loss before training was {before[name]:.6g} and is {loss:.6g} now; the code of the model, the "
        "loss or the data has changed"
        for name, loss in now.items()
        if not math.isclose(before.get(name, loss), loss, rel_tol=tolerance)
    ]


def _free(path: Path) -> Path:
    number = 2
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}-{number}")
