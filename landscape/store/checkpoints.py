"""Checkpoints: tensors and plain Python as bytes, and back, without running any code of the file."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UsageError

_PLAIN = {str, bytes, int, float, bool, complex, type(None), Tensor, nn.Parameter}
_PLAIN |= {torch.dtype, torch.Size, torch.device}


def pack(state: dict[str, Any]) -> bytes:
    """A checkpoint as bytes.

    Raises:
        UsageError: if something in it is neither a tensor nor plain Python (it could not be read back
            with ``weights_only=True``); the message names where.
    """
    _check(state, "checkpoint")
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def unpack(data: bytes) -> dict[str, Any] | None:
    """The checkpoint that ``pack`` wrote, on the CPU, or None if it can't be read."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return state if isinstance(state, dict) else None


def digest(data: bytes) -> str:
    """SHA-256 of a checkpoint: torch.load itself does not notice a flipped bit in a tensor."""
    return hashlib.sha256(data).hexdigest()


def _check(value: Any, where: str) -> None:
    # By exact type: np.float64 is a float, yet it is not read back.
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check(key, f"{where} key {key!r}")
            _check(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for position, item in enumerate(value):
            _check(item, f"{where}[{position}]")
    elif type(value) not in _PLAIN:
        raise UsageError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}; a checkpoint holds tensors and "
            "plain Python (numbers, strings, lists, tuples, dicts) only: convert it, e.g. float(x) or torch.tensor(x)"
        )
