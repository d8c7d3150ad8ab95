"""Lanczos in three vectors on spectra that were chosen: every eigenvalue once, no ghost, vectors that are its own."""

import math

import pytest
import torch
from spectra import Live, matrix, with_bulk

from landscape.errors import UsageError
from landscape.krylov import eigenpairs, matrix_product, recomputed
from landscape.krylov.recompute import Recurrence

N = 200
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])

#: A spectrum, and what one start can see of its upper end.
SPECTRA = {
    "separated": (with_bulk(8.0, 5.0, 4.0, 3.0, 2.5, n=N), [8.0, 5.0, 4.0, 3.0, 2.5]),
    "degenerate": (with_bulk(5.0, 5.0, 5.0, 3.0, 3.0, 2.0, n=N), [5.0, 3.0, 2.0, 0.3]),
    "clustered": (with_bulk(5.0, 5.0 - 1e-9, 4.0, 3.0, n=N), [5.0]),
    "close": (with_bulk(5.0, 4.999, 4.998, 4.9, 4.8, n=N), [5.0, 4.999, 4.998, 4.9, 4.8]),
    "indefinite": (with_bulk(4.0, 3.0, 2.0, -3.5, -2.0, n=N), [4.0, 3.0, 2.0]),
    "steep": ([10.0 ** (3 - i / 4) for i in range(N)], [10.0 ** (3 - i / 4) for i in range(8)]),
    "even": (torch.linspace(-1, 1, N).tolist(), torch.linspace(1, -1, N)[:12].tolist()),
}


def _alike(V):
    """The largest cosine between two of the vectors."""
    return float((V @ V.T).fill_diagonal_(0.0).abs().max())


@DTYPES
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_each_eigenvalue_once_with_its_vector(name, seed, dtype):
    spectrum, seen = SPECTRA[name]
    A, eps = matrix(spectrum, seed).to(dtype), torch.finfo(dtype).eps
    found = recomputed(matrix_product(A), N, len(seen), tol=1e-6, seed=seed, dtype=dtype, max_products=1000)
    assert found.converged
    assert not found.verified
    assert found.values.tolist() == pytest.approx(seen, rel=2e-6, abs=64 * eps * seen[0])
    V = found.vectors.double()
    assert V.norm(dim=1).tolist() == pytest.approx([1.0] * len(seen), abs=4 * eps)
    true = torch.linalg.vector_norm(V @ A.double() - found.values[:, None] * V, dim=1)
    assert bool((true <= found.residuals + 8 * eps * seen[0]).all())
    assert _alike(V) < 0.05


@DTYPES
@pytest.mark.parametrize("which", ["smallest", "magnitude"])
def test_the_other_ends_of_the_spectrum(which, dtype):
    A = matrix(SPECTRA["indefinite"][0]).to(dtype)
    wanted = {"smallest": [-3.5, -2.0], "magnitude": [4.0, -3.5, 3.0]}[which]
    found = recomputed(matrix_product(A), N, len(wanted), which=which, tol=1e-6, dtype=dtype)
    assert found.values.tolist() == pytest.approx(wanted, rel=1e-5)


@DTYPES
def test_all_eigenvalues_in_more_steps_than_there_are(dtype):
    A = matrix(torch.linspace(0, 1, N)).to(dtype)
    found = recomputed(matrix_product(A), N, N, tol=1e-4, dtype=dtype, vectors=0)
    assert found.products > N + 1  # ghosts are certain
    assert found.converged
    true = torch.linalg.eigvalsh(A.double()).flip(0)
    torch.testing.assert_close(found.values, true, rtol=0, atol=1e-6)
    assert found.vectors.shape == (0, N)


@DTYPES
def test_no_ghost_counts_after_four_hundred_steps(dtype):
    A = matrix(SPECTRA["separated"][0]).to(dtype)
    chain = Recurrence(matrix_product(A), torch.ones(N, dtype=dtype) / math.sqrt(N))
    for _ in range(400):
        chain.grow()
    ritz = torch.linalg.eigvalsh(chain.projected()[:-1])
    assert int(((ritz - 8.0).abs() < 1e-3).sum()) > 5  # copies of the largest
    # Asked for what 400 steps can't give, the solve takes all of them: what it ends with has each value once.
    found = recomputed(matrix_product(A), N, N, tol=1e-9, dtype=dtype, vectors=0, max_products=401)
    upper = found.values[found.values > 0.5]
    assert upper.tolist() == pytest.approx([8.0, 5.0, 4.0, 3.0, 2.5], rel=1e-5)
    assert len(found.values) <= N


