"""Make tests/data/null_pool.csv.gz: real runs of one arm with other seeds, where nothing differs between "arms".

    python tests/data/make_null_pool.py

20 seeds of each of the four (study, arm) of the quick santurkar preset at its primary rate, with its
own probes: 80 runs, about 5 minutes on two cores. Only what its claims read is kept, at 6 significant digits.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import pandas as pd

from landscape.execution import execute
from landscape.experiment import Arm, Experiment
from landscape.store import Folder
from landscape_analyses.santurkar import ANALYSIS as SANTURKAR

SEEDS = tuple(range(1000, 1020))
CONTEXT = {"full_loss", "chance_loss", "step_curvature"}


def main() -> None:
    quick = SANTURKAR.presets["quick"]()
    pair = (Arm("none"), Arm("batch"))
    studies = tuple(
        dataclasses.replace(study, arms=pair, learning_rates=(study.primary_rate,), seeds=SEEDS)
        for study in quick.studies
    )
    experiment = Experiment("null-pool", studies)
    wanted = {(c.measure.probe, c.measure.quantity) for c in SANTURKAR.claims(quick)}
    with tempfile.TemporaryDirectory() as scratch, Folder.open(Path(scratch) / "pool", experiment) as folder:
        outcome = execute(folder, experiment.runs())
        if not outcome.ok:
            raise SystemExit(f"failed: {outcome.failed}")
        frame = folder.frame()
    names = zip(frame["probe"], frame["quantity"], strict=True)
    read = pd.Series([(p, q) in wanted or q in CONTEXT for p, q in names], index=frame.index)
    keep = frame[read & ~frame["variant"].isin(["random/scaled", "gradient/fixed"]) & (frame["batch"] != "full")]
    target = Path(__file__).with_name("null_pool.csv.gz")
    keep.to_csv(target, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})
    print(f"{target}: {len(keep)} rows")


if __name__ == "__main__":
    main()
