"""What the tests of no trace share: a training's whole end, to be compared bit for bit."""

import random

import numpy as np
import pytest
import torch


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


@pytest.fixture
def same():
    """Whether two nests of tensors and values are the same, bit for bit."""
    return _same


@pytest.fixture
def ending():
    """Everything that a training leaves: weights, buffers, optimizer, gradients, flags, random states."""

    def of(model, optimizer):
        return {
            "parameters": {name: p.detach().clone() for name, p in model.named_parameters()},
            "buffers": {name: b.clone() for name, b in model.named_buffers()},
            "optimizer": optimizer.state_dict(),
            "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            "flags": [(m.training, [p.requires_grad for p in m.parameters(recurse=False)]) for m in model.modules()],
            "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().clone()),
        }

    return of


@pytest.fixture
def trained(ending):
    """Train a fresh model, with or without an Observer in the loop, and say how it ended."""

    def run(build, loss_fn, batches, observer=None, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        model = build()
        stepper = optimizer([p for p in model.parameters() if p.requires_grad])
        obs = None if observer is None else observer(model, stepper)
        for batch in batches if obs is None else obs.watch(batches):
            stepper.zero_grad()
            loss_fn(model, batch).backward()
            stepper.step()
        return ending(model, stepper)

    return run
