"""One's own model with each of several normalizations: paired training and a report, in one call or one command."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from landscape.errors import UsageError, warn
from landscape.experiment import Arm, Experiment, Options, ProbeSpec, Run, Spec, Study
from landscape.imports import lent, reference_to
from landscape.objective import LossFunction
from landscape.objective import batch_size as count_of
from landscape.rules import Place
from landscape.terms import ARGUMENTS, Terms

if TYPE_CHECKING:
    import pandas as pd

    from landscape.analysis import Verdict
    from landscape.data import Dataset
    from landscape.store import Folder
    from landscape.swapping import Change

#: The analysis that a comparison gets, by name: the engine does not import what sits on it.
ANALYSIS = ("landscape_analyses.pairs", "ANALYSIS")
WRITER = ("landscape_reports", "write_report")
MOST_BETWEEN = 10


def comparison(
    model: str,
    data: str,
    *,
    loss: str = "",
    norms: Sequence[str] = ("batch",),
    rates: Sequence[float] = (0.1,),
    steps: int = 200,
    seeds: Sequence[int] = (0, 1, 2),
    batch_size: int | None = None,
    optimizer: Spec | None = None,
    model_options: Options | None = None,
    data_options: Options | None = None,
    data_dir: Path | None = None,
    probes: Sequence[str | ProbeSpec] = (),
    chance_loss: float | None = None,
    fields: Mapping[str, Any] | None = None,
    terms: Terms = ARGUMENTS,
) -> Experiment:
    """The experiment of a comparison: the model without normalization, and with each of ``norms``.

    Args:
        model: the user's ``package:function``, or a shipped name.
        data: the user's ``package:function``, or a shipped name.
        loss: the user's ``package:function``; "" for the default of the data.
        norms: names of normalizations.
        rates: learning rates; the first decides claims.
        steps: updates per run.
        seeds: the replicates.
        batch_size: 128, or all the data if it has fewer, if None.
        optimizer: plain SGD if None.
        model_options: keyword arguments of the model's function.
        data_options: keyword arguments of the data's function.
        data_dir: where data files lie.
        probes: what is measured beside the probes that claims need.
        chance_loss: the loss of guessing, where the loss is the user's own or the model's.
        fields: further fields of the ``Study``.
        terms: how errors name all these.

    Raises:
        UsageError, DataError: the data can't be loaded, or a value is not what it has to be.
    """
    from landscape.data import load_data
    from landscape.toml import experiment_from, long_form

    for what, name in (("model", model), ("data", data)):
        if not name:
            raise UsageError(f"name the {what}: package:function, file.py:function or a shipped one")
    norms = [norms] if isinstance(norms, str) else norms
    probes = [probes] if isinstance(probes, str) else probes
    arms = tuple(dict.fromkeys(["none", *norms]))
    study = Study(
        name="main",
        model=Spec(model, dict(model_options or {})),
        data=Spec(data, dict(data_options or {})),
        arms=tuple(Arm(norm) for norm in arms),
        learning_rates=tuple(rates),
        primary_rate=rates[0] if rates else 0.1,
        seeds=tuple(seeds),
        steps=steps,
        optimizer=optimizer or Spec("sgd"),
        probes=_probes(_every(steps), probes),
        evaluate_every=_every(steps),
        loss=loss,
        chance_loss=chance_loss,
    )
    name = f"{model} on {data}"
    plain = long_form([dataclasses.asdict(study) | dict(fields or {})])
    asked = {"name": name, "studies": plain}

    def show(place: Place, message: str) -> tuple[int, str]:
        return 0, f"{terms.of_place(place, asked)}: {message}"

    checked = experiment_from(asked, show, what="what is asked for").studies[0]
    loaded = load_data(data, data_dir=data_dir, seed=checked.seeds[0], **checked.data.options)
    if "batch_size" not in (fields or {}):
        size = min(128, count_of(loaded.train)) if batch_size is None else batch_size
        checked = dataclasses.replace(checked, batch_size=size)
    if "accuracy" not in (fields or {}):
        checked = dataclasses.replace(checked, accuracy=loaded.classes is not None)
    return Experiment(name, (checked,))


def _every(steps: int) -> int:
    return max(1, min(MOST_BETWEEN, steps // MOST_BETWEEN))


def _probes(every: int, further: Sequence[str | ProbeSpec]) -> tuple[ProbeSpec, ...]:
    needed = (
        ProbeSpec("gradient_path", every=every),
        ProbeSpec("gradient_path", every=every, options={"direction": "scale-invariant"}),
        ProbeSpec("curvature", every=every),
    )
    asked = [ProbeSpec(probe, every=every) if isinstance(probe, str) else probe for probe in further]
    return (*needed, *(probe for probe in asked if probe not in needed))


@dataclass(frozen=True)
class Compared:
    """What a comparison measured.

    Attributes:
        folder: the run folder; ``landscape show``, ``report`` and ``export`` read it.
        failed: the runs that failed, and why in one line.
        changes: arm -> what gave the model its normalization; empty where the model's function takes ``norm``.
    """

    folder: Folder
    failed: tuple[tuple[Run, str], ...]
    changes: Mapping[str, tuple[Change, ...]]
    _kept: tempfile.TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        done = sum(one.status == "finished" for one in self.folder.progress())
        return (
            f"<{done} runs done, {len(self.failed)} failed, in {self.folder.path}: .verdicts, .frame(), .report(path)>"
        )

    def frame(self) -> pd.DataFrame:
        """All numbers, one a row, as ``landscape export`` writes them."""
        return self.folder.frame()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The claims, decided."""
        from landscape.reporting import verdicts_of

        return verdicts_of(_named(ANALYSIS), self.folder)

    def report(self, path: Path | str) -> Path:
        """Write the PDF, and ``report.json`` into the run folder.

        Args:
            path: of the PDF.

        Raises:
            StoreError: it can't be written.
        """
        from landscape.reporting import build_report

        path = Path(path)
        if path.suffix != ".pdf":
            raise UsageError(f"report({str(path)!r}): the name must end in .pdf")
        path.parent.mkdir(parents=True, exist_ok=True)
        written: Path = _named(WRITER)(build_report(_named(ANALYSIS), self.folder), self.folder.path, pdf=path)
        return written


