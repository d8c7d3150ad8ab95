"""A tiny real run, made once, that tests look at or copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from landscape_cli.main import main

TINY = """
name = "tiny"
[study]
model = { name = "mlp", options = { hidden = [16] } }
data = { name = "digits", options = { limit = 256, test_limit = 64 } }
arms = ["none", "batch"]
learning_rates = [0.1]
seeds = 3
steps = 20
batch_size = 64
evaluate_every = 5
[[study.probes]]
name = "gradient_path"
every = 5
"""

Call = Callable[..., Result]


def call(*words: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml and its finished run in runs/tiny; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = call("run", "tiny.toml", "--workers", 0)
    assert result.exit_code == 0, result.output
    (folder / "stdout").write_text(result.stdout)
    (folder / "stderr").write_text(result.stderr)
    return folder


@pytest.fixture
def tiny(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the current folder."""
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def landscape() -> Call:
    """Run the command in this process; the result has exit_code, stdout and stderr."""
    return call
