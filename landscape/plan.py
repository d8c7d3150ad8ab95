"""Look before training: build everything once, so that what can't work is said now, and count the cost."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.cost import cost_in_passes, count_layers
from landscape.data import Dataset, load_data
from landscape.errors import NormalizationError, ProbeError, UsageError
from landscape.experiment import Arm, Experiment, Run, Study
from landscape.feed import Feed
from landscape.imports import is_reference, load_object
from landscape.losses import Loss
from landscape.models import build_model, model_changes
from landscape.objective import Batch, Objective, batch_size, tensors_of
from landscape.parameters import Parameters
from landscape.preserve import as_found, preserved
from landscape.probes.curvature import gradient_curvature
from landscape.randomness import seeded
from landscape.swapping import Change
from landscape.terms import FILE, Terms
from landscape.training import build_optimizer

#: Probes that differentiate twice.
CURVATURE = ("curvature", "hessian_eigenpairs", "hessian_trace", "spectral_density")
#: Seconds that timing takes before a run, over all studies and arms.
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
        changes: arm label -> what gives the user's own model its normalization; empty where that takes it itself.
        network: checksum of the user's own network without normalization, by its weights' names and shapes; or "".
        losses: study, arm and seed -> the loss of two samples before training, by which changed code of the user's
            is known; empty where none of it is the user's, and without those that are another each time.
    """

    study: Study
    checksum: str
    note: str
    passes: Mapping[str, float]
    seconds_per_pass: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    network: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)

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
    experiment: Experiment,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    timed: bool = False,
    budget: float | None = None,
    terms: Terms | None = None,
) -> tuple[StudyPlan, ...]:
    """Load each study's data, build each arm's network, optimizer and first batch, and count passes.

    Args:
        experiment: what is to be trained.
        data_dir: where data files lie.
        device: where passes are timed.
        timed: time a few real passes of each arm.
        budget: seconds that timing may take over all arms, TIMING_SECONDS if None; each has three passes at least.
        terms: how errors name what was asked for; as a file does if None.

    Raises:
        UsageError, DataError: what a run would fail with: an unknown option, missing data, a batch larger than
            the data, a model that can't take it.
    """
    own = [load_object(study.loss) for study in experiment.studies if study.loss]
    with as_found(*own):
        return _planned(experiment, data_dir, device, timed, budget, terms or FILE)


def _planned(
    experiment: Experiment, data_dir: Path | None, device: str, timed: bool, budget: float | None, terms: Terms
) -> tuple[StudyPlan, ...]:
    loaded: dict[str, Dataset] = {}
    each = (TIMING_SECONDS if budget is None else budget) / sum(len(study.arms) for study in experiment.studies)
    plans = []
    for study in experiment.studies:
        key = repr(study.data)
        if key not in loaded:
            loaded[key] = load_data(study.data.name, data_dir=data_dir, seed=study.seeds[0], **study.data.options)
        data = loaded[key]
        feed = Feed(data, study, study.seeds[0], torch.device(device if timed else "cpu"))
        loss = Loss(data, study.loss, study.chance_loss)
        passes, seconds, changes = {}, {}, {}
        networks: dict[tuple[str, float], Arm] = {}
        values: list[float] = []
        losses: dict[str, float] = {}
        own = is_reference(study.model.name) or bool(study.loss)
        network = ""
        for arm in study.arms:
            options = _options(study, arm, data, loss, terms)
            model = _built(study, arm, options, terms)
            if changed := model_changes(study.model.name, **options) if is_reference(study.model.name) else ():
                changes[arm.label] = changed
            if is_reference(study.model.name) and arm.norm == "none":
                network = _checksum(model)
            few = data.first(min(2, feed.size))
            with seeded(0):
                value = _first_loss(study, arm, model, loss, few, terms)
            values.append(value)
            if own and (known := _known_loss(model, loss, few)) is not None:
                losses[f"{study.name}, {arm.label}, seed {study.seeds[0]}"] = known
            _refuse_twin(study, arm, networks.setdefault((repr(model), value), arm), terms)
            run = Run(study, arm, (arm.learning_rates or study.learning_rates)[0], study.seeds[0])
            build_optimizer(study.optimizer, model, run.learning_rate)
            full = feed.per_epoch if study.full_batches is None else min(study.full_batches, feed.per_epoch)
            passes[arm.label] = cost_in_passes(run, **feed.sizes(full), layers=count_layers(model))
            if timed:
                seconds[arm.label] = _seconds_per_pass(model, loss, feed, each)
        if not any(map(math.isfinite, values)):
            _refuse_no_loss(study, loss, model, data.first(feed.size), terms)
        plans.append(StudyPlan(study, data.checksum, data.note, passes, seconds, changes, network, losses))
    return tuple(plans)


