"""Puts the Hessians written by hand, and the chosen spectra, within reach of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "krylov")]
