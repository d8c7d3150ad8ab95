"""Memory stated before it is spent: what a solve takes, where it fits, and a clear error where it does not."""

from __future__ import annotations

from pathlib import Path

import torch

from landscape.errors import ProbeError
from landscape.krylov.eigen import default_capacity, smallest_capacity

#: Of what is free, this much is taken at most unless a limit is given.
SHARE = 0.5
#: Vectors beside the basis while it grows: the pending ones, a product, its blocks. At the end, instead, the result.
BESIDE = 4
#: Vectors where there is no basis: two, a product, its blocks. In the second pass, the result as well.
RECURRENCE = 4


def available(device: torch.device) -> float:
    """Bytes free on a device; infinity where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    table = Path("/proc/meminfo")
    if device.type != "cpu" or not table.exists():
        return float("inf")
    lines = dict(line.split(":") for line in table.read_text().splitlines() if ":" in line)
    return 1024.0 * float(lines["MemAvailable"].split()[0]) if "MemAvailable" in lines else float("inf")


def allowed(device: torch.device, limit: float | None) -> float:
    """Bytes that may be taken on a device: the limit, or half of what is free."""
    return SHARE * available(device) if limit is None else float(limit)


def vectors_bytes(n: int, vectors: int, dtype: torch.dtype) -> int:
    """Bytes of so many vectors of length n.

    >>> vectors_bytes(1000, 3, torch.float32)
    12000
    """
    return n * vectors * dtype.itemsize


def place(
    n: int, wanted: int, least: int, dtype: torch.dtype, device: torch.device, limit: float | None, offload: bool | None
) -> tuple[torch.device, int]:
    """Where to keep up to ``wanted`` vectors of length n, and how many.

    On the model's device if all fit there; else on the CPU; else fewer of them, wherever more fit.

    Args:
        n: length of a vector.
        wanted: vectors.
        least: fewer are of no use.
        dtype: of the vectors.
        device: of the model.
        limit: bytes that may be taken; half of what is free if None.
        offload: True: on the CPU; False: on the model's device; None: as above.

    Raises:
        ProbeError: not even ``least`` fit.
    """
    cpu = torch.device("cpu")
    places = {None: [device, cpu], True: [cpu], False: [device]}[offload]
    room = [int(min(wanted, allowed(where, limit) // vectors_bytes(n, 1, dtype))) for where in places]
    best = max(range(len(places)), key=lambda i: room[i])  # the first of equals: the model's own device
    if room[best] < least:
        gib = vectors_bytes(n, least, dtype) / 2**30
        raise ProbeError(
            f"{least} vectors of {n:,} numbers need {gib:.3g} GiB, and {allowed(places[best], limit) / 2**30:.3g} GiB "
            f"may be taken on {places[best]}: restrict w with parameters= or layers=, ask for fewer eigenpairs or "
            "products, or raise memory_limit="
        )
    return places[best], room[best]


def most_vectors(n: int, k: int, max_basis: int | None) -> int:
    """Vectors that a solve for k eigenpairs takes at most.

    >>> most_vectors(1000, 5, None), most_vectors(1000, 5, 9), most_vectors(1000, 5, 0)
    (73, 14, 9)
    """
    if max_basis == 0:
        return RECURRENCE + k
    capacity = default_capacity(n, k) if max_basis is None else min(max_basis, n)
    return capacity + max(BESIDE, k)


def room(
    n: int,
    k: int,
    max_basis: int | None,
    dtype: torch.dtype,
    device: torch.device,
    limit: float | None,
    offload: bool | None,
) -> tuple[torch.device, int, int]:
    """Where to solve for k eigenpairs, vectors that the basis may have, 0 for none, and eigenvectors to make.

    Raises:
        ProbeError: not even the eigenvalues can be found.
    """
    where, vectors = place(n, most_vectors(n, k, max_basis), RECURRENCE, dtype, device, limit, offload)
    beside = max(BESIDE, k)
    if max_basis == 0 or vectors < smallest_capacity(n, k) + beside:
        return where, 0, min(k, vectors - RECURRENCE)
    return where, vectors - beside, k
