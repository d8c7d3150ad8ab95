"""A run folder into tables and figures of your own: an Observer's, or one that `landscape run` wrote.

python examples/own_loop.py
python examples/read_run_folder.py runs/own-loop
"""

import re
import sys
from pathlib import Path

import landscape_reports
from landscape.store import Folder

folder = Folder.read(sys.argv[1] if len(sys.argv) > 1 else "runs/own-loop")
for progress in folder.progress():
    print(progress.run.key, progress.status, progress.step)

table = folder.frame()  # one row per number; `landscape export` writes the same to CSV or parquet
beta = table.query("quantity == 'effective_smoothness'").groupby(["arm", "learning_rate", "variant"])["value"]
print(beta.agg(["count", "median", "max"]).round(3))

histograms = folder.arrays("activations", "histogram")
print(f"{len(histograms)} histograms of activations")

# Every probe's figures, as matplotlib figures: in a notebook the last line of a cell shows one.
out = Path("figures")
out.mkdir(exist_ok=True)
for name, figure in landscape_reports.figures(table).items():
    path = out / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".png")
    figure.savefig(path)
    print(path)
