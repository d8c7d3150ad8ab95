"""What every normalization keeps, in a block of a network: one more line in the dict is covered by all of this."""

from __future__ import annotations

import copy
import doctest
import io
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.errors import UsageError
from landscape.imports import load_object
from landscape.models import build_model
from landscape.models.blocks import block, initialized
from landscape.normalization import NORMALIZATIONS, Normalization, normalization, units_last

LAYOUTS = {"vectors": 2, "sequences": 3, "images": 4}
NAMES = list(NORMALIZATIONS)


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(7)


def network(name: str, layout: str) -> nn.Module:
    """A normalized block of 4 units in float64, with parameters that are not the initial ones."""
    linear = {
        "vectors": lambda: nn.Linear(6, 4),
        "sequences": lambda: nn.Conv1d(3, 4, 3, padding=1),
        "images": lambda: nn.Conv2d(3, 4, 3, padding=1),
    }[layout]()
    layers = OrderedDict(layer=block(linear, name, 4, LAYOUTS[layout], "relu"))
    model = initialized(nn.Sequential(layers), None, seed=0).double()
    generator = torch.Generator().manual_seed(3)
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return model


def inputs(layout: str, batch: int, seed: int = 0) -> Tensor:
    shape = {"vectors": (6,), "sequences": (3, 5), "images": (3, 4, 4)}[layout]
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + torch.randn(batch, *shape, generator=generator, dtype=torch.float64)


def defined(entry: Normalization, layout: str, batch: int, training: bool) -> bool:
    """What ``needs`` says, for batches that have 4x4 positions as images and 5 steps as sequences."""
    if entry.needs.startswith("nothing"):
        return True
    assert entry.needs.startswith("at least 2 ")
    if "positions in space" in entry.needs:
        return layout != "vectors"
    several = layout == "images" or (layout == "sequences" and "and step" not in entry.needs)
    return not training or batch > 1 or several


