"""One number per seed: the arm against the reference over a predeclared window, by step and at matched loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from landscape.analysis import Claim, Window
from landscape.statistics.matched import Series, Steps, difference, log_ratio, matched_difference, reduced
from landscape.statistics.runs import RunData, worst

#: A float32 cosine can't be told from 1 above this; atanh of it is 8.4.
LARGEST_COSINE = 1.0 - 1e-7


@dataclass(frozen=True)
class SeedValue:
    """What one seed says about a claim.

    Attributes:
        state: "measured"; "missing": no measurement, or none in the window; "untrained": none off the plateau.
        by_step: s over the window (NaN unless measured).
        at_matched_loss: s at matched full loss; None where not asked for, or where the losses do not overlap.
        overlap: range of full loss that both runs pass through, or None.
        span: first and last step that were compared, or None.
        left_out: steps of the window at which a run had not left the plateau, and all steps of the window.
        unmatched: why there is nothing at matched loss though it was asked for: "apart", the losses do not overlap, or
            "few", a run has fewer than two measurements off the plateau; else "".
    """

    state: Literal["measured", "missing", "untrained"]
    by_step: float = float("nan")
    at_matched_loss: float | None = None
    overlap: tuple[float, float] | None = None
    span: tuple[int, int] | None = None
    left_out: tuple[int, int] = (0, 0)
    unmatched: Literal["", "apart", "few"] = ""


def seed_value(claim: Claim, layer: str, arm: RunData, reference: RunData | None) -> SeedValue:
    """s of one seed and layer: positive supports the claim.

    log-ratio: log10 of the quotient reference / arm where a smaller measure supports the
    claim; difference: reference - arm likewise; both turned round where a larger one does. value: the arm's own
    measure, with its sign turned where a smaller one supports. cosine: atanh of the value.

    Args:
        claim: which measure, window, orientation.
        layer: one of the claim's layers.
        arm: the arm's run.
        reference: the reference's run of the same seed; None for a value.
    """
    runs = [arm] if reference is None else [arm, reference]
    found = [run.measured(claim.measure, layer) for run in runs]
    present = [series for series in found if series is not None]
    if len(present) < len(runs):
        return SeedValue("missing")
    grid = np.unique(np.concatenate([series.steps for series in present]))
    filled = [_filled(s, run.diverged_at, grid, worst(claim.measure)) for s, run in zip(present, runs, strict=True)]
    common = filled[0].steps
    for series in filled[1:]:
        common = np.intersect1d(common, series.steps)
    steps = window(common, claim.window, left_plateau(runs), needs_training=claim.needs_training)
    chosen = len(steps)
    if claim.needs_training:
        for run in runs:
            steps = steps[run.trained(steps)]
    if len(steps) == 0:
        return SeedValue("untrained" if len(common) and claim.needs_training else "missing")

    a, *rest = [series.values[np.searchsorted(series.steps, steps)] for series in filled]
    sign = 1.0 if (claim.supports == "larger") == (reference is None) else -1.0
    compared = {"log-ratio": log_ratio, "difference": difference}
    # Alone, a value that is not finite never supports: a diverged run's cosine is not above .9.
    s = compared[claim.scale](rest[0], a) if rest else np.where(np.isfinite(a), a, -sign * np.inf)
    middle = reduced(s, claim.reduce)
    if claim.scale == "cosine" and np.isfinite(middle):
        middle = float(np.arctanh(np.clip(middle, -LARGEST_COSINE, LARGEST_COSINE)))
    by_step = sign * middle
    found_by_step = SeedValue(
        "measured", by_step, span=(int(steps[0]), int(steps[-1])), left_out=(chosen - len(steps), chosen)
    )
    if not claim.matched or reference is None:
        return found_by_step
    logs = claim.scale == "log-ratio"
    curves = [run.curve(claim.measure, layer, trained=claim.needs_training, logs=logs) for run in runs]
    at_loss, overlap = matched_difference(curves[0], curves[1])
    if overlap is None:
        return replace(found_by_step, unmatched="few" if min(len(levels) for levels, _ in curves) < 2 else "apart")
    return replace(found_by_step, at_matched_loss=sign * at_loss, overlap=overlap)


def window(steps: Steps, kind: Window, left: int | None, *, needs_training: bool) -> Steps:
    """The predeclared part of the common steps: chosen before untrained steps are taken out of it.

    Args:
        steps: increasing steps at which both runs have the measure.
        kind: "all"; "early": the first third of the steps from ``left`` on; "late": the last third; "end": the last.
        left: the first step at which both runs are off the plateau, or None if they never are.
        needs_training: without it, "early" of runs that never leave the plateau is the first third of all.

    >>> window(np.arange(0, 90, 10), "early", 30, needs_training=True).tolist()
    [30, 40]
    """
    if kind == "end":
        return steps[-1:]
    if kind == "early" and (left is not None or needs_training):
        steps = steps[:0] if left is None else steps[steps >= left]
    third = -(-len(steps) // 3)
    if kind == "early":
        return steps[:third]
    return steps[len(steps) - third :] if kind == "late" else steps


def left_plateau(runs: Sequence[RunData]) -> int | None:
    """The first step at which every run's full loss is at most .95 of its chance loss; None if there is none.

    Runs that recorded no full loss or no chance loss are taken as trained from the start.
    """
    known = [loss.steps for run in runs if (loss := run.training("full_loss")) is not None]
    if not known:
        return 0
    steps = np.unique(np.concatenate(known))
    off = np.logical_and.reduce([run.trained(steps) for run in runs])
    return int(steps[off][0]) if off.any() else None


def _filled(series: Series, diverged_at: int | None, grid: Steps, value: float) -> Series:
    """A diverged run goes on as ``value`` at the steps of the grid from its divergence on, where it has nothing.

    A run that stopped at divergence is thereby compared at the steps of the one that did not.
    """
    if diverged_at is None:
        return series
    # A run compared with nothing has no other run's steps: divergence itself is its last step.
    after = np.setdiff1d(np.append(grid[grid >= diverged_at], diverged_at), series.steps)
    steps = np.append(series.steps, after)
    order = np.argsort(steps, kind="stable")
    return Series(steps[order], np.append(series.values, np.full(len(after), value))[order])
