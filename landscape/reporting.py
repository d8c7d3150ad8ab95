"""A report put together: what was measured, what was decided, with what, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from landscape.analysis import Analysis, Report, Verdict
from landscape.experiment import Experiment, Spec, Study
from landscape.recording import NAME as OBSERVED
from landscape.statistics import decide_claims
from landscape.store import Folder

if TYPE_CHECKING:
    import pandas as pd


#: From more equal entries than this on, a list is written as one times their number.
MANY = 3
AGAIN = "Run the same command again to finish them"
UNCLOSED = "Its training goes on, or was stopped, or has ended without observer.close() or a with block"


def build_report(analysis: Analysis, folder: Folder) -> Report:
    """Everything that goes on paper, from a run folder alone: same folder, same report.

    Args:
        analysis: what is decided and shown.
        folder: its runs, finished or not.

    Raises:
        StoreError: a run can't be read.
        UsageError: a claim of the analysis contradicts itself.
    """
    frame = measured(analysis, folder)
    experiment = folder.experiment
    verdicts = decide_claims(analysis.claims(experiment), experiment, frame)
    parts = (_so_far(folder), analysis.recorded(experiment, frame), analysis.answer(verdicts))
    return Report(
        title=analysis.title or title(experiment),
        question=analysis.question,
        answer=" ".join(filter(None, parts)),
        verdicts=verdicts,
        headline=analysis.headline(experiment, frame),
        sections=analysis.sections(experiment, frame),
        definitions=analysis.definitions,
        settings=({"re-examined": analysis.paper} if analysis.paper else {})
        | {"experiment": experiment.name}
        | settings(folder),
        cost=cost(folder),
        failures=tuple(failures(folder, frame)),
    )


def title(experiment: Experiment) -> str:
    """A title for an experiment of one's own: its name, its models and their data.

    >>> from landscape.experiment import Arm
    >>> arms, tiny = (Arm("none"), Arm("batch")), {"learning_rates": (0.1,), "primary_rate": 0.1, "seeds": (0,)}
    >>> study = Study("main", Spec("mlp"), Spec("digits"), arms, **tiny, steps=10)
    >>> title(Experiment("my", (study,)))
    'my: mlp on digits'
    """
    pairs = dict.fromkeys(f"{_short(study.model)} on {_short(study.data)}" for study in experiment.studies)
    more = f" and {len(pairs) - 2} more" if len(pairs) > 3 else ""
    said = f"{', '.join(list(pairs)[: 2 if more else 3])}{more}"
    named = {f"{study.model.name} on {study.data.name}" for study in experiment.studies}
    return said if experiment.name in named else f"{experiment.name}: {said}"  # a comparison has no other name


def _short(spec: Spec) -> str:
    """``folder/mine.py:build`` is mine.py:build, and what was given from Python has its own name if it has one."""
    name = spec.name.rpartition("/")[2]
    where, _, called = name.partition(":")
    return called if where.startswith("given ") else f"given {called}" if where == "given" else name


def _so_far(folder: Folder) -> str:
    """What comes before the answer of a folder whose runs are not all done: nothing is concluded yet."""
    states = [one.status for one in folder.progress()]
    done = states.count("finished")
    return f"Unfinished, {done} of {len(states)} runs done: what follows may change." if done < len(states) else ""


def verdicts_of(analysis: Analysis, folder: Folder) -> tuple[Verdict, ...]:
    """The verdicts so far, without the figures."""
    return decide_claims(analysis.claims(folder.experiment), folder.experiment, measured(analysis, folder))


def measured(analysis: Analysis, folder: Folder) -> pd.DataFrame:
    """The long table of a folder with the rows that the analysis derives from it; arrays under ``attrs["arrays"]``."""
    import pandas as pd

    frame = folder.frame()
    if analysis.derive is not None and len(frame):
        frame = pd.concat([frame, analysis.derive(folder.experiment, frame)], ignore_index=True)
    # A function, not a method: pandas copies attributes deeply with every table made from this one.
    frame.attrs["arrays"] = lambda probe, quantity: folder.arrays(probe, quantity)
    return frame


def settings(folder: Folder) -> dict[str, str]:
    """What was trained and with what: each study's own, then versions, then how to run it again."""
    studies = folder.experiment.studies
    found: dict[str, str] = {}
    for study in studies:
        suffix = f" ({study.name})" if len(studies) > 1 else ""
        found |= {f"{key}{suffix}": value for key, value in _study(study, folder.manifest).items()}
    manifest = folder.manifest
    keys = {"landscape": "landscape", "torch": "torch", "numpy": "numpy", "python": "Python", "device": "device"}
    found |= {words: str(manifest[key]) for key, words in keys.items() if manifest.get(key)}
    if "machine" in manifest:
        found["processor"] = f"{manifest['machine']}, {manifest.get('cpu_capability', '')}".rstrip(", ")
    if "threads" in manifest:
        found["threads per run"] = str(manifest["threads"])
    found |= {f"normalized ({place})": str(what) for place, what in manifest.get("changes", {}).items()}
    if manifest.get("commit"):
        found["git commit"] = str(manifest["commit"])
    commands = [str(command) for command in manifest.get("commands", ())]
    if commands:
        found["run it again"] = "; ".join(commands)
    return found


