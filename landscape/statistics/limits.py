"""Is a measured smoothness the landscape's, or set by the learning rate? The step-size-limited rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from landscape.analysis import Claim, Measure
from landscape.experiment import Arm, Study
from landscape.statistics.matched import Series, Steps
from landscape.statistics.pairs import left_plateau, window
from landscape.statistics.runs import RunData, RunKey, SeriesKey, rate_key

#: Median of lr g'Hg / ||g||^2, or of lr times the full loss's sharpness, from which an arm counts as limited by the
#: step size; 2 is the edge of stability.
LIMIT = 1.5
#: Slope of log beta against log lr that counts as beta ~ 1 / lr: set by the step size.
SLOPES = (-1.25, -0.75)
#: Fewer rates than this give no slope.
FEWEST_RATES = 3

#: Of a mini-batch for the curvature along its gradient; of the full loss for the largest eigenvalue, since that of a
#: mini-batch lies above it whatever the rate.
_CURVATURE: SeriesKey = ("curvature", "step_curvature", "", "same", "", 0)
_SHARPNESS: SeriesKey = ("hessian_eigenpairs", "step_sharpness", "hessian/largest", "full", "", 0)
_PATH = Measure("gradient_path", "effective_smoothness", variant="gradient/scaled")


@dataclass(frozen=True)
class Limit:
    """Whether an arm's smoothness is set by its step size.

    Attributes:
        arm: label of the arm.
        curvature: median over seeds of the median over the window of lr g'Hg / ||g||^2, or None if not measured.
        slope: of log beta against log lr, or None with fewer than 3 rates.
        sharpness: the same median of lr times the largest eigenvalue of the full loss's Hessian, or None.
    """

    arm: str
    curvature: float | None
    slope: float | None
    sharpness: float | None = None

    @property
    def checked(self) -> bool:
        """Whether any of the signs could be read."""
        return any(sign is not None for sign in (self.curvature, self.slope, self.sharpness))

    @property
    def limited(self) -> bool:
        """Whether any sign says that the step size sets the smoothness."""
        by_curvature = any(sign is not None and sign >= LIMIT for sign in (self.curvature, self.sharpness))
        by_slope = self.slope is not None and SLOPES[0] <= self.slope <= SLOPES[1]
        return by_curvature or by_slope

    def words(self) -> str:
        """The numbers, for a reason."""
        parts = []
        if self.curvature is not None:
            parts.append(f"median lr gᵀHg / ‖g‖² = {self.curvature:.3g}")
        if self.sharpness is not None:
            parts.append(f"median lr λ₁ = {self.sharpness:.3g}")
        if self.slope is not None:
            parts.append(f"slope of log beta against log lr = {self.slope:.2f}")
        return f"{self.arm}: " + ", ".join(parts)


def step_size_limit(
    claim: Claim,
    study: Study,
    arm: Arm,
    rate: float,
    runs: Mapping[RunKey, RunData],
    spans: Mapping[int, tuple[int, int]],
) -> Limit:
    """Read all signs for one arm at one rate, over the steps that the claim compares.

    Args:
        claim: gives the window, and beta where its own measure is one.
        study: whose runs.
        arm: the arm.
        rate: the learning rate at which curvature and sharpness are read; the slope is over all of the arm's rates.
        runs: all runs.
        spans: seed -> first and last step that the claim compares at this rate.
    """
    own = {seed: runs.get((study.name, arm.label, rate_key(rate), seed)) for seed in spans}
    signs = [_median(claim, key, own, spans) for key in (_CURVATURE, _SHARPNESS)]
    return Limit(arm.label, signs[0], _slope(claim, study, arm, runs), signs[1])


def _median(
    claim: Claim, key: SeriesKey, runs: Mapping[int, RunData | None], spans: Mapping[int, tuple[int, int]]
) -> float | None:
    """Median over seeds of the median over the claim's steps; None where it was not measured there."""
    medians = []
    for seed, (first, last) in spans.items():
        run = runs[seed]
        found = None if run is None else run.series.get(key)
        if run is None or found is None:
            continue
        inside = (found.steps >= first) & (found.steps <= last)
        if claim.needs_training:
            inside &= run.trained(found.steps)
        if inside.any():
            values = found.values[inside]
            medians.append(float(np.median(np.where(np.isfinite(values), values, np.inf))))
    return float(np.median(medians)) if medians else None


def _slope(claim: Claim, study: Study, arm: Arm, runs: Mapping[RunKey, RunData]) -> float | None:
    """Least squares slope of log(median beta) against log(lr) over the rates at which beta is finite."""
    own = claim.measure.quantity in ("effective_smoothness", "smoothness")
    measure = claim.measure if own else _PATH
    layer = measure.layers[0]
    points = []
    for rate in arm.learning_rates or study.learning_rates:
        medians = []
        for seed in study.seeds:
            run = runs.get((study.name, arm.label, rate_key(rate), seed))
            series = None if run is None else run.measured(measure, layer)
            if run is None or series is None:
                continue
            values = series.values[np.isin(series.steps, _steps(claim, run, series))]
            if len(values):
                medians.append(float(np.median(values)))
        beta = float(np.median(medians)) if medians else 0.0
        if 0.0 < beta < float("inf"):
            points.append((np.log(rate), np.log(beta)))
    if len(points) < FEWEST_RATES:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def _steps(claim: Claim, run: RunData, series: Series) -> Steps:
    """The claim's window on one run alone."""
    steps = window(series.steps, claim.window, left_plateau([run]), needs_training=claim.needs_training)
    return steps[run.trained(steps)] if claim.needs_training else steps
