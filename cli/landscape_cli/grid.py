"""A grid from its plan to its report: what ``run`` and ``compare`` share."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landscape_cli.output import print_json, print_verdicts, verdict_data
from landscape_cli.planned import cost_line, few_seeds, print_plan
from landscape_cli.progress import watching
from landscape_cli.sources import Source

if TYPE_CHECKING:
    from landscape.analysis import Report
    from landscape.execution import Outcome
    from landscape.experiment import Experiment
    from landscape.plan import StudyPlan
    from landscape.store import Folder

#: Options that change no number, and so are no part of the command to run again.
_SILENT = ("workers", "dry_run", "quiet", "as_json")

#: From so many runs on, a few seconds of timing first make the time left worth reading.
WORTH_TIMING = 20


def stoppable(ctx: click.Context, again: str, work: Callable[[], int]) -> None:
    """Do the work and exit with its code; Ctrl-C says how to go on."""
    try:
        code = work()
    except KeyboardInterrupt:
        click.echo(f"\nstopped; nothing is lost. To go on, run the same command again:\n  {again}", err=True)
        code = 130
    ctx.exit(code)


def carry_out(source: Source, experiment: Experiment, again: str, options: dict[str, Any]) -> int:
    """Plan, train unless it is a dry run, and report; the exit code.

    Args:
        source: where the experiment comes from.
        experiment: what is trained.
        again: the command that makes the same numbers again.
        options: those of ``running_options``.
    """
    from landscape.execution import prepare
    from landscape.plan import plan

    device = _device(options["device"])
    workers = _workers(device, options["workers"])
    timed = options["dry_run"] or source.preset in ("standard", "paper") or len(experiment.runs()) >= WORTH_TIMING
    if workers and not options["dry_run"]:
        prepare()
    plans = plan(experiment, data_dir=options["data_dir"], device=device, timed=timed, terms=source.terms)
    _say_before(experiment, plans, workers, options)
    if options["dry_run"]:
        print_plan(plans, workers, as_json=options["as_json"])
        return 0
    return _train(source, experiment, plans, options["out"] or source.out, device, again, options)


def _say_before(experiment: Experiment, plans: Sequence[StudyPlan], workers: int, options: dict[str, Any]) -> None:
    if options["quiet"]:
        return
    if few := few_seeds(experiment):
        click.echo(f"note: {few}", err=True)
    for note in sorted({f"{one.study.data.name}: {one.note}" for one in plans if one.note}):
        click.echo(f"note: data {note}", err=True)
    for place, what in _changes(plans).items():
        click.echo(f"note: {place}: {what}", err=True)
    if not options["dry_run"]:
        click.echo(cost_line(plans, workers), err=True)


def _changes(plans: Sequence[StudyPlan]) -> dict[str, str]:
    """What gives the user's own models their normalization, arm by arm."""
    from landscape.swapping.change import summary

    several = len(plans) > 1
    return {
        f"{one.study.name}, {arm}" if several else arm: summary(made)
        for one in plans
        for arm, made in one.changes.items()
    }


def _device(asked: str) -> str:
    """The device, once it is known to be there."""
    import torch

    from landscape.errors import UsageError

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = asked.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
        raise UsageError(f"--device {asked}: choose auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and count <= int(index or 0):
        raise UsageError(f"--device {asked}: torch sees {count} GPUs; use --device cpu, or look at `landscape doctor`")
    return asked


def _workers(device: str, asked: int | None) -> int:
    """Runs at a time."""
    import torch

    from landscape.errors import UsageError
    from landscape.execution import available_cpus

    if asked is not None and asked < 0:
        raise UsageError(f"--workers {asked}: give 1 or more runs at a time, or 0 to train in this process")
    if device.startswith("cuda"):
        devices = 1 if ":" in device else torch.cuda.device_count()
        return devices if asked is None else min(asked, devices)
    return available_cpus() if asked is None else asked


def _train(
    source: Source,
    experiment: Experiment,
    plans: Sequence[StudyPlan],
    out: Path,
    device: str,
    again: str,
    options: dict[str, Any],
) -> int:
    """Train into the folder, write the report, say the end; the exit code."""
    from landscape.execution import execute
    from landscape.reporting import build_report
    from landscape.store import Folder, describe
    from landscape_reports import write_report

    data = {one.study.name: one.checksum for one in plans}
    networks = {one.study.name: one.network for one in plans}
    losses = {name: loss for one in plans for name, loss in one.losses.items()}
    manifest = describe(device=device, threads=1, data=data, networks=networks, losses=losses)
    manifest |= {"changes": _changes(plans)}
    manifest |= {"analysis": source.name, "notes": {one.study.name: one.note for one in plans if one.note}}
    with Folder.open(out, experiment, manifest=manifest | {"commands": [again]}) as folder:
        _remember(folder, again)
        runs = experiment.runs()
        seconds = {key: value for one in plans for key, value in one.run_seconds.items()}
        with watching(runs, seconds, quiet=options["quiet"], as_json=options["as_json"]) as watch:
            outcome = execute(
                folder,
                runs,
                device=device,
                workers=options["workers"],
                data_dir=options["data_dir"],
                on_event=watch,
            )
        report = build_report(source.analysis, folder)
        pdf = write_report(report, folder.path)
    _say_end(report, pdf, outcome, as_json=options["as_json"])
    return 0 if outcome.ok else 1


def _remember(folder: Folder, command: str) -> None:
    """Add a further command to those that made this folder; the first is there already."""
    from landscape.store.files import write_json

    commands = folder.manifest.setdefault("commands", [])
    if command not in commands:
        commands.append(command)
        write_json(folder.path / "manifest.json", folder.manifest)


def _say_end(report: Report, pdf: Path, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        verdicts = [verdict_data(verdict) for verdict in report.verdicts]
        failed = {run.key: reason for run, reason in outcome.failed}
        print_json({"event": "done", "report": str(pdf), "verdicts": verdicts, "failed": failed})
        return
    print_verdicts(report.verdicts)
    click.echo(report.answer)
    if outcome.failed:
        click.echo(f"{len(outcome.failed)} of the runs failed; the others are kept:", err=True)
        for run, reason in outcome.failed:
            click.echo(f"  {run.key}: {reason}", err=True)
        click.echo("The same command tries them again from their checkpoints.", err=True)
    click.echo(f"report: {pdf}")


def command_again(ctx: click.Context) -> str:
    """The command that makes the same numbers again."""
    arguments = [p for p in ctx.command.params if isinstance(p, click.Argument)]
    words = ["landscape", str(ctx.command.name), *(str(ctx.params[p.name or ""]) for p in arguments)]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if not isinstance(parameter, click.Option) or parameter.name in _SILENT or value == parameter.default:
            continue
        name = max(parameter.opts, key=len)
        if isinstance(value, bool):
            words += [name] if value else []
        elif isinstance(value, tuple):
            words += [word for one in value for word in (name, f"{one:g}" if isinstance(one, float) else str(one))]
        elif value is not None:
            words += [name, str(value)]
    return shlex.join(words)
