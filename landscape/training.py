"""THE training loop: one run of the grid, probed through the Observer like anybody's."""

from __future__ import annotations

import math
import operator
import random
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.carried import Carried
from landscape.cost import cost_in_passes, count_layers
from landscape.data import load_data
from landscape.errors import UsageError, nearest
from landscape.experiment import Run, Spec
from landscape.feed import Feed, ProbeBatches
from landscape.imports import load_object
from landscape.losses import Loss
from landscape.models import build_model
from landscape.objective import Batch, Batches, batch_size, mapped, wants_graph
from landscape.observer import Observer, Scheduled
from landscape.preserve import as_found, preserved
from landscape.probes import Measurement, build_probe
from landscape.referred import referred
from landscape.store import RunStore
from landscape.streams import stream_seed

CHECKPOINT_SECONDS = 10.0
TEST_CHUNK = 1000


@dataclass(frozen=True)
class Progress:
    """How far a run is; sent at every recorded step."""

    step: int
    steps: int
    loss: float
    learning_rate: float


def build_optimizer(spec: Spec, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """An optimizer of torch.optim by its class name, in any case.

    Raises:
        UsageError: no such optimizer, or an option it does not take.
    """
    classes: dict[str, Any] = {
        name.lower(): cls
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    if spec.name.lower() not in classes:
        raise UsageError(f"there is no optimizer {spec.name!r}: {nearest(spec.name.lower(), sorted(classes))}")
    try:
        optimizer: torch.optim.Optimizer = classes[spec.name.lower()](model.parameters(), lr=rate, **spec.options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {spec.name!r} with lr={rate} and {spec.options}: {error}") from error
    return optimizer


def train(
    run: Run,
    store: RunStore,
    *,
    device: str = "cpu",
    data_dir: str | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train one run from its checkpoint or from the start, and record it in ``store``.

    Measurements first, then the checkpoint: a run killed at any instant and trained again leaves the same
    rows, bit for bit on CPU. A loss that stops being finite is a result: it is recorded and training goes on.

    Raises:
        UsageError, DataError: the run asks for something that isn't there.
        StoreError: the folder can't be written.
    """
    where = torch.device(device)
    devices = [where] if where.type == "cuda" else []
    own = [load_object(run.study.loss)] if run.study.loss else []
    with torch.random.fork_rng(devices=devices), as_found(*own):  # each run begins with the criterion as it is
        try:
            _train(run, store, where, data_dir, progress)
        except ValueError as error:
            if "Expected more than 1 value per channel when training" not in str(error):  # torch's, in its own layers
                raise
            raise UsageError(
                f"run {run.key}: a batch normalization layer of {run.study.model.name!r} got one value per unit in "
                f"training ({error}): the variance of one value is 0. Choose a batch_size of 2 or more, or replace it "
                "by a normalization within a sample ('layer', 'group:8')"
            ) from error


def _train(
    run: Run, store: RunStore, device: torch.device, data_dir: str | None, progress: Callable[[Progress], None]
) -> None:
    began, study = time.perf_counter(), run.study
    data = load_data(
        study.data.name,
        data_dir=Path(data_dir) if data_dir else None,
        seed=run.seed,
        **study.data.options | run.arm.data,
    )
    loss_fn = Loss(data, study.loss, study.chance_loss)
    model = build_model(
        study.model.name,
        norm=run.arm.norm,
        seed=run.seed,
        input_shape=data.input_shape,
        output_size=data.output_size,
        example=partial(loss_fn, batch=data.first(2)),
        **study.model.options | run.arm.options,
    ).to(device)
    optimizer = build_optimizer(study.optimizer, model, run.learning_rate)
    feed = Feed(data, study, run.seed, device)
    full = feed.full(study.full_batches)
    batches = ProbeBatches(feed, full)
    observer = Observer(
        model, loss_fn, _probes(run), optimizer=optimizer, to=store, batches=batches, seed=run.seed, strict=True
    )
    torch.manual_seed(stream_seed(run.seed, "noise"))
    parts = {"model": model, "optimizer": optimizer, "observer": observer, "carried": Carried(model, loss_fn)}
    first, earlier, probing = _restore(store, parts)
    began -= earlier  # seconds of this run in processes before this one
    saved = time.perf_counter()
    modules = list(model.modules())
    for step in range(first, study.steps):
        batch = feed.batch(step)
        if not all(module.training for module in modules):  # train() itself takes a tenth of a deep network's step
            model.train()
        _warm_up(optimizer, run, step)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        rows: list[Measurement] = []
        batches.step = step
        start = time.perf_counter()
        if step % study.evaluate_every == 0:
            rows = [_row("loss", float(loss.detach()), batch="same"), *evaluate(model, loss_fn, feed, full)]
            if step == 0 and loss_fn.chance_loss is not None:
                rows.append(_row("chance_loss", loss_fn.chance_loss))
            progress(Progress(step, study.steps, float(loss.detach()), run.learning_rate))
        observer.step(batch, also=rows)
        probing += time.perf_counter() - start
        optimizer.step()
        if time.perf_counter() - saved > CHECKPOINT_SECONDS:
            clock = {"seconds": time.perf_counter() - began, "probing": probing}
            store.save_checkpoint(_state(step + 1, parts) | clock)
            saved = time.perf_counter()
    end = evaluate(model, loss_fn, feed, full, final=True)
    store.append(study.steps, run.learning_rate, end)
    store.put_cost("seconds", time.perf_counter() - began)
    store.put_cost("probe_seconds", probing)
    store.put_cost("passes", cost_in_passes(run, **feed.sizes(len(full.batches)), layers=count_layers(model)))
    store.put_cost("peak_memory_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    progress(Progress(study.steps, study.steps, float(end[0].value), run.learning_rate))


def _warm_up(optimizer: torch.optim.Optimizer, run: Run, step: int) -> None:
    """The learning rate of a step: lr (step + 1) / warmup, until it is lr."""
    for group in optimizer.param_groups if step <= run.arm.warmup else ():
        group["lr"] = run.learning_rate * min(1.0, (step + 1) / max(1, run.arm.warmup))


def _probes(run: Run) -> list[Scheduled]:
    specs = [spec for spec in run.study.probes if spec.arms is None or run.arm.label in spec.arms]
    return [
        Scheduled(build_probe(spec.name, **spec.options), spec.every if spec.at is None else spec.at) for spec in specs
    ]


def _row(quantity: str, value: float, batch: str = "") -> Measurement:
    return Measurement("training", quantity, value, batch=batch)


@torch.no_grad()
def evaluate(model: nn.Module, loss_fn: Loss, feed: Feed, full: Batches, *, final: bool = False) -> list[Measurement]:
    """Full loss L_m (batch statistics), and losses and accuracies on both splits; leaves no trace.

    Training accuracy is that of the same pass as L_m. Test accuracy uses running statistics. The ``final``
    evaluation uses the whole test split, others its first 2,000 examples, and adds test accuracy with
    statistics averaged afresh over the full loss's batches.
    """
    try:
        return _evaluated(model, loss_fn, feed, full, final)
    except RuntimeError as error:
        if not wants_graph(error):
            raise
    with torch.enable_grad():  # the loss takes derivatives itself, of its input say
        return _evaluated(model, loss_fn, feed, full, final)


def _evaluated(model: nn.Module, loss_fn: Loss, feed: Feed, full: Batches, final: bool) -> list[Measurement]:
    with preserved(model) as snapshot:
        snapshot.include(*referred(loss_fn))
        model.train()
        passes = [loss_fn.and_accuracy(model, part) for part in full.batches]
        rows = [_row("full_loss", sum(w * p[0] for w, p in zip(full.weights, passes, strict=True)))]
        accuracy = sum(w * p[1] for w, p in zip(full.weights, passes, strict=True))
        classifies = not math.isnan(accuracy)
        if classifies:
            rows.append(_row("train_accuracy", accuracy))
        snapshot.rewind()
        model.eval()
        test = feed.test if final else feed.test_sample
        loss, accuracy = _test(model, loss_fn, test)
        rows.append(_row("test_loss", loss))
        if classifies:
            rows.append(_row("test_accuracy", accuracy))
        if classifies and final:
            average_statistics(model, full, loss_fn)
            rows.append(_row("test_accuracy_reestimated", _test(model, loss_fn, test)[1]))
    return rows


def _test(model: nn.Module, loss_fn: Loss, test: Batch) -> tuple[float, float]:
    """Loss and accuracy on examples of the test split, in chunks."""
    count = batch_size(test)
    places = [slice(start, start + TEST_CHUNK) for start in range(0, count, TEST_CHUNK)]
    chunks = [mapped(test, operator.itemgetter(place)) for place in places]
    weights = [batch_size(chunk) / count for chunk in chunks]
    values = [loss_fn.and_accuracy(model, chunk) for chunk in chunks]
    return (
        sum(w * v[0] for w, v in zip(weights, values, strict=True)),
        sum(w * v[1] for w, v in zip(weights, values, strict=True)),
    )


def average_statistics(model: nn.Module, batches: Batches, run: Callable[[nn.Module, Any], object]) -> None:
    """Re-estimate running statistics as their mean over these batches, and leave the model in eval mode.

    With momentum 1 a layer's running statistics are those of its last batch; they are averaged here.
    Use inside ``preserved``.

    Args:
        model: the model.
        batches: the batches.
        run: ``run(model, batch)`` makes the forward pass.
    """
    layers: list[Any] = [
        m for m in model.modules() if any(n.startswith("running_") for n, _ in m.named_buffers(recurse=False))
    ]
    buffers = [b for m in layers for n, b in m.named_buffers(recurse=False) if n.startswith("running_")]
    totals = [torch.zeros_like(b) for b in buffers]
    for layer in layers:
        layer.momentum = 1.0
    model.train()
    for part, weight in zip(batches.batches, batches.weights, strict=True):
        run(model, part)
        for total, buffer in zip(totals, buffers, strict=True):
            total.add_(buffer, alpha=weight)
    for total, buffer in zip(totals, buffers, strict=True):
        buffer.copy_(total)
    model.eval()


def _state(step: int, parts: Mapping[str, Any]) -> dict[str, Any]:
    """All that the rest of the run depends on, as tensors and plain Python values."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "step": step,
        **{key: part.state_dict() for key, part in parts.items()},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
    }


def _restore(store: RunStore, parts: Mapping[str, Any]) -> tuple[int, float, float]:
    """Go back to the checkpoint, if there is one: the step to go on with, seconds so far, those of probing."""
    state = store.load_checkpoint()
    if state is None:
        return 0, 0.0, 0.0
    for key, part in parts.items():
        if key in state:  # "carried" is not in checkpoints of earlier versions
            part.load_state_dict(state[key])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    return int(state["step"]), float(state["seconds"]), float(state["probing"])
