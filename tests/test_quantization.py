"""The code search against brute force."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.quantization import Level, Search, look_up
from semid.quantization import search as search_levels


def search(z_nz: Tensor, codebooks: list[Tensor]) -> Search:
    return search_levels(z_nz, [Level(codebook_kz) for codebook_kz in codebooks])


DTYPES = [torch.float32, torch.float64]
Matrix = npt.NDArray[np.float64]


def brute_force(z_nz: Matrix, codebooks: list[Matrix]) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Codes, squared distance, margin and "has an exact tie", by looking at every distance."""
    residual_nz, codes = z_nz, []
    margin_n, tie_n = np.full(len(z_nz), np.inf), np.zeros(len(z_nz), np.bool_)
    for codebook_kz in codebooks:
        distance_nk = ((residual_nz[:, None] - codebook_kz) ** 2).sum(2)
        code_n = distance_nk.argmin(1)  # the first of equals
        codes.append(code_n)
        residual_nz = residual_nz - codebook_kz[code_n]
        if len(codebook_kz) > 1:
            best_n, second_n = np.sort(distance_nk, 1)[:, :2].T
            tie_n |= best_n == second_n
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio_n = (second_n - best_n) / best_n
            margin_n = np.fmin(margin_n, np.where(best_n == second_n, 0, ratio_n))
    return np.stack(codes, 1), (residual_nz**2).sum(1), margin_n, tie_n


def tensors(arrays: list[Matrix], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.tensor(np.asarray(array), dtype=dtype) for array in arrays]


