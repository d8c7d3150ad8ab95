r"""Products of a loss's curvature with vectors: the Hessian H, or the generalized Gauss-Newton matrix G = J' H_L J.

The graph of the gradient is built once and kept, so that a product is one more backward pass through it. Several
batches are averaged by their weights; their graphs are kept too where the memory allows it, else each is built again
for every product, with the same buffers and the same random draws.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from landscape.errors import ProbeError, UsageError, nearest
from landscape.hooks import hooked
from landscape.krylov.memory import allowed
from landscape.objective import Batch, Batches, LossFunction, Objective, as_batches, tensors_of
from landscape.parameters import Blocks, Parameters, Selection, differentiate, flat, matches, modules_of, names_of
from landscape.preserve import preserved

OPERATORS = ("hessian", "ggn")
#: A graph that can be differentiated again holds about this many times what a forward pass saves.
GRAPH = 3


class _ExactWeightNorm(TorchFunctionMode):
    """torch's weight norm, g v / ||v||, spelled out: its fused backward takes ||v|| for a constant (torch 2.13)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls of ``torch._weight_norm``, which every form of it makes, are replaced; others are made as they are."""
        return (_weight_norm if func is torch._weight_norm else func)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [d for d in range(v.ndim) if dim == -1 or d != dim % v.ndim]  # -1: one norm of all
    normalized: Tensor = v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1))
    return normalized


class _Graph(Protocol):
    """One batch's graph, kept."""

    gradient: Blocks  # without a graph

    def product(self, v: Blocks | Tensor) -> Blocks: ...


class _Hessian:
    def __init__(self, objective: Objective, batch: Batch) -> None:
        self._w = objective.parameters
        self._kept = self._w.gradient(objective.evaluate(batch), create_graph=True)
        self._joined: Tensor | None = None
        self.gradient = [g.detach() for g in self._kept]

    def product(self, v: Blocks | Tensor) -> Blocks:
        if not isinstance(v, Tensor):
            return self._w.product(self._kept, v)
        if len({g.dtype for g in self._kept}) > 1:
            return self._w.product(self._kept, self._w.blocks(v))
        if self._joined is None:  # one output: autograd looks at each before every product, for 15 us
            self._joined = flat(self._kept)
        return self._w.product([self._joined], [self._w.placed(v).to(self._joined.dtype)])


class _GaussNewton:
    """J' H_L J, with J by differentiating J'u, which is linear in u, with respect to u."""

    def __init__(self, objective: Objective, batch: Batch) -> None:
        self._w = objective.parameters
        outputs, leaves, loss = _split(objective, batch)
        used = [
            (z, leaf, g)
            for z, leaf, g in zip(
                outputs, leaves, torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True), strict=True
            )
            if g is not None and z.requires_grad
        ]
        if not any(g.requires_grad for _, _, g in used):
            raise ProbeError(
                f"the loss is linear in the output of {type(objective.model).__name__}, so its Gauss-Newton matrix is "
                "zero (a model that returns its own loss hides the outputs it is made of): compute the loss from "
                'the logits inside loss_fn, or use operator="hessian"'
            )
        self._z, self._leaves, self._slopes = (list(column) for column in zip(*used, strict=True))
        self._u = [torch.zeros_like(z, requires_grad=True) for z in self._z]
        self._pulled = self._pull(self._u, create_graph=True)
        self.gradient = self._pull([g.detach() for g in self._slopes])

    def _pull(self, u: Sequence[Tensor], *, create_graph: bool = False) -> Blocks:
        """J'u."""
        raw = differentiate(self._z, self._w.tensors, u, create_graph=create_graph, retain_graph=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self._w.tensors, raw, strict=True)]

    def product(self, v: Blocks | Tensor) -> Blocks:
        blocks = self._w.blocks(v) if isinstance(v, Tensor) else v
        pairs = [(g, x) for g, x in zip(self._pulled, blocks, strict=True) if g.requires_grad]
        Jv = torch.autograd.grad([g for g, _ in pairs], self._u, [x for _, x in pairs], retain_graph=True)
        curved = [(g, x) for g, x in zip(self._slopes, Jv, strict=True) if g.requires_grad]
        raw = torch.autograd.grad(
            [g for g, _ in curved], self._leaves, [x for _, x in curved], retain_graph=True, allow_unused=True
        )
        return self._pull([torch.zeros_like(z) if h is None else h for z, h in zip(self._z, raw, strict=True)])


