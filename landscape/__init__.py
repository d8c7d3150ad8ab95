"""Does normalization smooth the loss landscape? Probes, paired training and verdicts.

The front door: probes as plain functions, the ``Observer`` for one's own training loop, and the
pieces to train pairs with. Everything else lives in the modules that README's map names.
"""

from __future__ import annotations

from landscape.comparison import Compared, compare
from landscape.errors import DataError, LandscapeError, ProbeError, StoreError, UsageError
from landscape.objective import Batches
from landscape.observer import Observer, Scheduled
from landscape.preserve import is_probing, preserved
from landscape.probes.activations import (
    ActivationShift,
    ActivationStatistics,
    activation_shift,
    activation_statistics,
)
from landscape.probes.bands import BandErrors, band_errors
from landscape.probes.base import Measurement, Moment, Probe
from landscape.probes.covariate_shift import CovariateShift, covariate_shift
from landscape.probes.curvature import gradient_curvature
from landscape.probes.density import SpectralDensity, spectral_density
from landscape.probes.eigenpairs import HessianEigenpairs, eigenpairs_memory, hessian_eigenpairs
from landscape.probes.gradient_path import GradientPath, gradient_path
from landscape.probes.lipschitz import InputLipschitz, input_lipschitz
from landscape.probes.moments import LayerMoments, layer_moments
from landscape.probes.noise import GradientNoise, gradient_noise
from landscape.probes.positions import PositionStatistics, position_statistics
from landscape.probes.signals import LayerSignals, layer_signals
from landscape.probes.slices import LossSlice, loss_slice
from landscape.probes.statistics_noise import StatisticsNoise, statistics_noise
from landscape.probes.theorems import TheoremBounds, theorem_bounds
from landscape.probes.trace import HessianTrace, hessian_trace
from landscape.probes.updates import LayerUpdates, layer_updates
from landscape.recording import Sink
from landscape.schedules import Budget, Logarithmic, Schedule
from landscape.swapping import Change, normalization_plan, normalized

__version__ = "0.1.0"

__all__ = [
    "ActivationShift",
    "ActivationStatistics",
    "BandErrors",
    "Batches",
    "Budget",
    "Change",
    "Compared",
    "CovariateShift",
    "DataError",
    "GradientNoise",
    "GradientPath",
    "HessianEigenpairs",
    "HessianTrace",
    "InputLipschitz",
    "LandscapeError",
    "LayerMoments",
    "LayerSignals",
    "LayerUpdates",
    "Logarithmic",
    "LossSlice",
    "Measurement",
    "Moment",
    "Observer",
    "PositionStatistics",
    "Probe",
    "ProbeError",
    "Schedule",
    "Scheduled",
    "Sink",
    "SpectralDensity",
    "StatisticsNoise",
    "StoreError",
    "TheoremBounds",
    "UsageError",
    "__version__",
    "activation_shift",
    "activation_statistics",
    "band_errors",
    "compare",
    "covariate_shift",
    "eigenpairs_memory",
    "gradient_curvature",
    "gradient_noise",
    "gradient_path",
    "hessian_eigenpairs",
    "hessian_trace",
    "input_lipschitz",
    "is_probing",
    "layer_moments",
    "layer_signals",
    "layer_updates",
    "loss_slice",
    "normalization_plan",
    "normalized",
    "position_statistics",
    "preserved",
    "spectral_density",
    "statistics_noise",
    "theorem_bounds",
]