def check_values_and_derivatives(name: str, layout: str, training: bool, batch: int) -> None:
    """Finite outputs, gradients and Hessian-vector products, or the refusal that the facts announce."""
    x = inputs(layout, batch)
    if not defined(normalization(name), layout, batch, training):
        with pytest.raises(UsageError, match=r"one value per unit in training.*drop_last=True|acts nowhere"):
            network(name, layout).train(training)(x)
        return
    model = network(name, layout).train(training)
    y = model(x)
    assert y.shape == (batch, 4, *x.shape[2:])
    assert torch.isfinite(y).all()
    parameters = [*model.parameters()]
    weights = torch.linspace(1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    gradients = torch.autograd.grad((y.square() * weights).sum(), parameters, create_graph=True)
    product = torch.autograd.grad(sum(g.sum() for g in gradients), parameters, allow_unused=True)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert all(torch.isfinite(h).all() for h in product if h is not None)
    assert any(h is not None and h.abs().max() > 0 for h in product)


class Held(TorchFunctionMode):
    """What a forward takes for constant, held at its values: results of ``detach`` and all that is under ``no_grad``.

    The first forward under it writes these values down; each later one gets them back, whatever its arguments. So the
    function that a normalization differentiates is one that finite differences can be taken of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] | None = None
        self.next = iter(())

    def __enter__(self) -> Held:
        self.seen: list[Tensor] = []
        self.next = iter(self.values or ())
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.values = self.seen if self.values is None else self.values
        assert next(self.next, None) is None  # each has been used

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        if not isinstance(out, Tensor) or not (name == "detach" or not torch.is_grad_enabled()):
            return out
        if self.values is None:
            self.seen.append(out.clone())
            return out
        kept = next(self.next)
        written = (name.endswith("_") and not name.endswith("__")) or (kwargs or {}).get("out") is out
        return torch.Tensor.copy_(out, kept) if written else kept.clone()


def check_gradients(name: str, layout: str, training: bool) -> None:
    """gradcheck of the values and of the gradients, in all parameters and the input.

    What a normalization holds constant in backward is held constant in the differences too.
    """
    model = network(name, layout)
    holds = training and bool(normalization(name).held)
    for seed in range(100 if holds else 1):  # running statistics other than the initial ones, schedules under way
        model(inputs(layout, 5, seed=seed + 1))
    model.train(training)
    names = [key for key, _ in model.named_parameters()]
    buffers = {key: value.clone() for key, value in model.named_buffers()}

    def forward(x: Tensor, *values: Tensor) -> Tensor:
        torch.manual_seed(11)  # the noise is a constant of the function that is differentiated
        state = dict(zip(names, values, strict=True)) | {key: value.clone() for key, value in buffers.items()}
        y = torch.func.functional_call(model, state, (x,))
        return y.square() * torch.linspace(1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)

    arguments = ((2 * inputs(layout, 3)).requires_grad_(), *model.parameters())
    differentiated = holding(forward, arguments) if holds else forward
    assert torch.autograd.gradcheck(differentiated, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(differentiated, arguments, fast_mode=True)


def holding(forward: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """``forward`` with the constants that it takes at ``arguments``: the same values and derivatives there."""
    mode = Held()

    def held(*values: Tensor) -> Tensor:
        with mode:
            return forward(*values)

    held(*arguments)
    assert mode.values
    itself, same = (torch.autograd.grad(f(*arguments).sum(), arguments) for f in (forward, held))
    assert all(torch.equal(a, b) for a, b in zip(itself, same, strict=True))
    return held


def check_copies(name: str, layout: str) -> None:
    """The same outputs from a loaded state, a deep copy and a pickled copy, which share nothing."""
    model, x = network(name, layout), inputs(layout, 5)
    model(x)
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    loaded = network(name, layout)
    for p in loaded.parameters():
        p.data.zero_()
    loaded.load_state_dict(torch.load(stored, weights_only=True))
    pickled = pickle.loads(pickle.dumps(model))
    for training in (True, False):
        expected = seeded_output(copy.deepcopy(model).train(training), x)
        for other in (loaded, pickled, pickle.loads(pickle.dumps(pickled)), copy.deepcopy(pickled)):
            assert torch.equal(seeded_output(copy.deepcopy(other).train(training), x), expected)
    for p in [*loaded.parameters(), *pickled.parameters()]:
        p.data.zero_()
    assert any(p.any() for p in model.parameters())


def seeded_output(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    return model(x)


def check_functional_call(name: str, layout: str) -> None:
    """Parameters and buffers are taken from outside, and it is these that a forward moves."""
    model, x = network(name, layout), inputs(layout, 5)
    before = copy.deepcopy(model.state_dict())
    own = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(1)
    y = torch.func.functional_call(model, own, (x,))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert torch.equal(y, seeded_output(model, x))
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key])


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_finite_in_values_and_two_derivatives_or_refused(name, layout, training, batch):
    check_values_and_derivatives(name, layout, training, batch)


DEFINED = [(name, layout) for name in NAMES for layout in LAYOUTS if defined(NORMALIZATIONS[name], layout, 5, True)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "layout"), DEFINED)
def test_gradients_are_those_of_the_values(name, layout, training):
    check_gradients(name, layout, training)


@pytest.mark.parametrize(("name", "layout"), DEFINED)
def test_saving_copying_and_pickling(name, layout):
    check_copies(name, layout)


@pytest.mark.parametrize(("name", "layout"), DEFINED)
def test_functional_call(name, layout):
    check_functional_call(name, layout)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_states_its_facts_under_its_own_name(name):
    entry = NORMALIZATIONS[name]
    assert entry.name == name
    assert all([entry.formula, entry.source, entry.over])
    assert entry.needs.startswith(("nothing", "at least 2 "))
    assert normalization(name) is entry


@pytest.mark.parametrize("name", NAMES)
def test_float32_in_float32_out_and_the_same_in_eval_twice(name):
    model = network(name, "images").float()
    x = inputs("images", 3).float()
    assert model(x).dtype == torch.float32
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_over_the_batch_treats_each_sample_alone(name):
    """Also: what is over the batch does not."""
    entry = NORMALIZATIONS[name]
    model, x = network(name, "images"), inputs("images", 3)
    if name in ("noise", "selu:0.05"):
        model.eval()
    together = copy.deepcopy(model)(x)
    alone = torch.cat([copy.deepcopy(model)(x[i : i + 1]) for i in range(3)])
    over_batch = entry.over.startswith("batch")
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-12) == (not over_batch)


@pytest.mark.parametrize("name", NAMES)
def test_units_last_is_the_same_function_with_units_last(name):
    y = torch.randn(3, 4, 5, dtype=torch.float64)
    norm = normalization(name).build(4, 3).double().eval()
    assert torch.equal(units_last(norm)(y.transpose(1, 2)).transpose(1, 2), norm(y))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("batch-per-step", "instance", "filter-response")])
def test_a_step_of_a_sequence_is_a_vector_where_statistics_are_not_over_time(name):
    """Within a sample: nothing of the future reaches the past. In eval, over the batch too."""
    model = network(name, "sequences").eval()
    norm, activation = model.layer.norm, model.layer.activation
    y = torch.randn(3, 4, 5, dtype=torch.float64)
    steps = torch.stack([activation(norm(y[:, :, t : t + 1]))[:, :, 0] for t in range(5)], 2)
    assert torch.allclose(activation(norm(y)), steps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, entry in NORMALIZATIONS.items() if entry.linear is not None])
def test_normalizations_of_weights_refuse_what_they_are_not_for(name):
    normalize = NORMALIZATIONS[name].linear
    with pytest.raises(UsageError, match="linear maps and convolutions, not in a Bilinear"):
        normalize(nn.Bilinear(2, 2, 2))
    with pytest.raises(UsageError, match="parametrized already"):
        normalize(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))


def test_the_normalization_of_the_guide_passes_all_of_this(tmp_path, monkeypatch):
    guide = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    section = guide.partition("\n## A normalization\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    (tmp_path / "guide_mean_only.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    entry = load_object("guide_mean_only:MEAN_ONLY")
    name, constant = re.findall(r'^    "([^"]+)": (\w+),$', section, re.MULTILINE)[0]
    assert (entry.name, constant) == ("mean-only", "MEAN_ONLY")
    examples = doctest.testmod(sys.modules["guide_mean_only"])
    assert (examples.attempted, examples.failed) == (1, 0)
    monkeypatch.setitem(NORMALIZATIONS, name, entry)

    for layout in LAYOUTS:
        for training in (True, False):
            check_gradients(name, layout, training)
            for batch in (1, 2, 16):
                check_values_and_derivatives(name, layout, training, batch)
        check_copies(name, layout)
        check_functional_call(name, layout)
    model = build_model("mlp", norm=name, input_shape=(4,), output_size=2, hidden=[3])
    assert type(model.fc1.norm).__name__ == "MeanOnlyNorm"
    y = torch.randn(6, 3) + 2
    assert torch.allclose(model.fc1.norm(y), y - y.mean(0))
