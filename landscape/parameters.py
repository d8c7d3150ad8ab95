"""A model's trainable parameters as one vector w: read, move, put back, gradient, curvature product.

The vector is kept as the list of its blocks (one per parameter, in ``named_parameters`` order);
``flat`` and ``blocks`` go between the two forms. Only this file moves parameters, through ``p.data``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from landscape.errors import ProbeError, UsageError
from landscape.preserve import refuse_script

Selection = str | Callable[[str], bool] | None
Blocks = list[Tensor]

_REFUSED = {
    "FullyShardedDataParallel": "its parameters are shards",
    "FSDPModule": "its parameters are shards",
    "DistributedDataParallel": "its gradients are synchronised between processes",
    "DDP": "its gradients are synchronised between processes",  # what torch's replicate() puts into a module's class
    "DataParallel": "it copies its parameters to several devices",
}


class Parameters:
    """The trainable parameters of a model, or the part of them that ``select`` names.

    Args:
        model: any ``nn.Module``.
        select: a name pattern (``"blocks.3.*"``) or a predicate on names; all if None. A tied parameter is chosen
            by any of its names.

    Attributes:
        names: names in ``named_parameters`` order, without what ``torch.compile`` puts into them; a tied parameter
            appears once, under its first.
        tensors: the parameters themselves.

    Raises:
        ProbeError: no trainable parameters, several devices, the meta device, FSDP, DTensor, DDP or TorchScript.
        UsageError: ``select`` matches nothing.

    >>> Parameters(nn.Linear(3, 2)).numel
    8
    """

    def __init__(self, model: nn.Module, select: Selection = None) -> None:
        refuse(model)
        trainable = [(names, p) for names, p in names_of(model) if p.requires_grad]
        if not trainable:
            raise ProbeError(
                f"{type(model).__name__} has no trainable parameter, so there is no landscape to probe: "
                "set requires_grad on some, or pass another model"
            )
        chosen = [(names, p) for names, p in trainable if any(matches(name, select) for name in names)]
        if not chosen:
            raise UsageError(
                f"parameters={select!r} matches none of the {len(trainable)} trainable parameters of "
                f"{type(model).__name__}; they are called {', '.join(names[0] for names, _ in trainable[:4])}..."
            )
        self.names = [names[0] for names, _ in chosen]
        self.tensors = [p for _, p in chosen]
        devices = {p.device for p in self.tensors}
        if len(devices) > 1:
            raise ProbeError(
                f"the weights of {type(model).__name__} lie on several devices ({', '.join(map(str, devices))}): "
                "probes work on one device; restrict them with parameters="
            )
        if self.device.type == "meta":
            raise ProbeError(
                f"the weights of {type(model).__name__} are on the meta device, where they have no values (not loaded "
                "yet, or offloaded): load them, or restrict probes to those that are with parameters="
            )

    @property
    def numel(self) -> int:
        """n, the length of the vector."""
        return sum(p.numel() for p in self.tensors)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.tensors[0].device

    def read(self) -> Blocks:
        """A copy of w."""
        return [p.detach().clone() for p in self.tensors]

    def write(self, blocks: Sequence[Tensor]) -> None:
        """w <- blocks, in place and unseen by autograd."""
        for p, value in zip(self.tensors, blocks, strict=True):
            p.data.copy_(value)

    def move(self, start: Sequence[Tensor], direction: Sequence[Tensor], step: float) -> None:
        """w <- start - step * direction, written straight into the parameters: no further copy."""
        for p, w, v in zip(self.tensors, start, direction, strict=True):
            torch.add(w, v, alpha=-step, out=p.data)

    def gradient(self, loss: Tensor, *, create_graph: bool = False) -> Blocks:
        """grad L at w, in blocks; a parameter that the loss does not depend on gives zeros."""
        raw = differentiate(loss, self.tensors, create_graph=create_graph)
        return [torch.zeros_like(p) if g is None else dense(g) for p, g in zip(self.tensors, raw, strict=True)]

    def product(self, gradient: Sequence[Tensor], vector: Sequence[Tensor]) -> Blocks:
        """H v, from a gradient whose graph was kept."""
        pairs = [(g, v) for g, v in zip(gradient, vector, strict=True) if g.requires_grad]
        if not pairs:  # the loss is linear in w: H = 0
            return [torch.zeros_like(p) for p in self.tensors]
        outputs, weights = zip(*pairs, strict=True)
        raw = differentiate(outputs, self.tensors, weights, retain_graph=True)
        return [torch.zeros_like(p) if h is None else h for p, h in zip(self.tensors, raw, strict=True)]

    def blocks(self, vector: Tensor) -> Blocks:
        """The blocks of a flat vector of length n, as views."""
        parts = torch.split(self.placed(vector), [p.numel() for p in self.tensors])
        return [part.view_as(p).to(p.dtype) for part, p in zip(parts, self.tensors, strict=True)]

    def placed(self, vector: Tensor) -> Tensor:
        """A flat vector of length n, where the parameters lie."""
        if vector.shape != (self.numel,):
            raise UsageError(
                f"a direction for {self.numel} parameters has shape ({self.numel},), not {tuple(vector.shape)}"
            )
        if self.device.type == "cuda":  # from pageable memory the copy would synchronise
            pinned = vector.pin_memory() if vector.device.type == "cpu" else vector
            vector = pinned.to(self.device, non_blocking=True)
        return vector.to(self.device)


def flat(blocks: Sequence[Tensor]) -> Tensor:
    """The blocks as one vector of length n."""
    return torch.cat([block.reshape(-1) for block in blocks])


def compared(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """||a||, ||a - b|| and <a, b> over all blocks, in one walk and without synchronising; see ``norm`` and ``dot``.

    One block's difference is alive at a time. Not in place: autograd may hand the same tensor out for two parameters.
    """
    norms, distances, products = [], [], []
    for x, y in zip(a, b, strict=True):
        if x.is_complex():  # two real numbers each
            x, y = torch.view_as_real(x.resolve_conj()), torch.view_as_real(y.resolve_conj())
        wide = _wide(x.dtype)
        x, y = x.reshape(-1).to(wide), y.reshape(-1).to(wide)
        norms.append(torch.linalg.vector_norm(x))
        distances.append(torch.linalg.vector_norm(x - y))
        products.append(torch.dot(x, y))
    return (
        torch.linalg.vector_norm(torch.stack(norms)),
        torch.linalg.vector_norm(torch.stack(distances)),
        torch.stack(products).sum(),
    )


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """<a, b> over all blocks (real; in float32 for half precision), on the device, without synchronising."""
    return torch.stack([_dot(x, y) for x, y in zip(a, b, strict=True)]).sum()


def norm(blocks: Sequence[Tensor]) -> Tensor:
    """||v||_2 over all blocks (in float32 for half precision), on the device, without synchronising."""
    parts = [torch.linalg.vector_norm(block, dtype=_wide(block.dtype)) for block in blocks]
    total: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return total


def differentiate(
    output: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """The gradient of a scalar (or of <output, weights>), None for what it does not depend on.

    Raises:
        ProbeError: a part of the model can't be differentiated like this; says which and what to do.
    """
    try:
        found = torch.autograd.grad(
            output, inputs, weights, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
        )
    except RuntimeError as error:
        words = str(error).splitlines()[0][:160]
        if "use_reentrant" in words:
            raise ProbeError(_REENTRANT) from error
        if "differentiated Tensors does not require grad" in words:  # a forward froze it: as one that is not used
            live = [p for p in inputs if p.requires_grad]
            given = differentiate(output, live, weights, create_graph=create_graph, retain_graph=retain_graph)
            by_id = dict(zip(map(id, live), given, strict=True))
            return tuple(by_id.get(id(p)) for p in inputs)
        if "is not implemented" in words or "double backward" in words:
            raise ProbeError(f"{_ONCE} ({words})") from error
        raise
    # What can't be differentiated again, and parameters inside a checkpoint, are only missing: zeros without an error.
    if create_graph and "torch::autograd::Error" in _nodes(found):
        raise ProbeError(f"{_ONCE} (a custom function marked once_differentiable)")
    if any(g is None for g in found) and "CheckpointFunctionBackward" in _nodes(
        [output] if isinstance(output, Tensor) else output
    ):
        raise ProbeError(_REENTRANT)
    return found


_REENTRANT = (
    "a part of the model is checkpointed with use_reentrant=True, which hides its parameters from torch.autograd.grad: "
    "pass use_reentrant=False to torch.utils.checkpoint (in transformers: "
    'gradient_checkpointing_kwargs={"use_reentrant": False})'
)
_ONCE = (
    "a part of the model has no second derivative: probes of curvature don't apply, those of the first order "
    "(gradient_path, covariate_shift, activations) do"
)


def _nodes(outputs: Iterable[Tensor | None]) -> set[str]:
    """Names of the nodes of these tensors' graphs; a microsecond each."""
    waiting = [t.grad_fn for t in outputs if t is not None]
    seen: set[object] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
    return {node.name() for node in seen}  # type: ignore[attr-defined]  # nodes of autograd


