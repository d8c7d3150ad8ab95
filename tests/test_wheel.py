"""What a user installs: the wheel, in an environment of its own; and the sdist, from which it can be tested."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "landscape": ROOT / "landscape",
    "landscape_analyses": ROOT / "analyses/landscape_analyses",
    "landscape_reports": ROOT / "reports/landscape_reports",
    "landscape_cli": ROOT / "cli/landscape_cli",
}

IMPORT_ALL = """
import importlib, pkgutil, sys
from pathlib import Path
home, *packages = sys.argv[1:]
for package in packages:
    names = [package]
    found = importlib.import_module(package)
    names += [module.name for module in pkgutil.walk_packages(found.__path__, package + ".")]
    for name in names:
        file = importlib.import_module(name).__file__
        assert Path(file).is_relative_to(home), f"{name} was imported from {file}"
        print(name)
"""


def run(*command: object, cwd: Path) -> str:
    """Output of a command; its words if it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, folder: Path) -> Path:
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_four_packages_and_every_file_of_theirs(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    expected = {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert set(names) == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert "landscape_reports/template.typ" in names
    assert "landscape/data/digits.py" in names  # a careless "data/" in .gitignore would take it away


def test_the_wheel_carries_its_license_and_its_command(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel)
    names = {name.split(".dist-info/")[1]: name for name in files.namelist() if ".dist-info/" in name}
    assert files.read(names["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
    assert b"landscape = landscape_cli." in files.read(names["entry_points.txt"])


def test_every_module_of_the_wheel_imports_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    python = home / "bin" / "python"
    own = Path(run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # The dependencies of this environment, without its .pth files: so without the editable install.
    (own / "dependencies.pth").write_text(
        "\n".join(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
    )
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps")
    run(sys.executable, *install, "--ignore-installed", wheel, cwd=tmp_path)

    imported = run(python, "-I", "-c", IMPORT_ALL, own, *PACKAGES, cwd=tmp_path).split()
    modules = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    assert len(imported) == len(modules)
    assert "landscape run" in run(home / "bin" / "landscape", "--help", cwd=tmp_path)


def test_the_sdist_can_be_tested_and_holds_no_data(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        sizes = {member.name.split("/", 1)[1]: member.size for member in archive.getmembers() if member.isfile()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert tests <= set(sizes)
    assert {"Makefile", "constraints.txt", "LICENSE", "README.md", "landscape/data/digits.py"} <= set(sizes)
    assert not [name for name in sizes if name.split("/")[0] in ("data", "runs", "shared", ".venv")]
    kinds = {".py", ".md", ".toml", ".txt", ".typ", ".typed", ".cff", ".yml", ".png", ".svg", ""}
    known = (".gitignore", "null_pool.csv.gz")  # the pool is a test's own: measurements of null runs
    assert {Path(name).suffix for name in sizes if Path(name).name not in known} <= kinds
    assert sum(sizes.values()) < 4 * 2**20
