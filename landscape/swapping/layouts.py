"""Where the units are at a place: from its class, from the layers that it reads, from what was seen there."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from landscape.normalization import Normalization
from landscape.normalization.layout import EachStep
from landscape.swapping.flow import Flow
from landscape.swapping.kinds import Units, is_linear, is_norm, linear_units, norm_units, seen
from landscape.swapping.layers import Renormalized


def norm_layout(name: str, norm: nn.Module, flow: Flow, modules: Mapping[str, nn.Module]) -> Units | str:
    """The layout at a normalization layer, or why it can't be replaced."""
    shape = flow.shapes.get(name)
    if isinstance(norm, Renormalized):
        return seen(norm.units, shape)
    units = norm_units(norm, shape)
    if isinstance(norm, nn.BatchNorm1d) and shape is None and isinstance(units, Units):
        rows = all(isinstance(modules.get(read), nn.Linear) for read in flow.reads.get(name, {""}))
        return Units(units.count, "first", 2 if rows else 3)
    return units


def unsure(name: str, norm: nn.Module, flow: Flow, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a layer may see vectors as well as sequences: a ``BatchNorm1d`` after no layer that tells."""
    known = (nn.Linear, nn.Conv1d)
    told = all(isinstance(modules.get(read), known) for read in flow.reads.get(name, {""}))
    return isinstance(norm, nn.BatchNorm1d) and name not in flow.shapes and not told


def by_position(chosen: Normalization, count: int) -> bool:
    """Whether a normalization within a sample is another one in sequences than in vectors: it acts over positions."""
    vectors, sequences = chosen.build(count, 2), chosen.build(count, 3)
    if isinstance(sequences, EachStep):
        sequences = sequences.norm
    return not chosen.over.startswith("batch") and vectors.state_dict().keys() != sequences.state_dict().keys()


def nonlinearity_layout(name: str, flow: Flow, modules: Mapping[str, nn.Module]) -> Units | None:
    """The layout at a nonlinearity: that of the layers it reads, or of what it was seen with; None if unknown."""
    shape = flow.shapes.get(name)
    read = {_of_layer(one, flow, modules) for one in flow.reads.get(name, {""})}
    if len(read) == 1 and None not in read:
        (units,) = read
        return seen(units, shape) if units is not None else None
    if shape is None or len(shape) < 2:
        return None
    first = len(shape) > 3  # images; else rows or tokens
    counts = {width[0 if first else -1] for width in flow.widths[name]}
    if len(counts) > 1:
        return None
    return Units(counts.pop(), "first", len(shape)) if first else Units(counts.pop(), "last", len(shape))


def _of_layer(name: str, flow: Flow, modules: Mapping[str, nn.Module]) -> Units | None:
    module = modules.get(name) if name else None
    if module is not None and is_linear(module):
        return linear_units(module)
    units = norm_layout(name, module, flow, modules) if module is not None and is_norm(module) else None
    return units if isinstance(units, Units) else None
