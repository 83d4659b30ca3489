"""The one k-means: every row counts, seeds repeat it, and nothing outside it moves."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest
import torch

from semid.errors import SemidError
from semid.kmeans import kmeans


def drawn(n: int, d: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def by_value(centroids: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return centroids[np.lexsort(centroids.T[::-1])]


def test_one_centroid_is_the_mean() -> None:
    x = drawn(1_000, 3) + np.float32(1e3)
    mean = x.mean(0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(kmeans(x, 1, seed=0), mean[None])


def test_as_many_centroids_as_rows_are_the_rows() -> None:
    x = drawn(12, 3)
    np.testing.assert_array_equal(by_value(kmeans(x, 12, seed=0)), by_value(x))


def test_centroids_are_the_means_of_their_rows() -> None:
    # More than 256 rows a centroid, which FAISS left alone would sample.
    x = drawn(6_000, 2)
    x[::3] += 50
    centroids = by_value(kmeans(x, 2, seed=3))
    means = np.stack([np.delete(x, np.s_[::3], axis=0).mean(0), x[::3].mean(0)])
    np.testing.assert_allclose(centroids, means, rtol=1e-5, atol=1e-5)


def test_seeds() -> None:
    x = drawn(500, 4)
    first = kmeans(x, 16, seed=1)
    np.testing.assert_array_equal(first, kmeans(x, 16, seed=1))
    assert not np.array_equal(first, kmeans(x, 16, seed=2))


def test_more_iterations_fit_better() -> None:
    x = drawn(800, 4)

    def error(iterations: int) -> float:
        centroids = kmeans(x, 16, seed=1, iterations=iterations)
        return float(((x[:, None] - centroids) ** 2).sum(2).min(1).sum())

    assert error(20) < error(2) < error(1)


@pytest.mark.parametrize("k", [2, 7, 16])
def test_rows_that_repeat_give_finite_centroids(k: int) -> None:
    x = np.repeat(drawn(3, 4), 10, axis=0)
    centroids = kmeans(x, k, seed=0)
    assert centroids.shape == (k, 4)
    assert np.isfinite(centroids).all()


def test_fewer_rows_than_centroids() -> None:
    with pytest.raises(SemidError, match="7 rows are too few for 8 codewords"):
        kmeans(drawn(7, 2), 8, seed=0)


def test_layout_and_type_of_the_rows_do_not_matter() -> None:
    x = drawn(300, 4)
    expected = kmeans(x, 8, seed=0)
    wide = np.zeros((300, 8), np.float32)
    wide[:, ::2] = x
    for same in (np.asfortranarray(x), wide[:, ::2], x.astype(np.float64)):
        before = same.copy()
        np.testing.assert_array_equal(kmeans(same, 8, seed=0), expected)
        np.testing.assert_array_equal(same, before)


def test_it_says_nothing_and_moves_no_global_state(capfd: pytest.CaptureFixture[str]) -> None:
    before = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    kmeans(drawn(20, 4), 15, seed=0)  # so few rows a centroid that FAISS would warn
    after = np.random.get_state()[1], random.getstate(), torch.get_rng_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]
    assert torch.equal(before[2], after[2])
    assert capfd.readouterr() == ("", "")
