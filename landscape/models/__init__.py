"""Networks by name: one file per architecture, one line per name below.

All arms of a network have the same module names: blocks conv1, conv2, ..., fc1, ..., each with children
``linear``, ``norm`` (``nn.Identity`` for "none") and ``activation``; the output layer has ``linear`` alone. Networks
that branch keep blocks of this kind in units with names of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from landscape.errors import UsageError, nearest
from landscape.imports import is_reference, load_object
from landscape.models.convnet import convnet
from landscape.models.deep_linear import deep_linear
from landscape.models.inception import inception
from landscape.models.lenet import lenet
from landscape.models.mlp import mlp
from landscape.models.phase_dnn import phase_dnn
from landscape.models.recurrent import recurrent
from landscape.models.resnet import resnet
from landscape.models.transformer import transformer
from landscape.models.vgg import vgg
from landscape.preserve import seeded
from landscape.streams import stream_seed

__all__ = [
    "MODELS",
    "build_model",
    "convnet",
    "deep_linear",
    "inception",
    "lenet",
    "mlp",
    "phase_dnn",
    "recurrent",
    "resnet",
    "transformer",
    "vgg",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "deep_linear": deep_linear,
    "inception": inception,
    "lenet": lenet,
    "mlp": mlp,
    "phase_dnn": phase_dnn,
    "recurrent": recurrent,
    "resnet": resnet,
    "transformer": transformer,
    "vgg": vgg,
}


def build_model(
    name: str,
    *,
    norm: str = "none",
    seed: int = 0,
    input_shape: Sequence[int],
    output_size: int,
    **options: Any,
) -> nn.Module:
    """The network called ``name`` with the normalization ``norm``, its weights drawn from ``seed``.

    Arms of a seed have equal initial weights, bit for bit, wherever they share a parameter. Random states
    (Python, numpy, torch) are left as found.

    Args:
        name: one of ``MODELS``, or the user's own ``package:function`` or ``file.py:function``, called with
            those of ``norm``, ``seed``, ``input_shape`` and ``output_size`` that its signature accepts, under
            random states seeded from ``seed`` (on the CPU: build there, training moves the network).
        norm: a normalization's name.
        seed: of the initial weights.
        input_shape: shape of one sample, without the batch.
        output_size: number of outputs.
        **options: the network's own options.

    Raises:
        UsageError: an unknown network, normalization or option; a function that takes no ``norm`` asked for
            another than "none"; a function that returns no ``nn.Module``.

    >>> network = build_model("mlp", norm="layer", input_shape=(4,), output_size=2, hidden=(3,))
    >>> [name for name, _ in network.named_children()], [name for name, _ in network.fc1.named_children()]
    (['flatten', 'fc1', 'fc2'], ['linear', 'norm', 'activation'])
    """
    given = {"norm": norm, "seed": seed, "input_shape": tuple(input_shape), "output_size": output_size}
    if name in MODELS:
        build = MODELS[name]
    elif is_reference(name):
        build = load_object(name)
    else:
        raise UsageError(
            f"there is no model {name!r}; {nearest(name, list(MODELS))}; your own: package:function or file.py:function"
        )
    if not callable(build):
        raise UsageError(f"model {name!r} is a {type(build).__name__}, not a function that builds a network")
    arguments = _arguments(name, build, given, options)
    with seeded(stream_seed(seed, "weights")):
        model = build(**arguments)
    if not isinstance(model, nn.Module):
        raise UsageError(f"model {name!r} returned a {type(model).__name__}, not an nn.Module")
    return model


def _arguments(name: str, build: Callable[..., Any], given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What ``build`` is called with: what it accepts of ``given``, and all options, which it must accept."""
    signature = inspect.signature(build).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
        return given | options
    accepted = [p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    own = [key for key in accepted if key not in given]
    required = [p.name for p in signature if p.name in own and p.default is p.empty and p.name not in options]
    if required:
        raise UsageError(f"model {name!r} needs the option {required[0]!r}, which was not given")
    for key in options:
        if key not in own:
            hint = nearest(key, own) if own else "it takes none"
            raise UsageError(f"model {name!r} has no option {key!r}; {hint}")
    if "norm" not in accepted and given["norm"] != "none":
        raise UsageError(
            f"model {name!r} can't be built with the normalization {given['norm']!r}: its function takes no argument "
            "'norm'; add one and build the normalization it names"
        )
    return {key: value for key, value in given.items() if key in accepted} | options
