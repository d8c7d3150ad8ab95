"""On a GPU: the same numbers as on the CPU, no synchronisation inside first-order probes, no trace. Needs one."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import landscape
from landscape.models import build_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZES = [0.05, 0.1, 0.2]
Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(params=["mlp", "vgg"])
def pair(request: pytest.FixtureRequest) -> tuple[tuple[nn.Module, Batch], tuple[nn.Module, Batch]]:
    """The same network and batch on the CPU and on the GPU."""
    options = {"vgg": {"width": 16}, "mlp": {"hidden": [64, 64]}}[request.param]
    model = build_model(request.param, norm="batch", input_shape=(3, 32, 32), output_size=10, **options)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(64, 3, 32, 32, generator=generator), torch.randint(0, 10, (64,), generator=generator)
    return (model, batch), (copy.deepcopy(model).cuda(), tuple(t.cuda() for t in batch))


def test_first_order_measures_agree_with_the_cpu(pair) -> None:
    found = []
    for model, batch in pair:
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        path = landscape.gradient_path(model, loss_fn, batch, SIZES)
        shift = landscape.covariate_shift(model, loss_fn, batch, sgd)
        statistics = landscape.activation_statistics(model, loss_fn, batch)
        sites = [value for site in statistics.sites for value in (site.mean, site.std)]
        sweep = [path.loss, path.gradient_distance, path.cosine, path.smoothness, path.secant_slope]
        found.append([*sweep, shift.distance, shift.cosine, *sites])
    for cpu, gpu in zip(*found, strict=True):
        torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-3, atol=1e-3 * float(cpu.abs().max()))


def test_first_order_probes_do_not_synchronise(pair) -> None:
    _, (model, batch) = pair
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def probe() -> None:
        landscape.gradient_path(model, loss_fn, batch, SIZES)
        landscape.gradient_path(model, loss_fn, batch, SIZES, direction="random")
        landscape.covariate_shift(model, loss_fn, batch, sgd)
        landscape.activation_statistics(model, loss_fn, batch)

    probe()  # what is only ever done once (kernels chosen, memory found) may synchronise
    torch.cuda.set_sync_debug_mode("error")
    try:
        probe()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_training_on_a_gpu_is_the_same_with_probes(pair) -> None:
    _, (start, batch) = pair
    ends = []
    for probes in ([], ["gradient_path", "covariate_shift", "activations", "curvature"]):
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.cuda.manual_seed(0)
        model = nn.Sequential(nn.Dropout(0.1), copy.deepcopy(start))
        sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        observer = landscape.Observer(model, loss_fn, probes, every=1, optimizer=sgd, strict=True)
        for _ in range(3):
            sgd.zero_grad()
            loss_fn(model, batch).backward()
            observer.step(batch)
            sgd.step()
        ends.append([*model.parameters(), *model.buffers(), torch.cuda.get_rng_state()])
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
