"""What a folder's runs were made with: versions, device, threads, data."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.store.files import read_json

Manifest = dict[str, Any]

# What can change the bits of a run; a resume on another one is noted and the report says so.
_BITS = {
    "torch": "torch",
    "numpy": "numpy",
    "landscape": "landscape",
    "device": "device",
    "threads": "torch threads",
    "cpu_capability": "CPU capability",
    "machine": "processor type",
}


def describe(
    *,
    device: str = "cpu",
    threads: int = 1,
    data: Mapping[str, str] | None = None,
    networks: Mapping[str, str] | None = None,
    losses: Mapping[str, float] | None = None,
) -> Manifest:
    """The manifest of runs made here and now.

    Args:
        device: what the runs train on, e.g. "cpu" or "cuda:0".
        threads: torch threads per run.
        data: the checksum of each study's data.
        networks: the checksum of each study's own network, where it is the user's.
        losses: of arms with code of the user's, by study, arm and seed: the loss before training.

    >>> sorted(describe())  # doctest: +NORMALIZE_WHITESPACE
    ['commit', 'cpu_capability', 'data', 'device', 'landscape', 'losses', 'machine', 'networks', 'numpy', 'python',
     'threads', 'torch']
    """
    try:
        version = metadata.version("landscape-smoothness")
    except metadata.PackageNotFoundError:
        version = "unknown"
    kind = torch.device(device)
    name = f"{kind.type} ({torch.cuda.get_device_name(kind)})" if kind.type == "cuda" else kind.type
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "landscape": version,
        "commit": commit(Path(__file__).resolve().parents[2]),
        "machine": platform.machine(),
        "device": name,
        "threads": threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "data": dict(data or {}),
        "networks": {study: checksum for study, checksum in (networks or {}).items() if checksum},
        "losses": dict(losses or {}),
    }


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run folder, with its "warnings" and "data"; both empty if there is none.

    Raises:
        StoreError: if it can't be read, or holds what it can't hold.
    """
    file = folder / "manifest.json"
    found = read_json(file, warnings=list, data=dict, notes=dict, commands=list) if file.exists() else {}
    return {"warnings": [], "data": {}} | found


def commit(checkout: Path) -> str:
    """The git commit of a source checkout, read without git; "" if it isn't one."""
    git = checkout / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        for line in (git / "packed-refs").read_text().splitlines():
            if line.endswith(f" {name}"):
                return line.split(" ")[0]
    except OSError:
        pass
    return ""


def changes(stored: Manifest, now: Manifest) -> list[str]:
    """One sentence for each thing that may change the bits and is not what the earlier runs had."""
    return [
        f"Resumed with {words} {now[key]}, where earlier runs had {stored[key]}: they may differ in the last digits."
        for key, words in _BITS.items()
        if key in stored and key in now and stored[key] != now[key]
    ]
