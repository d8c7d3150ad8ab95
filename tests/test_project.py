"""What README and the project's files promise: snippets run, maps are true, versions agree, imports stay light."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import landscape
from landscape.data import DATA
from landscape.models import MODELS
from landscape.normalization import NORMALIZATIONS
from landscape.probes import PROBES
from landscape.toml import parse_toml
from landscape_analyses import ANALYSES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEAVY = "pandas scipy.stats sklearn matplotlib click typst pydantic pyarrow rich"


def fences(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in found if name == language]


def test_snippets_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = fences(README, "python")
    assert len(snippets) == 2
    names: dict[str, Any] = {}
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"README, snippet {number + 1}", "exec"), names)
    assert isinstance(names["path"], landscape.GradientPath)
    assert len(names["smoothness"]) == 2  # steps 0 and 2 of four
    assert list(tmp_path.iterdir()) == []


def test_the_toml_of_readme_is_an_experiment() -> None:
    (text,) = fences(README, "toml")
    assert [arm.label for arm in parse_toml(text).study("main").arms] == ["none", "batch", "layer"]


@pytest.mark.parametrize(
    ("row", "shipped"),
    [
        ("analyses", ANALYSES),
        ("normalizations", NORMALIZATIONS),
        ("models", MODELS),
        ("data", DATA),
        ("probes", PROBES),
    ],
)
def test_what_readme_lists_is_what_is_shipped(row: str, shipped: dict[str, object]) -> None:
    (line,) = re.findall(rf"^\| {row} \| (.*) \|$", README, re.MULTILINE)
    assert sorted(re.findall(r"`([^`]+)`", line)) == sorted(shipped)


def test_the_map_is_the_tree() -> None:
    (text,) = fences(README, "")
    drawn: set[str] = set()
    for line in text.splitlines():
        names = line[:33].split()  # the first column; the second says what they are
        drawn |= {(f"landscape/{name}" if line.startswith("  ") else name).rstrip("/") for name in names}
    assert [name for name in sorted(drawn) if not (ROOT / name).exists()] == []
    engine = {path.relative_to(ROOT).as_posix() for path in (ROOT / "landscape").iterdir()}
    hidden = {f"landscape/{name}" for name in ("__init__.py", "__pycache__", "py.typed")}
    assert engine - hidden - drawn == set()


def test_readme_calls_commands_and_targets_that_exist() -> None:
    from landscape_cli.main import main

    lines = [line.split("#")[0].split() for fence in fences(README, "sh") for line in fence.splitlines()]
    lines += [line.split("#")[0].split() for line in README.splitlines() if line.startswith("    make ")]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    called = set()
    for program, name, *rest in lines:
        called.add(program)
        if program == "make":
            assert name in targets
        else:
            options = {option for parameter in main.commands[name].params for option in parameter.opts}
            assert {word for word in rest if word.startswith("-")} <= options
    assert called == {"make", "landscape"}


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_versions_agree() -> None:
    version = PYPROJECT["project"]["version"]
    assert landscape.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_gets_installed_is_pinned_inside_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    project = PYPROJECT["project"]
    waiting = [Requirement(line) for line in project["dependencies"]]
    waiting += [Requirement(line) for lines in project["optional-dependencies"].values() for line in lines]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or name == project["name"]:
            continue
        assert name in pins, f"{requirement} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} and {pins[name]}"
        seen.add(str(requirement))
        if name != "torch":  # what torch brings along depends on the index it came from
            further = [Requirement(line) for line in importlib.metadata.requires(name) or []]
            extras = requirement.extras | {""}
            waiting += [r for r in further if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]


def test_import_landscape_brings_nothing_heavy_but_torch() -> None:
    code = f"import sys, landscape; print(*[name for name in {HEAVY.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []
