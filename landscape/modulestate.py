"""What one module holds by itself, by value and by binding, and the way back to it."""

from __future__ import annotations

import copy
import operator
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from landscape.randomness import OwnGenerator, draws

# Kept by torch itself; a snapshot restores what they hold, not the containers.
_CONTAINERS = frozenset({"_parameters", "_buffers", "_modules"})
#: Names that every module has: its hooks.
TORCHS = frozenset(vars(nn.Module()))
_MUTABLE = (list, dict, set, deque)


def _each_once(tensor: Tensor) -> Tensor:
    """The same memory without expanded dimensions, since torch refuses to write where elements coincide."""
    if tensor.layout is torch.strided:
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            if stride == 0 and size > 1:
                tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _containers(value: Any, depth: int = 3) -> Iterator[Any]:
    """A list, dict, set or deque, and those inside it."""
    if isinstance(value, _MUTABLE):
        yield value
    if depth and isinstance(value, (*_MUTABLE, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, (*_MUTABLE, tuple)):
                yield from _containers(inner, depth - 1)


class _Contents:
    """What a list, dict, set or deque holds, by identity."""

    def __init__(self, container: Any) -> None:
        self.container, self.kept = container, copy.copy(container)
        self.parts = self._now()

    def _now(self) -> list[Any]:
        return [*self.container, *(self.container.values() if isinstance(self.container, dict) else ())]

    def restore(self) -> None:
        now = self._now()
        if len(now) == len(self.parts) and all(map(operator.is_, now, self.parts)):
            return
        self.container.clear()
        (self.container.extend if isinstance(self.container, list | deque) else self.container.update)(self.kept)


class ModuleState:
    """One module's own state: which tensors and values its names are bound to, and what buffers hold."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = dict(module._parameters)
        self.buffers = dict(module._buffers)
        self.children = dict(module._modules)
        self.plain = {key: value for key, value in module.__dict__.items() if key not in _CONTAINERS}
        held = [value for value in self.plain.values() if isinstance(value, Tensor)]
        kept = [value for value in self.buffers.values() if value is not None] + held
        self.values = [(tensor, tensor.shape, _each_once(tensor.detach()).clone()) for tensor in kept]
        own = [value for key, value in self.plain.items() if key not in TORCHS]
        self.generators = [OwnGenerator(value) for value in own if draws(value)]
        self.containers = [_Contents(one) for value in own for one in _containers(value)]
        self.extra: Any = None
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            self.extra = copy.deepcopy(module.get_extra_state())
        self.holds = bool(self.values or self.generators or self.containers) or self.extra is not None

    def restore(self) -> None:
        """What buffers, generators, lists, dicts, sets and extra state hold."""
        for tensor, shape, value in self.values:
            if tensor.shape != shape:  # an observer of ranges, say, that takes its size from its first input
                tensor.resize_(shape)
            _each_once(tensor.data).copy_(value)
        for generator in self.generators:
            generator.restore()
        for container in self.containers:
            container.restore()
        if self.extra is not None:
            self.module.set_extra_state(copy.deepcopy(self.extra))

    def rebind(self, flags: bool) -> None:
        """Names back to the objects they were bound to."""
        module = self.module
        bound: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (module._parameters, self.parameters),
            (module._buffers, self.buffers),
            (module._modules, self.children),
        ]
        for own, saved in bound:
            if own.keys() != saved.keys() or any(own[key] is not saved[key] for key in saved):
                own.clear()
                own.update(saved)
        now = module.__dict__
        for key in [key for key in now if key not in self.plain and key not in _CONTAINERS]:
            del now[key]
        for key, value in self.plain.items():
            if (flags or key != "training") and now.get(key, now) is not value:
                now[key] = value


class Bindings:
    """What all names of all modules are bound to, in one walk: looked at before every evaluation, seldom changed."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules
        self.own = list(map(vars, modules))
        self.places = list(_places(modules))
        self.sizes = list(map(len, self.places))
        self.names = list(chain.from_iterable(self.places))
        self.values = list(chain.from_iterable(map(dict.values, self.places)))

    def keep_flags(self) -> None:
        """Train flags as they are now count as unchanged."""
        if list(chain.from_iterable(self.places)) == self.names:  # else a train() of the user's adds names: all differs
            now = chain.from_iterable(map(dict.values, self.places))
            pairs = zip(self.names, self.values, now, strict=True)
            self.values = [new if name == "training" else old for name, old, new in pairs]

    def are_changed(self) -> bool:
        """Whether a name was added, removed or bound to another object.

        The places are those of the start: a module bound to another dict of parameters has that among its values.
        """
        return not (
            all(map(operator.is_, map(vars, self.modules), self.own))
            and list(map(len, self.places)) == self.sizes
            and list(chain.from_iterable(self.places)) == self.names
            and all(map(operator.is_, chain.from_iterable(map(dict.values, self.places)), self.values))
        )


def _places(modules: list[nn.Module]) -> Iterator[dict[str, Any]]:
    """Every place where a module's names are bound to something."""
    for module in modules:
        yield from (module.__dict__, module._parameters, module._buffers, module._modules)


def is_lazy(module: nn.Module) -> bool:
    """Whether a module itself has a parameter or buffer without values yet.

    >>> is_lazy(nn.LazyLinear(2)), is_lazy(nn.Linear(1, 2))
    (True, False)
    """
    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(isinstance(t, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer) for t in held)
