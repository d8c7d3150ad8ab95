"""What a loss function refers to beside the model: modules with a state of their own, and generators it draws from."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

from torch import nn

from landscape.randomness import draws

#: How far to follow a function that calls another, a method's object, a partial's function.
DEPTH = 3


def referred(function: Any) -> tuple[list[nn.Module], list[Any]]:
    """Modules and generators that a function names: closed over, global, its object's or its arguments'.

    >>> norm = nn.BatchNorm1d(2)
    >>> modules, generators = referred(lambda model, x: norm(model(x)).mean())
    >>> modules[0] is norm, generators
    (True, [])
    """
    modules: dict[int, nn.Module] = {}
    generators: dict[int, Any] = {}
    for value in _values(function, DEPTH):
        if isinstance(value, nn.Module):
            modules[id(value)] = value
        elif draws(value):
            generators[id(value)] = value
    return list(modules.values()), list(generators.values())


def _values(function: Any, depth: int) -> Iterator[Any]:
    """What a callable names, and what the callables among that do."""
    for value in _named(function):
        yield value
        if depth and callable(value) and not isinstance(value, nn.Module | type | types.BuiltinFunctionType):
            yield from _values(value, depth - 1)


def _named(function: Any) -> list[Any]:
    """What a callable names itself."""
    if isinstance(function, nn.Module):
        return [function]
    if isinstance(function, types.MethodType):
        return [function.__self__, function.__func__]
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.FunctionType):
        if (function.__module__ or "").partition(".")[0] == "torch":
            return []
        own = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        names = function.__code__.co_names
        return own + [function.__globals__[name] for name in names if name in function.__globals__]
    return list(vars(function).values()) if hasattr(function, "__dict__") and not isinstance(function, type) else []


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # asked for, to see whether it is there
    except ValueError:
        return False
    return True
