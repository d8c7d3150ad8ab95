"""The folder of an experiment: what was asked, what it was made with, and its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from landscape.errors import StoreError, UsageError
from landscape.experiment import Experiment, Run
from landscape.store.database import KEY
from landscape.store.files import Lock, store_errors, write_json, write_whole
from landscape.store.identity import check_keys
from landscape.store.manifest import Manifest, read_manifest
from landscape.store.opening import extend, refuse_foreign, stored
from landscape.store.runs import RunStore, Status

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["study", "arm", "learning_rate", "seed", "step", *KEY[:-1], "index", "value"]
NUMBERS = dict.fromkeys(("learning_rate", "value"), "float64") | dict.fromkeys(
    ("seed", "step", "version", "index"), "int64"
)


@dataclass(frozen=True)
class RunProgress:
    """How far one run is.

    Attributes:
        run: the run.
        status: "new", "running", "interrupted", "finished" or "failed".
        step: its last step with measurements, or None.
        reason: why it failed, or why it can't be read; "" otherwise.
    """

    run: Run
    status: Status
    step: int | None
    reason: str = ""


class Folder:
    """``DIR``: experiment.json, manifest.json and one folder per run under runs/.

    Use ``Folder.open`` to train into it and ``Folder.read`` to look at it.

    Attributes:
        path: where it lies.
        experiment: what was ever asked of this folder: the union of seeds, arms and rates.
        manifest: what its first runs were made with, the data's checksums, and "warnings".
    """

    def __init__(self, path: Path, experiment: Experiment, manifest: Manifest, lock: Lock | None = None) -> None:
        self.path = path
        self.experiment = experiment
        self.manifest = manifest
        self._lock = lock

    @classmethod
    def open(cls, path: Path | str, experiment: Experiment, *, manifest: Manifest | None = None) -> Self:
        """Create the folder of an experiment, or go on in it; locks it until ``close``.

        More seeds, arms or learning rates extend what is there.

        Args:
            path: made if missing.
            experiment: what is asked now.
            manifest: what ``describe`` returns, with the data's checksums.

        Raises:
            UsageError: if it holds something else, another experiment, or other data; the message shows
                the difference and an ``--out`` to use instead.
            StoreError: if it can't be written, or another process is training into it.
        """
        path = Path(path)
        check_keys(experiment)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder: choose another with --out")
        with store_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            if not (path / "experiment.json").exists():
                refuse_foreign(path)
        lock = Lock(path / ".lock")
        try:
            with store_errors(path):
                (path / "runs").mkdir(exist_ok=True)
            asked = dict(manifest or {})
            if (path / "experiment.json").exists():
                experiment, asked = extend(path, experiment, asked)
            write_json(path / "manifest.json", {"warnings": [], "data": {}} | asked)
            # Last: a folder with this file is complete.
            write_whole(path / "experiment.json", (experiment.to_json() + "\n").encode())
            return cls(path, experiment, read_manifest(path), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """The folder, for looking at it; needs no lock and may be read-only.

        Raises:
            UsageError: if it is not the folder of an experiment.
            StoreError: if it can't be read.
        """
        path = Path(path)
        if not (path / "experiment.json").is_file():
            found = "no such folder" if not path.exists() else "no experiment.json in it"
            raise UsageError(f"{path}: {found}; give the folder that `landscape run` wrote (its --out)")
        return cls(path, stored(path), read_manifest(path))

    def close(self) -> None:
        """Let others train into the folder; safe to call twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def warnings(self) -> list[str]:
        """What the report must say about resumes on another torch, thread count or processor."""
        return list(self.manifest["warnings"])

    def run(self, run: Run, *, wait: float = 1.0) -> RunStore:
        """The store of one run; ``wait`` seconds for another process that still writes it."""
        return RunStore(self.path / "runs" / run.key, wait=wait)

    def runs(self) -> list[Run]:
        """The runs that have measurements on disk, by study, arm, learning rate and seed."""
        return [run for run in self._sorted() if self.run(run).path.is_file()]

    def _sorted(self) -> list[Run]:
        def place(run: Run) -> tuple[str, str, float, int]:
            return (run.study.name, run.arm.label, run.learning_rate, run.seed)

        return sorted(self.experiment.runs(), key=place)

    def frame(self) -> pd.DataFrame:
        """All numbers of all runs as one long table, in an order that does not depend on how they came.

        Columns: study, arm, learning_rate, seed, step, probe, version, variant, statistics, dtype, batch,
        layer, quantity, index, value.
        """
        return self._table(lambda store: store.frame())

    def arrays(self, probe: str, quantity: str) -> pd.DataFrame:
        """The arrays of one quantity of all runs; the columns of ``frame`` with the array in ``value``."""
        return self._table(lambda store: store.arrays(probe, quantity))

    def _table(self, of: Callable[[RunStore], pd.DataFrame]) -> pd.DataFrame:
        import pandas as pd

        parts = []
        for run in self.runs():
            part = of(self.run(run))
            label: dict[str, str | float] = {"study": run.study.name, "arm": run.arm.label}
            label |= {"learning_rate": run.learning_rate, "seed": run.seed}
            if len(part):
                parts.append(part.assign(**label)[COLUMNS])
        return pd.concat(parts, ignore_index=True) if parts else _empty()

    def export(self, path: Path | str) -> None:
        """Write ``frame`` to a .csv (shortest exact decimals) or .parquet file, the same bytes each time.

        Raises:
            UsageError: for another suffix, or if pyarrow is missing for .parquet.
            StoreError: if the file can't be written.
        """
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            raise UsageError(f"can't export to {path.name!r}: the name must end in .csv or .parquet")
        if path.suffix == ".csv":
            write_whole(path, self.frame().to_csv(index=False, lineterminator="\n").encode())
            return
        try:
            data = self.frame().to_parquet(index=False, engine="pyarrow")
        except ImportError as error:
            raise UsageError(
                "exporting .parquet needs pyarrow: pip install 'landscape-smoothness[parquet]', or export .csv"
            ) from error
        write_whole(path, data)

    def progress(self) -> list[RunProgress]:
        """How far each run is; one that can't be read says why instead of hiding the others."""
        return [self._progress_of(run) for run in self._sorted()]

    def _progress_of(self, run: Run) -> RunProgress:
        store = self.run(run)
        try:
            return RunProgress(run, store.status(), store.last_step(), store.reason())
        except StoreError as error:
            return RunProgress(run, "failed", None, str(error))


def _empty() -> pd.DataFrame:
    """No rows, in the types that rows have: what is made of them is then empty too, and of the right type."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(dtype=NUMBERS.get(name, "str")) for name in COLUMNS})
