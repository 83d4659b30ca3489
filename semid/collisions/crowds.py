"""Items sorted by their raw SIDs, on disk, read back some whole prefixes at a time.

A prefix is all levels but the last; items that share a whole raw SID with others are contested.
Shapes: e entries (items and SIDs that are held already), m contested items, p prefixes, k codewords
of the last level, q packed keys of a prefix.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow, to_numpy
from semid.collisions.space import Integers
from semid.database import fed
from semid.ids import pack_keys, unpack_keys
from semid.tables import open_table

Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
_Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Integers]

# The row of an entry that is no item at hand but a SID that is held.
HELD = -1
_BATCH_ROWS = 1 << 18


def entries(codes_nl: Codes, rows: Integers, levels: Sequence[int]) -> dict[str, pa.Array]:
    """Return the columns that `rank` sorts by: the packed prefix, the last code, the row."""
    keys_nq = prefix_keys(codes_nl[:, :-1], levels)
    keys = {f"key_{q}": to_arrow(np.ascontiguousarray(key_n)) for q, key_n in enumerate(keys_nq.T)}
    last_n = np.ascontiguousarray(codes_nl[:, -1])
    return {**keys, "last": to_arrow(last_n), "row": to_arrow(rows)}


def prefix_keys(prefix_nd: Codes, levels: Sequence[int]) -> npt.NDArray[np.int64]:
    """Pack prefixes of all levels but the last; the empty prefix of a single level is 0."""
    if not prefix_nd.shape[1]:
        return np.zeros((len(prefix_nd), 1), dtype=np.int64)
    return pack_keys(prefix_nd, levels[:-1])


def rank(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    items: Iterator[pa.RecordBatch],
    held: Iterator[pa.RecordBatch] | None = None,
) -> None:
    """Write the `entries` of items, and of SIDs that are held, sorted: by SID, held first, then id.

    `items` have a column ``item_id`` too.
    """
    first = next(items)
    keys = ", ".join(name for name in first.schema.names if name not in ("row", "item_id"))
    # Numbers in place of ids, so that all that is sorted at the end is of one width.
    place = f"row_number() OVER (PARTITION BY {keys} ORDER BY item_id) AS place"
    with fed(connection, "items", first.schema, chain([first], items)):
        connection.execute(f"CREATE TABLE numbered AS SELECT {keys}, row, {place} FROM items")
    rows, feed = "SELECT * FROM numbered", cast(AbstractContextManager[None], nullcontext())
    if held is not None and (start := next(held, None)) is not None:
        rows += f" UNION ALL SELECT {keys}, row, 0 FROM held"
        feed = fed(connection, "held", start.schema, chain([start], held))
    with feed:
        ranked = connection.sql(f"SELECT {keys}, row FROM ({rows}) ORDER BY {keys}, place")
        ranked.write_parquet(str(path))


@dataclass(frozen=True)
class Crowd:
    """Entries of some whole prefixes, in their order.

    Attributes
    ----------
    keys_eq : packed prefixes
    last_e, row_e : last codes and rows; `HELD` for a SID that is held
    first_prefix : number of the first prefix, counted over all of them
    levels : K of every level
    """

    keys_eq: npt.NDArray[np.int64]
    last_e: npt.NDArray[np.int32]
    row_e: Integers
    first_prefix: int
    levels: Sequence[int]

    @cached_property
    def starts_p(self) -> Integers:
        """The first entry of every prefix."""
        return np.flatnonzero(_changes(self.keys_eq))

    @cached_property
    def _sid_e(self) -> Integers:
        """The number of each entry's SID."""
        return np.cumsum(_changes(self.keys_eq) | _changes(self.last_e[:, None])) - 1

    @cached_property
    def sizes(self) -> Integers:
        """How many entries each SID has."""
        return np.bincount(self._sid_e)

    @cached_property
    def _place_m(self) -> Integers:
        return np.flatnonzero((self.sizes[self._sid_e] > 1) & (self.row_e != HELD))

    @property
    def contested(self) -> Integers:
        """The rows of the items that share a raw SID, ``(m,)``."""
        return self.row_e[self._place_m]

    @property
    def sid_number(self) -> Integers:
        """The number of each contested item's raw SID, ``(m,)``."""
        return self._sid_e[self._place_m]

    @property
    def raw_ml(self) -> Codes:
        """The raw SIDs of the contested items."""
        last_m1 = self.last_e[self._place_m, None]
        if len(self.levels) == 1:
            return last_m1
        prefix_md = unpack_keys(self.keys_eq[self._place_m], self.levels[:-1])
        return np.concatenate([prefix_md, last_m1], axis=1)

    def prefixes(self, size: int) -> Iterator[tuple[slice, Mask, Mask]]:
        """Yield the prefixes with contested items.

        Yields
        ------
        items : which of the contested items
        free_k : codewords that no entry has
        shared_k : codewords that contested items have, and none that is held
        """
        stops_p = np.append(self.starts_p[1:], len(self.row_e))
        begin_p = np.searchsorted(self._place_m, self.starts_p)
        end_p = np.searchsorted(self._place_m, stops_p)
        is_fixed_e = np.ones(len(self.row_e), dtype=np.bool_)
        is_fixed_e[self._place_m] = False
        for p in np.flatnonzero(end_p > begin_p).tolist():
            span = slice(self.starts_p[p], stops_p[p])
            last_s, fixed_s = self.last_e[span], is_fixed_e[span]
            fixed_k, used_k = np.zeros((2, size), dtype=np.bool_)
            used_k[last_s] = True
            fixed_k[last_s[fixed_s]] = True
            yield slice(int(begin_p[p]), int(end_p[p])), ~used_k, used_k & ~fixed_k


