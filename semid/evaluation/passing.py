"""One pass over embeddings: how far what their codes decode to is from them.

Shapes: n items, l levels, d dims, c embedding columns, b rows of a batch, m items whose SIDs were
moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from semid.coded_items import Categories, CodedItems, Embedded
from semid.embedding_columns import Widths, spans
from semid.metrics.fidelity import Fidelity, by_group
from semid.metrics.uniqueness import row_digests

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Watch = Callable[[Matrix, Rows], object]

# Items whose prefixes are decoded, beside their whole codes.
PREFIX_ITEMS = 131_072
# Categories whose fidelity is told: those with the most items.
CATEGORIES = 20


class Decoder(Protocol):
    """What is measured of a model: `semid.quantizer.Quantizer` is one."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Codewords per level."""
        ...

    @property
    def widths(self) -> Widths:
        """Of the embedding columns."""
        ...

    def decode(self, codes: Any) -> Matrix:
        """Return the embeddings ``(n, d)`` that codes, or prefixes of them, stand for."""
        ...


@dataclass(frozen=True)
class CodesAlone:
    """Levels and widths of codes whose model is not known, so that they decode to nothing."""

    levels: tuple[int, ...]
    widths: Widths


@dataclass
class Pass:
    """What one pass over the embeddings has found.

    Attributes
    ----------
    depths : fidelity of the first code, the first two, …; none without a model
    error_n : relative squared error of every item, NaN where it is not known: over the training
        items' mean squared deviation, a mean over embedding columns, so that its mean over training
        items is their ``train_error``
    cosine_n : cosine of its embedding and what its codes decode to, NaN without
    digest_n : hashes of the embeddings, 0 without
    moved_error_m : the same of moved items as their SIDs decode
    """

    depths: list[Fidelity]
    error_n: npt.NDArray[np.float32]
    cosine_n: npt.NDArray[np.float32]
    digest_n: npt.NDArray[np.uint64]
    moved_error_m: npt.NDArray[np.float32]


def look(
    items: CodedItems,
    embeddings: Embedded,
    model: Decoder | CodesAlone,
    *,
    watchers: Sequence[Watch] = (),
) -> Pass:
    """Walk over the embeddings once, decoding; `watchers` see every batch and its items."""
    if isinstance(model, CodesAlone):
        return _look_only(items, embeddings, watchers)
    n, depth = items.codes_nl.shape
    place_n = np.full(n, -1)
    place_n[items.moved_m] = np.arange(len(items.moved_m))
    column_c = list(spans(model.widths).values())
    depths = [Fidelity(spans(model.widths)) for _ in range(depth)]
    error_nc = np.full((n, len(column_c)), np.nan, np.float32)
    moved_error_mc = np.full((len(items.moved_m), len(column_c)), np.nan, np.float32)
    cosine_n, digest_n = np.full(n, np.nan, np.float32), np.zeros(n, np.uint64)
    sampled = prefix_items(embeddings)
    for x_bd, item_b in embeddings.stream():
        held_b, codes_bl = items.held_out_n[item_b], items.codes_nl[item_b]
        decoded_bd = model.decode(codes_bl)
        cosine_n[item_b] = depths[-1].add(x_bd, decoded_bd, held_b)
        error_nc[item_b] = _errors(x_bd, decoded_bd, column_c)
        digest_n[item_b] = row_digests(x_bd)
        few_b = item_b <= sampled
        for level in range(depth - 1):
            prefix_bd = model.decode(codes_bl[few_b, : level + 1])
            depths[level].add(x_bd[few_b], prefix_bd, held_b[few_b])
        moved_b = place_n[item_b] >= 0
        if moved_b.any():
            moved_m = place_n[item_b[moved_b]]
            sid_bd = model.decode(items.sid_ml[moved_m])
            moved_error_mc[moved_m] = _errors(x_bd[moved_b], sid_bd, column_c)
        for watch in watchers:
            watch(x_bd, item_b)
    unit_c = depths[-1].units()
    error_n, moved_m = (_relative(found, unit_c) for found in (error_nc, moved_error_mc))
    return Pass(depths, error_n, cosine_n, digest_n, moved_m)


