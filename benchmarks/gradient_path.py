"""gradient_path beside its floor and beside what public code does, in one run and one thread.

    python benchmarks/gradient_path.py

Floor: K + 1 bare forward+backward passes of the same model and batch. Naive: copy the model for every
step size, one loop for losses and one for gradients. Timed in rounds that alternate between the three,
so that a slower moment of the machine meets all of them; the ratio of the medians is printed.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import landscape
from landscape.models import build_model

K = 10
GOALS = {"MLP 784-3x256-10": (1.20, 1.75), "VGG-A/4 + BN": (1.10, 1.4)}


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def bare(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    torch.autograd.grad(loss_fn(model, batch), list(model.parameters()))


def naive(model: nn.Module, batch: tuple[Tensor, Tensor], sizes: list[float]) -> tuple[list[float], list[float]]:
    """What public figure-4 code does: a deep copy per point, a loop for losses, a loop for gradients."""
    g = torch.autograd.grad(loss_fn(model, batch), list(model.parameters()))

    def moved(eta: float) -> nn.Module:
        other = copy.deepcopy(model)
        with torch.no_grad():
            for p, d in zip(other.parameters(), g, strict=True):
                p.sub_(eta * d)
        return other

    losses = [loss_fn(moved(eta), batch).item() for eta in sizes]
    distances = []
    for eta in sizes:
        other = moved(eta)
        h = torch.autograd.grad(loss_fn(other, batch), list(other.parameters()))
        distances.append(torch.cat([(a - b).flatten() for a, b in zip(h, g, strict=True)]).norm().item())
    return losses, distances


def ours(model: nn.Module, batch: tuple[Tensor, Tensor], sizes: list[float]) -> tuple[list[float], list[float]]:
    path = landscape.gradient_path(model, loss_fn, batch, sizes)
    return path.loss.tolist(), path.gradient_distance.tolist()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_extra(work: Callable[[], object]) -> float:
    """Peak resident memory of the work above what was resident before, MiB (Linux: resettable high-water mark)."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what an earlier work freed is used again and nothing seems to grow
    reset.write_text("5")
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def compare(name: str, model: nn.Module, batch: tuple[Tensor, Tensor], rounds: int) -> None:
    sizes = [0.1 * (0.5 * 8.0 ** (k / (K - 1))) for k in range(K)]
    a, b = naive(model, batch, sizes), ours(model, batch, sizes)
    # The naive way moves running statistics of its copies only, so both see the same batch statistics.
    torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-4, atol=1e-5)
    works = {
        "floor": lambda: [bare(model, batch) for _ in range(K + 1)],
        "naive": lambda: naive(model, batch, sizes),
        "ours": lambda: ours(model, batch, sizes),
    }
    for work in works.values():
        work()
    times: dict[str, list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            times[key].append(timed(work))
    middle = {key: statistics.median(values) for key, values in times.items()}
    memory = {key: peak_extra(work) for key, work in works.items()}
    ceiling, speedup = GOALS[name]
    print(f"\n{name}, batch {len(batch[1])}, K = {K}, {sum(p.numel() for p in model.parameters()):,} parameters")
    for key in works:
        print(
            f"  {key:6} {middle[key] * 1e3:9.1f} ms   {middle[key] / middle['floor']:5.2f} x floor"
            f"   peak extra {memory[key]:6.1f} MiB"
        )
    ratios = [o / f for o, f in zip(times["ours"], times["floor"], strict=True)]
    spread = statistics.quantiles(ratios, n=4)
    print(
        f"  ours/floor per round: quartiles {spread[0]:.3f} to {spread[2]:.3f} (goal <= {ceiling:.2f}); "
        f"naive/ours {middle['naive'] / middle['ours']:.2f} (goal >= {speedup:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (128,), generator=generator)
    flat = torch.randn(128, 784, generator=generator)
    images = torch.randn(128, 3, 32, 32, generator=generator)
    mlp = build_model("mlp", input_shape=(784,), output_size=10, hidden=[256, 256, 256])
    vgg = build_model("vgg", norm="batch", width=4, input_shape=(3, 32, 32), output_size=10)
    print(f"torch {torch.__version__}, one thread, {rounds} rounds; floor = {K + 1} bare forward+backward passes")
    compare("MLP 784-3x256-10", mlp, (flat, labels), rounds)
    compare("VGG-A/4 + BN", vgg, (images, labels), rounds)


if __name__ == "__main__":
    main()
