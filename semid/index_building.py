"""Indexes of ids tables on disk are made here, in little memory whatever the size of the table.

DuckDB sorts the rows, out of core. A table that goes on from another, whose files it has links to,
has the other's index with what is new merged into it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow, to_numpy
from semid.database import fed, out_of_core
from semid.errors import SemidError
from semid.id_columns import SID, code_matrix, id_column
from semid.id_hashes import hash_ids
from semid.ids import pack_keys
from semid.manifests import write_json
from semid.sid_batches import ROWS, sid_batches
from semid.table_index import (
    ID_HASHES,
    ID_ROWS,
    MOST_ROWS,
    NOTE,
    SID_ROWS,
    Index,
    index_of,
    key_types,
    keys_name,
    note_of,
    open_index,
)
from semid.tables import ParquetTable, open_table

MEMORY_BYTES = 1 << 29
# Rows that are merged into an index before; these are sorted in memory, at some 40 bytes each.
MOST_MERGED = 1 << 22
_BLOCK_ROWS = 1 << 20

# Arrays that are as long as each other, by the names of their files.
Block = dict[str, npt.NDArray[Any]]


def build_index(
    table: ParquetTable,
    folder: Path,
    item_id: str = "item_id",
    *,
    before: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> None:
    """Write the index of an ids table into `folder`, which is to be ``_index`` beside its files.

    Parameters
    ----------
    before : a folder table with an index, some of whose first files may be those of the table
    memory_bytes : DuckDB's budget

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables or has more rows than 32 bits count, or
        when memory or disk run out.
    """
    if table.num_rows > MOST_ROWS:
        raise SemidError(f"an index counts {MOST_ROWS:,} rows at most; split the table")
    folder.mkdir(parents=True, exist_ok=True)
    levels = None if before is None else _go_on(table, before, folder, item_id)
    if levels is None:
        with (
            tempfile.TemporaryDirectory(prefix="sorting-", dir=folder) as place,
            out_of_core(
                "indexing the table",
                Path(place),
                memory_bytes=memory_bytes,
                relief="give the machine more memory",
                preserve_insertion_order="false",
            ) as connection,
        ):
            sort = _Sort(table, item_id, connection, Path(place))
            _write(folder, table.num_rows, sort.hashes())
            _write(folder, table.num_rows, sort.keys())
        levels = sort.levels
    write_json(folder / NOTE, note_of(table, item_id) | {"levels": levels})


class _Sort:
    """Rows of a table, sorted by the hashes of their ids and by their SIDs."""

    def __init__(
        self, table: ParquetTable, item_id: str, connection: duckdb.DuckDBPyConnection, folder: Path
    ) -> None:
        self._table, self._item_id = table, item_id
        self._connection, self._folder = connection, folder
        self._most_s: npt.NDArray[np.int32] | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """For every level one above the largest code; known once the SIDs are read."""
        assert self._most_s is not None
        return tuple(int(most) + 1 for most in self._most_s)

    def hashes(self) -> Iterator[Block]:
        """Yield the hashes of ids and their rows, by hash and row."""
        for word_n in self._sorted(self._hashed()):
            yield {ID_HASHES: _upper(word_n["word"]), ID_ROWS: word_n["word"].astype(np.uint32)}

    def keys(self) -> Iterator[Block]:
        """Yield the keys of SIDs and their rows, by key and row."""
        for codes in self._sorted(self._coded()):
            row_n = codes.pop("row")
            keys_nm = pack_keys(np.stack(list(codes.values()), axis=1), self.levels)
            kinds = enumerate(key_types(self.levels))
            keys = {keys_name(place): keys_nm[:, place].astype(kind) for place, kind in kinds}
            yield {**keys, SID_ROWS: row_n}

    def _hashed(self) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in self._table.batches([self._item_id], rows=ROWS):
            ids = id_column(batch.column(0), self._item_id, at=self._table.locator(row))
            # One number for hash and row sorts faster than two.
            word_n = hash_ids(ids).astype(np.uint64) << np.uint64(32)
            word_n |= np.arange(row, row + len(ids), dtype=np.uint64)
            yield pa.record_batch([to_arrow(word_n)], names=["word"])
            row += len(ids)

    def _coded(self) -> Iterator[pa.RecordBatch]:
        row, width = 0, None
        for batch in self._table.batches([SID], rows=ROWS):
            sids_ns = code_matrix(batch.column(0), SID, width=width, at=self._table.locator(row))
            width = sids_ns.shape[1]
            most_s = sids_ns.max(axis=0)
            self._most_s = most_s if self._most_s is None else np.maximum(self._most_s, most_s)
            row_n = np.arange(row, row + len(sids_ns), dtype=np.uint32)
            columns = [*map(to_arrow, sids_ns.T), to_arrow(row_n)]
            yield pa.record_batch(columns, names=[*(f"code_{s}" for s in range(width)), "row"])
            row += len(sids_ns)

    def _sorted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Block]:
        """Yield rows by all of their columns; by way of a file, so that memory stays bounded."""
        first = next(batches)
        columns, path = ", ".join(first.schema.names), self._folder / "sorted.parquet"
        with fed(self._connection, "rows", first.schema, chain([first], batches)):
            found = self._connection.sql(f"SELECT {columns} FROM rows ORDER BY {columns}")
            found.write_parquet(str(path))
        for batch in open_table(path).batches(first.schema.names, rows=_BLOCK_ROWS):
            yield {name: to_numpy(batch.column(name)) for name in first.schema.names}
        path.unlink()


def _upper(word_n: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    return (word_n >> np.uint64(32)).astype(np.uint32)


def _write(folder: Path, rows: int, blocks: Iterator[Block]) -> None:
    """Write arrays that come block by block as ``.npy`` files, without mapping them."""
    with ExitStack() as files:
        opened: dict[str, Any] = {}
        for block in blocks:
            for name, values_n in block.items():
                if name not in opened:
                    opened[name] = files.enter_context((folder / name).open("wb"))
                    header = {"descr": values_n.dtype.str, "fortran_order": False, "shape": (rows,)}
                    np.lib.format.write_array_header_1_0(opened[name], header)
                opened[name].write(np.ascontiguousarray(values_n).data)


def _go_on(table: ParquetTable, before: Path, folder: Path, item_id: str) -> tuple[int, ...] | None:
    """Write the index before with what is new merged into it; None when that cannot be.

    Returns the numbers of codes of the levels.
    """
    old, kept = _kept(table, before, item_id)
    if old is None or not 0 < table.num_rows - kept <= MOST_MERGED or len(old.key_mn) > 1:
        return None
    new = index_of(sid_batches(table, item_id, start=kept), old.levels)
    if new.levels != old.levels:  # keys count otherwise
        return None
    arrays = (
        (ID_HASHES, ID_ROWS, old.hash_n, old.hash_row_n, new.hash_n, new.hash_row_n),
        (keys_name(0), SID_ROWS, old.key_mn[0], old.key_row_n, new.key_mn[0], new.key_row_n),
    )
    for key, row, old_n, old_row_n, new_m, new_row_m in arrays:
        blocks = _merged(old_n, old_row_n, new_m, new_row_m, kept)
        _write(folder, table.num_rows, ({key: key_n, row: row_n} for key_n, row_n in blocks))
    return old.levels


def _kept(table: ParquetTable, before: Path, item_id: str) -> tuple[Index | None, int]:
    """Return the index before, and how many rows of its table are the first ones of this one."""
    previous = open_table(before)
    kept = 0
    for mine, theirs, groups in zip(table.files, previous.files, table.row_groups, strict=False):
        if not table.is_local or not Path(mine).samefile(theirs):
            break
        kept += sum(groups)
    return (open_index(previous, item_id) if kept else None), kept


def _merged(
    old_n: npt.NDArray[Any],
    old_row_n: npt.NDArray[np.uint32],
    new_m: npt.NDArray[Any],
    new_row_m: npt.NDArray[np.uint32],
    kept: int,
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]]:
    """Merge new rows, which are numbered from 0, after the first `kept` of old ones, by key."""
    new_row_m = new_row_m + np.uint32(kept)
    done = 0
    for start in range(0, len(old_n), _BLOCK_ROWS):
        row_b = np.asarray(old_row_n[start : start + _BLOCK_ROWS])
        key_b = np.asarray(old_n[start : start + _BLOCK_ROWS])
        # Of one key the old rows come first, and more of them may follow.
        stop = int(np.searchsorted(new_m, key_b[-1], "left"))
        stay = row_b < kept
        key_b, row_b = key_b[stay], row_b[stay]
        place = np.searchsorted(key_b, new_m[done:stop], "right")
        more, done = slice(done, stop), stop
        yield np.insert(key_b, place, new_m[more]), np.insert(row_b, place, new_row_m[more])
    yield new_m[done:], new_row_m[done:]
