"""Forward hooks that always come off again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError

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


def is_transformed(tensor: Tensor) -> bool:
    """Whether a transform of torch.func is at work on a tensor (vmap, grad, jvp): its values and graph are not seen.

    >>> seen = []
    >>> _ = torch.func.vmap(lambda x: (seen.append(is_transformed(x)), x)[1])(torch.ones(2))
    >>> seen, is_transformed(torch.ones(2))
    ([True], False)
    """
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def refuse_transformed(tensor: Tensor, name: str) -> None:
    """Refuse what flows into a module inside a transform.

    Raises:
        ProbeError: naming the module.
    """
    if is_transformed(tensor):
        raise ProbeError(
            f"{name or 'the model'} is called inside a transform of torch.func (vmap, grad, jvp), out of which no "
            "activation can be read: call it on the whole batch in a loss_fn for this probe"
        )