def _split(objective: Objective, batch: Batch) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The model's outputs z, leaves put in their place, and the loss as a function of those leaves alone.

    Raises:
        ProbeError: the model is not called exactly once, or the loss sees the weights past its output.
    """
    outputs: list[Tensor] = []
    leaves: list[Tensor] = []
    calls = 0

    def cut(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        outputs.append(tensor)
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    def replace(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return _mapped(output, cut)

    name = type(objective.model).__name__
    with hooked([objective.model], after=replace):
        loss = objective.evaluate(batch)
    if calls != 1:
        raise ProbeError(
            f"the Gauss-Newton matrix needs one output of {name}, and loss_fn called the model {calls} times: call it "
            'once (its submodules only through it), or use operator="hessian"'
        )
    past = torch.autograd.grad(loss, objective.parameters.tensors, retain_graph=True, allow_unused=True)
    if any(g is not None for g in past):
        raise ProbeError(
            f"the loss depends on the weights of {name} past its output (weight decay inside loss_fn, say), so there "
            'is no Gauss-Newton matrix of it: take that term out, or use operator="hessian"'
        )
    return outputs, leaves, loss


def _mapped(nest: Any, function: Any) -> Any:
    """A nest of tensors with ``function`` applied to each."""
    if isinstance(nest, Tensor):
        return function(nest)
    if isinstance(nest, Mapping):
        changed: Any = copy.copy(nest)
        for key, value in nest.items():
            changed[key] = _mapped(value, function)
        return changed
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(_mapped(value, function) for value in nest))
    if isinstance(nest, list | tuple):
        return type(nest)(_mapped(value, function) for value in nest)
    if next(tensors_of(nest), None) is None:
        return nest
    raise ProbeError(
        f"the Gauss-Newton matrix needs an output of tensors, tuples, lists and dicts, not {type(nest).__name__}: "
        'unpack it in the model, or use operator="hessian"'
    )


class CurvatureOperator:
    """v -> Hv (or Gv) at the present weights, of the weighted mean over batches. Made by ``curvature_operator``.

    Attributes:
        parameters: w, or the part of it that is looked at; n numbers.
        gradient: of the same loss, in blocks.
        kept: whether every batch's graph is kept.
    """

    def __init__(self, objective: Objective, batches: Batches, operator: str, memory_limit: float | None) -> None:
        self._objective, self._batches = objective, batches
        self._build = _Hessian if operator == "hessian" else _GaussNewton
        self.parameters: Parameters = objective.parameters
        self.kept = len(batches) == 1 or self._fits(memory_limit)
        self._graphs: list[_Graph] = []
        self.gradient = self._mean(self._made(), lambda graph: graph.gradient)

    @property
    def dtype(self) -> torch.dtype:
        """Of the flat vectors: that of the weights, float32 at least.

        Raises:
            ProbeError: a parameter is complex.
        """
        dtype = torch.float32
        for name, p in zip(self.parameters.names, self.parameters.tensors, strict=True):
            if p.is_complex():
                raise ProbeError(f"parameter {name!r} is complex; eigenpairs, traces and densities are of real weights")
            dtype = torch.promote_types(dtype, p.dtype)
        return dtype

    def product(self, v: Blocks | Tensor) -> Blocks:
        """H v in blocks; v in blocks or flat."""
        if isinstance(v, Tensor) and len(self._batches) > 1:  # once for all; and no graph keeps its gradient joined
            v = self.parameters.blocks(v)
        return self._mean(iter(self._graphs) if self.kept else self._made(), lambda graph: graph.product(v))

    def __call__(self, v: Tensor) -> Tensor:
        """H v for a flat v of n numbers, flat, where v lies."""
        return flat(self.product(v)).to(v)

    def _made(self) -> Iterator[_Graph]:
        self._objective.snapshot.rewind()
        for batch in self._batches.batches:
            with _ExactWeightNorm():  # for the forward pass: the graph keeps what it was built with
                graph = self._build(self._objective, batch)
            if self.kept:
                self._graphs.append(graph)
            yield graph
            del graph  # else two live through the next pass

    def _mean(self, graphs: Iterator[_Graph], value: Any) -> Blocks:
        if len(self._batches) == 1:
            blocks: Blocks = value(next(graphs))
            return blocks
        mean: Blocks = [torch.zeros_like(p) for p in self.parameters.tensors]
        for graph, weight in zip(graphs, self._batches.weights, strict=True):
            for m, x in zip(mean, value(graph), strict=True):
                m.add_(x, alpha=weight)
        return mean

    def _fits(self, limit: float | None) -> bool:
        """Whether all graphs may be kept, from what one forward pass of the first batch saves."""
        own = {p.untyped_storage().data_ptr() for p in self._objective.model.parameters()}
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> int:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return 0  # nothing is kept: this graph is never gone through

        with torch.autograd.graph.saved_tensors_hooks(pack, torch.zeros):
            loss = self._objective.loss(self._batches.batches[0])
        del loss
        return GRAPH * len(self._batches) * sum(saved.values()) <= allowed(self.parameters.device, limit)


@contextmanager
def curvature_operator(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batch,
    *,
    operator: str = "hessian",
    parameters: Selection = None,
    layers: Sequence[str] | None = None,
    statistics: str = "batch",
    memory_limit: float | None = None,
) -> Iterator[CurvatureOperator]:
    """Curvature products of a model's loss inside the block; the model leaves it as it came.

    Args:
        model: any ``nn.Module``. Attention runs its math kernel: the fused ones have no double backward.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        batches: a list of batches (weighted by their sizes), ``Batches``, or one batch that is not a list.
        operator: "hessian", or "ggn": the model must be called once, and the loss depend on its output alone.
        parameters: restrict w to a name pattern or predicate.
        layers: restrict w to the parameters of these modules: their block of the matrix.
        statistics: "batch" or "running".
        memory_limit: bytes that graphs of several batches may hold; half of what is free if None.

    Raises:
        UsageError: an unknown operator, statistics mode or layer.
        ProbeError: nothing trainable, complex weights, or a Gauss-Newton matrix that is not defined.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> with curvature_operator(net, lambda m, b: m.weight.square().sum(), None) as H:
    ...     H(torch.tensor([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """
    if operator not in OPERATORS:
        raise UsageError(f"operator={operator!r} is not known: {nearest(operator, list(OPERATORS))}")
    with preserved(model) as snapshot, torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        select = _selection(model, parameters, layers)
        objective = Objective(model, loss_fn, snapshot, select=select, statistics=statistics)
        yield CurvatureOperator(objective, as_batches(batches), operator, memory_limit)


def whole(batch: Batch) -> Batches:
    """What a training loop hands out: one batch, also if it is a list, or ``Batches``."""
    return batch if isinstance(batch, Batches) else Batches([batch], [1.0])


def _selection(model: nn.Module, parameters: Selection, layers: Sequence[str] | None) -> Selection:
    if layers is None:
        return parameters
    names = [name for several, p in names_of(model) if p.requires_grad for name in several]
    known = [name for name in modules_of(model) if name]
    for layer in layers:
        if layer not in known:
            raise UsageError(f"there is no layer {layer!r}: {nearest(layer, known)}")
        if not any(name.startswith(f"{layer}.") for name in names):
            raise UsageError(f"layer {layer!r} has no trainable parameter: choose one that has, or unfreeze it")
    chosen = list(layers)
    return lambda name: matches(name, parameters) and any(name.startswith(f"{layer}.") for layer in chosen)
