"""Named random streams: each use of randomness has its own, derived from (seed, name) alone.

Adding an arm, a probe or a normalization that draws numbers therefore changes nothing else:
no stream is ever advanced by somebody else's draw.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, name: str) -> int:
    """The 63-bit seed of the stream called ``name``: the head of SHA-256("seed/name").

    >>> stream_seed(0, "weights") == stream_seed(0, "weights") != stream_seed(0, "order")
    True
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str) -> torch.Generator:
    """A fresh CPU generator for the stream called ``name``; draws are moved to a device after drawing.

    >>> a, b = stream(0, "order"), stream(0, "order")
    >>> bool((torch.randperm(5, generator=a) == torch.randperm(5, generator=b)).all())
    True
    """
    generator = torch.Generator()
    generator.manual_seed(stream_seed(seed, name))
    return generator