def _look_only(items: CodedItems, embeddings: Embedded, watchers: Sequence[Watch]) -> Pass:
    """Walk over the embeddings of items whose codes nobody decodes."""
    digest_n = np.zeros(len(items.codes_nl), np.uint64)
    for x_bd, item_b in embeddings.stream():
        digest_n[item_b] = row_digests(x_bd)
        for watch in watchers:
            watch(x_bd, item_b)
    unknown_n = np.full(len(digest_n), np.nan, np.float32)
    return Pass([], unknown_n, unknown_n, digest_n, unknown_n[items.moved_m])


def _errors(x_bd: Matrix, decoded_bd: Matrix, column_c: Sequence[slice]) -> Matrix:
    """Return the squared error of every row in every column, ``(b, c)``."""
    square_bd = np.square(x_bd - decoded_bd)
    return np.stack([square_bd[:, dims].sum(1) for dims in column_c], 1)


def _relative(error_nc: Matrix, unit_c: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return errors in the units of their columns, a mean over the columns that have one."""
    there_c = ~np.isnan(unit_c)
    if not there_c.any():
        return np.full(len(error_nc), np.nan, np.float32)
    return np.asarray((error_nc[:, there_c] / unit_c[there_c]).mean(1), np.float32)


def prefix_items(embeddings: Embedded) -> int:
    """Return the last of the items whose prefixes are decoded, -1 of none."""
    there = embeddings.items[:PREFIX_ITEMS]
    return int(there[-1]) if len(there) else -1


class Kept:
    """Embeddings of a few items, caught as they pass.

    Parameters
    ----------
    item_m : the items, in any order, some more than once, -1 for none
    width : d
    """

    def __init__(self, item_m: Rows, width: int) -> None:
        self._item_u = np.unique(item_m[item_m >= 0])
        self._x_ud = np.empty((len(self._item_u), width), np.float32)

    def add(self, x_bd: Matrix, item_b: Rows) -> None:
        """Keep what is wanted of a batch."""
        here_b = np.isin(item_b, self._item_u)
        self._x_ud[np.searchsorted(self._item_u, item_b[here_b])] = x_bd[here_b]

    def take(self, item_m: Rows) -> Matrix:
        """Return the embeddings of items that were wanted, ``(m, d)``."""
        return self._x_ud[np.searchsorted(self._item_u, item_m)]


def by_category(
    categories: Categories, found: Pass, held_n: npt.NDArray[np.bool_], known: Rows
) -> list[dict[str, Any]]:
    """Return items, relative error, R² and cosine of the categories with the most items.

    Of all their items, of those of training, and of those held out; None where there are none.
    """
    there = known[categories.category_n[known] >= 0]
    category_m = categories.category_n[there]
    count_c = np.bincount(category_m)
    most = np.argsort(-count_c, kind="stable")[:CATEGORIES]
    most = most[count_c[most] > 0]
    rows: list[dict[str, Any]] = [
        {"category": categories.names[c], "items": int(count_c[c])} for c in most
    ]
    held_m = held_n[there]
    for side, some_m in (("", held_m | True), ("train_", ~held_m), ("held_out_", held_m)):
        of_m = there[some_m], category_m[some_m]
        error_c = by_group(found.error_n[of_m[0]], of_m[1], len(count_c))
        cosine_c = by_group(found.cosine_n[of_m[0]], of_m[1], len(count_c))
        for row, error, cosine in zip(rows, error_c[most], cosine_c[most], strict=True):
            is_known = bool(np.isfinite(error))
            row[f"{side}error"] = float(error) if is_known else None
            row[f"{side}r2"] = 1 - float(error) if is_known else None
            row[f"{side}cosine"] = float(cosine) if is_known else None
    return rows
