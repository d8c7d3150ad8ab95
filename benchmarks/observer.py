"""What an Observer at every=10 adds to training: the probes' own floor, what they take beyond it, and the Observer.

    python benchmarks/observer.py

Three trainings of the same network alternate in rounds: bare, with an Observer, and with one that writes a run folder.
Floor: as many bare forward+backward passes as the probes need points (9 for the gradient path, 3 for a curvature
product). The Observer's own part is the time inside ``step`` that is not inside a probe. The same probes are called
alone as well, as often, at the end of each round: what they take more in a loop is what the loop costs them. Times are
the process's own CPU seconds in one thread, so that a busy machine disturbs less (it still shares caches and memory);
each round gives one ratio, their median is printed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import landscape
from landscape.models import build_model
from landscape.probes import build_probe

EVERY, STEPS, RATE = 10, 20, 0.01
PASSES = {"gradient_path": 9, "curvature": 3}
GOAL = 0.03
Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


class Training:
    """A network and its optimizer; the same in every variant, whatever the others did."""

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.model = copy.deepcopy(model)
        self.batch = batch
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=0.9)

    def run(self, before_step: Callable[[int], object] = lambda step: None) -> float:
        """Twenty steps; the CPU seconds that they took."""
        start = time.process_time()
        for step in range(STEPS):
            self.optimizer.zero_grad()
            loss_fn(self.model, self.batch).backward()
            before_step(step)
            self.optimizer.step()
        return time.process_time() - start


class Clocked:
    """A probe that adds up its own CPU seconds."""

    def __init__(self, name: str) -> None:
        self._probe = build_probe(name)
        self.name, self.version, self.seconds = name, self._probe.version, 0.0

    def measure(self, moment: landscape.Moment) -> list[landscape.Measurement]:
        """Measure, by the clock."""
        start = time.process_time()
        rows = list(self._probe.measure(moment))
        self.seconds += time.process_time() - start
        return rows


class Observed(Training):
    """The same with an Observer; adds up what its steps and its probes take."""

    def __init__(self, model: nn.Module, batch: Batch, probes: list[str], to: Path | None = None) -> None:
        super().__init__(model, batch)
        self._clocked = [Clocked(name) for name in probes]
        self._observer = landscape.Observer(
            self.model, loss_fn, self._clocked, every=EVERY, optimizer=self.optimizer, to=to, strict=True
        )
        self._steps = 0.0

    def _step(self, _: int) -> None:
        start = time.process_time()
        self._observer.step(self.batch)
        self._steps += time.process_time() - start

    def alone(self) -> float:
        """CPU seconds of as many measurements as a training has, one after another and outside of it."""
        rate = self.optimizer.param_groups[0]["lr"]
        moment = landscape.Moment(self.model, loss_fn, self.batch, 0, self.optimizer, rate, {})
        start = time.process_time()
        for probe in self._clocked * (STEPS // EVERY):
            probe.measure(moment)
        return time.process_time() - start

    def parts(self) -> tuple[float, float, float]:
        """Seconds of the whole training, of the Observer's steps, and of the probes in them."""
        self._steps = 0.0
        for probe in self._clocked:
            probe.seconds = 0.0
        whole = self.run(self._step)
        return whole, self._steps, sum(probe.seconds for probe in self._clocked)


def bare_pass(training: Training) -> float:
    """CPU seconds of one forward+backward of the same model and batch."""
    parameters = list(training.model.parameters())
    start = time.process_time()
    for _ in range(STEPS):
        torch.autograd.grad(loss_fn(training.model, training.batch), parameters)
    return (time.process_time() - start) / STEPS


def compare(name: str, model: nn.Module, batch: Batch, probes: list[str], rounds: int) -> None:
    passes = sum(PASSES[probe] for probe in probes) * STEPS / EVERY
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bare, observed = Training(model, batch), Observed(model, batch, probes)
        written = Observed(model, batch, probes, Path(folder) / "run")
        for count in range(rounds + 1):  # the first warms up, and has the check that the loss repeats
            without, floor = bare.run(), passes * bare_pass(bare)
            whole, steps, inside = observed.parts()
            _, steps_written, inside_written = written.parts()
            alone = observed.alone()
            found = {
                "training with the Observer over training without": whole / without,
                "  the probes' floor": floor / without,
                "  the rest": (steps - floor) / without,
                "    of it the probes, beyond their floor": (inside - floor) / without,
                "      called alone, beyond their floor": (alone - floor) / without,
                "    of it the Observer": (steps - inside) / without,
                "  the Observer where it writes a run folder": (steps_written - inside_written) / without,
                "the probes in floors, in the loop": inside / floor,
                "the probes in floors, alone": alone / floor,
            }
            for words, value in found.items():
                ratios.setdefault(words, []).extend([value] if count else [])
    print(f"\n{name}, batch {len(batch[1])}, probes {' and '.join(probes)} every {EVERY} steps")
    for words, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        goal = f" (goal <= {GOAL:.2f})" if words == "  the rest" else ""
        print(f"  {words:52} {middle:7.4f}   quartiles {low:7.4f} to {high:7.4f}{goal}")


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
    vgg = build_model("vgg", norm="batch", width=8, input_shape=(3, 32, 32), output_size=10)
    print(f"torch {torch.__version__}, one thread, {rounds} rounds of {STEPS} steps")
    compare("VGG-A/8 + BN", vgg, (images, labels), ["gradient_path"], rounds)
    compare("VGG-A/8 + BN", vgg, (images, labels), ["curvature"], rounds)
    compare("MLP 784-3x256-10", mlp, (flat, labels), ["gradient_path"], rounds)


if __name__ == "__main__":
    main()
