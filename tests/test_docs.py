"""The documentation: its site builds without a warning, its code runs, its command line is the program's."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def blocks(page: str, section: str = "") -> list[str]:
    """The Python of a page, or of one of its sections, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    pages = {path.parent.name for path in (tmp_path / "site").glob("*/index.html")}
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= pages


def test_the_command_line_page_is_the_programs() -> None:
    page = runpy.run_path(str(DOCS / "command_line.py"))["page"]()
    assert (DOCS / "command-line.md").read_text(encoding="utf-8") == page, "run python docs/command_line.py"


@pytest.mark.parametrize("page", ["own-loop.md", "own-model.md"])
def test_the_code_of_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    code = "\n".join(blocks(page))
    assert code
    (tmp_path / "page.py").write_text(code)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_guides_probe_measures_and_leaves_no_trace() -> None:
    import torch
    from torch import nn

    import landscape

    (code,) = blocks("extending.md", "A probe")
    names: dict[str, type] = {}
    exec(code, names)
    model = nn.Linear(2, 1, bias=False).double()
    before = model.weight.detach().clone()
    x = torch.randn(5, 2, dtype=torch.float64)
    observer = landscape.Observer(model, lambda m, x: m(x).square().mean(), [names["ScaleProbe"]()], strict=True)
    observer.step(x)
    rows = observer.frame()
    loss = float(model(x).square().mean().detach())
    assert rows["value"].tolist() == pytest.approx([(0.9**2 - 1) * loss, (1.1**2 - 1) * loss], rel=1e-12)
    assert torch.equal(model.weight, before)


def test_the_guides_analysis_runs_in_a_folder_of_its_own(tmp_path: Path) -> None:
    (code,) = blocks("extending.md", "An analysis")
    assert len(code.splitlines()) < 60
    (tmp_path / "widths.py").write_text(code)
    command = [sys.executable, "-c", "from landscape_cli.main import main; main()", "run", "widths.py", "--seeds", "3"]
    done = subprocess.run(
        [*command, "--steps", "10", "--workers", "0"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "W-beta" in done.stdout
    assert (tmp_path / "runs" / "widths" / "report.pdf").stat().st_size > 10_000
