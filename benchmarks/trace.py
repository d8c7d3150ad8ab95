"""The Hessian's trace at 60 products: RMS error of hessian_trace over that of Hutchinson, 40 replicates each.

    python benchmarks/trace.py

Networks on digits, trained for a while and at initialization. Hutchinson: the mean of w'Hw over 60 random sign
vectors. Truth: exact, by n products, for the MLP; for the convolutional net XTrace with 1,000 products, whose own
standard error is printed. Both see the same kept graph; the count of products is the cost.

What a subspace can give at all is printed beside it. Whoever takes 30 directions out of H, on both sides, and has 30
products left for the rest H', is left with an error of sqrt(2) ||H'||_F / ||H||_F of Hutchinson's; and by Cauchy's
interlacing ||H'||_F^2 is at least the sum of the squared eigenvalues without the 30 largest and the 30 smallest.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from landscape.krylov import TraceEstimate, eigenpairs, trace
from landscape.models import build_model
from landscape.products import CurvatureOperator, curvature_operator

PRODUCTS = 60
GOALS = {True: 1 / 3, False: 1.3}
Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def digits(shape: tuple[int, ...]) -> Batch:
    from sklearn.datasets import load_digits

    source = load_digits()
    x = torch.tensor(source.images[:1024], dtype=torch.float32)[:, None] / 16
    x = (x - x.mean()) / x.std()
    if len(shape) == 3:
        x = nn.functional.interpolate(x, size=shape[1:], mode="bilinear").expand(-1, shape[0], -1, -1)
    return x.reshape(1024, *shape).contiguous(), torch.tensor(source.target[:1024])


def train(model: nn.Module, data: Batch, steps: int, rate: float) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    order = torch.Generator().manual_seed(1)
    for _ in range(steps):
        index = torch.randint(0, len(data[1]), (64,), generator=order)
        optimizer.zero_grad()
        loss_fn(model, (data[0][index], data[1][index])).backward()
        optimizer.step()


def signs(n: int, seed: int) -> Iterator[Tensor]:
    """60 Rademacher vectors."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(PRODUCTS):
        yield torch.randint(0, 2, (n,), generator=generator).float() * 2 - 1


def hutchinson(product: Callable[[Tensor], Tensor], n: int, seed: int) -> float:
    """What the other tools do: the mean of w'Hw."""
    return statistics.fmean(float(w.double() @ product(w).double()) for w in signs(n, seed))


def least_with_subspace(H: CurvatureOperator, n: int) -> float:
    """The least error over Hutchinson's that 30 directions, even the best ones known for nothing, leave."""
    found = [
        eigenpairs(H, n, PRODUCTS // 2, tol=0.01, which=which, verify=False, dtype=H.dtype)
        for which in ("largest", "smallest")
    ]
    V = torch.linalg.qr(torch.cat([pairs.vectors for pairs in found]).T.double()).Q
    outside = (w.double() - V @ (V.T @ w.double()) for w in signs(n, 777))
    rest = statistics.fmean(float(H(w.float()).double().square().sum()) for w in outside)
    taken = sum(float(pairs.values.square().sum()) for pairs in found)
    return math.sqrt(2.0 * rest / (rest + taken))


def true_trace(H: CurvatureOperator, n: int) -> TraceEstimate:
    return trace(H, n, n if n < 20_000 else 1_000, method="xtrace", seed=12345, dtype=H.dtype)


def rms(errors: list[float]) -> float:
    return math.sqrt(statistics.fmean(x * x for x in errors))


def compare(name: str, model: nn.Module, batch: Batch, trained: bool, replicates: int) -> None:
    with curvature_operator(model, loss_fn, batch) as H:
        n = H.parameters.numel
        true = true_trace(H, n)
        found = [trace(H, n, PRODUCTS, seed=seed, dtype=H.dtype) for seed in range(replicates)]
        theirs = [hutchinson(H, n, seed) - true.value for seed in range(replicates)]
        least = least_with_subspace(H, n)
    errors = [estimate.value - true.value for estimate in found]
    ratio = rms(errors) / rms(theirs)
    stated = rms([estimate.standard_error for estimate in found]) / rms(errors)
    methods = {estimate.method for estimate in found}
    print(
        f"{name}, {'trained' if trained else 'at initialization'}: {n:,} parameters, trace {true.value:.5g} "
        f"({true.method}, standard error {true.standard_error:.1g})\n"
        f"  RMS error: ours {rms(errors):.3g} ({', '.join(sorted(methods))}), Hutchinson {rms(theirs):.3g}; "
        f"ours / Hutchinson {ratio:.3f} (goal <= {GOALS[trained]:.2f}); stated / real error {stated:.2f}\n"
        f"  no {PRODUCTS // 2} directions can give less than {least:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="replicates of each estimate")
    parser.add_argument("--only", default="", help="networks whose name begins with this")
    options = parser.parse_args()
    replicates = options.rounds
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {PRODUCTS} products, {replicates} replicates")
    cases = [
        ("MLP 64-3x64-10", lambda: build_model("mlp", input_shape=(64,), output_size=10, hidden=[64] * 3), (64,), 128),
        (
            "VGG-A/16 + BN",
            lambda: build_model("vgg", norm="batch", width=16, input_shape=(3, 32, 32), output_size=10),
            (3, 32, 32),
            32,
        ),
    ]
    for name, build, shape, size in cases:
        if not name.startswith(options.only):
            continue
        torch.manual_seed(0)
        model, data = build(), digits(shape)
        batch = (data[0][:size], data[1][:size])
        compare(name, model, batch, False, replicates)
        train(model, data, 100, 0.03)
        compare(name, model, batch, True, replicates)


if __name__ == "__main__":
    main()
