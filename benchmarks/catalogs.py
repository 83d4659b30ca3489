"""Embeddings that are hard on codebooks, made from seeds: a name in, rows and levels out.

The first ones are even enough for every codeword to earn its place; of the last ones, `UNEVEN`, the
data itself asks for uneven codes. Shapes: n rows, d dims.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from semid.columns import as_matrix
from semid.jobs.embed import embed

Matrix = npt.NDArray[np.float32]
ITEMS = Path(__file__).parent.parent / "data" / "items.parquet"


class Catalog(NamedTuple):
    """Embeddings ``(n, d)`` and the codewords of each level."""

    x_nd: Matrix
    levels: tuple[int, ...] = (256, 256, 256)


def clustered(rows: int, width: int, clusters: int = 100, *, noise: float = 0.5) -> Matrix:
    """Rows around centres drawn from a normal distribution."""
    random = np.random.default_rng(0)
    x_nd = random.standard_normal((rows, width), np.float32) * np.float32(noise)
    x_nd += random.standard_normal((clusters, width), np.float32)[
        random.integers(0, clusters, rows)
    ]
    return x_nd


def of_norm(norm: float, rows: int) -> Matrix:
    x_nd = clustered(rows, 64)
    return x_nd * np.float32(norm) / np.linalg.norm(x_nd, axis=1, keepdims=True)


def repeated(rows: int, originals: int) -> Matrix:
    """30% of the rows are copies of a few others."""
    x_nd, copies = clustered(rows, 64), rows * 3 // 10
    x_nd[:copies] = x_nd[copies + np.random.default_rng(1).integers(0, originals, copies)]
    return x_nd


def dominated(rows: int) -> Matrix:
    """80% of the rows lie in one of 21 clusters, five times denser than the others."""
    x_nd, dense = clustered(rows, 64, 20), rows * 8 // 10
    x_nd[:dense] = 0.1 * clustered(dense, 64, 1)
    return x_nd


def heavy_tailed(rows: int) -> Matrix:
    """Features from Student's t with 1.5 degrees of freedom, whose variance is infinite."""
    return np.random.default_rng(0).standard_t(1.5, (rows, 64)).astype(np.float32)


def sample(rows: int) -> Matrix:
    """LSA embeddings of the sample catalog."""
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/embeddings.parquet"
        columns = ["title", "brand", "categories", "description"]
        embed(str(ITEMS), output=output, encoder="lsa", settings={"text": columns}, workers=1)
        return as_matrix(pq.read_table(output)["embedding"])[:rows]


def digits(rows: int) -> Matrix:
    return load_digits().data[:rows].astype(np.float32)


# For each the largest number of rows, what makes them, and its levels where they are not 3 x 256.
CATALOGS: dict[str, tuple[int, Callable[[int], Matrix]]] = {
    "sample": (6_000, sample),
    "digits": (1_797, digits),
    "2,000 rows": (2_000, lambda rows: clustered(rows, 128)),
    "200,000 rows": (200_000, lambda rows: clustered(rows, 768, 1_000)),
    "norm 1e-3": (10_000, lambda rows: of_norm(1e-3, rows)),
    "norm 1e3": (10_000, lambda rows: of_norm(1e3, rows)),
    "30% copies": (10_000, lambda rows: repeated(rows, rows // 10)),
    "30% one row": (10_000, lambda rows: repeated(rows, 1)),
    "80% one cluster": (10_000, dominated),
    "heavy tails": (10_000, heavy_tailed),
}
UNEVEN = ("30% copies", "30% one row", "80% one cluster", "heavy tails")


def catalog(name: str, rows: int | None = None) -> Catalog:
    """Make the catalog called `name`, of all its rows or fewer."""
    most, make = CATALOGS[name]
    x_nd = make(min(most, rows or most))
    return Catalog(x_nd, (64, 64, 64)) if name == "digits" else Catalog(x_nd)
