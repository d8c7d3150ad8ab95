"""The analyses, one per file: a grid, claims, tables and figures as data; no training and no drawing."""

from __future__ import annotations

from collections.abc import Callable

from landscape.analysis import Analysis


def _santurkar() -> Analysis:
    from landscape_analyses.santurkar import SANTURKAR

    return SANTURKAR


def _pairs() -> Analysis:
    from landscape_analyses.pairs import PAIRS

    return PAIRS


def _observed() -> Analysis:
    from landscape_analyses.observed import OBSERVED

    return OBSERVED


def _edge_of_stability() -> Analysis:
    from landscape_analyses.edge_of_stability import EDGE_OF_STABILITY

    return EDGE_OF_STABILITY


def _hessian_spectrum() -> Analysis:
    from landscape_analyses.hessian_spectrum import HESSIAN_SPECTRUM

    return HESSIAN_SPECTRUM


def _slices() -> Analysis:
    from landscape_analyses.slices import SLICES

    return SLICES


def _learning_rate() -> Analysis:
    from landscape_analyses.learning_rate import LEARNING_RATE

    return LEARNING_RATE


def _normalizations() -> Analysis:
    from landscape_analyses.normalizations import NORMALIZATIONS_ANALYSIS

    return NORMALIZATIONS_ANALYSIS


def _mean_field() -> Analysis:
    from landscape_analyses.mean_field import MEAN_FIELD

    return MEAN_FIELD


def _recurrent() -> Analysis:
    from landscape_analyses.recurrent import RECURRENT

    return RECURRENT


def _self_normalizing() -> Analysis:
    from landscape_analyses.self_normalizing import SELF_NORMALIZING

    return SELF_NORMALIZING


def _batch_size() -> Analysis:
    from landscape_analyses.batch_size import BATCH_SIZE

    return BATCH_SIZE


def _transformer() -> Analysis:
    from landscape_analyses.transformer import TRANSFORMER

    return TRANSFORMER


def _norm_propagation() -> Analysis:
    from landscape_analyses.norm_propagation import NORM_PROPAGATION_ANALYSIS

    return NORM_PROPAGATION_ANALYSIS


def _input_scale() -> Analysis:
    from landscape_analyses.input_scale import INPUT_SCALE

    return INPUT_SCALE


def _spectral_bias() -> Analysis:
    from landscape_analyses.spectral_bias import SPECTRAL_BIAS

    return SPECTRAL_BIAS


def _ioffe_szegedy() -> Analysis:
    from landscape_analyses.ioffe_szegedy import IOFFE_SZEGEDY

    return IOFFE_SZEGEDY


def _cosine() -> Analysis:
    from landscape_analyses.cosine import COSINE_ANALYSIS

    return COSINE_ANALYSIS


def _all() -> Analysis:
    """Every analysis of a paper as one; ``pairs`` and ``observed`` are about networks of one's own."""
    from landscape.book import book

    papers = [load() for name, load in ANALYSES.items() if name not in ("pairs", "observed", "all")]
    return book(
        "all",
        papers,
        title="Normalization and the loss landscape, paper by paper",
        question="Which published claims about normalization hold in real runs?",
    )


#: The command line's name of an analysis -> a function that loads it.
ANALYSES: dict[str, Callable[[], Analysis]] = {
    "santurkar": _santurkar,
    "normalizations": _normalizations,
    "learning-rate": _learning_rate,
    "slices": _slices,
    "hessian-spectrum": _hessian_spectrum,
    "edge-of-stability": _edge_of_stability,
    "mean-field": _mean_field,
    "recurrent": _recurrent,
    "transformer": _transformer,
    "input-scale": _input_scale,
    "spectral-bias": _spectral_bias,
    "self-normalizing": _self_normalizing,
    "batch-size": _batch_size,
    "norm-propagation": _norm_propagation,
    "ioffe-szegedy": _ioffe_szegedy,
    "cosine": _cosine,
    "pairs": _pairs,
    "observed": _observed,
    "all": _all,
}
