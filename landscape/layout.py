"""Images with their channels last, where a narrow convolutional network is evaluated faster so.

On a CPU oneDNN's convolutions of few channels and torch's pooling are faster on them (benchmarks/slices.py). They give
the same up to rounding, except layers that average over a batch's pixels: torch's batch and group normalization
lose digits of float32 in this layout. Networks with a normalization that does are left alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.objective import Batches, mapped, tensors_of

#: With twice as many channels the usual layout is as fast, with more it is faster.
WIDEST = 128


def channels_last(model: nn.Module, batches: Batches) -> Batches | None:
    """The same batches with float32 images in channels_last; None where that is not known to be faster and exact.

    Use them only if the loss agrees: a model may read the layout of its input (``view``, a dropout's mask).
    """
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not onednn or not _is_narrow(model) or not all(map(_is_exact, model.modules())):
        return None
    if not any(map(_is_image, tensors_of(batches.batches))):
        return None
    changed: Batches = mapped(batches, lambda t: t.to(memory_format=torch.channels_last) if _is_image(t) else t)
    return changed


def _is_narrow(model: nn.Module) -> bool:
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return bool(layers) and all(
        max(layer.in_channels, layer.out_channels) <= WIDEST
        and layer.weight.dtype is torch.float32
        and layer.weight.device.type == "cpu"
        for layer in layers
    )


def _is_exact(module: nn.Module) -> bool:
    """Whether a layer is no normalization, or one that only applies statistics that it has."""
    running = any(name.startswith("running_") for name in module._buffers)
    if not running and "norm" not in type(module).__name__.lower():
        return True
    own: object = getattr(module, "running_mean", None)
    return isinstance(module, nn.modules.batchnorm._NormBase) and own is not None and not module.training


def _is_image(tensor: Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.device.type == "cpu" and tensor.ndim == 4 and tensor.shape[1] > 1
