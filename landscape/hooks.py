"""Forward hooks that always come off again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
After = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]


@contextmanager
def hooked(modules: Iterable[nn.Module], *, before: Before | None = None, after: After | None = None) -> Iterator[None]:
    """Watch the calls of these modules inside the block; hooks are removed also when it raises."""
    with ExitStack() as stack:
        for module in modules:
            if before is not None:
                handle = module.register_forward_pre_hook(before, with_kwargs=True)
                stack.callback(handle.remove)
            if after is not None:
                handle = module.register_forward_hook(after, with_kwargs=True)
                stack.callback(handle.remove)
        yield
