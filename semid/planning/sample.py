"""A sample of a catalog's distinct embeddings, drawn in one pass, and how often items repeat one.

Which rows are drawn goes by a hash of the embedding itself, so that copies come together and
neither the order of the rows nor their ids matter. Shapes: n rows, d dims, s rows of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Distinct embeddings of a catalog.

    Attributes
    ----------
    x_sd : the embeddings, in an order that is random but the same for every order of the catalog
    copies_s : items of the catalog that have each
    items : rows of the catalog
    distinct : distinct embeddings of the catalog
    most_copied : items that have the most frequent embedding
    """

    x_sd: Matrix
    copies_s: npt.NDArray[np.int64]
    items: int
    distinct: int
    most_copied: int

    @property
    def is_whole(self) -> bool:
        """Whether every distinct embedding of the catalog is in it."""
        return len(self.x_sd) == self.distinct

    @property
    def floor(self) -> float:
        """The uniqueness that no levels exceed: equal embeddings have equal codes."""
        return self.distinct / self.items


class Sampler:
    """Draws a `Sample` from a catalog that streams by.

    An embedding is in the sample when its hash is below a limit (Broder, 1997, samples sets so).
    The hash is multilinear over the 32-bit words (Lemire and Kaser, "Strongly universal string
    hashing is fast", 2014): two different embeddings share one with a probability of 2^-33 at the
    worst, and of about 2^-64 where they differ in the last bits of a float32. Memory: the
    sample, and 8 bytes a row.

    Parameters
    ----------
    items : rows of the catalog
    width : d
    rows : about how many rows to draw; every distinct one when there are no more
    seed : draws another sample
    """

    def __init__(self, items: int, width: int, *, rows: int, seed: int) -> None:
        self._items, self._width = items, width
        self._weight_d = np.random.default_rng(seed).integers(0, 2**64, width, dtype=np.uint64)
        self._limit = None if items <= rows else np.uint64(int(rows / items * 2**64))
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._drawn: list[tuple[npt.NDArray[np.uint64], Matrix]] = []

    def add(self, x_nd: Matrix) -> None:
        """Look at the next rows of the catalog."""
        word_nd = np.ascontiguousarray(x_nd, np.float32).view(np.uint32)
        hash_n = np.einsum("nd,d->n", word_nd, self._weight_d, dtype=np.uint64)
        self._hashes.append(hash_n)
        # One of each here; the copies in other batches go in the end.
        drawn_b, first_b = np.unique(hash_n, return_index=True)
        if self._limit is not None:
            below = int(np.searchsorted(drawn_b, self._limit))
            drawn_b, first_b = drawn_b[:below], first_b[:below]
        self._drawn.append((drawn_b, x_nd[first_b]))

    def result(self) -> Sample:
        """Return what was drawn; the sampler is empty then."""
        distinct_m, copies_m = np.unique(np.concatenate(self._hashes), return_counts=True)
        self._hashes.clear()
        drawn_b = np.concatenate([hash_b for hash_b, _ in self._drawn])
        drawn_s, first_s = np.unique(drawn_b, return_index=True)
        place_b = np.full(len(drawn_b), -1)
        place_b[first_s] = np.arange(len(drawn_s))
        x_sd, stop = np.empty((len(drawn_s), self._width), np.float32), len(drawn_b)
        while self._drawn:  # what is copied gives its memory back
            hash_b, rows_bd = self._drawn.pop()
            to_b = place_b[stop - len(hash_b) : stop]
            x_sd[to_b[to_b >= 0]] = rows_bd[to_b >= 0]
            stop -= len(hash_b)
        copies_s = copies_m[np.searchsorted(distinct_m, drawn_s)]
        return Sample(x_sd, copies_s, self._items, len(distinct_m), int(copies_m.max()))
