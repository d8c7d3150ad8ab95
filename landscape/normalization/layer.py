"""Layer normalization: statistics within a sample, so it works at batch size 1 and alike in train and eval.

(N, F): over the units. Sequences (N, F, T): over the units of one step, as in recurrent networks and transformers.
Images (N, C, H, W): over channels and space, gamma and beta per channel.
"""

from __future__ import annotations

from torch import nn

from landscape.normalization.base import Normalization, require_two_units
from landscape.normalization.layout import EachStep


def _layer(features: int, ndim: int) -> nn.Module:
    if ndim > 3:
        # GroupNorm with one group (torch's LayerNorm would have gamma per channel AND position, of a fixed size).
        return nn.GroupNorm(1, features)
    require_two_units(features, "layer normalization")
    return EachStep(nn.LayerNorm(features)) if ndim == 3 else nn.LayerNorm(features)


LAYER = Normalization(
    name="layer",
    formula="z = gamma (y - mean) / sqrt(var + 1e-5) + beta",
    source="Ba, Kiros & Hinton 2016, arXiv 1607.06450",
    over="all units of one sample (images: channels and space; sequences: each step), gamma and beta per unit",
    needs="nothing (any batch size)",
    build=_layer,
)
