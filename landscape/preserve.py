"""Leave a model exactly as it was found: a snapshot by value, put back whatever happens.

Going back is by copying saved values, never by undoing arithmetic (p - d + d is not p), and through
``.data``, so that a probe between a user's forward and backward does not disturb their graph.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.modulestate import Bindings, ModuleState, is_lazy
from landscape.randomness import OwnGenerator, RandomState
from landscape.referred import referred

_probing: ContextVar[int] = ContextVar("landscape_probing", default=0)


def is_probing() -> bool:
    """Whether a probe is evaluating the model right now, for hooks of the user's that count or log.

    >>> is_probing()
    False
    """
    return _probing.get() > 0


def refuse_script(model: nn.Module) -> None:
    """Refuse TorchScript, and what is no module.

    Raises:
        ProbeError: a part of the model is scripted or traced.
        UsageError: it is no ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}, not an nn.Module; it comes first, then loss_fn")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ProbeError(
            f"{type(model).__name__} holds TorchScript, whose state can't be put back: probe the eager module that it "
            "was scripted or traced from"
        )


class Snapshot:
    """A model's state by value.

    Attributes:
        parameters: every distinct parameter of the model.
        values: their values, as cloned at the start.
        gradients: the ``.grad`` that each one had; taken away while probing, so that nothing can add to it.
    """

    def __init__(self, model: nn.Module) -> None:
        refuse_script(model)
        self.parameters = list(model.parameters())
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in self.parameters):
            raise ProbeError(f"{type(model).__name__} has lazy parameters without values: run one forward pass first")
        self.values = [p.detach().clone() for p in self.parameters]
        self.gradients = [p.grad for p in self.parameters]
        self._flags = [p.requires_grad for p in self.parameters]
        self._generators: list[OwnGenerator] = []
        self._moving: list[tuple[nn.Parameter, Tensor]] | None = None
        self._evaluated = False
        modules = list(model.modules())
        self._modules = [ModuleState(module) for module in modules]
        self._holding = [state for state in self._modules if state.holds]
        self._bindings = Bindings(modules)
        devices = {tensor.device for tensor in [*self.parameters, *model.buffers()]}
        self.random = RandomState(sorted(devices, key=str))
        for p in self.parameters:
            p.grad = None

    def value_of(self, parameter: nn.Parameter) -> Tensor:
        """The saved value of one parameter."""
        return next(v for p, v in zip(self.parameters, self.values, strict=True) if p is parameter)

    def rewind(self) -> None:
        """Buffers, frozen weights, extra state, attributes and generators back to the start; w and flags stay.

        Called before every evaluation of a sweep, so that each sees the same buffers and the same draws.
        """
        torch.clear_autocast_cache()  # inside a user's autocast it holds casts of weights that have moved since
        self._restore_modules(flags=False)
        self._rewind_frozen()
        self.random.restore()

    def include(self, others: Iterable[nn.Module], generators: Iterable[Any]) -> None:
        """Put back what these hold as well: modules and generators that a loss function has for itself.

        Parameters of such modules are left alone: nothing here moves them.
        """
        known = {id(state.module) for state in self._modules}
        added: list[ModuleState] = []
        for other in others:
            modules = [module for module in other.modules() if id(module) not in known]
            if not any(isinstance(module, torch.jit.ScriptModule) or is_lazy(module) for module in modules):
                added += [ModuleState(module) for module in modules]
                known |= {id(module) for module in modules}
        self._generators = [OwnGenerator(generator) for generator in generators]
        if added:
            self._modules += added
            self._holding = [state for state in self._modules if state.holds]
            self._bindings = Bindings([state.module for state in self._modules])

    def _rewind_frozen(self) -> None:
        """Weights that are not trained, where a forward moves them (a momentum encoder), are like buffers.

        Which ones does shows after the first evaluation; only these are put back before each further one.
        """
        if self._moving is None and self._evaluated:
            rows = zip(self.parameters, self.values, self._flags, strict=True)
            frozen = [(p, value) for p, value, trained in rows if not trained and not p.is_meta]
            self._moving = [(p, value) for p, value in frozen if not torch.equal(p.data, value)]
        for p, value in self._moving or ():
            p.data.copy_(value)
        self._evaluated = True

    def keep_flags(self) -> None:
        """Train flags as they are now are those of the sweep; ``restore`` still brings back the first ones."""
        self._bindings.keep_flags()

    def restore(self) -> None:
        """Everything back to the start."""
        for p, value, grad, flag in zip(self.parameters, self.values, self.gradients, self._flags, strict=True):
            p.data.copy_(value)
            p.requires_grad_(flag)
            p.grad = grad
        self.random.restore()
        torch.clear_autocast_cache()
        self._restore_modules(flags=True)  # last: what a user's set_extra_state throws can't cost them their weights

    def _restore_modules(self, *, flags: bool) -> None:
        if flags or self._bindings.are_changed():
            for state in self._modules:
                state.rebind(flags)
        for state in self._holding:
            state.restore()
        for generator in self._generators:
            generator.restore()


