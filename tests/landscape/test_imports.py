"""The user's own code by name, and every way that it can be missing."""

from __future__ import annotations

import pickle
import sys

import pytest

from landscape.errors import UsageError
from landscape.imports import is_reference, load_object

CODE = """
from __future__ import annotations
import dataclasses
import helper_beside

@dataclasses.dataclass
class Thing:
    x: int = helper_beside.VALUE

class Outer:
    inner = 5

def f():
    return "f"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with code in it; what is imported from it is forgotten afterwards."""
    (tmp_path / "own_code.py").write_text(CODE)
    (tmp_path / "helper_beside.py").write_text("VALUE = 41\n")
    (tmp_path / "own_broken.py").write_text("def f(:\n")
    (tmp_path / "own_hungry.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "own_raises.py").write_text("raise RuntimeError('the user\\'s own')\n")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("where", ["own_code", "own_code.py"])
def test_code_is_found_by_module_and_by_file(folder, where):
    assert load_object(f"{where}:f")() == "f"
    assert load_object(f"{where}:Outer.inner") == 5
    thing = load_object(f"{where}:Thing")()
    assert thing.x == 41
    assert pickle.loads(pickle.dumps(thing)) == thing


def test_a_file_runs_once_and_its_folder_goes_last(folder):
    path = folder / "own_code.py"
    assert load_object(f"{path}:Thing") is load_object("own_code.py:Thing")
    assert sys.path[-1] == str(folder)
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("json.no_such_part:f", "no module 'json.no_such_part'"),
        ("own_code:g", "own_code has no 'g'; known: Outer, Thing"),
        ("own_code.py:g", "has no 'g'"),
        ("missing.py:f", "there is no file missing.py"),
        ("own_broken:f", "own_broken can't be imported: invalid syntax"),
        ("own_broken.py:f", "can't be imported: invalid syntax"),
        ("own_hungry:f", "own_hungry imports 'no_such_package_at_all', which is not installed"),
        ("own_hungry.py:f", "No module named 'no_such_package_at_all'"),
        ("f", "package.module:function or path/file.py:function"),
        (":f", "names no code"),
        ("own_code:", "names no code"),
        (".relative:f", "names no code"),
    ],
)
def test_what_is_missing_is_said(folder, spec, message):
    with pytest.raises(UsageError, match=message):
        load_object(spec)


@pytest.mark.parametrize("spec", ["own_raises:f", "own_raises.py:f"])
def test_errors_of_the_users_own_code_are_theirs_to_see(folder, spec):
    for _ in range(2):  # a module that failed is not kept half-made
        with pytest.raises(RuntimeError, match="the user's own"):
            load_object(spec)


def test_shipped_names_are_no_references():
    assert not is_reference("digits")
    assert is_reference("a.py:f")
