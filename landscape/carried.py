"""What the rest of a run depends on and ``state_dict`` leaves out, for its checkpoint.

A criterion's buffers, a counter in a forward pass, a generator that a module draws from: whatever of these has
changed since the run began is kept, and only that: what a run was set up with is set up again when it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.modulestate import TORCHS
from landscape.randomness import OwnGenerator, draws
from landscape.referred import referred

_PLAIN = (bool, int, float, str)
_NESTS = (list, tuple, dict)


class Carried:
    """The state of a model, and of the modules and generators that a loss function names, as far as it has changed.

    Args:
        model: the network, at the start of its run.
        loss_fn: the loss that it is trained on.

    >>> net = nn.Linear(1, 1)
    >>> net.calls = 0
    >>> start = Carried(net, lambda model, batch: model(batch).sum())
    >>> net.calls += 1
    >>> start.state_dict()["values"]
    {'0.calls': 1}
    """

    def __init__(self, model: nn.Module, loss_fn: Any) -> None:
        criteria, generators = referred(loss_fn)
        self._modules = list({id(m): m for one in (model, *criteria) for m in one.modules()}.values())
        known = {id(m) for m in model.modules()}
        self._whole = [id(m) not in known for m in self._modules]  # of a criterion no state_dict is kept
        held = [value for m in self._modules for value in vars(m).values() if draws(value)]
        self._generators = list({id(g): g for g in [*generators, *held]}.values())
        self._first = _detached(self._values())
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def _values(self) -> dict[str, Any]:
        """What can be kept, by the number of its module and its name."""
        found: dict[str, Any] = {}
        for number, (module, whole) in enumerate(zip(self._modules, self._whole, strict=True)):
            own = {name: value for name, value in vars(module).items() if name not in TORCHS}
            apart = module._buffers if whole else module._non_persistent_buffers_set
            own |= {name: buffer for name, buffer in module._buffers.items() if name in apart}
            if whole:
                own |= {name: p.data for name, p in module._parameters.items() if p is not None}
            found |= {f"{number}.{name}": value for name, value in own.items() if _can_be_kept(value)}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python values; read back by ``load_state_dict``."""
        now = self._values()
        first = self._first
        changed = {key: value for key, value in now.items() if key not in first or not _same(value, first[key])}
        return {"values": _detached(changed), "generators": [_packed(OwnGenerator(g).state) for g in self._generators]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, with the same model and loss as new."""
        for key, value in state["values"].items():
            number, _, name = key.partition(".")
            module = self._modules[int(number)]
            now = module._buffers.get(name, module._parameters.get(name, vars(module).get(name)))
            new = self._put(now, value)
            if new is not now:
                setattr(module, name, new)
        for generator, kept in zip(self._generators, state["generators"], strict=True):
            own = OwnGenerator(generator)
            own.state = _unpacked(kept)
            own.restore()

    def _put(self, now: Any, value: Any) -> Any:
        """The value, in what holds it now where that can hold it: others may hold the same tensor or list."""
        if isinstance(now, Tensor) and isinstance(value, Tensor) and now.shape == value.shape:
            now.data.copy_(value)
            return now
        if isinstance(now, list) and isinstance(value, list):
            now[:] = [self._put(*pair) for pair in zip(now, value, strict=False)] + value[len(now) :]
            return now
        if isinstance(now, dict) and isinstance(value, dict):
            new = {key: self._put(now.get(key), part) for key, part in value.items()}
            now.clear()
            now.update(new)
            return now
        return value.to(self._device) if isinstance(value, Tensor) else value


def _can_be_kept(value: Any) -> bool:
    if type(value) in _NESTS:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return all(_can_be_kept(part) for part in parts)
    if type(value) is Tensor:  # a parameter has its own place; others can't be compared
        return value.layout is torch.strided and not (value.is_nested or value.is_meta)
    return value is None or type(value) in _PLAIN


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype is b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _detached(value: Any) -> Any:
    """A copy that nothing changes any more."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _detached(part) for key, part in value.items()}
    return type(value)(map(_detached, value)) if isinstance(value, list | tuple) else value


def _packed(state: Any) -> Any:
    """A generator's state without numpy's arrays."""
    if isinstance(state, np.ndarray):
        return {"array": state.tolist(), "dtype": str(state.dtype)}
    if isinstance(state, dict):
        return {key: _packed(part) for key, part in state.items()}
    if isinstance(state, tuple):
        return tuple(map(_packed, state))
    return state.item() if isinstance(state, np.generic) else state


def _unpacked(state: Any) -> Any:
    if isinstance(state, dict):
        if state.keys() == {"array", "dtype"}:
            return np.array(state["array"], dtype=state["dtype"])
        return {key: _unpacked(part) for key, part in state.items()}
    return tuple(map(_unpacked, state)) if isinstance(state, tuple) else state
