"""What each baseline claims: bounded clusters, product quantisation as FAISS does it, and maps."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
import torch

import semid
from semid.balancing import balance
from semid.errors import SemidError
from semid.kmeans import kmeans, opq_rotation
from semid.metrics.neighbours import prefix_purity
from semid.metrics.vectors import cosine_similarity
from semid.quantization import Level, search

Matrix = npt.NDArray[np.float32]


def drawn(n: int, d: int, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(10, d))
    return (centres[rng.integers(0, 10, n)] + rng.normal(size=(n, d))).astype(np.float32)


def fit(x_nd: Matrix, kind: str, levels: tuple[int, ...], **kmeans: Any) -> semid.Quantizer:
    config = {"holdout": 0, "kmeans": kmeans}
    return semid.fit(x_nd, kind, levels, config=config, device="cpu")


# Bounded clusters


def test_prices_by_hand() -> None:
    # Three rows are nearest to 0 and one to 10; of four rows, two may stay.
    rows = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
    codebook, offset = balance(rows, torch.tensor([[0.0], [10.0]]), size_limit=1.01, iterations=0)
    assert codebook.tolist() == [[0.0], [10.0]]
    # Half squared distances: the third row is 8 from the one and 18 from the other, a gap of 10;
    # the second has one of 40. The price lies halfway.
    assert offset.tolist() == [25.0, 0.0]
    assert search(rows, [Level(codebook, offset)]).codes_nl[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("limit", [1.1, 1.5])
def test_clusters_keep_to_their_bound(limit: float) -> None:
    x_nd = drawn(2_000, 8)
    codes_nl = fit(x_nd, "rqkmeans", (16, 8), size_limit=limit).encode(x_nd)
    for codes_n, size in zip(codes_nl.T, (16, 8), strict=True):
        assert np.bincount(codes_n).max() <= limit * 2_000 / size


def test_rows_that_repeat_stay_together() -> None:
    x_nd = np.concatenate([np.repeat(drawn(1, 4), 300, 0), drawn(700, 4, seed=1)])
    codes_n = fit(x_nd, "kmeans", (10,), size_limit=1.2).encode(x_nd)[:, 0]
    assert (codes_n[:300] == codes_n[0]).all()
    others_k = np.bincount(codes_n[300:], minlength=10)
    assert np.delete(others_k, codes_n[0]).max() <= 120


def test_without_a_limit_there_are_no_prices() -> None:
    model = fit(drawn(300, 4), "rqkmeans", (4,))
    assert [level.offset_k for level in model.network.search_levels] == [None]


# Product quantisation


def test_pq_gives_the_codes_that_faiss_gives() -> None:
    x_nd = drawn(1_000, 12)
    model = fit(x_nd, "pq", (16, 16, 16))
    quantizer = faiss.ProductQuantizer(12, 3, 4)
    books = [book[:, 4 * i : 4 * i + 4].numpy() for i, book in enumerate(model.network.codebooks)]
    faiss.copy_array_to_vector(np.concatenate(books).ravel(), quantizer.centroids)
    packed = quantizer.compute_codes(x_nd)
    unpacked = np.stack([packed[:, 0] & 15, packed[:, 0] >> 4, packed[:, 1] & 15], 1)
    np.testing.assert_array_equal(model.encode(x_nd), unpacked)
    np.testing.assert_allclose(
        model.decode(model.encode(x_nd)), quantizer.decode(packed), rtol=1e-5, atol=1e-5
    )


def test_pq_is_as_good_as_when_faiss_trains_it() -> None:
    x_nd = drawn(1_000, 12)
    quantizer = faiss.ProductQuantizer(12, 3, 4)
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(x_nd)
    theirs = np.square(quantizer.decode(quantizer.compute_codes(x_nd)) - x_nd).sum()
    model = fit(x_nd, "pq", (16, 16, 16))
    ours = np.square(model.decode(model.encode(x_nd)) - x_nd).sum()
    assert ours < 1.05 * theirs


def test_a_level_of_pq_has_dims_of_its_own() -> None:
    books = fit(drawn(200, 5), "pq", (8, 4)).network.codebooks
    assert books[0][:, :3].abs().sum() > 0
    assert not books[0][:, 3:].any()
    assert not books[1][:, :3].any()


@pytest.mark.parametrize("kind", ["pq", "opq"])
def test_more_levels_than_dims(kind: str) -> None:
    with pytest.raises(SemidError, match="3 levels are more than the 2 dimensions"):
        fit(drawn(50, 2), kind, (4, 4, 4))


@pytest.mark.parametrize(("d", "parts", "z"), [(12, 3, 12), (10, 4, 12), (5, 1, 5)])
def test_the_rotation_of_opq_goes_back(d: int, parts: int, z: int) -> None:
    turn_zd = opq_rotation(drawn(300, d), parts, 16, seed=0)
    assert turn_zd.shape == (z, d)
    np.testing.assert_allclose(turn_zd.T @ turn_zd, np.eye(d), atol=1e-5)


def test_opq_beats_pq_where_dims_are_alike_in_pairs() -> None:
    rng = np.random.default_rng(0)
    x_nd = np.repeat(rng.normal(size=(1_500, 4)) * [8, 4, 1, 0.5], 2, axis=1).astype(np.float32)
    errors = {k: fit(x_nd, k, (16, 16)).metrics["train_error"] for k in ("pq", "opq")}
    assert errors["opq"] < 0.9 * errors["pq"]


# Principal components, flat k-means


def test_all_principal_components_are_the_embeddings_turned() -> None:
    x_nd = drawn(1_000, 6)
    plain, turned = fit(x_nd, "rqkmeans", (8, 4)), fit(x_nd, "rqkmeans", (8, 4), pca=6)
    assert turned.network.codebooks[0].shape == (8, 6)
    np.testing.assert_allclose(
        turned.metrics["train_error"], plain.metrics["train_error"], rtol=1e-3
    )
    same = (turned.encode(x_nd) == plain.encode(x_nd)).all(1)
    assert same.mean() > 0.99  # FAISS starts from the same rows


def test_fewer_principal_components() -> None:
    x_nd = drawn(500, 6)
    x_nd[:, 3:] = 0  # three dims hold everything
    few, all_ = fit(x_nd, "rqkmeans", (8,), pca=3), fit(x_nd, "rqkmeans", (8,))
    assert few.network.codebooks[0].shape == (8, 3)
    assert few.decode(few.encode(x_nd)).shape == (500, 6)
    assert few.metrics["train_error"] == pytest.approx(all_.metrics["train_error"], rel=1e-3)
    assert fit(x_nd, "kmeans", (8,), pca=99).network.codebooks[0].shape == (8, 6)


def test_flat_k_means_of_both_libraries() -> None:
    x_nd = drawn(1_000, 6)
    found = [fit(x_nd, "kmeans", (10,), library=name) for name in ("faiss", "sklearn")]
    errors = [model.metrics["train_error"] for model in found]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    np.testing.assert_array_equal(
        found[0].network.codebooks[0].numpy(), kmeans(x_nd, 10, seed=0, iterations=25)
    )


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [("pq", "pca", 3), ("opq", "size_limit", 1.5), ("rqkmeans", "library", "sklearn")],
)
def test_settings_of_other_baselines(kind: str, setting: str, value: object) -> None:
    with pytest.raises(SemidError, match=f"kmeans.{setting} does not apply here"):
        fit(drawn(50, 4), kind, (4,), **{setting: value})


def test_values_out_of_range() -> None:
    with pytest.raises(SemidError, match=r"kmeans\.size_limit is 0\.5"):
        fit(drawn(50, 4), "kmeans", (4,), size_limit=0.5)
    with pytest.raises(SemidError, match=r"a kmeans has one level, .*; give one, or use rqkmeans"):
        fit(drawn(50, 4), "kmeans", (4, 4))


# Measures


def test_prefix_purity_by_hand() -> None:
    codes_nl = np.array([[0, 0], [0, 1], [0, 0], [1, 0]])
    found = prefix_purity(codes_nl, np.array([0, 3]), np.array([[1, 2], [0, 1]]))
    # The first shares (1, 1) and (0, 1) with its two; the last nothing, though a second code.
    assert found.tolist() == [0.5, 0.25]


def test_cosines_by_hand() -> None:
    x_nd = np.array([[1, 0], [1, 1], [2, 0], [1, 2]], np.float32)
    y_nd = np.array([[0, 3], [2, 0], [-1, 0], [0, 0]], np.float32)
    np.testing.assert_allclose(cosine_similarity(x_nd, y_nd), [0, 0.5**0.5, -1, 0])
