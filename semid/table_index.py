"""An index of an ids table: from item ids and from SIDs to rows, as plain arrays.

Item ids are found by a 32-bit hash among the sorted hashes of all, SIDs by keys that sort as their
codes do, so that the items with one prefix are a range whose ends two binary searches find. On disk
the arrays are ``.npy`` files that are mapped, not read.

An index of 10 million rows takes 160 MB (8 bytes a row each way) as long as the numbers of codes
multiply to less than 2^32, else 4 more a row for every further 32 bits. Rows are 32-bit. What an
index says of a table can be derived from it at any time: one that does not fit the table is as good
as none. `semid.index_building` writes them, and needs little memory; the index of a table in memory
takes some 40 bytes a row while it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.errors import SemidError, display_path
from semid.id_hashes import hash_ids
from semid.ids import pack_keys, unpack_keys
from semid.manifests import fingerprint
from semid.tables import ParquetTable

INDEX = "_index"
_FORMAT = 1
NOTE = "index.json"
# The end of a Parquet file tells the places, sizes and statistics of its columns.
_TAIL_BYTES = 1 << 16
MOST_ROWS = 1 << 32
# Arrays on disk, beside those of `keys_name`.
ID_HASHES, ID_ROWS, SID_ROWS = "id_hashes.npy", "id_rows.npy", "sid_rows.npy"

Rows = npt.NDArray[np.int64]
SidBatches = Iterable[tuple[pa.Array, npt.NDArray[np.int32]]]
_Sorted = tuple[list[npt.NDArray[Any]], npt.NDArray[np.uint32]]


@dataclass(frozen=True)
class Index:
    """Where the rows of a table are, by item id and by SID.

    Attributes
    ----------
    hash_n, hash_row_n : hashes of the item ids, ascending, and the row of each
    key_mn : for every key column the keys of the SIDs, which ascend from column to column
    key_row_n : the row of each
    levels : for every level one above the largest code
    """

    hash_n: npt.NDArray[np.uint32]
    hash_row_n: npt.NDArray[np.uint32]
    key_mn: tuple[npt.NDArray[Any], ...]
    key_row_n: npt.NDArray[np.uint32]
    levels: tuple[int, ...]

    def rows_of(self, ids: pa.Array, ids_at: Callable[[Rows], pa.Array]) -> Rows:
        """Find items by id.

        Parameters
        ----------
        ids : strings or int64 as in the table, shape ``(q,)``
        ids_at : returns the item ids of some rows of the table

        Returns
        -------
        row_q : the row of every item, -1 for those that the table lacks
        """
        hash_q = hash_ids(ids)
        start_q = np.searchsorted(self.hash_n, hash_q, "left")
        count_q = np.searchsorted(self.hash_n, hash_q, "right") - start_q
        # Hashes may collide: every candidate is compared.
        asked_c = np.repeat(np.arange(len(ids)), count_q)
        place_c = np.arange(len(asked_c)) - np.repeat(np.cumsum(count_q) - count_q, count_q)
        row_c = self.hash_row_n[start_q[asked_c] + place_c].astype(np.int64)
        row_q = np.full(len(ids), -1, np.int64)
        if len(row_c):
            same = pc.equal(ids_at(row_c).cast(ids.type), ids.take(to_arrow(asked_c)))
            hit_h = to_numpy(pc.indices_nonzero(same))
            row_q[asked_c[hit_h]] = row_c[hit_h]
        return row_q

    def span(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return where the items whose SID begins with `prefix` stand among those sorted by SID.

        Raises
        ------
        SemidError
            When `prefix` is longer than a SID.
        """
        start, stop, depth = 0, len(self.key_row_n), len(prefix)
        if depth > len(self.levels):
            raise SemidError(
                f"{','.join(map(str, prefix))} has {depth} codes but the IDs have "
                f"{len(self.levels)}; leave some out"
            )
        if any(not 0 <= code < size for code, size in zip(prefix, self.levels, strict=False)):
            return 0, 0
        ends = [[*prefix, *([0] * (len(self.levels) - depth))]]
        ends += [[*prefix, *(size - 1 for size in self.levels[depth:])]]
        low_m, high_m = pack_keys(np.array(ends), self.levels)
        for key_n, low, high in zip(self.key_mn, low_m, high_m, strict=True):
            # Numbers of another type would have the whole column converted.
            within_n, kind = key_n[start:stop], key_n.dtype.type
            begin, end = start, start
            begin += int(np.searchsorted(within_n, kind(low), "left"))
            end += int(np.searchsorted(within_n, kind(high), "right"))
            start, stop = begin, end
            if low != high:  # the columns that follow say what the prefix leaves open
                break
        return start, stop

    def rows_within(self, start: int, stop: int) -> Rows:
        """Return the rows of the items that stand there among those sorted by SID."""
        return self.key_row_n[start:stop].astype(np.int64)

    def next_codes(self, prefix: Sequence[int]) -> int:
        """Count the codes that follow `prefix`, which is shorter than a SID, in the table."""
        start, stop = self.span(prefix)
        keys_nm = np.stack([key_n[start:stop].astype(np.int64) for key_n in self.key_mn], axis=1)
        return len(np.unique(unpack_keys(keys_nm, self.levels)[:, len(prefix)]))