def _named(place: tuple[str, str]) -> Any:
    return getattr(importlib.import_module(place[0]), place[1])


def compare(
    build_model: str | Callable[..., nn.Module],
    data: str | Dataset | tuple[Any, Any] | Mapping[str, Any] | Callable[..., Any],
    *,
    norms: Sequence[str] = ("batch",),
    lr: float | Sequence[float] = 0.1,
    steps: int = 200,
    seeds: int | Sequence[int] = 3,
    loss_fn: str | LossFunction | None = None,
    batch_size: int | None = None,
    optimizer: Spec | str = "sgd",
    model_options: Options | None = None,
    data_options: Options | None = None,
    data_dir: Path | str | None = None,
    probes: Sequence[str | ProbeSpec] = (),
    chance_loss: float | None = None,
    fields: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    device: str = "cpu",
    workers: int = 0,
    verbose: bool = False,
) -> Compared:
    """Train one's own model without normalization and with each of ``norms``, and measure the landscape of each.

    Arms of one seed have the same weights ("selu" the initial ones that it is defined with), batches and probe
    batches. A model whose function takes ``norm`` builds the normalization itself; any other is given it by
    ``normalized``. ``landscape compare`` is the same thing.

    Args:
        build_model: a function that returns an ``nn.Module``, called with those of ``norm``, ``seed``,
            ``input_shape`` and ``output_size`` that it takes (and that the data tell); or its ``package:function``; or
            a shipped name.
        data: ``(train, test)``, each of them ``(x, y)``, a dict of tensors (``{"input_ids": ..., "labels": ...}``),
            several inputs and a target ``(a, b, y)``, or a torch ``Dataset``; tensors or arrays, samples along the
            first dimension. Or ``{"train": ..., "test": ...}``, a ``landscape.data.Dataset``, a function that returns
            one of all these, its ``package:function``, or a shipped name.
        norms: names of normalizations, or one; "none" is always there and what the others are compared with.
        lr: learning rates; the first decides claims.
        steps: updates per run.
        seeds: how many, or which: 3 for a verdict, 5 are good.
        loss_fn: ``loss_fn(model, batch)`` -> scalar, for a batch of the form of a split; or its ``package:function``.
            If None: the loss that the model returns where its forward takes the target (``labels``), else
            cross-entropy, or the squared error of float targets.
        batch_size: 128, or all the data if it has fewer, if None.
        optimizer: a name of torch.optim, or a ``Spec`` with options.
        model_options: keyword arguments of ``build_model``.
        data_options: keyword arguments of the data's function.
        data_dir: where data files lie.
        probes: what is measured beside the probes that claims need: names, or ``ProbeSpec``.
        chance_loss: the loss of guessing, where the loss is one's own or the model's and so nobody can tell. If None,
            a run counts as trained once its loss is below .95 of its first, and the report says so.
        fields: further fields of ``landscape.experiment.Study``, as the command's ``--set`` has them.
        out: the run folder, where the same call goes on after a stop; None for one that goes with the result.
        device: "cpu", "cuda", "cuda:1", ...
        workers: runs at a time; 0 trains in this process. More need functions that can be imported.
        verbose: say on standard error when a run has ended. Runs that failed are warned about in any case.

    Raises:
        UsageError, DataError: what is asked for can't be trained; the message says why.

    >>> import torch
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> net = lambda: nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> done = compare(net, ((x, x**2), (x, x**2)), norms=["layer"], steps=2, seeds=1)
    >>> sorted(done.frame()["arm"].unique()), done.verdicts[0].verdict
    (['layer', 'none'], 'not measured')
    """
    with contextlib.ExitStack() as stack:
        model = _reference(stack, build_model, "model", workers)
        source = _reference(stack, data if callable(data) or isinstance(data, str) else lambda: data, "data", workers)
        loss = _reference(stack, loss_fn, "loss", workers) if loss_fn is not None else ""
        experiment = comparison(
            model,
            source,
            loss=loss,
            norms=norms,
            rates=[lr] if isinstance(lr, int | float) else list(lr),
            steps=steps,
            seeds=range(seeds) if isinstance(seeds, int) else seeds,
            batch_size=batch_size,
            optimizer=Spec(optimizer) if isinstance(optimizer, str) else optimizer,
            model_options=model_options,
            data_options=data_options,
            data_dir=Path(data_dir) if data_dir is not None else None,
            probes=probes,
            chance_loss=chance_loss,
            fields=fields,
        )
        return _carried_out(experiment, out, device, workers, data_dir, verbose)