def dense(gradient: Tensor) -> Tensor:
    """The gradient, if it is dense.

    Raises:
        ProbeError: it is sparse; norms and optimizers' steps on copies are those of dense ones.
    """
    if gradient.is_sparse:
        raise ProbeError("sparse gradients are not supported: build the embedding with sparse=False")
    return gradient


def filter_norms(blocks: Sequence[Tensor]) -> Blocks:
    """D: the norm of each filter (row) of a weight, broadcastable to it; ones for 1-D parameters."""
    return [
        torch.linalg.vector_norm(w.flatten(1), dim=1).view(-1, *[1] * (w.ndim - 1))
        if w.ndim > 1
        else torch.ones_like(w, dtype=w.dtype.to_real())
        for w in blocks
    ]


@contextmanager
def only(model: nn.Module, select: Selection) -> Iterator[None]:
    """Inside the block the trainable parameters of the model are those that ``select`` names.

    >>> net = nn.Linear(2, 1)
    >>> with only(net, "weight"):
    ...     print(Parameters(net).names)
    ['weight']
    """
    others = [p for names, p in names_of(model) if p.requires_grad and not any(matches(n, select) for n in names)]
    try:
        for p in others:
            p.requires_grad_(False)
        yield
    finally:
        for p in others:
            p.requires_grad_(True)


