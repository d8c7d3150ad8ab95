"""Sums over all blocks of w, against numpy in float64."""

import numpy as np
import pytest
import torch

from landscape.parameters import compared, dot, norm

SHAPES = [(3,), (0,), (5, 4), (), (70_000,), (2, 300), (7, 3), (1,)]


def blocks(seed, *dtypes):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtypes[k * len(dtypes) // len(SHAPES)])
        for k, shape in enumerate(SHAPES)
    ]


def numbers(parts):
    whole = np.concatenate([part.to(torch.complex128).numpy().reshape(-1) for part in parts])
    return whole.view(np.float64)  # two real numbers each


@pytest.mark.parametrize(
    ("dtypes", "tolerance"),
    [
        ((torch.float64,), 1e-13),
        ((torch.float32,), 1e-5),
        ((torch.float16,), 1e-5),  # the sums, not the numbers, are float32
        ((torch.bfloat16,), 1e-5),
        ((torch.complex128,), 1e-13),
        ((torch.float32, torch.float64, torch.bfloat16), 1e-5),
    ],
)
def test_norm_distance_and_product(dtypes, tolerance):
    a, b = blocks(1, *dtypes), blocks(2, *dtypes)
    a[2], b[2] = a[2].T, b[2].T  # not contiguous
    found = compared(a, b)
    x, y = numbers(a), numbers(b)
    true = (np.linalg.norm(x), np.linalg.norm(x - y), x @ y)
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    assert float(found[0]) == pytest.approx(true[0], rel=tolerance)
    assert float(found[1]) == pytest.approx(true[1], rel=tolerance)
    assert float(found[2]) == pytest.approx(true[2], abs=tolerance * scale)
    assert float(norm(a)) == pytest.approx(true[0], rel=tolerance)
    assert float(dot(a, b)) == pytest.approx(true[2], abs=tolerance * scale)


def test_the_difference_of_half_precision_gradients_is_taken_in_float32():
    a, b = torch.full((4096,), 2.0**-9, dtype=torch.bfloat16), torch.ones(4096, dtype=torch.bfloat16)
    _, distance, _ = compared([a], [b])
    assert float(distance) == pytest.approx(64 * (1 - 2**-9), rel=1e-5)  # bfloat16 has no number between 1 - 2^-8 and 1