@contextmanager
def preserved(model: nn.Module) -> Iterator[Snapshot]:
    """Whatever happens inside, the model leaves as it came, bit for bit.

    Restored: values and identity of parameters; all buffers; ``get_extra_state``; tensors and plain
    values in a module's ``__dict__``; ``.grad`` (absent inside the block); ``requires_grad``; train
    and eval flags; the random states of Python, numpy, torch and, once initialised, of the model's
    CUDA devices; generators, lists, dicts and sets that a module keeps as attributes. Also when the block
    raises or is interrupted. State in objects of the user's own is not restored; the Observer notices it by
    evaluating twice. What torch.compile compiled runs eagerly inside, since compiled graphs have no double backward.

    >>> model = nn.Linear(2, 1)
    >>> before = model.weight.detach().clone()
    >>> with preserved(model):
    ...     _ = model.weight.data.zero_()
    >>> bool((model.weight == before).all())
    True
    """
    _keep_memory()
    snapshot = Snapshot(model)
    token = _probing.set(_probing.get() + 1)
    try:
        with _eager():
            yield snapshot
    finally:
        _probing.reset(token)
        try:
            snapshot.restore()
        except KeyboardInterrupt:  # half way; all of it is put back by value, so once more is safe
            snapshot.restore()
            raise


@contextmanager
def as_found(*functions: Any) -> Iterator[None]:
    """What loss functions name (a criterion's buffers, a generator) ends as it was found, whatever happens inside.

    >>> centre = nn.BatchNorm1d(1)
    >>> with as_found(lambda model, x: centre(model(x)).mean()):
    ...     _ = centre(torch.ones(2, 1))
    >>> int(centre.num_batches_tracked)
    0
    """
    found = [referred(function) for function in functions]
    modules = {id(m): m for several, _ in found for one in several for m in one.modules() if not is_lazy(m)}
    states = [ModuleState(m) for m in modules.values() if not isinstance(m, torch.jit.ScriptModule)]
    generators = [OwnGenerator(generator) for _, several in found for generator in several]
    try:
        yield
    finally:
        for state in states:
            state.rebind(flags=True)
            state.restore()
        for generator in generators:
            generator.restore()


@functools.cache
def _keep_memory() -> None:
    """Once in a process: what a sweep frees stays with the process, to be taken again at the next point.

    glibc hands free memory at the end of its heap back to the system once there is more of it than twice the largest
    block freed so far, and a small network's sweep then spends a fifth of its time on page faults. A block that is
    never touched, freed, raises that limit as any larger network's first step does; whoever has set it keeps theirs.
    """
    torch.empty(31 << 20, dtype=torch.uint8, device="cpu")  # glibc looks at blocks up to 32 MiB


def _eager() -> AbstractContextManager[object]:
    """Everything that torch.compile compiled runs eagerly inside; nothing was compiled without dynamo."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def set_statistics(model: nn.Module, statistics: str) -> None:
    """Choose what normalization layers use, inside ``preserved``.

    ``"batch"``: the loss that is trained on: flags as found if the root is training (frozen layers
    stay frozen), else ``train()``. ``"running"``: besides, modules with running statistics go to eval.
    """
    if not model.training:
        model.train()
    if statistics == "running":
        for module in model.modules():
            if any(name.startswith("running_") and b is not None for name, b in module._buffers.items()):
                module.training = False


def unwrapped(model: nn.Module) -> nn.Module:
    """The eager module inside a ``torch.compile``'d one: compiled graphs have no double backward."""
    # Not getattr: a wrapper may hand on what it has not to a compiled part inside.
    inner = dict(model.named_children()).get("_orig_mod")
    return model if inner is None else unwrapped(inner)
