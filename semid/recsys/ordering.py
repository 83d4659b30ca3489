"""Interactions in the order of users, time and item ids as text: in memory.

Some 40 bytes an interaction are held until all are sorted, and the ids of users and items, each
once for every million rows that it is in. Shapes: u users, m interactions, d and k distinct ids.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_numpy
from semid.interactions import POSITION, interaction_batches, tied
from semid.tables import ParquetTable

Numbers = npt.NDArray[np.int32]
Bounds = tuple[float, float]
"""From which times on interactions validate and test."""

# A look-up of ids begins with a table of those that are sought: seldom.
ROWS = 1 << 20


class Ordered(NamedTuple):
    """Interactions of one user after the other, each in the order of time.

    Attributes
    ----------
    user_ids : sorted, ``(u,)``
    size_u : how many each has, at least 1
    item_m : number of the item among the ids given, -1 for none of them
    part_m : 0 before the first bound, 1 and 2 from each on; empty without bounds
    """

    user_ids: pa.Array
    size_u: npt.NDArray[np.int64]
    item_m: Numbers
    part_m: npt.NDArray[np.int8]


def ordered_in_memory(
    table: ParquetTable, names: list[str], ids: pa.Array, bounds: Bounds | None
) -> Ordered:
    """Read and sort interactions; columns are users, items and time or position."""
    rows = _read(table, names)
    return Ordered(
        rows.user_ids,
        np.bincount(rows.user_m, minlength=len(rows.user_ids)),
        _numbers(ids, rows.item_ids)[rows.item_m],
        parts(rows.place_m, bounds),
    )


def parts(place_m: npt.NDArray[Any], bounds: Bounds | None) -> npt.NDArray[np.int8]:
    """Return `Ordered.part_m` of times."""
    if bounds is None:
        return np.zeros(0, np.int8)
    return (place_m >= bounds[0]).astype(np.int8) + (place_m >= bounds[1])


def wide(kind: pa.DataType) -> pa.DataType:
    """Return the type that ids of a type are compared in."""
    return pa.int64() if pa.types.is_integer(kind) else pa.large_string()


class _Ids:
    """A column of ids as it is read: distinct ids of every batch, and which of them."""

    def __init__(self) -> None:
        self.distinct: list[pa.Array] = []
        self.numbers: list[Numbers] = []
        self.count = 0

    def add(self, column: pa.Array) -> None:
        found = column.cast(wide(column.type)).dictionary_encode()
        self.distinct.append(found.dictionary)
        self.numbers.append(to_numpy(found.indices) + np.int32(self.count))
        self.count += len(found.dictionary)

    def in_order(self, *, as_text: bool = False) -> tuple[pa.Array, Numbers]:
        """Return the distinct ids in their order, and the number of each row; only once."""
        joined = pa.concat_arrays(self.distinct)
        self.distinct.clear()
        found = joined.dictionary_encode()
        del joined
        ids = found.dictionary
        keys = ids.cast(pa.large_string()) if as_text else ids
        order_k = pc.array_sort_indices(keys)
        rank_k = np.empty(len(ids), np.int32)
        rank_k[to_numpy(order_k)] = np.arange(len(ids), dtype=np.int32)
        rank_d = rank_k[to_numpy(found.indices)]
        return ids.take(order_k), rank_d[np.concatenate(self.numbers)]


class _Rows(NamedTuple):
    """Interactions in their order, users and items by their place among the sorted ids."""

    user_ids: pa.Array
    item_ids: pa.Array
    user_m: Numbers
    item_m: Numbers
    place_m: npt.NDArray[Any]


def _read(table: ParquetTable, names: list[str]) -> _Rows:
    users, items, places = _Ids(), _Ids(), []
    for batch in interaction_batches(table, names, rows=ROWS):
        users.add(batch.column(0))
        items.add(batch.column(1))
        places.append(to_numpy(as_numbers(batch.column(2), batch.schema.types[2])))
    place_m = np.concatenate(places)
    del places
    user_ids, user_m = users.in_order()
    item_ids, item_m = items.in_order(as_text=True)
    del users, items
    order_m = np.lexsort((item_m, place_m, user_m))
    rows = _Rows(user_ids, item_ids, user_m[order_m], item_m[order_m], place_m[order_m])
    if names[-1] == POSITION:
        _refuse_ties(table, rows)
    return rows


def _refuse_ties(table: ParquetTable, rows: _Rows) -> None:
    user_m, place_m = rows.user_m, rows.place_m
    tied_m = np.flatnonzero((user_m[1:] == user_m[:-1]) & (place_m[1:] == place_m[:-1]))
    if len(tied_m):
        user, place = user_m[tied_m[0]], place_m[tied_m[0]]
        times = int(((user_m == user) & (place_m == place)).sum())
        raise tied(table, rows.user_ids[int(user)].as_py(), place, times)


def _numbers(ids: pa.Array, met_ids: pa.Array) -> Numbers:
    """Return the number of every id that was met among the ids, -1 for those that are not there."""
    kind = pa.int64() if pa.types.is_int64(ids.type) else pa.large_string()
    if met_ids.type != kind:  # the one text, the other integers
        kind = pa.large_string()
    found = pc.index_in(met_ids.cast(kind), value_set=ids.cast(kind))
    number_k = np.full(len(found), -1, np.int32)
    number_k[to_numpy(pc.indices_nonzero(found.is_valid()))] = to_numpy(found.drop_null())
    return number_k


def as_numbers(times: pa.Array | pa.Scalar, kind: pa.DataType) -> Any:
    """Return times of a type as numbers in their order; decimals as the nearest float64."""
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind) or kind == pa.uint64():
        return times.cast(pa.float64())
    if pa.types.is_date32(kind):
        return times.cast(kind).cast(pa.int32())
    return times.cast(kind).cast(pa.int64())
