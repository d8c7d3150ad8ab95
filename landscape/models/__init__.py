"""Networks by name: one file per architecture, one line per name below.

All arms of a network have the same module names: blocks conv1, conv2, ..., fc1, ..., each with children
``linear``, ``norm`` (``nn.Identity`` for "none") and ``activation``; the output layer has ``linear`` alone. Networks
that branch keep blocks of this kind in units with names of their own.

Which normalization can stand in which network, and why the few that are refused are, is the table of
docs/normalizations.md: "instance" without space or time, or where a position may not see later ones; "evonorm-s0",
"norm-propagation" and "selu" in gated cells. A layer with one input is left as it is where a normalization of weights
is not defined for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from landscape.errors import LandscapeError, UsageError, nearest
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
from landscape.randomness import seeded
from landscape.streams import stream_seed
from landscape.swapping import Change, normalization_plan, normalized
from landscape.swapping.flow import Example, call

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
    input_shape: Sequence[int] | None,
    output_size: int | None,
    example: Example = None,
    **options: Any,
) -> nn.Module:
    """The network called ``name`` with the normalization ``norm``, its weights drawn from ``seed``.

    Arms of a seed have equal initial weights, bit for bit, wherever they share a parameter. Random states
    (Python, numpy, torch) are left as found.

    Args:
        name: one of ``MODELS``, or the user's own ``package:function`` or ``file.py:function``, called with
            those of ``norm``, ``seed``, ``input_shape`` and ``output_size`` that its signature accepts, under
            random states seeded from ``seed`` (on the CPU: build there, training moves the network). Where it takes
            no ``norm``, what it returns gets the normalization by ``normalized``, "none" included; where that is
            defined with initial weights ("selu"), they are drawn from ``seed``.
        norm: a normalization's name.
        seed: of the initial weights.
        input_shape: shape of one input, without the batch; None where there is not one input.
        output_size: number of outputs; None where it is not known.
        example: what the user's network can be called with, for ``normalized`` and to give lazy modules their shapes.
        **options: the network's own options.

    Raises:
        UsageError: an unknown network, normalization or option; a network that ``normalized`` refuses; a function that
            returns no ``nn.Module``.

    >>> network = build_model("mlp", norm="layer", input_shape=(4,), output_size=2, hidden=(3,))
    >>> [name for name, _ in network.named_children()], [name for name, _ in network.fc1.named_children()]
    (['flatten', 'fc1', 'fc2'], ['linear', 'norm', 'activation'])
    """
    model, takes_norm = _built(name, _given(norm, seed, input_shape, output_size), options, example)
    return model if takes_norm else normalized(model, norm, example=example, initialize=seed)


def model_changes(
    name: str,
    *,
    norm: str = "none",
    seed: int = 0,
    input_shape: Sequence[int] | None,
    output_size: int | None,
    example: Example = None,
    **options: Any,
) -> tuple[Change, ...]:
    """What ``build_model`` changes in a network whose function takes no ``norm``; () for one that takes it.

    Args:
        name: as in ``build_model``, like all the others.
        norm: a normalization's name.
        seed: of the initial weights.
        input_shape: as in ``build_model``.
        output_size: as in ``build_model``.
        example: what the user's network can be called with.
        **options: the network's own options.

    Raises:
        UsageError: as ``build_model``.
    """
    model, takes_norm = _built(name, _given(norm, seed, input_shape, output_size), options, example)
    return () if takes_norm else normalization_plan(model, norm, example=example, initialize=seed)


def _given(norm: str, seed: int, input_shape: Sequence[int] | None, output_size: int | None) -> dict[str, Any]:
    """What a function that builds a network is told, if it asks: what is known of it."""
    shape = None if input_shape is None else tuple(input_shape)
    known = {"norm": norm, "seed": seed, "input_shape": shape, "output_size": output_size}
    return {key: value for key, value in known.items() if value is not None}


def _built(name: str, given: dict[str, Any], options: dict[str, Any], example: Example) -> tuple[nn.Module, bool]:
    """The network as its function builds it, and whether that was given the normalization."""
    if name in MODELS:
        build = MODELS[name]
    elif is_reference(name):
        build = load_object(name)
    else:
        raise UsageError(
            f"there is no model {name!r}; {nearest(name, list(MODELS))}; your own: package:function or file.py:function"
        )
    if isinstance(build, nn.Module):
        raise UsageError(
            f"model {name!r} is a network, a {type(build).__name__}; each run trains a new one: give a function that "
            "builds it, or its class"
        )
    if not callable(build):
        raise UsageError(f"model {name!r} is a {type(build).__name__}, not a function that builds a network")
    arguments = _arguments(name, build, given, options)
    with seeded(stream_seed(given["seed"], "weights")):
        try:
            model = build(**arguments)
        except LandscapeError:
            raise
        except Exception as error:  # whatever the user's own code raises
            raise UsageError(f"model {name!r} raises {type(error).__name__}: {error}; --debug shows where") from error
        if not isinstance(model, nn.Module):
            raise UsageError(f"model {name!r} returned a {type(model).__name__}, not an nn.Module")
        if example is not None and any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
            _settle(model, example)
    return model, "norm" in arguments


def _settle(model: nn.Module, example: Example) -> None:
    """Give lazy parameters their shapes and values, in one forward pass that moves no running statistics."""
    flags = [(module, module.training) for module in model.modules()]
    with torch.no_grad():
        call(model.eval(), example)
    for module, flag in flags:
        module.training = flag


def _arguments(name: str, build: Callable[..., Any], given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What ``build`` is called with: what it accepts of ``given``, and all options, which it must accept."""
    signature = inspect.signature(build).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
        return given | options
    accepted = [p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    own = [key for key in accepted if key not in given]
    required = [p.name for p in signature if p.name in own and p.default is p.empty and p.name not in options]
    if unknown := [key for key in required if key in ("input_shape", "output_size")]:
        raise UsageError(
            f"model {name!r} needs {unknown[0]}, which this data does not tell: it does where a split is (x, y)"
        )
    if required:
        raise UsageError(f"model {name!r} needs the option {required[0]!r}, which was not given")
    for key in options:
        if key not in own:
            hint = nearest(key, own) if own else "it takes none"
            raise UsageError(f"model {name!r} has no option {key!r}; {hint}")
    return {key: value for key, value in given.items() if key in accepted} | options
