"""The probes, one per file: a model, a loss and a batch in; a frozen result out; no trace."""

from __future__ import annotations

from collections.abc import Callable

from landscape.errors import UsageError, nearest
from landscape.probes.activations import ActivationsProbe
from landscape.probes.bands import BandsProbe
from landscape.probes.base import Measurement, Moment, Probe
from landscape.probes.covariate_shift import CovariateShiftProbe
from landscape.probes.curvature import CurvatureProbe
from landscape.probes.density import SpectralDensityProbe
from landscape.probes.eigenpairs import HessianEigenpairsProbe
from landscape.probes.gradient_path import GradientPathProbe
from landscape.probes.lipschitz import InputLipschitzProbe
from landscape.probes.moments import MomentsProbe
from landscape.probes.noise import GradientNoiseProbe
from landscape.probes.positions import PositionsProbe
from landscape.probes.signals import SignalsProbe
from landscape.probes.slices import LossSliceProbe
from landscape.probes.statistics_noise import StatisticsNoiseProbe
from landscape.probes.theorems import TheoremsProbe
from landscape.probes.trace import HessianTraceProbe
from landscape.probes.updates import UpdatesProbe

#: name -> the probe's class: what ``--probe``, TOML files and ``Observer(probes=[...])`` accept.
PROBES: dict[str, Callable[..., Probe]] = {
    "gradient_path": GradientPathProbe,
    "covariate_shift": CovariateShiftProbe,
    "activations": ActivationsProbe,
    "curvature": CurvatureProbe,
    "hessian_eigenpairs": HessianEigenpairsProbe,
    "hessian_trace": HessianTraceProbe,
    "spectral_density": SpectralDensityProbe,
    "theorems": TheoremsProbe,
    "updates": UpdatesProbe,
    "loss_slice": LossSliceProbe,
    "gradient_noise": GradientNoiseProbe,
    "signals": SignalsProbe,
    "input_lipschitz": InputLipschitzProbe,
    "moments": MomentsProbe,
    "statistics_noise": StatisticsNoiseProbe,
    "positions": PositionsProbe,
    "bands": BandsProbe,
}


def build_probe(name: str, **options: object) -> Probe:
    """The probe called ``name``.

    Raises:
        UsageError: no such probe, or an option that it does not take.
    """
    if name not in PROBES:
        raise UsageError(f"there is no probe {name!r}: {nearest(name, list(PROBES))}")
    try:
        return PROBES[name](**options)
    except TypeError as error:
        raise UsageError(f"probe {name!r}: {error}") from error


__all__ = ["PROBES", "Measurement", "Moment", "Probe", "build_probe"]