def index_of(parts: SidBatches, least: Sequence[int] = ()) -> Index:
    """Make the index of a table that comes as item ids and SIDs, in the order of its rows.

    `least` are numbers of codes that its levels have at least.

    Raises
    ------
    SemidError
        When there are more rows than 32 bits count.
    """
    hashes, sids, rows = [], [], 0
    for ids, sids_ns in parts:
        hashes.append(hash_ids(ids))
        # Codes are small numbers: a byte or two will do until the largest of all are known.
        sids.append(sids_ns.astype(np.min_scalar_type(int(sids_ns.max(initial=0)))))
        rows += len(ids)
        if rows > MOST_ROWS:
            raise SemidError(f"an index counts {MOST_ROWS:,} rows at most; split the table")
    ((hash_n,), hash_row_n) = _sorted([np.concatenate(hashes)])
    del hashes
    most_s = np.max([*([np.array(least) - 1] if least else []), *(p.max(axis=0) for p in sids)], 0)
    levels = tuple(int(size) + 1 for size in most_s)
    packed = [pack_keys(part, levels) for part in _emptied(sids)]
    keys = [
        np.concatenate([part[:, place].astype(kind) for part in packed])
        for place, kind in enumerate(key_types(levels))
    ]
    del packed
    key_mn, key_row_n = _sorted(keys)
    return Index(hash_n, hash_row_n, tuple(key_mn), key_row_n, levels)


def _emptied(parts: list[Any]) -> Iterator[Any]:
    parts.reverse()
    while parts:
        yield parts.pop()


def key_types(levels: Sequence[int]) -> list[np.dtype[Any]]:
    """Return the type of every key column."""
    most_m = pack_keys(np.array([levels]) - 1, levels)[0]
    return [np.min_scalar_type(int(most)) for most in most_m]


def keys_name(place: int) -> str:
    """Return the name of a key column on disk."""
    return f"sid_keys_{place}.npy"


def _sorted(keys: list[npt.NDArray[Any]]) -> _Sorted:
    """Sort rows by their keys, column by column, equal ones by row."""
    rows = len(keys[0])
    if len(keys) == 1 and keys[0].dtype.itemsize <= 4:
        # One number for key and row sorts several times as fast as an order of keys.
        both_n = keys[0].astype(np.uint64) << np.uint64(32)
        both_n |= np.arange(rows, dtype=np.uint64)
        both_n.sort()
        row_n = both_n.astype(np.uint32)  # the lower half
        both_n >>= np.uint64(32)
        return [both_n.astype(keys[0].dtype)], row_n
    order_n = np.lexsort(keys[::-1])
    return [key_n[order_n] for key_n in keys], order_n.astype(np.uint32)


def open_index(table: ParquetTable, item_id: str = "item_id") -> Index | None:
    """Open the index that lies beside the files of a table; None unless it is this table's."""
    folders = {Path(file).parent for file in table.files}
    if not table.is_local or len(folders) > 1:
        return None
    folder = folders.pop() / INDEX
    try:
        note = json.loads((folder / NOTE).read_text())
        levels = tuple(note.pop("levels"))
        if note != note_of(table, item_id):
            return None
        columns = len(key_types(levels))
        hash_n, hash_row_n, key_row_n, *key_mn = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in (
                *(ID_HASHES, ID_ROWS, SID_ROWS),
                *(keys_name(place) for place in range(columns)),
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if any(
        len(values_n) != table.num_rows for values_n in (hash_n, hash_row_n, key_row_n, *key_mn)
    ):
        return None
    return Index(hash_n, hash_row_n, tuple(key_mn), key_row_n, levels)


def note_of(table: ParquetTable, item_id: str) -> dict[str, Any]:
    """Say which table an index belongs to: its rows, and what its files end in."""
    return {
        "format": _FORMAT,
        "rows": table.num_rows,
        "item_id": item_id,
        "files": fingerprint([_file_facts(table, file) for file in table.files]),
    }


def _file_facts(table: ParquetTable, file: str) -> list[Any]:
    import xxhash  # here, so that tables can be looked into where it is not installed

    try:
        with table.filesystem.open_input_file(file) as source:
            size = source.size()
            source.seek(max(size - _TAIL_BYTES, 0))
            return [Path(file).name, size, xxhash.xxh3_128_hexdigest(source.read())]
    except OSError as error:
        raise SemidError(f"{display_path(file)} cannot be read ({error}); check it") from error
