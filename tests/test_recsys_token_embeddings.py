"""First embeddings of SID tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semid.errors import SemidError
from semid.quantizer import load
from semid.recsys.token_embeddings import codebooks_of, initial_embeddings

RANDOM = np.random.default_rng(0)
BOOKS = [RANDOM.normal(size=(6, 4)) * scale for scale in (10.0, 0.1)]


def cosines(rows: np.ndarray) -> np.ndarray:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_codewords_keep_their_angles_and_get_the_norm() -> None:
    made = initial_embeddings((6, 6, 3), 16, 2.5, codebooks=BOOKS, seed=1)
    assert [rows.shape for rows in made] == [(6, 16), (6, 16), (3, 16)]
    for rows in made:
        assert rows.dtype == np.float32
        assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(2.5, rel=1e-5)
    for rows, book in zip(made, BOOKS, strict=False):
        np.testing.assert_allclose(cosines(rows), cosines(book), atol=1e-5)
        ratio = np.linalg.norm(rows, axis=1) / np.linalg.norm(book, axis=1)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_a_narrow_model_gets_a_projection() -> None:
    (rows,) = initial_embeddings((200,), 8, 1.0, codebooks=[RANDOM.normal(size=(200, 32))])
    assert rows.shape == (200, 8)
    assert np.linalg.matrix_rank(rows) == 8


def test_a_seed_makes_them_repeatable() -> None:
    one, same, other = (
        np.concatenate(initial_embeddings((6, 4), 16, 1.0, codebooks=BOOKS[:1], seed=seed))
        for seed in (3, 3, 4)
    )
    assert np.array_equal(one, same)
    assert not np.isclose(one, other).any()


def test_a_level_of_zeros_gets_directions() -> None:
    (rows,) = initial_embeddings((5,), 8, 1.0, codebooks=[np.zeros((5, 4))])
    assert (np.linalg.norm(rows, axis=1) > 0).all()


@pytest.mark.parametrize(
    ("levels", "books", "words"),
    [
        ((6, 7), BOOKS, "the codebook of level 1 has 6 codewords but the vocabulary has 7 codes"),
        ((6,), BOOKS, "the codebook of level 1 has 6 codewords but the vocabulary has no codes"),
        ((6, 6), [BOOKS[0], BOOKS[1][:, :3]], "level 1 has 3 dims and that of level 0 4"),
    ],
)
def test_codebooks_that_do_not_fit_are_refused(levels, books, words) -> None:
    with pytest.raises(SemidError, match=words):
        initial_embeddings(levels, 16, 1.0, codebooks=books)


def test_codebooks_are_those_of_the_model(world: Path) -> None:
    books = codebooks_of(world / "model")
    assert [book.shape[0] for book in books] == [8, 8]
    level = load(world / "model").network.search_levels[1]
    assert np.array_equal(books[1], level.codebook_kz.numpy())
