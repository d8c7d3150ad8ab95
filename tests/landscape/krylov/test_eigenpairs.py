"""Spectra that were chosen, as plain matrices: what is found, what is missed elsewhere, and what the errors say."""

import math

import pytest
import torch
from spectra import Live, matrix, with_bulk

from landscape.errors import UsageError
from landscape.krylov import eigenpairs, matrix_product
from landscape.krylov.basis import Basis
from landscape.krylov.eigen import _hidden_share
from landscape.krylov.subspace import Subspace
from landscape.streams import stream

N = 300


SPECTRA = {
    "separated": with_bulk(8.0, 5.0, 4.0, 3.0, 2.5),
    "clustered": with_bulk(5.0, 5.0 - 1e-9, 5.0 - 2e-9, 4.0, 3.0),
    "degenerate": with_bulk(5.0, 5.0, 5.0, 3.0, 3.0),
    "close": with_bulk(5.0, 4.999, 4.998, 4.9, 4.8),
    "indefinite": with_bulk(4.0, 3.0, 2.0, -3.5, -2.0),
    "negative": [-x - 1.0 for x in with_bulk(5.0, 4.0, 3.0, 2.0, 1.0)],
}


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_chosen_spectra_to_the_tolerance(name, which):
    spectrum = sorted(SPECTRA[name])
    k = 5 if which == "largest" or name == "indefinite" else 2
    wanted = {
        "largest": spectrum[::-1][:k],
        "smallest": spectrum[:k],
        "magnitude": sorted(spectrum, key=abs, reverse=True)[:k],
    }[which]
    found = eigenpairs(matrix_product(matrix(spectrum)), N, k, which=which, seed=1)
    assert found.converged
    for value, true in zip(found.values.tolist(), wanted, strict=True):
        assert value == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_a_second_copy_that_one_start_can_not_see_is_found(seed):
    A = matrix(with_bulk(5.0, 5.0, 1.0), seed)
    alone = eigenpairs(matrix_product(A), N, 2, seed=seed, verify=False)
    assert alone.values.tolist() == pytest.approx([5.0, 1.0], rel=1e-3)  # what a stopping rule by residuals accepts
    found = eigenpairs(matrix_product(A), N, 2, seed=seed)
    assert found.values.tolist() == pytest.approx([5.0, 5.0], rel=1e-3)
    assert found.verified
    assert found.products <= alone.products + 30


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("edge", [0.5, -0.2])
def test_the_share_that_can_hide_is_the_least_square_of_a_polynomial_that_is_one_at_the_edge(steps, edge):
    spectrum = torch.tensor(with_bulk(), dtype=torch.float64)
    start = torch.randn(N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    start /= start.norm()
    space = Subspace(lambda v: spectrum * v, Basis(N, N, torch.float64, torch.device("cpu")), stream(0, "test"))
    chain = space.start(start.clone())
    for _ in range(steps):
        space.grow(chain)
    share = _hidden_share(space.projected(), float(chain.coupling[space.size - 1]), edge)
    # min over q of sum_i w_i q(x_i)^2 with q(edge) = 1, deg q <= steps: least squares in powers of x - edge.
    columns = start[:, None] * (spectrum - edge)[:, None] ** torch.arange(1, steps + 1)
    rest = start - columns @ torch.linalg.lstsq(columns, start[:, None]).solution[:, 0]
    assert share == pytest.approx(float(rest.square().sum()), rel=1e-6)


def test_no_share_that_is_there_is_ruled_out():
    spectrum = torch.tensor(with_bulk(1.0), dtype=torch.float64)
    for share in (1e-4, 1e-8, 1e-12):
        start = torch.randn(N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        start[0] = 0.0
        start *= math.sqrt(1.0 - share) / start.norm()
        start[0] = math.sqrt(share)
        space = Subspace(lambda v: spectrum * v, Basis(N, N, torch.float64, torch.device("cpu")), stream(0, "test"))
        chain = space.start(start)
        space.grow(chain)
        while float(torch.linalg.eigvalsh(space.projected())[-1]) < 1.0 - 1e-12:  # then it is no longer hidden
            assert _hidden_share(space.projected(), float(chain.coupling[space.size - 1]), 1.0) >= 0.999 * share
            space.grow(chain)


def test_the_search_is_short_where_the_bulk_lies_near_zero():
    n = 20_000
    spectrum = torch.cat([torch.tensor([5.0, 4.0, 3.0, 2.0]), 1e-3 * torch.rand(n - 4)]).double()
    alone = eigenpairs(lambda v: spectrum * v, n, 4, verify=False)
    found = eigenpairs(lambda v: spectrum * v, n, 4)
    assert found.verified
    assert found.products <= alone.products + 4


def test_a_lone_ritz_value_or_a_converged_cluster_does_not_stop_it():
    # The start lies in the span of two eigenvectors and is nearly the wrong one of them.
    A = torch.diag(torch.tensor([1.0, 2.0, *[0.0] * 98], dtype=torch.float64))
    start = torch.zeros(100, dtype=torch.float64)
    start[0], start[1] = 1.0, 1e-3
    found = eigenpairs(matrix_product(A), 100, 1, start=start, tol=1e-6, verify=False)
    assert float(found.values) == pytest.approx(2.0, rel=1e-6)
    # In an invariant subspace no residual is left to warn; only the search sees what lies outside.
    start[1] = 0.0
    assert float(eigenpairs(matrix_product(A), 100, 1, start=start, verify=False).values) == 1.0
    assert float(eigenpairs(matrix_product(A), 100, 1, start=start, verify=True).values) == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_invariant_subspaces_end_early_and_are_exact(dtype):
    eps = torch.finfo(dtype).eps
    u = torch.nn.functional.normalize(torch.arange(1.0, 51.0, dtype=dtype), dim=0)
    one = eigenpairs(lambda v: -3.0 * u * (u @ v), 50, 1, which="smallest", dtype=dtype)
    assert float(one.values) == pytest.approx(-3.0, rel=20 * eps)
    assert abs(float(one.vectors[0] @ u)) == pytest.approx(1.0, rel=20 * eps)
    assert one.products <= 4
    none = eigenpairs(torch.zeros_like, 50, 3, dtype=dtype)
    assert none.values.tolist() == [0.0, 0.0, 0.0]
    assert none.converged
    same = eigenpairs(lambda v: 2.0 * v, 50, 3, dtype=dtype)
    assert same.values.tolist() == pytest.approx([2.0] * 3, rel=20 * eps)
    assert same.verified
    full = eigenpairs(matrix_product(torch.diag(torch.tensor([3.0, -1.0, 2.0], dtype=dtype))), 3, 3, dtype=dtype)
    assert full.values.tolist() == pytest.approx([3.0, 2.0, -1.0], rel=20 * eps)


def test_vectors_are_orthonormal_and_the_residuals_are_theirs():
    A = matrix(SPECTRA["close"])
    found = eigenpairs(matrix_product(A), N, 5, tol=1e-8)
    V = found.vectors
    torch.testing.assert_close(V @ V.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    true = torch.linalg.vector_norm(V @ A - found.values[:, None] * V, dim=1)
    assert bool((true <= found.residuals + 1e-12).all())  # the reported ones bound them
    assert bool((true >= 0.2 * found.residuals - 1e-12).all())  # and are not vacuous


def test_a_small_basis_restarts_and_finds_the_same():
    A = matrix(SPECTRA["close"])
    free = eigenpairs(matrix_product(A), N, 3, tol=1e-5)
    tight = eigenpairs(matrix_product(A), N, 3, tol=1e-5, capacity=12)
    assert tight.products > 12  # it did restart
    assert tight.converged
    assert tight.values.tolist() == pytest.approx(free.values.tolist(), rel=2e-5)


@pytest.mark.parametrize(("k", "capacity"), [(1, 5), (3, 7), (8, 12), (8, 40)])
def test_the_memory_that_is_stated_is_the_most_that_is_taken(k, capacity, monkeypatch):
    n = 20_000
    monkeypatch.setattr("landscape.krylov.basis.CHUNK", 500)  # as short beside n as it is for a large network
    spectrum = torch.tensor(with_bulk(*range(20, 20 - k, -1), n=n), dtype=torch.float64)
    with Live(n) as live:
        found = eigenpairs(lambda v: spectrum * v, n, k, capacity=capacity, max_products=3000)
    assert found.converged
    assert found.values.tolist() == pytest.approx(list(range(20, 20 - k, -1)), rel=1e-3)
    assert live.most <= 8 * n * (capacity + max(4, k))
    assert live.most >= 8 * n * capacity


@pytest.mark.parametrize("ends", [(0, 1), (-1, 1), (-0.3, 1), (1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_long_basis_stays_orthonormal(ends, dtype):
    A, eps = matrix(torch.linspace(*ends, N)).to(dtype), torch.finfo(dtype).eps
    space = Subspace(matrix_product(A), Basis(N, N, dtype, torch.device("cpu")), stream(0, "test"))
    chain = space.start()
    for _ in range(250):  # much is taken out of each product, but not so much that one pass looks too little
        space.grow(chain)
    Q = space.basis.rows[:250].double()
    assert float((Q @ Q.T - torch.eye(250)).abs().max()) < 40 * eps
    exact = torch.linalg.eigvalsh(A.double())
    found = eigenpairs(matrix_product(A), N, 3, tol=1e-5, dtype=dtype)
    assert found.values.tolist() == pytest.approx(exact.flip(0)[:3].tolist(), rel=2e-5)
    true = torch.linalg.vector_norm(found.vectors.double() @ A.double() - found.values[:, None] * found.vectors, dim=1)
    assert bool((true <= found.residuals + 20 * eps * ends[1]).all())


def test_float32_products_with_float64_sums_keep_the_last_digits():
    spectrum = with_bulk(5.0, 4.0, 3.0)
    A = matrix(spectrum).float()
    found = eigenpairs(matrix_product(A), N, 3, tol=1e-6, dtype=torch.float32)
    exact = torch.linalg.eigvalsh(A.double()).flip(0)[:3]
    assert found.values.tolist() == pytest.approx(exact.tolist(), rel=5e-6)


def test_numbers_whose_squares_underflow():
    A = matrix(with_bulk(5.0, 4.0)).float()
    found = eigenpairs(lambda v: (A @ v) * 1e-24, N, 2, dtype=torch.float32)
    assert [value * 1e24 for value in found.values.tolist()] == pytest.approx([5.0, 4.0], rel=1e-3)


def test_a_warm_start_takes_a_few_products():
    A = matrix(with_bulk(8.0, 5.0, 3.0))
    cold = eigenpairs(matrix_product(A), N, 1)
    moved = A + 0.02 * matrix(torch.linspace(-1, 1, N), seed=5)
    warm = eigenpairs(matrix_product(moved), N, 1, start=cold.vectors)
    assert float(warm.values) == pytest.approx(float(torch.linalg.eigvalsh(moved)[-1]), rel=1e-3)
    assert warm.products <= 3 < cold.products
    assert not warm.verified  # and says that nobody searched


def test_running_out_of_products_is_said():
    found = eigenpairs(matrix_product(matrix(torch.linspace(0, 1, N))), N, 3, max_products=5)
    assert (found.products, found.converged, found.verified) == (5, False, False)


def test_a_product_that_is_not_finite_ranks_as_infinite():
    found = eigenpairs(lambda v: v * math.nan, 10, 2)
    assert found.values.tolist() == [math.inf, math.inf]
    assert not found.converged
    assert eigenpairs(lambda v: v * math.inf, 10, 1, which="smallest").values.tolist() == [-math.inf]
    assert float(eigenpairs(lambda v: 2 * v, 10, 1, start=found.vectors).values) == pytest.approx(2.0)  # NaN: no start


def test_seeds_repeat_and_agree():
    A = matrix(SPECTRA["separated"])
    first, again, other = (eigenpairs(matrix_product(A), N, 3, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.vectors, again.vectors)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.vectors, other.vectors)
    assert other.values.tolist() == pytest.approx(first.values.tolist(), rel=2e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 11}, "k must be 1 to 10"),
        ({"k": 0}, "k must be 1 to 10"),
        ({"which": "bigest"}, "did you mean"),
        ({"tol": 0.0}, "between 0 and 1"),
        ({"start": torch.ones(7)}, r"start must be \(10,\)"),
        ({"k": 3, "max_products": 2}, "need 3 products"),
        ({"k": 3, "capacity": 4}, "7 at least"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(UsageError, match=words):
        eigenpairs(torch.clone, 10, **options)


N_SMALL = 40
STEPS = torch.arange(1.0, N_SMALL + 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("product", "largest"),
    [
        (lambda v: v, [1.0, 1.0, 1.0]),
        (lambda v: v.view(-1), [1.0, 1.0, 1.0]),
        (lambda v: v.mul_(STEPS), [40.0, 39.0, 38.0]),
        (lambda v: v.sum().expand(N_SMALL), [40.0, 0.0, 0.0]),
    ],
    ids=["identity", "view", "written to", "expanded"],
)
def test_a_product_may_hand_back_what_it_was_handed_or_one_number_for_all(product, largest):
    found = eigenpairs(product, N_SMALL, 3, tol=1e-9)
    assert found.values.tolist() == pytest.approx(largest, abs=1e-7)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_vectors_in_half_precision(dtype):
    A = torch.diag(torch.tensor([40.0] + [1.0] * (N_SMALL - 1), dtype=dtype))
    found = eigenpairs(lambda v: A @ v, N_SMALL, 1, tol=0.05, dtype=dtype)
    assert found.vectors.dtype is dtype
    assert float(found.values[0]) == pytest.approx(40.0, rel=0.05)