@st.composite
def lattice_problems(draw: st.DrawFn) -> tuple[Matrix, list[Matrix]]:
    """Rows and codewords with few small whole coordinates: exact sums and plenty of exact ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, z, reach = draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    rows = rng.integers(-reach, reach + 1, (n, z)).astype(float)
    return rows, [rng.integers(-reach, reach + 1, (k, z)).astype(float) for k in sizes]


@settings(max_examples=300, deadline=None)
@given(lattice_problems(), st.sampled_from(DTYPES))
def test_search_is_brute_force_with_ties_to_the_lowest_index(
    problem: tuple[Matrix, list[Matrix]], dtype: torch.dtype
) -> None:
    rows, codebooks = problem
    found = search(torch.tensor(rows, dtype=dtype), tensors(codebooks, dtype))
    codes_nl, distance_n, margin_n, tie_n = brute_force(rows, codebooks)
    np.testing.assert_array_equal(found.codes_nl, codes_nl)
    np.testing.assert_array_equal(found.distance_n, distance_n)
    # A row on a codeword has no distance to relate the gap to: its margin is beyond any other.
    finite = np.isfinite(margin_n) & (distance_n > 0)
    np.testing.assert_array_equal(
        found.margin_n[finite], torch.tensor(margin_n, dtype=dtype)[finite]
    )
    np.testing.assert_array_equal(found.near_tie_n, tie_n)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    z=st.integers(1, 24),
    offset=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_search_agrees_with_brute_force_on_real_numbers(
    seed: int, sizes: list[int], z: int, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, z)) + offset
    codebooks = [rng.normal(size=(k, z)) + (0 if i else offset) for i, k in enumerate(sizes)]
    found = search(torch.tensor(rows), tensors(codebooks))
    codes_nl, distance_n, margin_n, _ = brute_force(rows, codebooks)
    np.testing.assert_array_equal(found.codes_nl, codes_nl)
    np.testing.assert_allclose(found.distance_n, distance_n, rtol=1e-9)
    np.testing.assert_allclose(found.margin_n, margin_n, rtol=1e-4, atol=1e-9)


def test_distance_and_margin_by_hand() -> None:
    codebooks = tensors([[[0, 0], [4, 0]], [[0, 0], [-1, 0.5], [9, 9]]], torch.float32)
    found = search(torch.tensor([[3.0, 0.0]]), codebooks)
    # Level 0: squared distances 9 and 1, margin (9 - 1) / 1. Level 1, residual (-1, 0): 1, 0.25
    # and far, margin (1 - 0.25) / 0.25.
    assert found.codes_nl.tolist() == [[1, 1]]
    assert found.distance_n.tolist() == [0.25]
    assert found.margin_n.tolist() == [3.0]
    assert found.near_tie_n.tolist() == [False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_codeword_leaves_no_runner_up(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=dtype)
    found = search(rows, tensors([[[1, 1]], [[0, 1]]], dtype))
    assert found.codes_nl.tolist() == [[0, 0], [0, 0]]
    assert found.distance_n.tolist() == [0.0, 5.0]
    assert found.margin_n.tolist() == [float("inf")] * 2
    assert not found.near_tie_n.any()


def test_the_least_margin_of_all_levels_counts() -> None:
    wide, narrow, single = [[0.0], [10.0]], [[0.0], [1.5]], [[0.0]]
    row = torch.tensor([[1.0]], dtype=torch.float64)
    for codebooks in ([wide, narrow, single], [single, wide, narrow]):
        found = search(row, tensors(codebooks))
        # wide: 1 and 81, margin 80; narrow: 1 and 0.25, margin 3
        assert found.margin_n.tolist() == [3.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_duplicate_codewords_and_rows_halfway_take_the_lowest_index(dtype: torch.dtype) -> None:
    codebook = tensors([[[5, 5], [1, 0], [0, 1], [1, 0], [0, 1]]], dtype)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [7.0, 7.0]], dtype=dtype)
    found = search(rows, codebook)
    assert found.codes_nl[:, 0].tolist() == [1, 2, 1, 0]
    assert found.margin_n[:3].tolist() == [0.0, 0.0, 0.0]
    assert found.near_tie_n.tolist() == [True, True, True, False]


def test_float64_takes_a_gap_within_its_rounding_for_a_tie() -> None:
    codebook = tensors([[[1.0], [0.0]]])
    rows = torch.tensor([[0.5 - 1e-14], [0.5 + 1e-14], [0.5 - 1e-12]], dtype=torch.float64)
    assert search(rows, codebook).codes_nl[:, 0].tolist() == [0, 0, 1]


def test_float32_flags_rows_that_it_cannot_vouch_for() -> None:
    codebook = tensors([[[0.0], [1.0]]], torch.float32)
    half = np.float32(0.5)
    rows = [half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(1)), 0.4, 0.6]
    found = search(torch.tensor(np.array(rows, np.float32)[:, None]), codebook)
    assert found.near_tie_n.tolist() == [True, True, True, False, False]


def test_rows_that_are_not_finite_show_in_the_distance() -> None:
    rows = torch.tensor([[float("nan"), 0.0], [0.0, float("inf")], [1.0, 1.0]])
    found = search(rows, tensors([[[0, 0], [1, 1]], [[0, 0], [1, 0]]], torch.float32))
    assert found.distance_n.isfinite().tolist() == [False, False, True]
    assert found.codes_nl[2].tolist() == [1, 0]


@pytest.mark.parametrize("scale", [1e18, 1e19, 1e20, 1e25, 1e37])
@pytest.mark.parametrize("book_scale", [1.0, 1e19, 1e37])
def test_rows_whose_squares_overflow_are_not_vouched_for(scale: float, book_scale: float) -> None:
    rows = torch.tensor([[3.0, 0.2], [-0.1, 2.0], [0.5, 0.5]]) * scale
    codebooks = [torch.tensor([[0.0, 0], [1, 1], [4, 0]]), torch.tensor([[0.0, 0], [1, 0]])]
    codebooks = [c * book_scale for c in codebooks]
    found = search(rows, codebooks)
    right = search(rows.double(), [c.double() for c in codebooks])
    assert (found.near_tie_n | (found.codes_nl == right.codes_nl).all(1)).all()


def test_search_leaves_its_input_alone() -> None:
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    codebooks = list(torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)))
    before = [rows.clone(), *(c.clone() for c in codebooks)]
    search(rows, codebooks)
    assert all(torch.equal(a, b) for a, b in zip(before, [rows, *codebooks], strict=True))


def test_look_up_sums_codewords_of_the_levels_given() -> None:
    codebooks = tensors([[[1, 0], [2, 0]], [[0, 10], [0, 20]], [[100, 100]]], torch.float32)
    codes = torch.tensor([[1, 0, 0], [0, 1, 0]])
    assert look_up(codes, codebooks).tolist() == [[102, 110], [101, 120]]
    assert look_up(codes[:, :2], codebooks).tolist() == [[2, 10], [1, 20]]
    assert look_up(codes[:, :1], codebooks).tolist() == [[2, 0], [1, 0]]


# Codebooks in training
