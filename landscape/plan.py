"""Look before training: build everything once, so that what can't work is said now, and count the cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from landscape.cost import cost_in_passes, count_layers
from landscape.data import Dataset, load_data
from landscape.errors import UsageError
from landscape.experiment import Arm, Experiment, Run, Study
from landscape.feed import Feed
from landscape.models import build_model
from landscape.training import build_optimizer, squared_error

#: Seconds that timing may take, over all studies and arms.
TIMING_SECONDS = 4.0
#: A run's own start: process, data, model.
START_SECONDS = 1.0


@dataclass(frozen=True)
class StudyPlan:
    """What a study will do and cost.

    Attributes:
        study: the study.
        checksum: of its data.
        note: what a reader must know about the data, or "".
        passes: arm label -> forward+backward passes of one run.
        seconds_per_pass: arm label -> measured seconds of one pass; empty where not timed.
    """

    study: Study
    checksum: str
    note: str
    passes: Mapping[str, float]
    seconds_per_pass: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_passes(self) -> float:
        """Passes of all its runs."""
        return sum(self.passes[run.arm.label] for run in self.study.runs())

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of all its runs, one after another; None where not timed."""
        return sum(self.run_seconds.values()) if self.seconds_per_pass else None

    @property
    def run_seconds(self) -> dict[str, float]:
        """Run key -> estimated seconds; empty where not timed."""
        if not self.seconds_per_pass:
            return {}
        return {
            run.key: START_SECONDS + self.passes[run.arm.label] * self.seconds_per_pass[run.arm.label]
            for run in self.study.runs()
        }


def plan(
    experiment: Experiment, *, data_dir: Path | None = None, device: str = "cpu", timed: bool = False
) -> tuple[StudyPlan, ...]:
    """Load each study's data, build each arm's network, optimizer and first batch, and count passes.

    Args:
        experiment: what is to be trained.
        data_dir: where data files lie.
        device: where passes are timed.
        timed: time a few real passes of each arm, in a few seconds overall.

    Raises:
        UsageError, DataError: what a run would fail with: an unknown option, missing data, a batch larger than
            the data, a model that can't take it.
    """
    loaded: dict[str, Dataset] = {}
    arms = sum(len(study.arms) for study in experiment.studies)
    plans = []
    for study in experiment.studies:
        key = repr(study.data)
        if key not in loaded:
            loaded[key] = load_data(study.data.name, data_dir=data_dir, seed=study.seeds[0], **study.data.options)
        data = loaded[key]
        feed = Feed(data, study, study.seeds[0], torch.device(device if timed else "cpu"))
        passes, seconds = {}, {}
        for arm in study.arms:
            model = _model(study, arm, data)
            _try(model, study, arm, data, min(2, feed.size))
            run = Run(study, arm, (arm.learning_rates or study.learning_rates)[0], study.seeds[0])
            build_optimizer(study.optimizer, model, run.learning_rate)
            full = feed.per_epoch if study.full_batches is None else min(study.full_batches, feed.per_epoch)
            passes[arm.label] = cost_in_passes(run, **feed.sizes(full), layers=count_layers(model))
            if timed:
                seconds[arm.label] = _seconds_per_pass(model, feed, TIMING_SECONDS / arms)
        plans.append(StudyPlan(study, data.checksum, data.note, passes, seconds))
    return tuple(plans)


def _model(study: Study, arm: Arm, data: Dataset) -> nn.Module:
    options = study.model.options | arm.options
    return build_model(
        study.model.name,
        norm=arm.norm,
        seed=study.seeds[0],
        input_shape=data.input_shape,
        output_size=data.output_size,
        **options,
    )


@torch.no_grad()
def _try(model: nn.Module, study: Study, arm: Arm, data: Dataset, samples: int) -> None:
    """A sample or two through the network: a shape that does not fit is told now, not once per run."""
    x, y = data.train[0][:samples], data.train[1][:samples]
    try:
        output = model(x)
        (squared_error if data.classes is None else nn.functional.cross_entropy)(output, y)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"study {study.name!r}, arm {arm.label!r}: model {study.model.name!r} can't take inputs {tuple(x.shape)} "
            f"and targets {tuple(y.shape)} of {data.name}: {error}"
        ) from error


def _seconds_per_pass(model: nn.Module, feed: Feed, budget: float) -> float:
    """Median of a few passes with one thread, as runs have it; the first ones warm up."""
    device = feed.train[0].device
    criterion = squared_error if feed.classes is None else nn.functional.cross_entropy
    model = model.to(device).train()
    x, y = feed.batch(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: list[float] = []
    end = time.perf_counter() + budget
    try:
        while len(times) < 3 or (len(times) < 12 and time.perf_counter() < end):
            start = time.perf_counter()
            loss = criterion(model(x), y)
            torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return sorted(times[1:])[(len(times) - 1) // 2]
