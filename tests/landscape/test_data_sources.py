"""Sources without files: digits, Gaussian regression, the user's own functions; and the way they are called."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landscape.data import DATA, Dataset, load_data, make_dataset
from landscape.errors import DataError, UsageError


def test_digits_are_split_once_for_all_seeds() -> None:
    from sklearn.datasets import load_digits

    first, second = load_data("digits", seed=0), load_data("digits", seed=7)
    assert first.train[0].shape == (1437, 1, 8, 8)
    assert first.test[0].shape == (360, 1, 8, 8)
    assert first.train[0].dtype == torch.float32
    for a, b in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
        assert torch.equal(a, b)
    assert first.checksum == second.checksum
    assert first.chance_loss == pytest.approx(math.log(10))
    classes = torch.cat([first.train[1], first.test[1]]).bincount().tolist()
    assert classes == np.bincount(load_digits().target).tolist()


def test_digits_are_standardized_by_the_training_split_and_every_image_is_there_once() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits")
    train = data.train[0].double()
    assert abs(train.mean().item()) < 1e-6
    assert train.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    original = load_digits().images
    both = torch.cat([data.train[0], data.test[0]]).double().numpy()[:, 0]
    slope = 16 / (both.max() - both.min())  # levels 0..16 were mapped by one straight line
    levels = np.round((both - both.min()) * slope).astype(int)
    assert sorted(map(tuple, levels.reshape(1797, -1))) == sorted(map(tuple, original.astype(int).reshape(1797, -1)))


def test_gaussian_regression_is_linear_and_its_chance_is_that_of_predicting_zero() -> None:
    data = load_data("gaussian-regression", seed=3)
    x, y = (t.double() for t in data.train)
    assert x.shape == y.shape == (200, 10)
    solution = torch.linalg.lstsq(x, y).solution  # A^T: the training data determine it
    np.testing.assert_allclose(data.test[1].numpy(), data.test[0].double() @ solution, atol=1e-4)
    assert data.chance_loss == pytest.approx(sum(float(v @ v) for v in y) / 200, rel=1e-12)
    assert (data.classes, data.output_size, data.input_shape) == (None, 10, (10,))
    assert not torch.equal(data.train[0], data.test[0])
    many = load_data("gaussian-regression", seed=3, samples=20_000)
    # E ||A x||^2 = ||A||_F^2; its relative standard error over 20,000 samples is below 1 %.
    assert many.chance_loss == pytest.approx(solution.square().sum().item(), rel=0.04)
    assert many.train[0].mean().abs().item() < 5 / math.sqrt(200_000)


def test_each_seed_has_its_own_gaussian_problem() -> None:
    one, same, other = (load_data("gaussian-regression", seed=s) for s in (1, 1, 2))
    assert torch.equal(one.train[1], same.train[1])
    assert one.checksum == same.checksum != other.checksum
    for wrong in ({"samples": 0}, {"dim": 2.5}, {"dim": True}):
        with pytest.raises(UsageError, match="positive whole number"):
            load_data("gaussian-regression", **wrong)


def test_loading_leaves_global_random_states_alone() -> None:
    legacy = np.random.mtrand._rand  # the generator behind numpy's global functions
    before = torch.get_rng_state(), legacy.get_state()[1], random.getstate()
    load_data("digits")
    load_data("gaussian-regression")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], legacy.get_state()[1])
    assert before[2] == random.getstate()


def test_wrong_names_and_options_are_answered() -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        load_data("digit")
    with pytest.raises(UsageError, match=r"unexpected keyword argument 'samples'; its options: limit, test_limit"):
        load_data("digits", samples=3)
    with pytest.raises(UsageError, match="from 1 to 1437"):
        load_data("digits", limit=1438)
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "gaussian-regression"} <= set(DATA)


# --- the user's own


def user(tmp_path: Path, body: str, **options: Any) -> Dataset:
    path = tmp_path / f"mine_{len(list(tmp_path.iterdir()))}.py"
    path.write_text(f"import numpy as np\nimport torch\nfrom landscape.data import make_dataset\n{body}\n")
    return load_data(f"{path}:load", **options)


PAIR = "def load(n=4):\n  x = np.arange(2.0 * n).reshape(n, 2)\n  return (x, {train}), (x, {test})"


def test_user_pair_of_numpy_arrays(tmp_path: Path) -> None:
    data = user(tmp_path, PAIR.format(train="np.arange(n) % 2", test="np.arange(n) % 3"), n=6)
    assert (data.classes, data.output_size, data.input_shape) == (3, 3, (2,))
    assert data.train[0].dtype == torch.float32
    assert data.train[1].tolist() == [0, 1, 0, 1, 0, 1]
    assert len(data.checksum) == 64


def test_user_regression_predicts_the_mean_by_chance(tmp_path: Path) -> None:
    data = user(tmp_path, PAIR.format(train="np.array([1.0, 3.0, 1.0, 3.0])", test="np.zeros(4)"))
    assert (data.classes, data.output_size, data.chance_loss) == (None, 1, 1.0)
    assert data.train[1].shape == (4, 1)


def test_user_dataset_of_a_package_gets_seed_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_users_package.py").write_text(
        "import torch\nfrom landscape.data import make_dataset\n"
        "def load(seed, scale=1.0):\n"
        "  x, y = scale * torch.eye(2), torch.tensor([0, 1])\n"
        "  return make_dataset(f'seed {seed}', (x, y), (x, y), classes=5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = load_data("some_users_package:load", seed=9, scale=3.0)
    assert (data.name, data.classes, data.train[0][0, 0].item()) == ("seed 9", 5, 3.0)
    with pytest.raises(UsageError, match="its options: scale"):
        load_data("some_users_package:load", size=3)
    with pytest.raises(UsageError, match="has no 'lod'; did you mean 'load'"):
        load_data("some_users_package:lod")


def test_user_code_that_cannot_be_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no module 'no_such_package_here'"):
        load_data("no_such_package_here:load")
    with pytest.raises(UsageError, match=r"there is no file .*gone\.py"):
        load_data(f"{tmp_path}/gone.py:load")
    with pytest.raises(UsageError, match=r"package\.module:function"):
        load_data(":load")
    with pytest.raises(UsageError, match="can't be imported"):
        user(tmp_path, "def load(:")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def load(): return 3", "returned a int; it must return"),
        ("def load(): return 1, 2", r"train split: expected \(inputs, targets\), got a int"),
        ("def load(): return ([1], [0]), ([1], [0])", "neither a tensor nor a numpy array"),
        ("def load():\n  d = (torch.zeros(0, 2), torch.zeros(0, dtype=int))\n  return d, d", "inputs are empty"),
        ("def load():\n  d = (torch.zeros(3, 2), torch.tensor([0, 1]))\n  return d, d", "3 inputs but 2 targets"),
        (
            "def load():\n  x, y = torch.zeros(2, 2), torch.tensor([0, 1])\n  return (x, y), (x / 0, y)",
            "test split: inputs hold NaN or infinite",
        ),
        (
            "def load():\n  x, y = torch.ones(2, 2), torch.tensor([0, 1])\n  return (x / 0, y), (x, y)",
            "train split: inputs hold NaN or infinite",
        ),
        ("def load():\n  d = (torch.ones(2, 2), torch.tensor([-1, 1]))\n  return d, d", "labels run from -1 to 1"),
        ("def load():\n  d = (torch.ones(2, 2), torch.tensor([0, 0]))\n  return d, d", r"1 class\(es\)"),
        ("def load():\n  d = (torch.ones(2, 2), torch.full((2, 1), torch.nan))\n  return d, d", "targets hold NaN"),
        ("def load():\n  d = (np.zeros((2, 2), np.uint8), np.array([0, 1]))\n  return d, d", "inputs are torch.uint8"),
        ("def load():\n  d = (np.array(['a', 'b']), np.array([0, 1]))\n  return d, d", "torch has no type for"),
        (
            "def load():\n  y = torch.tensor([0, 1])\n  return (torch.ones(2, 2), y), (torch.ones(2, 3), y)",
            r"inputs differ between the splits: train \(2,\)",
        ),
        (
            "def load():\n  x = torch.ones(2, 2)\n  return (x, torch.tensor([0, 1])), (x, torch.ones(2))",
            "whole numbers in one split",
        ),
        (
            "def load():\n  d = (torch.ones(2, 2), torch.tensor([0, 4]))\n  return make_dataset('x', d, d, classes=3)",
            r"labels run from 0 to 4; with 3 classes they must lie in 0\.\.2",
        ),
        (
            "import dataclasses\ndef load():\n  d = (torch.ones(2, 2), torch.tensor([0, 1]))\n"
            "  return dataclasses.replace(make_dataset('x', d, d, classes=2), output_size=7)",
            "output_size is 7, its tensors say 2",
        ),
    ],
)
def test_unusable_user_data_is_named(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        user(tmp_path, body)


def test_an_error_of_the_users_own_is_named_with_its_function(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mine_\d+\.py:load' raises ZeroDivisionError: division by zero"):
        user(tmp_path, "def load(): return 1 / 0")


def test_make_dataset_refuses_targets_that_would_broadcast() -> None:
    split = (torch.ones(3, 2), torch.ones(3))
    with pytest.raises(DataError, match=r"reshape to \(N, 1\)"):
        make_dataset("x", split, split, classes=None)


def test_bfloat16_and_leaf_tensors_have_a_checksum() -> None:
    x = torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True)
    split = (x, torch.tensor([0, 1, 0]))
    assert len(make_dataset("x", split, split, classes=2).checksum) == 64
