"""First embeddings of SID tokens from a quantizer's codebooks.

Codewords that are near each other should begin as tokens that are. Every codebook goes through one
and the same random orthonormal map from the latent space to the model's width, which keeps inner
products exactly where the width is at least the number of latent dims (below, it is a random
projection as of Johnson and Lindenstrauss). A level is then scaled as a whole, to the mean norm of
the embeddings that the model has: residuals shrink from level to level, but a token of the last
level must be as loud as any other. Levels without a codebook, such as a suffix, and levels of zeros
get directions at random, of that norm.

Shapes: k codes of a level, z latent dims, d the model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError

if TYPE_CHECKING:
    from semid.quantizer import Quantizer

Matrix = npt.NDArray[np.float32]


def initial_embeddings(
    levels: Sequence[int],
    width: int,
    norm: float,
    *,
    codebooks: Sequence[Any] = (),
    seed: int = 0,
) -> list[Matrix]:
    """Return the first embeddings of every level's tokens: float32 ``(k, d)``.

    Parameters
    ----------
    levels : codes per level
    width : d
    norm : the mean norm of every level
    codebooks : of the first levels, ``(k, z)``; NumPy or torch
    seed : of the map, and of the levels without a codebook

    Raises
    ------
    SemidError
        When a codebook is not of its level's size, or of other latent dims than the first.
    """
    books = [_as_matrix(book) for book in codebooks]
    for level, book_kz in enumerate(books):
        if level >= len(levels) or len(book_kz) != levels[level]:
            size = levels[level] if level < len(levels) else "no"
            raise SemidError(
                f"the codebook of level {level} has {len(book_kz)} codewords but the vocabulary "
                f"has {size} codes there; take the model that assigned the table"
            )
        if book_kz.shape[1] != books[0].shape[1]:
            raise SemidError(
                f"the codebook of level {level} has {book_kz.shape[1]} dims and that of level 0 "
                f"{books[0].shape[1]}; take those of one model"
            )
    random = np.random.default_rng(seed)
    map_zd = _orthonormal(books[0].shape[1], width, random) if books else None
    found = []
    for level, size in enumerate(levels):
        is_known = level < len(books) and bool(books[level].any())
        rows_kd = (
            books[level] @ map_zd
            if is_known and map_zd is not None
            else random.standard_normal((size, width))
        )
        mean = np.linalg.norm(rows_kd, axis=1).mean()
        found.append((rows_kd * (norm / mean)).astype(np.float32))
    return found


def codebooks_of(model: str | Path | Quantizer) -> list[Matrix]:
    """Return the codebooks of a model or its directory, float32 ``(k, z)``.

    Raises as `semid.load`.
    """
    from semid.quantizer import load

    loaded = load(model) if isinstance(model, str | Path) else model
    levels = loaded.network.search_levels
    return [_as_matrix(level.codebook_kz) for level in levels]


def _as_matrix(book: Any) -> Matrix:
    book = book.detach().cpu().float().numpy() if hasattr(book, "detach") else book
    return np.asarray(book, np.float32)


def _orthonormal(dims: int, width: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a random map ``(z, d)`` with orthonormal rows, or columns where there are fewer."""
    square = random.standard_normal((max(dims, width), min(dims, width)))
    columns, upper = np.linalg.qr(square)
    columns *= np.sign(np.diag(upper))  # uniform among all such maps (Mezzadri, 2007)
    return columns.T if dims <= width else columns
