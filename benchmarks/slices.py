"""loss_slice beside its floor and beside what public code does, in one run and one thread.

    python benchmarks/slices.py

Floor: N^2 bare forward passes of the same model and batches. Two naive ways are written down here after public
code, each for the same plane and the same N^2 losses:

- "reload" (tomgoldstein/loss-landscape, net_plotter.set_weights and evaluation.eval_loss): every point makes the
  weights w + x d1 + y d2 anew, copies them into the network parameter by parameter, and evaluates in eval mode,
  reading each batch's loss as a Python number and counting correct predictions, which that code always does.
- "copies" (loss-landscapes, random_plane): walks the grid by adding steps to copies of the model's parameters,
  one deep copy of the model for each row, and reads each loss as a Python number.

Their directions are ours, so that the losses can be compared, and they are compared with ours in float64. Processor
time of one thread, which other programs disturb less than the clock's, in rounds that alternate between the ways.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import landscape
from landscape.models import build_model

Batch = tuple[Tensor, Tensor]
GOALS = {"MLP": 0.65, "CNN": 1.02}


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def bare(model: nn.Module, batches: Sequence[Batch], grid: list[float]) -> None:
    with torch.no_grad():
        for _ in range(len(grid) ** 2):
            for batch in batches:
                loss_fn(model, batch)


def ours(model: nn.Module, batches: Sequence[Batch], axes: Tensor, grid: list[float]) -> Tensor:
    found = landscape.loss_slice(
        model,
        loss_fn,
        list(batches),
        directions=axes,
        points=len(grid),
        extent=grid[-1],
        statistics="running",
    )
    return found.loss


def reload(model: nn.Module, batches: Sequence[Batch], axes: Tensor, grid: list[float]) -> Tensor:
    sizes = [p.numel() for p in model.parameters()]
    dx, dy = ([d.view_as(p) for d, p in zip(a.split(sizes), model.parameters(), strict=True)] for a in axes)
    weights = [p.detach().clone() for p in model.parameters()]
    losses = torch.zeros(len(grid), len(grid))
    for i, x in enumerate(grid):
        for j, y in enumerate(grid):
            changes = [d0 * x + d1 * y for d0, d1 in zip(dx, dy, strict=True)]
            for p, w, d in zip(model.parameters(), weights, changes, strict=True):
                p.data = w + d
            model.eval()
            total, correct, count = 0.0, 0, 0
            with torch.no_grad():
                for inputs, labels in batches:
                    outputs = model(inputs)
                    total += nn.functional.cross_entropy(outputs, labels).item() * len(labels)
                    correct += outputs.max(1)[1].eq(labels).sum().item()
                    count += len(labels)
            losses[i, j] = total / count
    for p, w in zip(model.parameters(), weights, strict=True):
        p.data = w
    return losses


def copies(model: nn.Module, batches: Sequence[Batch], axes: Tensor, grid: list[float]) -> Tensor:
    sizes = [p.numel() for p in model.parameters()]
    dx, dy = ([d.view_as(p) for d, p in zip(a.split(sizes), model.parameters(), strict=True)] for a in axes)
    step = grid[1] - grid[0]
    losses = torch.zeros(len(grid), len(grid))
    row = copy.deepcopy(model).eval()
    with torch.no_grad():
        for p, d0, d1 in zip(row.parameters(), dx, dy, strict=True):
            p.add_(grid[0] * (d0 + d1))
        for i in range(len(grid)):
            point = copy.deepcopy(row)
            for j in range(len(grid)):
                losses[i, j] = sum(loss_fn(point, b).item() * len(b[1]) for b in batches)
                for p, d in zip(point.parameters(), dy, strict=True):
                    p.data = p + step * d
            for p, d in zip(row.parameters(), dx, strict=True):
                p.data = p + step * d
    return losses / sum(len(b[1]) for b in batches)


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(name: str, model: nn.Module, batches: Sequence[Batch], points: int, rounds: int) -> None:
    model.eval()
    start = [p.detach() for p in model.parameters()]
    draws = torch.randn(2, sum(p.numel() for p in start), generator=torch.Generator().manual_seed(0))
    axes = draws * torch.cat([p.flatten() for p in start]).norm() / draws.norm(dim=1, keepdim=True)
    grid = torch.linspace(-0.5, 0.5, points, dtype=torch.float64).tolist()
    works: dict[str, Callable[[], object]] = {
        "floor": lambda: bare(model, batches, grid),
        "ours": lambda: ours(model, batches, axes, grid),
        "reload": lambda: reload(model, batches, axes, grid),
        "copies": lambda: copies(model, batches, axes, grid),
    }
    exact = ours(copy.deepcopy(model).double(), [(x.double(), y) for x, y in batches], axes.double(), grid)
    errors = {key: (works[key]() - exact).abs().max() / exact.abs().max() for key in ("ours", "reload", "copies")}
    assert max(errors.values()) < 1e-4, errors
    times: dict[str, list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            times[key].append(timed(work))
    size = f"{len(batches)} x {len(batches[0][1])} examples, N = {points}, {draws.shape[1]:,} parameters"
    print(f"\n{name}, {size}")
    for key, values in times.items():
        ratios = [v / f for v, f in zip(values, times["floor"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        error = f"   float32 error {float(errors[key]):.1e}" if key in errors else ""
        print(
            f"  {key:6} {statistics.median(values) * 1e3:9.1f} ms   {middle:5.2f} x floor "
            f"({low:.2f} to {high:.2f}){error}"
        )
    print(f"  goal for ours: <= {GOALS[name.split()[0]]:.2f} x floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def batches(count: int, shape: Sequence[int]) -> list[Batch]:
        return [
            (torch.randn(128, *shape, generator=generator), torch.randint(0, 10, (128,), generator=generator))
            for _ in range(count)
        ]

    mlp = build_model("mlp", input_shape=(784,), output_size=10, hidden=[256, 256, 256])
    vgg = build_model("vgg", norm="batch", width=4, input_shape=(3, 32, 32), output_size=10)
    print(
        f"torch {torch.__version__}, one thread, {rounds} rounds; floor = N^2 bare forward passes; quartiles of ratios"
    )
    compare("MLP 784-3x256-10", mlp, batches(1, (784,)), 15, rounds)
    compare("MLP 784-3x256-10", mlp, batches(8, (784,)), 7, rounds)
    compare("CNN VGG-A/4 + BN", vgg, batches(1, (3, 32, 32)), 5, rounds)


if __name__ == "__main__":
    main()