def _checksum(model: nn.Module) -> str:
    """Of the kinds of its modules and the shapes of its state: another network under the same name differs."""
    parts = [f"{name} {type(module).__name__}" for name, module in model.named_modules()]
    parts += [f"{name} {tuple(tensor.shape)}" for name, tensor in (*model.named_parameters(), *model.named_buffers())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _built(study: Study, arm: Arm, options: dict[str, Any], terms: Terms) -> nn.Module:
    """An arm's network."""
    try:
        return build_model(study.model.name, **options)
    except NormalizationError as error:
        others = "" if arm.norm == "none" else f"leave {terms.norm.format(norm=arm.norm)} out, choose another, or "
        raise UsageError(
            f"{_where(study, arm, terms)}: {error}. To compare it all the same {others}let the model's function take "
            "norm= and build the normalization itself"
        ) from error


def _where(study: Study, arm: Arm, terms: Terms) -> str:
    return f"{terms.of_arm(study.name, arm.label, arm.norm)}: model {study.model.name!r}"


def _first_loss(study: Study, arm: Arm, model: nn.Module, loss: Loss, batch: Batch, terms: Terms) -> float:
    """The loss of the first examples, and a look at its gradient: what probes would refuse is refused now."""
    where = _where(study, arm, terms)
    try:
        if any(p.requires_grad for p in model.parameters()):
            Parameters(model)
        value = float(loss.checked(model, batch, where).detach())
        with preserved(model) as snapshot:
            Objective(model, loss, snapshot).value_and_gradient(batch)
        if any(spec.name in CURVATURE for spec in study.probes):
            _refuse_once(where, model, loss, batch, terms)
    except NormalizationError as error:
        count = batch_size(batch)
        if count > 1:
            raise UsageError(f"{where}: {error}") from error
        layer, size = str(error).partition(" takes")[0], terms.batch_size.format(size=count)
        raise UsageError(
            f"{where} can't train with {size}: {layer} gets one value per unit, and the variance of one value is 0. "
            f"Give {terms.batch_size.format(size=2)} or more (and as many training examples), or a normalization "
            f"within a sample ({terms.norm.format(norm='layer')})"
        ) from error
    except ProbeError as error:
        raise UsageError(f"{where}: {error}") from error
    return value


def _known_loss(model: nn.Module, loss: Loss, batch: Batch) -> float | None:
    """The loss by which code is known again: dropout is drawn alike; None where it is another each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    try:
        for _ in range(2):
            with preserved(model), seeded(0):
                found.append(float(loss(model, batch).detach()))
    finally:
        torch.set_num_threads(threads)
    return found[0] if found[0] == found[1] and math.isfinite(found[0]) else None


def _refuse_once(where: str, model: nn.Module, loss: Loss, batch: Batch, terms: Terms) -> None:
    """Refuse probes of curvature of a model without a second derivative."""
    try:
        gradient_curvature(model, loss, batch)
    except ProbeError as error:
        raise UsageError(f"{where}: {error}. To compare it all the same ask for these: {terms.probes}") from error


def _options(study: Study, arm: Arm, data: Dataset, loss: Loss, terms: Terms) -> dict[str, Any]:
    batch, where = data.first(2), f"{terms.study.format(study=study.name)}model {study.model.name!r}"
    given = {"norm": arm.norm, "seed": study.seeds[0], "input_shape": data.input_shape, "output_size": data.output_size}
    example = {"example": lambda model: loss.checked(model, batch, where)}
    return given | example | study.model.options | arm.options


def _refuse_twin(study: Study, arm: Arm, twin: Arm, terms: Terms) -> None:
    """Refuse two normalizations that make one network: a function of the user's that takes ``norm`` and ignores it."""
    if arm.norm != twin.norm and is_reference(study.model.name):
        raise UsageError(
            f"{terms.study.format(study=study.name)}arms {twin.label!r} and {arm.label!r} are the same network: "
            f"{study.model.name!r} takes norm= and builds the same with both; use it, or leave it out and the network "
            "is normalized for you"
        )


def _refuse_no_loss(study: Study, loss: Loss, model: nn.Module, batch: Batch, terms: Terms) -> None:
    """Refuse a study in which no network has a finite loss: two samples may have none, a whole batch must."""
    value = float(loss(model.cpu(), batch).detach())  # with a graph: it may take derivatives of its own
    if not math.isfinite(value):
        whose = f"loss {study.loss!r}" if study.loss else f"the loss of {study.model.name!r}"
        raise UsageError(
            f"{terms.study.format(study=study.name)}{whose} is {value} before the first step, with every "
            f"normalization: there is nothing to train. Look at it and at the data of {study.data.name!r}: a batch "
            "without a label, the logarithm of 0, a division by 0"
        )


def _seconds_per_pass(model: nn.Module, loss_fn: Loss, feed: Feed, budget: float) -> float:
    """Median of a few passes with one thread, as runs have it; the first ones warm up."""
    batch = feed.batch(0)
    device = next(tensors_of(batch)).device
    model = model.to(device).train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: list[float] = []
    end = time.perf_counter() + budget
    try:
        while len(times) < 3 or (len(times) < 12 and time.perf_counter() < end):
            start = time.perf_counter()
            loss = loss_fn(model, batch)
            torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return sorted(times[1:])[(len(times) - 1) // 2]
