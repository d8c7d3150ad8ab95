"""Normalizations by name: one file per family, one line per name below.

A name is one of ``NORMALIZATIONS``, or a family of ``FAMILIES`` with its argument: "lp:3".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from landscape.errors import UsageError, nearest
from landscape.normalization.base import Normalization
from landscape.normalization.batch import BATCH, NONE
from landscape.normalization.cosine import CENTERED_COSINE, COSINE
from landscape.normalization.dynamic_tanh import DYNAMIC_TANH
from landscape.normalization.evonorm import EVONORM_S0
from landscape.normalization.filter_response import FILTER_RESPONSE
from landscape.normalization.group import INSTANCE, group
from landscape.normalization.layer import LAYER
from landscape.normalization.layout import units_last
from landscape.normalization.lp import LpNorm, lp
from landscape.normalization.noisy import NOISE, NOISY_BATCH, Noise
from landscape.normalization.propagation import NORM_PROPAGATION, propagation
from landscape.normalization.renorm import BATCH_RENORM, renorm
from landscape.normalization.rms import RMS
from landscape.normalization.selu import SELU, selu
from landscape.normalization.standardization import SCALED_WEIGHT_STANDARDIZATION, WEIGHT_STANDARDIZATION
from landscape.normalization.steps import BATCH_PER_STEP
from landscape.normalization.weights import SPECTRAL, WEIGHT

__all__ = ["FAMILIES", "NORMALIZATIONS", "LpNorm", "Noise", "Normalization", "normalization", "units_last"]

# Families with an argument: "lp:1" is FAMILIES["lp"]("1").
FAMILIES: dict[str, Callable[[str], Normalization]] = {
    "batch-renorm": renorm,
    "group": group,
    "lp": lp,
    "norm-propagation": propagation,
    "selu": selu,
}

NORMALIZATIONS: dict[str, Normalization] = {
    "none": NONE,
    "batch": BATCH,
    "noisy-batch": NOISY_BATCH,
    "noise": NOISE,
    "lp:1": lp("1"),
    "lp:2": lp("2"),
    "lp:inf": lp("inf"),
    "batch-renorm": BATCH_RENORM,
    "batch-per-step": BATCH_PER_STEP,
    "layer": LAYER,
    "instance": INSTANCE,
    "group:8": group("8"),
    "rms": RMS,
    "filter-response": FILTER_RESPONSE,
    "dynamic-tanh": DYNAMIC_TANH,
    "evonorm-s0": EVONORM_S0,
    "weight": WEIGHT,
    "spectral": SPECTRAL,
    "weight-standardization": WEIGHT_STANDARDIZATION,
    "scaled-weight-standardization": SCALED_WEIGHT_STANDARDIZATION,
    "cosine": COSINE,
    "centered-cosine": CENTERED_COSINE,
    "norm-propagation": NORM_PROPAGATION,
    "selu": SELU,
    "selu:0.05": selu("0.05"),
}


def normalization(name: str) -> Normalization:
    """The normalization called ``name``.

    Raises:
        UsageError: there is none of that name, or a family does not accept the argument. Numbers are written without
            spaces and underscores, so that a name says what it looks like.

    >>> normalization("lp:1").build(16, 4)
    LpNorm(16, p=1, eps=1e-05, momentum=0.1)
    """
    if not isinstance(name, str):
        raise UsageError(f"a normalization is asked for by its name, as in 'batch' or 'none', not by {name!r}")
    if name in NORMALIZATIONS:
        return NORMALIZATIONS[name]
    family, colon, argument = name.partition(":")
    if colon and family in FAMILIES:
        plain = "".join(argument.replace("_", "").split())
        if plain and plain != argument:
            raise UsageError(
                f"normalization {name!r}: no spaces and underscores after the colon; write '{family}:{plain}'"
            )
        return FAMILIES[family](argument)
    meant = re.sub(r"[-_ ]?norm(alization)?([123]d)?$", "", name.lower())  # "layernorm", "BatchNorm2d"
    hint = nearest(meant if meant in NORMALIZATIONS else name, list(NORMALIZATIONS))
    raise UsageError(f"there is no normalization {name!r}; {hint}")