@pytest.mark.parametrize("seed", range(4))
def test_a_second_copy_is_seen_once(seed):
    A = matrix(with_bulk(5.0, 5.0, 1.0, n=N), seed)
    found = recomputed(matrix_product(A), N, 2, seed=seed)
    assert found.values.tolist() == pytest.approx([5.0, 1.0], rel=1e-3)
    assert eigenpairs(matrix_product(A), N, 2, seed=seed).values.tolist() == pytest.approx([5.0, 5.0], rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_products_in_coarser_arithmetic_than_the_vectors_bring_no_ghost(seed):
    A = matrix(with_bulk(8.0, 5.0, 4.0, 3.0, 2.5, n=N)).bfloat16()
    coarse = lambda v: (A.float() @ v.bfloat16().float()).bfloat16().float()  # noqa: E731
    found = recomputed(coarse, N, 5, seed=seed, dtype=torch.float32)
    assert found.values.tolist() == pytest.approx([8.0, 5.0, 4.0, 3.0, 2.5], rel=1e-2)
    assert _alike(found.vectors) < 0.05


def test_the_second_pass_repeats_the_first_bit_for_bit():
    A, seen = matrix(SPECTRA["steep"][0]).float(), []

    def product(v):
        seen.append(v.clone())
        return A @ v

    found = recomputed(product, N, 6, tol=1e-6, dtype=torch.float32)
    assert len(seen) == found.products
    second = next(i for i in range(2, len(seen)) if torch.equal(seen[i], seen[1]))
    steps = len(seen) - second
    assert steps > 10
    assert all(torch.equal(a, b) for a, b in zip(seen[1 : 1 + steps], seen[second:], strict=True))


def test_a_product_that_does_not_repeat_itself_shows_in_the_residuals():
    A, generator = matrix(SPECTRA["even"][0]), torch.Generator().manual_seed(0)
    noise = lambda: 0.02 * torch.randn(N, generator=generator, dtype=torch.float64) / math.sqrt(N)  # noqa: E731
    found = recomputed(lambda v: A @ v + noise(), N, 3, tol=1e-4, max_products=400)
    true = torch.linalg.vector_norm(found.vectors @ A - found.values[:, None] * found.vectors, dim=1)
    assert float(true.max()) > 0.01
    assert bool((found.residuals > 0.3 * true).all())
    assert not found.converged


@DTYPES
def test_what_the_operator_does_not_leave_ends_early_and_is_exact(dtype):
    eps = torch.finfo(dtype).eps
    u = torch.nn.functional.normalize(torch.arange(1.0, 51.0, dtype=dtype), dim=0)
    one = recomputed(lambda v: -3.0 * u * (u @ v), 50, 1, which="smallest", dtype=dtype)
    assert float(one.values) == pytest.approx(-3.0, rel=20 * eps)
    assert abs(float(one.vectors[0] @ u)) == pytest.approx(1.0, rel=20 * eps)
    assert one.products <= 6
    both = recomputed(lambda v: -3.0 * u * (u @ v), 50, 3, which="magnitude", dtype=dtype)
    assert both.values.tolist() == pytest.approx([-3.0, 0.0], abs=50 * eps)  # 0, of which there are 49, once
    assert not both.converged  # it was asked for three
    assert both.vectors.shape == (2, 50)
    assert recomputed(torch.zeros_like, 50, 3, dtype=dtype).values.tolist() == [0.0]
    full = recomputed(matrix_product(torch.diag(torch.tensor([3.0, -1.0, 2.0], dtype=dtype))), 3, 3, dtype=dtype)
    assert full.values.tolist() == pytest.approx([3.0, 2.0, -1.0], rel=20 * eps)
    assert full.converged


def test_numbers_whose_squares_underflow():
    A = matrix(with_bulk(5.0, 4.0, n=N)).float()
    found = recomputed(lambda v: (A @ v) * 1e-24, N, 2, dtype=torch.float32)
    assert [value * 1e24 for value in found.values.tolist()] == pytest.approx([5.0, 4.0], rel=1e-3)


def test_a_warm_start_takes_a_few_products_and_gives_way_where_it_leads_nowhere():
    A = matrix(with_bulk(8.0, 5.0, 3.0, n=N))
    cold = recomputed(matrix_product(A), N, 1)
    moved = A + 0.02 * matrix(torch.linspace(-1, 1, N), seed=5)
    warm = recomputed(matrix_product(moved), N, 1, start=cold.vectors)
    assert float(warm.values) == pytest.approx(float(torch.linalg.eigvalsh(moved)[-1]), rel=1e-3)
    assert warm.products <= 7 < cold.products
    axis = torch.zeros(N, dtype=torch.float64)
    axis[0] = 1.0
    spectrum = torch.tensor(with_bulk(8.0, 5.0, 3.0, n=N), dtype=torch.float64)
    exact = recomputed(lambda v: spectrum * v, N, 2, start=axis)  # an eigenvector: there is no second value to see
    assert exact.values.tolist() == pytest.approx([8.0, 5.0], rel=1e-3)
    nothing = recomputed(lambda v: spectrum * v, N, 2, start=spectrum.new_empty(0, N))
    assert torch.equal(nothing.values, recomputed(lambda v: spectrum * v, N, 2).values)


@pytest.mark.parametrize("vectors", [0, 1, 3, None])
def test_eigenvectors_of_as_many_as_are_asked_for(vectors):
    A = matrix(SPECTRA["separated"][0])
    calls = []
    found = recomputed(lambda v: calls.append(1) or A @ v, N, 5, vectors=vectors)
    free = recomputed(matrix_product(A), N, 5)
    assert len(calls) == found.products <= free.products
    torch.testing.assert_close(found.values, free.values, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.vectors, free.vectors[:vectors], rtol=0, atol=1e-12)
    assert (found.products == (free.products + 1) / 2) == (vectors == 0)  # no second pass


@pytest.mark.parametrize("vectors", [0, 2, 8])
def test_three_vectors_and_those_of_the_result_are_all_that_is_held(vectors, monkeypatch):
    n, k = 20_000, 8
    monkeypatch.setattr("landscape.krylov.basis.CHUNK", 500)  # as short beside n as it is for a large network
    spectrum = torch.tensor(with_bulk(*range(20, 12, -1), n=n), dtype=torch.float64)
    with Live(n) as live:
        found = recomputed(lambda v: spectrum * v, n, k, vectors=vectors)
    assert found.converged
    assert found.values.tolist() == pytest.approx(list(range(20, 12, -1)), rel=1e-3)
    assert live.most == 8 * n * (3 + vectors)
    with Live(n) as live:  # a network's products come in blocks, which are then put together
        recomputed(lambda v: torch.cat([spectrum * v]), n, k, vectors=vectors)
    assert live.most == 8 * n * (4 + vectors)


@pytest.mark.parametrize("limit", [7, 12, 31])
def test_running_out_of_products_is_said(limit):
    calls, A = [], matrix(torch.linspace(0, 1, N))
    found = recomputed(lambda v: calls.append(1) or A @ v, N, 3, tol=1e-6, max_products=limit)
    assert limit - 1 <= found.products == len(calls) <= limit
    assert not found.converged
    assert found.vectors.shape == (3, N)


def test_a_product_that_is_not_finite_ranks_as_infinite():
    found = recomputed(lambda v: v * math.nan, 10, 2)
    assert found.values.tolist() == [math.inf, math.inf]
    assert found.vectors.shape == (2, 10)
    assert not found.converged
    calls = []
    late = recomputed(lambda v: calls.append(1) or (v * torch.arange(10.0) if len(calls) < 4 else v * math.nan), 10, 2)
    assert late.values.tolist() == [math.inf, math.inf]
    assert recomputed(lambda v: v * math.inf, 10, 1, which="smallest").values.tolist() == [-math.inf]


def test_seeds_repeat_and_agree():
    A = matrix(SPECTRA["separated"][0])
    first, again, other = (recomputed(matrix_product(A), N, 3, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.vectors, again.vectors)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.vectors, other.vectors)
    assert other.values.tolist() == pytest.approx(first.values.tolist(), rel=2e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 11}, "k must be 1 to 10"),
        ({"which": "bigest"}, "did you mean"),
        ({"tol": 1.0}, "between 0 and 1"),
        ({"start": torch.ones(7)}, r"start must be \(10,\)"),
        ({"k": 3, "max_products": 6}, "need 7 products"),
        ({"k": 3, "max_products": 3, "vectors": 0}, "need 4 products"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(UsageError, match=words):
        recomputed(torch.clone, 10, **options)