def _changes(rows_eq: npt.NDArray[np.integer]) -> Mask:
    """Tell which rows differ from the one before; the first does."""
    differs_e = np.ones(len(rows_eq), dtype=np.bool_)
    differs_e[1:] = (rows_eq[1:] != rows_eq[:-1]).any(axis=1)
    return differs_e


def crowds(ranked: Path, levels: Sequence[int]) -> Iterator[Crowd]:
    """Read what `rank` wrote, some whole prefixes at a time."""
    table = open_table(ranked)
    names = [name for name in table.schema.names if name not in ("last", "row")]
    parts: list[_Part] = []
    number = 0
    for batch in table.batches(table.schema.names, rows=_BATCH_ROWS):
        keys_eq = np.stack([to_numpy(batch.column(name)) for name in names], axis=1)
        part = keys_eq, to_numpy(batch.column("last")), to_numpy(batch.column("row"))
        # Where the last prefix begins, which may go on in the next batch.
        cut = int(np.flatnonzero(_changes(keys_eq))[-1])
        ends_here = parts and (parts[-1][0][-1] != keys_eq[0]).any()
        if cut:
            parts.append(_cut(part, slice(cut)))
        if cut or ends_here:
            crowd = _joined(parts, number, levels)
            number += len(crowd.starts_p)
            yield crowd
            parts = []
        parts.append(_cut(part, slice(cut, None)))
    yield _joined(parts, number, levels)


def _cut(part: _Part, rows: slice) -> _Part:
    keys_eq, last_e, row_e = part
    return keys_eq[rows], last_e[rows], row_e[rows]


def _joined(parts: Sequence[_Part], number: int, levels: Sequence[int]) -> Crowd:
    keys_eq, last_e, row_e = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Crowd(keys_eq, last_e, row_e, number, levels)


class Prefixes:
    """All prefixes of a ranked table, and those that items may go to besides.

    Attributes
    ----------
    room_p : how many more items each can take
    """

    def __init__(self, ranked: Path, levels: Sequence[int]) -> None:
        self._ranked, self._levels = ranked, levels
        keys, counts = [], []
        for crowd in crowds(ranked, levels):
            keys.append(crowd.keys_eq[crowd.starts_p])
            counts.append(np.diff(np.append(crowd.starts_p, len(crowd.row_e))))
        self._keys_pq = np.concatenate(keys)
        # Sorted, as they come, and the number of each; new ones are put where they belong.
        self._word_p, self._number_p = _words(self._keys_pq), np.arange(len(self._keys_pq))
        self.room_p = np.maximum(levels[-1] - np.concatenate(counts), 0)

    def number(self, prefix_nd: Codes) -> Integers:
        """Return the numbers of prefixes ``(n, d)``; those never seen before get the next ones."""
        keys_nq = prefix_keys(prefix_nd, self._levels)
        word_w, first_w, which_n = np.unique(
            _words(keys_nq), return_index=True, return_inverse=True
        )
        place_w = np.searchsorted(self._word_p, word_w)
        near_w = np.minimum(place_w, len(self._word_p) - 1)
        number_w = self._number_p[near_w]
        new_w = np.flatnonzero(self._word_p[near_w] != word_w)
        if len(new_w):
            number_w[new_w] = len(self._keys_pq) + np.arange(len(new_w))
            self._word_p = np.insert(self._word_p, place_w[new_w], word_w[new_w])
            self._number_p = np.insert(self._number_p, place_w[new_w], number_w[new_w])
            self._keys_pq = np.concatenate([self._keys_pq, keys_nq[first_w[new_w]]])
            self.room_p = np.append(self.room_p, np.full(len(new_w), self._levels[-1]))
        found: Integers = number_w[which_n]
        return found

    def codes(self, number: int) -> Codes:
        """Return the codes of a prefix, ``(d,)``."""
        codes_d: Codes = unpack_keys(self._keys_pq[number : number + 1], self._levels[:-1])[0]
        return codes_d

    def used(self, numbers: Sequence[int], moved_ml: Codes) -> Iterator[Mask]:
        """Yield which codewords are taken in prefixes, ascending, ``(k,)`` each.

        `moved_ml` are all SIDs that are not raw ones. Raw ones are taken all: one item keeps each.
        """
        into_m = self.number(moved_ml[:, :-1])
        order = np.argsort(into_m, kind="stable")
        into_m, last_m = into_m[order], moved_ml[order, -1]
        for number, last_s in zip(numbers, self._last_codes(numbers), strict=True):
            used_k = np.zeros(self._levels[-1], dtype=np.bool_)
            used_k[last_s] = True
            used_k[last_m[slice(*np.searchsorted(into_m, [number, number + 1]))]] = True
            yield used_k

    def _last_codes(self, numbers: Sequence[int]) -> Iterator[npt.NDArray[np.int32]]:
        waiting = deque(numbers)
        for crowd in crowds(self._ranked, self._levels):
            cuts_p = np.append(crowd.starts_p, len(crowd.row_e))
            while waiting and waiting[0] < crowd.first_prefix + len(crowd.starts_p):
                at = waiting.popleft() - crowd.first_prefix
                yield crowd.last_e[cuts_p[at] : cuts_p[at + 1]]
        for _ in waiting:  # prefixes that no entry has
            yield np.empty(0, np.int32)


def _words(keys_nq: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Turn rows of keys into single values that sort as the rows do."""
    if keys_nq.shape[1] == 1:
        return keys_nq[:, 0]
    big = np.ascontiguousarray(keys_nq.astype(">i8"))
    return big.view(f"S{8 * keys_nq.shape[1]}")[:, 0]
