"""Initial weights that a normalization is defined with: drawn for a swapped model, or said to be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from landscape.normalization.initial import INITS
from landscape.swapping.change import Change
from landscape.swapping.fitting import told
from landscape.swapping.kinds import fused, is_transposed_linear, unsupported


def initial_changes(model: nn.Module, names: Iterable[str], init: str, seed: int | None) -> Iterator[Change]:
    """Draw the weights of linear maps in place, and tell; one change per layer.

    Args:
        model: a copy that may be changed.
        names: its linear maps and convolutions.
        init: a name of ``INITS``.
        seed: of the weights, each from a stream of its own; None keeps them.
    """
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    for name in names:
        module = model.get_submodule(name)
        before = told(module)
        tied = any(owners[id(p)] > 1 for p in module.parameters(recurse=False))
        if seed is None:
            why = f"weights kept; {init!r} initial weights are not drawn: give initialize= a seed for them"
            yield Change(name, before, before, "keep", why)
        elif reason := "its weight is tied to another module's, which would be drawn too" if tied else _undrawn(module):
            yield Change(name, before, before, "can't", reason)
        else:
            _draw(module, init, seed, name)
            yield Change(name, before, before, "draw", f"its weights are drawn anew as {init!r} has them, biases 0")


def _undrawn(module: nn.Module) -> str:
    """Why initial weights can't be drawn for a layer, or ""."""
    if module._parameters.get("weight") is None:
        return fused(module) or "its weight is computed from others"
    return unsupported(module)


def _draw(module: nn.Module, init: str, seed: int, name: str) -> None:
    weight = module.get_parameter("weight").data
    rows = weight.T if is_transposed_linear(module) else weight  # (units, inputs, ...)
    drawn = torch.empty(rows.shape, dtype=weight.dtype)
    INITS[init](drawn, seed, f"weights/{name}.weight")
    rows.copy_(drawn)
    if module._parameters.get("bias") is not None:
        nn.init.zeros_(module.get_parameter("bias"))
