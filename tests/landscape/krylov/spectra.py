"""Matrices whose spectrum was chosen, and how many bytes of vectors are alive."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def matrix(spectrum, seed=0):
    """A symmetric matrix with this spectrum and random eigenvectors."""
    spectrum = torch.as_tensor(spectrum, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64)).Q
    A = (Q * spectrum) @ Q.T
    return (A + A.T) / 2


def with_bulk(*outer, n=300):
    """A few outer eigenvalues and a bulk in [-0.1, 0.3]."""
    return [*outer, *torch.linspace(-0.1, 0.3, n - len(outer), dtype=torch.float64).tolist()]


class Live(TorchDispatchMode):
    """The most bytes that tensors of n numbers and more hold at a time."""

    def __init__(self, n):
        super().__init__()
        self.n, self.most, self.known = n, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for t in found if isinstance(found, tuple | list) else [found]:
            if isinstance(t, torch.Tensor) and t.untyped_storage().nbytes() >= 8 * self.n:
                self.known[id(t)] = weakref.ref(t)
        alive = [t for t in (ref() for ref in self.known.values()) if t is not None]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
        self.most = max(self.most, sum(storages.values()))
        return found
