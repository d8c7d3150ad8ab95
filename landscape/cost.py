"""What a run costs, counted before it is run: forward+backward passes of one mini-batch."""

from __future__ import annotations

from torch import nn

from landscape.experiment import ProbeSpec, Run
from landscape.probes import build_probe

#: A forward without a backward, in passes: a backward costs about two forwards.
FORWARD = 1 / 3


def cost_in_passes(run: Run, *, full: int, test: int, sample: int, layers: int) -> float:
    """Forward+backward passes of one run: training, probes and evaluation; a forward alone counts a third.

    Args:
        run: what is trained.
        full: mini-batches that the full loss averages over.
        test: mini-batches that the test split would fill.
        sample: mini-batches of it that are evaluated along the way.
        layers: layers that own a trainable weight (``count_layers``).

    >>> from landscape.experiment import Arm, Spec, Study
    >>> study = Study("s", Spec("mlp"), Spec("digits"), (Arm("none"),), (0.1,), 0.1, (0,), steps=20)
    >>> round(cost_in_passes(next(study.runs()), full=11, test=3, sample=3, layers=3), 1)
    38.7
    """
    study = run.study
    evaluations = len(range(0, study.steps, study.evaluate_every))
    # The last one is done twice over: re-estimated statistics cost another forward over both splits.
    evaluation = FORWARD * (evaluations * (full + sample) + 2 * (full + test))
    probes = sum(
        moments(spec, study.steps) * _passes(spec, full, layers)
        for spec in study.probes
        if spec.arms is None or run.arm.label in spec.arms
    )
    return study.steps + evaluation + probes


def moments(spec: ProbeSpec, steps: int) -> int:
    """How often a probe measures in a run of so many steps."""
    return len(range(0, steps, spec.every)) if spec.at is None else len({at for at in spec.at if 0 <= at < steps})


def count_layers(model: nn.Module) -> int:
    """Modules that own a trainable tensor of two or more dimensions.

    >>> count_layers(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)))
    2
    """
    return sum(
        any(p.ndim > 1 and p.requires_grad for p in module.parameters(recurse=False)) for module in model.modules()
    )


def _passes(spec: ProbeSpec, full: int, layers: int) -> float:
    probe = build_probe(spec.name, **spec.options)
    count = getattr(probe, "passes", None)  # a probe of the user's own need not know
    return 1.0 if count is None else float(count(full, layers))
