"""The code search against brute force, and codebooks that learn, against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semid.kmeans import kmeans
from semid.quantization import Quantised, ResidualCodebooks, look_up, search

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


def codebooks_of(levels: list[list[list[float]]], count: float = 1.0) -> ResidualCodebooks:
    """Codebooks with these codewords, each as if chosen `count` times a batch."""
    codes = ResidualCodebooks([len(level) for level in levels], len(levels[0][0]))
    for level, rows in enumerate(levels):
        codes.get_buffer(f"codebook_{level}").copy_(torch.tensor(rows))
        codes.get_buffer(f"count_{level}").fill_(count)
        codes.get_buffer(f"sum_{level}").copy_(torch.tensor(rows) * count)
    return codes


def drawn_codebooks(sizes: tuple[int, ...], z: int, seed: int = 0) -> ResidualCodebooks:
    random = torch.Generator().manual_seed(seed)
    return codebooks_of(
        [(torch.randn(k, z, generator=random) / 2**i).tolist() for i, k in enumerate(sizes)]
    )


def drawn_latents(n: int, z: int, seed: int = 1) -> Tensor:
    return torch.randn(n, z, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_commitment_by_hand() -> None:
    codes = codebooks_of([[[0.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [-1.0, 0.0]]])
    batch = codes(torch.tensor([[3.0, 2.0], [0.0, 1.0]]))
    assert batch.codes_nl.tolist() == [[1, 1], [0, 0]]
    # Residuals after level 0: (-1, 2) and (0, 1), mean square 6 / 4; after level 1: (0, 2) and
    # (0, 1), mean square 5 / 4.
    assert batch.commitment.item() == 1.5 + 1.25
    assert batch.latent_nz.tolist() == [[3.0, 0.0], [0.0, 0.0]]
    assert [r.tolist() for r in batch.residuals] == [
        [[3.0, 2.0], [0.0, 1.0]],
        [[-1.0, 2.0], [0.0, 1.0]],
    ]


def test_training_chooses_the_codes_that_encoding_chooses() -> None:
    codes, latents = drawn_codebooks((16, 8, 4), 6), drawn_latents(500, 6)
    found = search(latents.detach(), codes.codebooks)
    assert torch.equal(codes(latents).codes_nl, found.codes_nl)


def test_commitment_is_a_mean_over_items() -> None:
    codes, weights = drawn_codebooks((8, 4), 6), torch.eye(6).requires_grad_()
    latents = drawn_latents(40, 6).detach()
    once = codes(latents @ weights).commitment
    twice = codes(latents.repeat(2, 1) @ weights).commitment
    assert once.item() == pytest.approx(twice.item(), rel=1e-6)
    gradients = [torch.autograd.grad(loss, weights)[0] for loss in (once, twice)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_commitment_is_a_mean_over_dimensions() -> None:
    # A mapping that writes every latent twice: twice the width, the same loss and gradient.
    codes, weights = drawn_codebooks((8, 4), 6), torch.eye(6).requires_grad_()
    wide = codebooks_of([c.repeat(1, 2).tolist() for c in codes.codebooks])
    latents = drawn_latents(40, 6).detach()
    narrow_loss = codes(latents @ weights).commitment
    wide_loss = wide((latents @ weights).repeat(1, 2)).commitment
    assert narrow_loss.item() == pytest.approx(wide_loss.item(), rel=1e-6)
    gradients = [torch.autograd.grad(loss, weights)[0] for loss in (narrow_loss, wide_loss)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
def test_commitment_gradient_reaches_the_encoder_from_every_level(levels: int) -> None:
    sizes, n, z = (8, 8, 4, 4, 2, 2), 30, 5
    whole = drawn_codebooks(sizes, z)
    books = [c.tolist() for c in whole.codebooks]
    latents = drawn_latents(n, z)

    def gradient(through: int) -> Tensor:
        if not through:
            return torch.zeros(n, z)
        return torch.autograd.grad(codebooks_of(books[:through])(latents).commitment, latents)[0]

    own = gradient(levels) - gradient(levels - 1)  # what the last of these levels adds
    codes_nl = whole(latents).codes_nl
    left = latents.detach() - look_up(codes_nl[:, :levels], whole.codebooks)
    torch.testing.assert_close(own, 2 * left / (n * z), rtol=1e-4, atol=1e-6)
    assert (own.abs().sum(1) > 0).all()


def test_straight_through_gradient_is_the_decoders() -> None:
    codes, latents = drawn_codebooks((8, 4), 6), drawn_latents(40, 6)
    decoder = torch.nn.Linear(6, 3, bias=False)
    target = torch.ones(40, 3)
    quantised = codes(latents).latent_nz
    loss = torch.nn.functional.mse_loss(decoder(quantised), target)
    through, at_decoder = torch.autograd.grad(loss, (latents, quantised))
    assert torch.equal(through, at_decoder)
    assert through.abs().sum() > 0
    torch.testing.assert_close(quantised, look_up(codes(latents).codes_nl, codes.codebooks))


def batch_of(rows: list[list[float]], codes: list[int]) -> Quantised:
    residuals = torch.tensor(rows)
    return Quantised(residuals, torch.zeros(()), torch.tensor(codes)[:, None], [residuals])


def test_moving_average_by_hand() -> None:
    codes = codebooks_of([[[0.0], [10.0], [20.0]]], count=2.0)
    codes.update(batch_of([[1.0], [2.0], [3.0], [12.0]], [0, 0, 0, 1]), decay=0.5)
    # counts (2 + 3) / 2, (2 + 1) / 2, 2 / 2; sums (0 + 6) / 2, (20 + 12) / 2, 40 / 2
    assert codes.get_buffer("count_0").tolist() == [2.5, 1.5, 1.0]
    assert codes.get_buffer("sum_0").flatten().tolist() == [3.0, 16.0, 20.0]
    moved = torch.tensor([[3.0], [16.0], [20.0]]) / torch.tensor([[2.5], [1.5], [1.0]])
    assert torch.equal(codes.codebooks[0], moved)


def test_every_level_follows_its_own_residuals() -> None:
    codes = codebooks_of([[[0.0], [8.0]], [[0.0], [1.0]]])
    codes.update(codes(torch.tensor([[9.5]])), decay=0.0)
    # 9.5 is nearest to 8; the residual 1.5 is nearest to 1. Without decay both jump there.
    assert codes.codebooks[0].flatten().tolist() == [0.0, 9.5]
    assert codes.codebooks[1].flatten().tolist() == [0.0, 1.5]


def test_a_codeword_that_is_not_used_never_moves() -> None:
    codes = codebooks_of([[[0.0], [10.0]]])
    for _ in range(3_000):  # long after its moving average has decayed to nothing
        codes.update(batch_of([[1.0]], [0]), decay=0.9)
    assert codes.get_buffer("count_0")[1] < 1e-30
    assert codes.codebooks[0][1].item() == 10.0
    codes.update(batch_of([[7.0]], [1]), decay=0.9)
    assert codes.codebooks[0][1].item() == pytest.approx(7.0)


def test_restart_moves_only_dead_codes_and_to_rows_of_the_batch() -> None:
    codes = drawn_codebooks((6, 4), 3)
    codes.get_buffer("count_0").copy_(torch.tensor([9.0, 0.0, 0.49, 0.51, 9.0, 0.1]))
    codes.get_buffer("count_1").fill_(9.0)
    before = [c.clone() for c in codes.codebooks]
    batch = codes(drawn_latents(30, 3).detach())
    random_state = torch.get_rng_state()
    # 30 rows on 6 codewords: 5 each on average, dead below a tenth of that
    moved = codes.restart(batch, below=0.1, generator=torch.Generator().manual_seed(0))
    assert moved == [3, 0]
    dead = [1, 2, 5]
    for index, codeword in enumerate(codes.codebooks[0]):
        is_row = (batch.residuals[0] == codeword).all(1).any()
        assert is_row if index in dead else torch.equal(codeword, before[0][index])
    assert torch.equal(codes.codebooks[1], before[1])
    assert codes.get_buffer("count_0")[dead].tolist() == [2.5] * 3
    assert torch.equal(random_state, torch.get_rng_state())
    # Moved once, they have a while to live.
    assert codes.restart(batch, below=0.1, generator=torch.Generator()) == [0, 0]


def test_initialisation_is_k_means_level_by_level() -> None:
    sample = drawn_latents(400, 3).detach()
    codes = ResidualCodebooks((8, 4), 3)
    codes.initialise(sample, batch_rows=40, seed=5, iterations=7)
    first = torch.from_numpy(kmeans(sample.numpy(), 8, seed=5, iterations=7))
    chosen = search(sample, [first]).codes_nl[:, 0]
    rest = (sample - first[chosen]).numpy()
    assert torch.equal(codes.codebooks[0], first)
    assert np.array_equal(codes.codebooks[1], kmeans(rest, 4, seed=6, iterations=7))
    # The averages begin as if every batch of 40 had looked like the sample.
    assert torch.equal(codes.get_buffer("count_0"), torch.bincount(chosen, minlength=8) * 0.1)
    for level, codebook in enumerate(codes.codebooks):
        count = codes.get_buffer(f"count_{level}")[:, None]
        assert count.sum().item() == pytest.approx(40)
        assert torch.equal(codes.get_buffer(f"sum_{level}"), codebook * count)


def test_only_codebooks_are_saved() -> None:
    assert list(ResidualCodebooks((4, 2), 3).state_dict()) == ["codebook_0", "codebook_1"]