def _study(study: Study, manifest: Mapping[str, Any]) -> dict[str, str]:
    arms = []
    for arm in study.arms:
        own = [f"{key} {value}" for key, value in arm.options.items()]
        own += [f"{key} {value}" for key, value in arm.data.items()]
        if arm.warmup:
            own.append(f"warm-up over {arm.warmup} steps")
        if arm.learning_rates is not None:
            own.append(f"learning rates {_listed(arm.learning_rates)}")
        label = arm.label if arm.label == arm.norm else f"{arm.label} ({arm.norm})"
        arms.append(f"{label} [{'; '.join(own)}]" if own else label)
    found = {
        "model": _spec(study.model),
        "data": _spec(study.data),
        "data checksum": str(manifest.get("data", {}).get(study.name, "")),
        "data note": str(manifest.get("notes", {}).get(study.name, "")),
        "arms": ", ".join(arms),
        "learning rates": f"{_listed(study.learning_rates)}; primary {study.primary_rate:g}",
        "seeds": ", ".join(str(seed) for seed in study.seeds),
        "steps": str(study.steps or ""),  # 0: a training in a loop of one's own that has not ended
        "batch": "full batch" if study.batch_size is None else str(study.batch_size),
        "optimizer": _spec(study.optimizer),
        "full loss over": "all mini-batches" if study.full_batches is None else f"{study.full_batches} mini-batches",
    }
    if study.full_batches == 0:
        del found["full loss over"]
    return {key: value for key, value in found.items() if value}


def _spec(spec: Spec) -> str:
    options = ", ".join(f"{key}={_shortened(value)}" for key, value in spec.options.items())
    return f"{spec.name}({options})" if options else spec.name


def _shortened(value: Any) -> str:
    """A long list of one value as Python would make it.

    >>> _shortened([32, 32, 32, 32]), _shortened([8, "M", 16]), _shortened("gelu")
    ('[32] * 4', "[8, 'M', 16]", 'gelu')
    """
    if isinstance(value, list | tuple) and len(value) > MANY and all(entry == value[0] for entry in value):
        return f"[{value[0]!r}] * {len(value)}"
    return str(value)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def cost(folder: Folder) -> dict[str, str]:
    """Passes, seconds and memory of all runs, and seconds by study."""
    runs = folder.runs()
    costs = [folder.run(run).costs() for run in runs]
    if not any(costs):
        return {}

    def total(name: str, study: str | None = None) -> float:
        return sum(c.get(name, 0.0) for c, run in zip(costs, runs, strict=True) if study in (None, run.study.name))

    seconds = total("seconds")
    found = {"runs": str(len(runs))}
    if any("passes" in c for c in costs):  # a loop of one's own does not count them
        found["forward+backward passes"] = f"{total('passes'):,.0f}"
    found |= {
        "time of all runs": f"{duration(seconds)}; {duration(total('probe_seconds'))} of it probing",
    }
    if len(folder.experiment.studies) > 1:
        found |= {
            f"time of {study.name}": duration(total("seconds", study.name)) for study in folder.experiment.studies
        }
    found["longest run"] = duration(max(c.get("seconds", 0.0) for c in costs))
    found["peak memory of a run"] = f"{max(c.get('peak_memory_mib', 0.0) for c in costs):,.0f} MiB"
    return found


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(0.4), duration(75), duration(4000), duration(200000)
    ('0.4 s', '1 min 15 s', '1 h 6 min', '2 d 7 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def failures(folder: Folder, frame: pd.DataFrame) -> list[str]:
    """Runs that failed, are not finished or diverged, and the manifest's warnings, a sentence each."""
    found = []
    unfinished = []
    for one in folder.progress():
        if one.status == "failed":
            at = "" if one.step is None else f" after step {one.step}"
            found.append(f"{one.run.key} failed{at}: {one.reason}")
        elif one.status != "finished":
            unfinished.append(one.run.key)
    if unfinished:
        shown = ", ".join(unfinished[:4]) + (f" and {len(unfinished) - 4} more" if len(unfinished) > 4 else "")
        found.append(f"Not finished: {shown}. {UNCLOSED if folder.experiment.name == OBSERVED else AGAIN}.")
    return [*found, *_diverged(frame), *folder.warnings]


def _diverged(frame: pd.DataFrame) -> list[str]:
    """The step at which a run's loss stopped being finite."""
    own = frame[(frame["probe"] == "training") & frame["quantity"].isin(["loss", "full_loss", "diverged"])]
    lost = own[((own["quantity"] == "diverged") & (own["value"] == 1.0)) | (own["value"] == float("inf"))]
    first = lost.groupby(["study", "arm", "learning_rate", "seed"], as_index=False)["step"].min()
    return [
        f"{row.study}, {row.arm}, learning rate {row.learning_rate:g}, seed {row.seed}: the loss was not finite at "
        f"step {row.step}. A result, kept."
        for row in first.itertuples()
    ]
