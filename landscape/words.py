"""What people read instead of the names in the long table: probes and quantities in words, ordered by meaning."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from landscape.probes import PROBES

#: probe -> quantity -> its words, from the probe's own documentation; others are their name without underscores.
QUANTITIES: dict[str, dict[str, str]] = {
    "training": {
        "loss": "loss of the mini-batch",
        "full_loss": "full training loss",
        "train_accuracy": "training accuracy",
    },
    "gradient_path": {
        "loss": "loss along the path",
        "loss0": "loss at the start of the path",
        "gradient_norm": "norm of the gradient",
        "direction_norm": "norm of the direction",
        "gradient_distance": "change of the gradient",
        "cosine": "cosine with the gradient at the start",
        "smoothness": "beta along the path",
        "effective_smoothness": "effective smoothness (largest beta)",
        "effective_smoothness_index": "index of the step size with the largest beta",
        "scaled_smoothness": "learning rate x largest beta",
        "secant_slope": "steepest secant (lower bound of Lipschitz)",
        "loss_range": "variation of the loss",
        "loss_range_with_origin": "variation of the loss, with its start",
        "rise": "largest rise of the loss",
        "drop": "largest drop of the loss",
        "first_order_ratio": "drop of the loss over what the slope predicts",
        "predictiveness": "largest change of the gradient",
        "predictiveness_low": "smallest change of the gradient",
        "alignment": "cosine of direction and gradient",
        "resolved": "resolved (above rounding)",
    },
    "covariate_shift": {
        "distance": "shift of the gradient",
        "relative": "shift over the gradient's norm",
        "cosine": "cosine before and after the shift",
        "gradient_norm": "norm of the layer's gradient",
        "moved_distance": "how far earlier layers moved",
        "distance_per_move": "shift per distance moved",
        "control_distance": "shift with every layer moved",
        "control_cosine": "cosine with every layer moved",
    },
    "activations": {
        "mean": "mean, over units",
        "std": "standard deviation, over units",
        "dead": "dead units",
        "saturated": "saturated entries",
        "shift_first": "shift since the first moment",
        "shift_previous": "shift since the moment before",
        "percentile_shift": "shift of the percentiles",
        "first_unit_percentile": "percentiles of the first unit",
        "percentile": "percentiles, over units",
    },
    "curvature": {
        "gradient_curvature": "curvature along the gradient",
        "step_curvature": "learning rate x curvature",
    },
    "hessian_eigenpairs": {
        "gradient_energy": "share of the gradient in the eigenvectors",
        "step_sharpness": "learning rate x largest eigenvalue",
        "products": "products with the matrix",
        "residual": "residual of the eigenvector",
        "verified": "verified by a second search",
    },
    "hessian_trace": {"trace_standard_error": "standard error of the trace", "products": "products with the matrix"},
    "updates": {
        "weight_norm": "norm of the weight",
        "effective_learning_rate": "learning rate / squared norm of the weight",
        "angular_update": "angle of the update, in radians",
    },
    "gradient_noise": {
        "gradient_norm": "norm of the mean gradient",
        "squared_norm": "squared norm of the gradient, unbiased",
        "variance": "variance of one example's gradient",
        "noise_scale": "noise scale, in examples",
        "mean_cosine": "cosine between mini-batches, mean",
    },
    "signals": {
        "second_moment": "mean square of the layer's input",
        "rank": "effective rank of the layer's input",
        "input_gradient": "gradient by the layer's input",
        "weight_gradient": "gradient by the layer's weights",
        "growth": "growth of the gradient through the layer",
    },
    "theorems": {
        "error_41": "error of theorem 4.1",
        "error_42": "error of theorem 4.2",
        "reduction": "what the subtracted terms take away",
    },
    "moments": {"gaussian_distance": "distance from a Gaussian"},
    "statistics_noise": {
        "mean_noise": "noise of the mean, in standard deviations",
        "std_noise": "noise of the standard deviation, likewise",
    },
}


def in_words(probe: str, quantity: str) -> str:
    """A quantity as figures and tables call it.

    >>> in_words("covariate_shift", "control_cosine"), in_words("mine", "my_number")
    ('cosine with every layer moved', 'my number')
    """
    return QUANTITIES.get(probe, {}).get(quantity, quantity.replace("_", " "))


def place(probe: str, quantity: str) -> int:
    """Where a quantity comes among those of its probe: in the order of QUANTITIES, then the others."""
    order = list(QUANTITIES.get(probe, {}))
    return order.index(quantity) if quantity in order else len(order)


def titled(probe: str) -> str:
    """A probe as a heading.

    >>> titled("gradient_path")
    'Gradient path'
    """
    plain = probe.replace("_", " ")
    return plain[:1].upper() + plain[1:]


def about(probe: str) -> str:
    """What a probe of PROBES measures, the first sentence of its file; "" for another.

    >>> about("curvature")
    "Curvature along the gradient: g'Hg / ||g||^2, one exact Hessian-vector product."
    """
    module = inspect.getmodule(PROBES[probe]) if probe in PROBES else None
    first = (inspect.getdoc(module) or "").partition("\n\n")[0] if module is not None else ""
    return " ".join(first.replace("``", "").split())


def by_meaning(probes: Iterable[str]) -> list[str]:
    """Probes in the order in which they are read: training, then that of PROBES, then one's own as they come.

    >>> by_meaning(["mine", "curvature", "gradient_path", "training"])
    ['training', 'gradient_path', 'curvature', 'mine']
    """
    found = list(dict.fromkeys(probes))
    known = [probe for probe in ("training", *PROBES) if probe in found]
    return known + [probe for probe in found if probe not in known]