def filter_normalized(direction: Sequence[Tensor], weights: Sequence[Tensor]) -> Blocks:
    """Each filter (row) of a direction scaled to the norm of the weight's; 1-D parameters zero (Li et al. 2018)."""
    return [
        x * (b / a) if x.ndim > 1 else torch.zeros_like(x)
        for x, a, b in zip(direction, filter_norms(direction), filter_norms(weights), strict=True)
    ]


def _dot(x: Tensor, y: Tensor) -> Tensor:
    if x.is_complex():  # two real numbers each
        x, y = torch.view_as_real(x.resolve_conj()), torch.view_as_real(y.resolve_conj())
    if x.requires_grad:
        return (x * y).sum()
    x, y = x.reshape(-1), y.reshape(-1)
    wide = _wide(x.dtype)
    product: Tensor = torch.dot(x, y) if x.dtype is wide is y.dtype else torch.dot(x.to(wide), y.to(wide))
    return product


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Sums over half precision numbers are kept in float32: float16 overflows, bfloat16 has 8 bits."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def matches(name: str, select: Selection) -> bool:
    """Whether a parameter's name is selected: by pattern, by predicate, or by no selection at all."""
    if select is None:
        return True
    return fnmatch.fnmatchcase(name, select) if isinstance(select, str) else select(name)


def names_of(model: nn.Module) -> list[tuple[list[str], nn.Parameter]]:
    """Every parameter, in ``named_parameters`` order, with all its names: a tied one has several.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> net[1].weight = net[0].weight
    >>> [names for names, _ in names_of(net)]
    [['0.weight', '1.weight']]
    """
    found: dict[nn.Parameter, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        found.setdefault(p, []).append(eager_name(name))
    return [(names, p) for p, names in found.items()]


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its name; a compiled one's is that of the eager module inside it."""
    return {eager_name(name): module for name, module in model.named_modules()}


def eager_name(name: str) -> str:
    """A name without what ``torch.compile`` puts into it.

    >>> eager_name("blocks.0._orig_mod.weight"), eager_name("blocks.0._orig_mod")
    ('blocks.0.weight', 'blocks.0')
    """
    if "_orig_mod" not in name:
        return name
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def refuse(model: nn.Module) -> None:
    """Refuse what can't be measured in one process on one device.

    Raises:
        ProbeError: naming the wrapper, or the parameter.
    """
    refuse_script(model)
    for module in model.modules():
        for cls in type(module).__mro__:
            if cls.__name__ in _REFUSED and (cls.__name__ != "DDP" or cls.__module__.startswith("torch.")):
                raise ProbeError(
                    f"{cls.__name__} is not supported: {_REFUSED[cls.__name__]}; probe the module inside it "
                    "(for example model.module) in one process"
                )
    for name, p in model.named_parameters():
        if type(p).__name__ == "DTensor" or type(p.data).__name__ == "DTensor":
            raise ProbeError(f"parameter {name!r} is a DTensor, spread over several devices: probe an unsharded copy")
