"""How a model's layers are called: from one forward pass, from its symbolic trace, or in order of registration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from landscape.errors import LandscapeError, UsageError
from landscape.hooks import hooked
from landscape.objective import tensors_of
from landscape.preserve import preserved
from landscape.swapping.kinds import OURS, fused, is_linear, is_nonlinear, is_norm

Example = Any  # a tensor, a tuple of arguments, a mapping of keyword arguments, or a function that calls the model

NORMALIZING = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm")
MULTIPLYING = ("linear", "conv1d", "conv2d", "conv3d")
BENDING = ("relu", "relu_", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "softplus", "hardswish", "mish")


@dataclass
class Flow:
    """What is known of a model's forward.

    Attributes:
        source: "example", "trace", or "order" where nothing could be run.
        called: names of layers in the order of their first call.
        outputs: names of the linear maps that the model's output reads and no other linear map does.
        reads: name of a layer -> names of the layers whose output it reads; "" for anything else.
        functions: (module, function) for what is called as a function: ("block", "layer_norm").
        shapes: name of a layer -> shape of the first input it was seen with.
        widths: name of a layer -> the sizes of its inputs' dimensions but the batch, all that were seen.
    """

    source: str
    called: list[str] = field(default_factory=list)
    outputs: frozenset[str] = frozenset()
    reads: dict[str, set[str]] = field(default_factory=dict)
    functions: list[tuple[str, str]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    widths: dict[str, set[tuple[int, ...]]] = field(default_factory=dict)


def flow_of(model: nn.Module, example: Example) -> Flow:
    """The flow of a model, from ``example`` if there is one.

    Raises:
        UsageError: the model can't be run on the example.
    """
    if example is not None:
        return _Run(model, example).flow
    return _traced(model) or _registered(model)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if is_norm(m) or is_linear(m) or is_nonlinear(m) or fused(m)}


def call(model: nn.Module, example: Example) -> Any:
    """Run a model on an example."""
    if callable(example):
        return example(model)
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple | list) else model(example)


class _Watch(TorchFunctionMode):
    """Functions that are called outside the layers that a swap knows of."""

    def __init__(self, seen: Callable[[str], None]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class _Run:
    """One forward pass in eval mode, watched; the model is left as it was."""

    def __init__(self, model: nn.Module, example: Example) -> None:
        self.flow = Flow("example")
        self.layers = _layers(model)
        self.names = {module: name for name, module in model.named_modules()}
        self.stack: list[nn.Module] = []
        self.made: list[tuple[str, Any, Any]] = []  # name, output, its node in autograd's graph
        self.inputs: list[Any] = []  # kept alive, so that none of them is taken for another
        with preserved(model):
            model.eval()  # a batch of one is enough
            for p in model.parameters():
                p.requires_grad_(p.is_floating_point() or p.is_complex())
            everywhere = list(model.modules())
            try:
                watched = hooked(everywhere, before=self._before, after=self._after)
                with torch.enable_grad(), watched, _Watch(self._function):
                    output = call(model, example)
            except LandscapeError:
                raise
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
                what, why = type(model).__name__, f"{type(error).__name__}: {error}"
                if callable(example):
                    raise UsageError(f"{what} fails in a forward pass: {why}") from error
                raise UsageError(
                    f"{what} can't be run on the example: {why}; give a tensor, a tuple of arguments, a mapping of "
                    "keyword arguments, or a function that calls the model"
                ) from error
            self.flow.outputs = frozenset(self._outputs(output))
        self.made.clear()

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.stack.append(module)
        name = self.names[module]
        if name not in self.layers:
            return
        if name not in self.flow.shapes:
            self.flow.called.append(name)
        given = next(tensors_of([args, kwargs]), None)
        if given is None:
            return
        self.flow.shapes.setdefault(name, tuple(given.shape))
        self.flow.widths.setdefault(name, set()).add(tuple(given.shape[1:]))
        read = next((source for source, output, _ in reversed(self.made) if output is given), "")
        self.flow.reads.setdefault(name, set()).add(followed(self.layers, read))

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.stack.pop()
        name = self.names[module]
        if name in self.layers:
            made = next(tensors_of(output), None)
            if made is not None:
                self.made.append((name, made, made.grad_fn))

    def _function(self, name: str) -> None:
        here = self.stack[-1] if self.stack else None
        if name in (*NORMALIZING, *MULTIPLYING, *BENDING) and (here is None or self.names[here] not in self.layers):
            place = "" if here is None else self.names[here]
            if (place, name) not in self.flow.functions:
                self.flow.functions.append((place, name))

    def _outputs(self, output: Any) -> set[str]:
        linear = {node: name for name, _, node in self.made if node is not None and is_linear(self.layers[name])}
        return _last(
            [t.grad_fn for t in tensors_of(output)], linear, lambda node: [one for one, _ in node.next_functions]
        )


def _last(roots: Iterable[Any], linear: Mapping[Any, str], above: Callable[[Any], Iterable[Any]]) -> set[str]:
    """Names of the linear maps that ``roots`` read and no other linear map reads.

    Args:
        roots: nodes of the output.
        linear: the node of each call of a linear map, and its name.
        above: the nodes that a node reads.
    """
    read = {name for node, reader in linear.items() for name in _nearest(above(node), linear, above) if name != reader}
    return set(_nearest(roots, linear, above)) - read


def _nearest(roots: Iterable[Any], linear: Mapping[Any, str], above: Callable[[Any], Iterable[Any]]) -> Iterator[str]:
    """The linear maps that are reached from ``roots`` without passing another."""
    seen: set[Any] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in linear:
            yield linear[node]
        else:
            stack.extend(above(node))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = is_norm(m) or is_linear(m) or is_nonlinear(m) or type(m).__module__.startswith(OURS)
        return known or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> Flow | None:
    """The flow from torch.fx, or None where the forward can't be traced."""
    try:
        with preserved(model):
            graph = _Tracer().trace(model)
    except Exception:  # whatever a user's forward does with a placeholder for a tensor
        return None
    names = {module: name for name, module in model.named_modules()}
    layers, flow = _layers(model), Flow("trace")
    if "" in layers:  # a trace looks inside the model itself
        return Flow("trace", called=[""], outputs=frozenset([""] if is_linear(model) else []))
    calls: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            name = names[model.get_submodule(str(node.target))]
            if name not in layers:
                continue
            calls[node] = name
            given = node.all_input_nodes[0] if node.all_input_nodes else None
            read = calls.get(given, "") if given is not None else ""
            flow.reads.setdefault(name, set()).add(followed(layers, read))
            for called in dict.fromkeys((name, followed(layers, name))):  # a leaf's own norm follows it
                if called not in flow.called:
                    flow.called.append(called)
        elif node.op in ("call_function", "call_method"):
            function = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            if function in (*NORMALIZING, *MULTIPLYING, *BENDING):
                flow.functions.append((next(reversed(node.meta.get("nn_module_stack") or {"": ""})), function))
    linear = {node: name for node, name in calls.items() if is_linear(layers[name])}
    end = next(node for node in graph.nodes if node.op == "output")
    flow.outputs = frozenset(_last(end.all_input_nodes, linear, lambda node: node.all_input_nodes))
    return flow


def _registered(model: nn.Module) -> Flow:
    """The order in which layers were registered, and the last linear map for the output."""
    layers = _layers(model)
    flow = Flow("order", called=list(layers))
    flow.outputs = frozenset([name for name, module in layers.items() if is_linear(module)][-1:])
    for name, before in _siblings(layers):
        flow.reads.setdefault(name, set()).add(before)
    return flow


def followed(layers: Mapping[str, nn.Module], name: str) -> str:
    """The layer whose output leaves a layer: the ``norm`` that a swap has put behind a linear map, or itself."""
    norm = f"{name}.norm"
    return norm if norm in layers and is_linear(layers[name]) else name


def _siblings(layers: Mapping[str, nn.Module]) -> Iterable[tuple[str, str]]:
    """Each layer with the one registered just before it in the same module."""
    last: dict[str, str] = {}
    for name in layers:
        parent = name.rpartition(".")[0]
        yield name, last.get(parent, "")
        last[parent] = name
