"""Layer normalization: statistics within a sample, so it works at batch size 1 and alike in train and eval."""

from __future__ import annotations

from torch import nn

from landscape.normalization.base import Normalization


def _layer(features: int, ndim: int) -> nn.Module:
    # (N, C, ...): normalized over channels and space of a sample, gamma and beta per channel, which is
    # GroupNorm with one group (torch's LayerNorm would have gamma per channel AND position, of a fixed size).
    return nn.LayerNorm(features) if ndim == 2 else nn.GroupNorm(1, features)


LAYER = Normalization(
    name="layer",
    formula="z = gamma (y - mean) / sqrt(var + 1e-5) + beta",
    source="Ba, Kiros & Hinton 2016, arXiv 1607.06450",
    over="all units of one sample (channels and space; gamma and beta per channel)",
    needs="nothing (any batch size)",
    build=_layer,
)
