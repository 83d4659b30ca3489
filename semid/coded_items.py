"""The items of an ids table for measuring: codes in memory, embeddings streamed beside them.

Items stand in the order of a hash of their ids, so that nothing depends on the order of a table:
the first ones are a sample, and an item's place breaks ties. Takes about 8 + 8·l bytes an item.
Shapes: n items, l levels, d dims, e embeddings, b rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.embedding_columns import Widths, side_by_side
from semid.errors import SemidError, display_path
from semid.id_hashes import hash_ids
from semid.id_reading import id_batches
from semid.ids import validate_codes
from semid.item_matching import match_rows
from semid.streams import prefetch
from semid.table_rows import rows_at
from semid.tables import ParquetTable
from semid.training_data import held_out

Codes = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BATCH_ROWS = 16_384


@dataclass(frozen=True)
class CodedItems:
    """Items with their codes, in the order of the hashes of their ids.

    Attributes
    ----------
    codes_nl : raw codes
    moved_m : items whose SID does not begin with their raw codes
    sid_ml : the first l codes of their SIDs
    suffix_n : the code that a SID has beyond level l; None where they have none
    held_out_n : who is held out of training
    table_row_n : where each item stands in its table
    """

    codes_nl: Codes
    moved_m: Rows
    sid_ml: Codes
    suffix_n: Codes | None
    held_out_n: Mask
    table_row_n: Rows

    def placed(self, row_n: Rows) -> Rows:
        """Turn rows of the table into places here; -1 stays."""
        place_n = np.empty_like(self.table_row_n)
        place_n[self.table_row_n] = np.arange(len(place_n))
        return np.where(row_n >= 0, place_n[row_n], -1)


def read_items(
    table: ParquetTable,
    levels: tuple[int, ...],
    *,
    item_id: str = "item_id",
    holdout: float = 0.0,
    seed: int = 0,
) -> CodedItems:
    """Read the codes of an ids table; every `seed` puts the items into another order.

    Raises
    ------
    SemidError
        When the table breaks its contract, or its codes are not of these levels.
    """
    hashes, codes, rows, sids, suffixes, held = [], [], [], [], [], []
    row, depth = 0, len(levels)
    for part in id_batches(table, item_id=item_id):
        validate_codes(part.codes, levels, at=table.locator(row))
        hashes.append(_salted(hash_ids(part.item_ids), seed))
        held.append(held_out(part.item_ids, holdout))
        codes.append(part.codes.astype(np.int32, copy=False))
        moved = np.flatnonzero((part.sids[:, :depth] != part.codes).any(1))
        rows.append(moved + row)
        sids.append(part.sids[moved, :depth])
        suffixes.append(part.sids[:, depth:])
        row += len(part.codes)
    codes_nl, suffix_ns = np.concatenate(codes), np.concatenate(suffixes)
    # Of one hash in 32 bits: by their codes, so that only twins are left to the table's order.
    order_n = np.lexsort((*codes_nl.T[::-1], np.concatenate(hashes)))
    place_n = np.empty_like(order_n)
    place_n[order_n] = np.arange(row)
    moved_m = place_n[np.concatenate(rows)]
    order_m = np.argsort(moved_m)
    return CodedItems(
        codes_nl[order_n],
        moved_m[order_m],
        np.concatenate(sids)[order_m],
        suffix_ns[order_n, 0] if suffix_ns.shape[1] else None,
        np.concatenate(held)[order_n],
        order_n,
    )


def _salted(hash_n: npt.NDArray[np.uint32], seed: int) -> npt.NDArray[np.uint32]:
    """Return other hashes for every seed but 0, as different as they were."""
    if not seed:
        return hash_n
    number = int(np.random.default_rng(seed).integers(1 << 31))
    salted_n = (hash_n ^ np.uint32(number)) * np.uint32(number * 2 + 1)
    return np.asarray((salted_n ^ (salted_n >> np.uint32(16))) * np.uint32(0x85EBCA6B))


@dataclass(frozen=True)
class Embedded:
    """Embeddings of some of the items, of any number, streamed from their table.

    Attributes
    ----------
    widths : of the embedding columns
    item_e : the item of every embedding, -1 for one that is not there
    stream : yields embeddings ``(b, d)`` with their items ``(b,)``, some at a time, b above 0
    take : embeddings of items ``(m,)`` that have one, m above 0, in that order, ``(m, d)``; reads
        the table once
    """

    widths: Widths
    item_e: Rows
    stream: Callable[[], Iterator[tuple[Matrix, Rows]]]
    take: Callable[[Rows], Matrix]

    @property
    def items(self) -> Rows:
        """The items that have an embedding, ascending."""
        return np.sort(self.item_e[self.item_e >= 0])


def embedded(
    items: CodedItems,
    ids: ParquetTable,
    table: ParquetTable,
    widths: Widths,
    *,
    item_id: str = "item_id",
    temp_dir: Path | None = None,
    memory_bytes: int = 1 << 30,
) -> Embedded:
    """Find the embeddings of items in a table of any order; raises as `match_rows`."""
    row_e = match_rows(ids, table, item_id, temp_dir=temp_dir, memory_bytes=memory_bytes)
    item_e = items.placed(row_e)

    def stream() -> Iterator[tuple[Matrix, Rows]]:
        row = 0
        for batch in table.batches(list(widths), rows=BATCH_ROWS):
            x_bd = side_by_side(batch, widths, where=table, first_row=row)
            item_b = item_e[row : row + len(x_bd)]
            there_b = item_b >= 0
            # Of a batch of other items nothing is left, and nothing can be measured of it.
            if there_b.any():
                yield (x_bd, item_b) if there_b.all() else (x_bd[there_b], item_b[there_b])
            row += batch.num_rows

    def take(item_m: Rows) -> Matrix:
        place_n = np.full(len(items.codes_nl), -1)
        place_n[item_e[item_e >= 0]] = np.flatnonzero(item_e >= 0)
        row_u, back_m = np.unique(place_n[item_m], return_inverse=True)
        return np.concatenate(list(taken(row_u)))[back_m.reshape(-1)]

    def taken(row_u: Rows) -> Iterator[Matrix]:
        start, stop = int(row_u[0]), int(row_u[-1]) + 1
        for batch in table.batches(list(widths), rows=BATCH_ROWS, start=start, stop=stop):
            # All rows of the batch, so that a bad one is named by its number in the table.
            x_bd = side_by_side(batch, widths, where=table, first_row=start)
            yield x_bd[row_u[slice(*np.searchsorted(row_u, (start, start + len(x_bd))))] - start]
            start += len(x_bd)

    return Embedded(widths, item_e, lambda: prefetch(stream()), take)


class Categories(NamedTuple):
    """Categories of items.

    column : where they come from
    category_n : of every item, -1 for none
    names : of the categories
    """

    column: str
    category_n: Rows
    names: list[str]


def category_of(
    items: CodedItems,
    ids: ParquetTable,
    table: ParquetTable,
    column: str,
    *,
    item_id: str,
    temp_dir: Path | None = None,
    memory_bytes: int = 1 << 30,
) -> Categories:
    """Return the category of every item.

    A list is a path: its parts together are one category. An empty text or list is none. The rows
    of `table` may be in any order.

    Raises
    ------
    SemidError
        When the table cannot be read, or has no category of any of the items.
    """
    row_e = match_rows(ids, table, item_id, temp_dir=temp_dir, memory_bytes=memory_bytes)
    place_e = items.placed(row_e)
    category_n = np.full(len(items.codes_nl), -1)
    names: dict[str, int] = {}
    row = 0
    for batch in table.batches([column], rows=65_536):
        found = _text(batch.column(0)).dictionary_encode()
        number_k = [names.setdefault(name, len(names)) for name in found.dictionary.to_pylist()]
        index_b = to_numpy(found.indices.fill_null(-1))
        code_b = np.where(index_b >= 0, np.array([*number_k, -1])[index_b], -1)
        place_b = place_e[row : row + len(code_b)]
        category_n[place_b[place_b >= 0]] = code_b[place_b >= 0]
        row += len(code_b)
    if not (category_n >= 0).any():
        raise SemidError(
            f"column '{column}' of {display_path(table.name)} has no category of any item of "
            f"{display_path(ids.name)}; give this catalog's items, or another --categories"
        )
    # By name, so that neither the order of the table numbers them.
    order = sorted(names)
    rank_k = np.empty(len(names) + 1, np.int64)
    rank_k[[*(names[name] for name in order), -1]] = [*range(len(order)), -1]
    return Categories(column, rank_k[category_n], order)


def _text(values: pa.Array) -> pa.Array:
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = pc.binary_join(values.cast(pa.list_(pa.string())), " > ")
    texts: pa.Array = values.cast(pa.string())
    return pc.if_else(pc.equal(texts, ""), None, texts)


def item_ids_at(items: CodedItems, ids: ParquetTable, place_m: Rows, item_id: str) -> pa.Array:
    """Return the ids of some items, ``(m,)``."""
    return rows_at(ids, items.table_row_n[place_m], [item_id]).column(0).combine_chunks()


def all_item_ids(items: CodedItems, ids: ParquetTable, item_id: str) -> pa.Array:
    """Return the ids of all items, ``(n,)``."""
    found = [batch.column(0) for batch in ids.batches([item_id], rows=65_536)]
    chunks: pa.Array = pa.chunked_array(found).combine_chunks()
    return chunks.take(to_arrow(items.table_row_n))
