"""What ``doctor`` checks: numbers known in closed form, the no-trace promise, the PDF engine, the disk.

A check returns "" or what is wrong, in words.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def facts() -> dict[str, str]:
    """Versions, threads and devices."""
    import torch

    names = ("landscape-smoothness", "torch", "numpy", "scipy", "pandas", "matplotlib", "typst", "scikit-learn")
    found = {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
    found["threads"] = f"{torch.get_num_threads()} here, 1 in each run"
    found["cpu"] = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found["cuda"] = ", ".join(torch.cuda.get_device_name(index) for index in range(count)) or "none"
    return found


def quadratic() -> str:
    """L = w' H w / 2 with H = diag(1, 4) at w = (1, 1): along g = (1, 4), beta = ||H g|| / ||g|| = sqrt(257 / 17)."""
    import torch
    from torch import nn

    from landscape.probes.gradient_path import gradient_path

    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(model.weight)
    curvatures = torch.tensor([1.0, 4.0], dtype=torch.float64)

    def loss_fn(model: nn.Module, batch: object) -> torch.Tensor:
        weight = next(model.parameters())
        return (curvatures * weight.square()).sum() / 2

    path = gradient_path(model, loss_fn, None, [0.01, 0.1, 0.3])
    return _compare(path.smoothness, torch.full_like(path.smoothness, (257 / 17) ** 0.5), 1e-10)


def deep_linear() -> str:
    """L = (b a x - y)^2 with a = 2, b = 3, x = 1, y = 4: dL/da = 2 (6 - 4) b = 12, dL/db = 2 (6 - 4) a = 8."""
    import torch
    from torch import nn

    from landscape.models import build_model

    model = build_model("deep_linear", input_shape=(1,), output_size=1, layers=2, hidden=1).double()
    for parameter, value in zip(model.parameters(), (2.0, 3.0), strict=True):
        nn.init.constant_(parameter, value)
    loss = (model(torch.ones(1, 1, dtype=torch.float64)) - 4.0).square().sum()
    gradients = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    return _compare(gradients, torch.tensor([12.0, 8.0], dtype=torch.float64), 1e-12)


def theorem() -> str:
    """Santurkar's Theorem 4.1 as an identity, eps included, through torch's own batch normalization.

    ||dL/dy||^2 = gamma^2 / (var + eps) (||g||^2 - <1, g>^2 / m - (2 - rho) <g, y_hat>^2 / m), g the gradient at the
    output and rho = var / (var + eps).
    """
    import torch

    from landscape.streams import stream

    draws = torch.randn(2, 32, 4, generator=stream(0, "doctor"), dtype=torch.float64)
    y, weights = draws[0].clone().requires_grad_(True), draws[1]
    gamma, eps, m = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64), 0.2, 32
    z = torch.nn.functional.batch_norm(y, None, None, gamma, torch.zeros_like(gamma), training=True, eps=eps)
    at_input, g = torch.autograd.grad((weights * z.square()).sum(), (y, z))
    variance, mean = torch.var_mean(draws[0], dim=0, correction=0)
    y_hat, rho = (draws[0] - mean) / (variance + eps).sqrt(), variance / (variance + eps)
    inner = g.square().sum(0) - g.sum(0).square() / m - (2 - rho) * (g * y_hat).sum(0).square() / m
    return _compare(at_input.square().sum(0), gamma.square() / (variance + eps) * inner, 1e-10)


def no_trace() -> str:
    """Parameters, buffers, gradients, flags and the random state are as found after a probe."""
    import torch
    from torch import nn

    from landscape.probes.gradient_path import gradient_path

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    x, y = torch.ones(6, 4).cumsum(0), torch.tensor([0, 1, 0, 1, 0, 1])

    def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    before = [value.clone() for value in model.state_dict().values()] + [torch.get_rng_state()]
    gradient_path(model, loss_fn, (x, y), [0.1, 1.0])
    after = [*model.state_dict().values(), torch.get_rng_state()]
    if not all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
        return "a probe moved the model or the random state"
    if any(p.grad is not None for p in model.parameters()) or not model.training:
        return "a probe left gradients or changed train()"
    return ""


def pdf() -> str:
    """The PDF engine compiles a page with the shipped fonts."""
    from landscape_reports.pdf import compile_typst

    with tempfile.TemporaryDirectory(prefix="landscape-doctor-") as folder:
        source = Path(folder) / "page.typ"
        source.write_text(
            '#set document(title: "check", date: none)\n#set text(font: "DejaVu Sans")\nfit', encoding="utf-8"
        )
        start = compile_typst(source)[:5]
    return "" if start == b"%PDF-" else f"no PDF came out, but {start!r}"


def writable(folder: Path) -> str:
    """The folder for runs can be written, and SQLite works in it; nothing is left behind."""
    from landscape.probes.base import Measurement
    from landscape.store import RunStore

    above = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not above.is_dir():
        return f"{above} is a file"
    with tempfile.TemporaryDirectory(prefix=".landscape-doctor-", dir=above) as name:
        with RunStore(Path(name) / "run") as store:
            store.append(0, 0.1, [Measurement("training", "loss", 2.5)])
            store.finish()
        values = store.frame()["value"].tolist()
    return "" if values == [2.5] else f"wrote 2.5 and read {values}"


#: What is checked -> the check.
CHECKS: dict[str, Callable[[], str]] = {
    "gradient path: beta of a quadratic is its closed form": quadratic,
    "deep linear net: its gradient is the one derived by hand": deep_linear,
    "Theorem 4.1 holds as an identity through torch's batch normalization": theorem,
    "a probe leaves no trace": no_trace,
    "the PDF engine compiles a page": pdf,
}


def _compare(measured: Tensor, expected: Tensor, tolerance: float) -> str:
    error = float(((measured - expected).abs() / expected.abs()).max())
    return "" if error <= tolerance else f"got {measured.tolist()}, expected {expected.tolist()}"
