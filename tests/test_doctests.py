"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOMES = {
    "landscape": ROOT,
    "landscape_analyses": ROOT / "analyses",
    "landscape_reports": ROOT / "reports",
    "landscape_cli": ROOT / "cli",
}
MODULES = sorted(
    ".".join(file.relative_to(home).with_suffix("").parts).removesuffix(".__init__")
    for package, home in HOMES.items()
    for file in (home / package).rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example that writes a file writes it here
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples; see the captured output"