def _reference(stack: contextlib.ExitStack, given: Any, role: str, workers: int) -> str:
    """The name under which runs find it; one of this process where no module holds it (``given data:load``)."""
    if isinstance(given, str):
        return given
    if not callable(given):
        raise UsageError(f"the {role} is a {type(given).__name__}: give a function, or its name")
    spec = reference_to(given)
    if not spec and workers:
        raise UsageError(
            f"workers={workers} train in processes of their own, which can't import this {role}: give a function that "
            "a module holds, or train in this process with workers=0"
        )
    called = getattr(given, "__name__", "")
    name = f"given {role}:{called}" if called.isidentifier() else f"given:{role}"
    return spec or stack.enter_context(lent(name, given))


def _carried_out(
    experiment: Experiment,
    out: Path | str | None,
    device: str,
    workers: int,
    data_dir: Path | str | None,
    verbose: bool,
) -> Compared:
    from landscape.execution import endings, execute
    from landscape.plan import plan
    from landscape.store import Folder, describe
    from landscape.swapping.change import summary

    place = Path(data_dir) if data_dir is not None else None
    (planned,) = plan(experiment, device=device, data_dir=place, terms=ARGUMENTS)
    name = planned.study.name
    manifest = describe(
        device=device,
        threads=1,
        data={name: planned.checksum},
        networks={name: planned.network},
        losses=planned.losses,
    )
    manifest |= {"analysis": "pairs", "changes": {arm: summary(made) for arm, made in planned.changes.items()}}
    kept = tempfile.TemporaryDirectory(prefix="landscape-compare-") if out is None else None
    path = Path(kept.name) / "run" if kept is not None else Path(str(out))
    with Folder.open(path, experiment, manifest=manifest) as folder:
        runs = experiment.runs()
        say = endings(len(runs)) if verbose else lambda event: None
        outcome = execute(folder, runs, device=device, workers=workers, data_dir=place, on_event=say)
    if outcome.failed:
        first, why = outcome.failed[0]
        warn(f"{len(outcome.failed)} of {len(runs)} runs failed, the first {first.key}: {why}")
    return Compared(folder, outcome.failed, planned.changes, kept)
