"""Collisions: raw SIDs to unique SIDs under a policy, out of core.

DuckDB ranks the items of every collision group by item id; the ranks that are not 0 go to a file
in row order and are merged into the rows as these stream past again. Memory does not grow with the
catalog. This file knows neither how codes came about nor where the rows are written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow, to_numpy
from semid.database import fed, out_of_core
from semid.errors import SemidError, first_few
from semid.id_columns import CODES, CODES_TYPE, SID, code_column, code_matrix, id_column
from semid.ids import MAX_CODES, pack_keys, validate_codes
from semid.tables import open_table

POLICIES = ("suffix", "none")

Batches = Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class CollisionReport:
    """What the raw SIDs of a catalog look like.

    Attributes
    ----------
    items : rows of the table
    raw_unique : distinct raw SIDs
    raw_uniqueness : distinct raw SIDs over items; 1 means that no two items share one
    groups : raw SIDs that more than one item has
    items_in_collision_groups : items whose raw SID another item has too
    largest_group : items of the most frequent raw SID
    """

    items: int
    raw_unique: int
    raw_uniqueness: float
    groups: int
    items_in_collision_groups: int
    largest_group: int


def resolve(
    batches: Batches,
    *,
    policy: str,
    item_id: str,
    temp_dir: Path,
    levels: Sequence[int] | None = None,
    memory_bytes: int = 1 << 30,
    threads: int | None = None,
) -> tuple[CollisionReport, Iterator[pa.RecordBatch]]:
    """Give every item a SID under `policy` and report the collisions.

    ``suffix`` appends one level to every raw SID: the item's rank by item id (strings by code
    point) among the items with that raw SID, so 0 for an item alone. ``none`` takes the raw codes.
    The outcome depends on the set of rows alone, not on their order, batches or threads.

    Parameters
    ----------
    batches : streams the rows in table order, alike every time it is called; column ``codes``, a
        column of unique item ids (not checked here), and any others, which pass through
    policy : one of `POLICIES`
    item_id : the name of the item id column
    temp_dir : an existing folder for what does not fit in memory; its space is given back once the
        returned rows are read to the end or closed
    levels : K of every level, where known: keys become narrower and codes are checked against it
    memory_bytes : DuckDB's budget; batches in flight come on top
    threads : DuckDB's threads; as many as there are cores when not given

    Returns
    -------
    report : counted over all rows
    rows : the same rows in the same order with a column ``sid`` after ``codes``

    Raises
    ------
    SemidError
        When the policy is unknown, columns are missing or malformed, or memory or disk run out.
    """
    if policy not in POLICIES:
        raise SemidError(f"the collision policy {policy!r} is none of {', '.join(POLICIES)}")
    folder = tempfile.TemporaryDirectory(prefix="collisions-", dir=temp_dir)
    ranks = Path(folder.name, "ranks.parquet")
    settings = {} if threads is None else {"threads": str(threads)}
    try:
        with out_of_core(
            "resolving collisions",
            Path(folder.name),
            memory_bytes=memory_bytes,
            relief="allow more with --memory",
            preserve_insertion_order="false",
            **settings,
        ) as connection:
            items = _write_ranks(connection, ranks, _keyed(batches(), item_id, levels))
        return _report(items, ranks), _merge(batches(), policy, items, ranks, folder)
    except BaseException:
        folder.cleanup()
        raise


def _keyed(
    batches: Iterator[pa.RecordBatch], item_id: str, levels: Sequence[int] | None
) -> Iterator[pa.RecordBatch]:
    """Turn rows into what is to be ranked: row number, item id and the codes packed into keys."""
    row, width = 0, None
    for batch in filter(len, batches):
        _require(batch.schema, item_id)
        at = _row_after(row)
        codes_nl = code_matrix(batch.column(CODES), CODES, width=width, at=at)
        width = codes_nl.shape[1]
        sizes = [MAX_CODES] * width if levels is None else levels
        validate_codes(codes_nl, sizes, at=at)
        keys_nm = pack_keys(codes_nl, sizes)
        rows = to_arrow(np.arange(row, row + len(codes_nl)))
        keys = [to_arrow(key_n) for key_n in keys_nm.T]
        names = ["row", "item_id", *(f"key_{m}" for m in range(len(keys)))]
        ids = id_column(batch.column(item_id), item_id, at=at)
        yield pa.record_batch([rows, ids, *keys], names=names)
        row += len(codes_nl)


def _require(schema: pa.Schema, item_id: str) -> None:
    missing = [name for name in (item_id, CODES) if name not in schema.names]
    if missing:
        raise SemidError(
            f"the rows have no column {first_few([repr(name) for name in missing])}; "
            f"their columns are {', '.join(schema.names)}"
        )


def _row_after(start: int) -> Callable[[int], str]:
    return lambda row: f"row {start + row}"


def _write_ranks(
    connection: duckdb.DuckDBPyConnection, ranks: Path, keyed: Iterator[pa.RecordBatch]
) -> int:
    """Write (row, rank) of the items not first in their group, sorted by row; count all items."""
    items = 0

    def counted(first: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        nonlocal items
        for batch in chain([first], keyed):
            items += batch.num_rows
            yield batch

    first = next(keyed, None)
    if first is None:
        raise SemidError("there are no rows to give semantic IDs to; check the job that made them")
    with fed(connection, "keyed", first.schema, counted(first)):
        connection.sql(_ranking(first.schema.names[2:])).write_parquet(str(ranks))
    return items


def _ranking(keys: Sequence[str]) -> str:
    # DuckDB's default collation compares strings byte by byte, which is by code point in UTF-8.
    return f"""
        SELECT row, rank FROM (
            SELECT row, CAST(row_number() OVER (
                PARTITION BY {", ".join(keys)} ORDER BY item_id
            ) - 1 AS INTEGER) AS rank FROM keyed
        ) WHERE rank > 0 ORDER BY row
    """


def _report(items: int, ranks: Path) -> CollisionReport:
    repeats, groups, largest = 0, 0, 1
    for batch in open_table(ranks, allow_empty=True).batches(["rank"]):
        rank_n = to_numpy(batch.column(0))
        repeats += len(rank_n)
        groups += int((rank_n == 1).sum())
        largest = max(largest, int(rank_n.max()) + 1)
    unique = items - repeats
    return CollisionReport(items, unique, unique / items, groups, repeats + groups, largest)


def _merge(
    batches: Iterator[pa.RecordBatch],
    policy: str,
    items: int,
    path: Path,
    folder: tempfile.TemporaryDirectory[str],
) -> Iterator[pa.RecordBatch]:
    row = 0
    ranks = _Ranks(path)
    with folder:
        for batch in filter(len, batches):
            sid_nl = code_matrix(batch.column(CODES), CODES, at=_row_after(row))
            if policy == "suffix":
                rank_n = ranks.take(row, len(sid_nl))
                sid_nl = np.concatenate([sid_nl, rank_n[:, None]], axis=1)
            row += len(sid_nl)
            place = batch.schema.get_field_index(CODES) + 1
            yield batch.add_column(
                place, pa.field(SID, CODES_TYPE, nullable=False), code_column(sid_nl)
            )
    if row != items:
        raise SemidError(
            f"the table had {items} rows at first and {row} later; "
            "run again when nothing writes to it"
        )


class _Ranks:
    """The rows with a rank above 0, in row order, handed out span by span."""

    def __init__(self, path: Path) -> None:
        self._batches = open_table(path, allow_empty=True).batches(["row", "rank"])
        self._row_r = np.empty(0, dtype=np.int64)
        self._rank_r = np.empty(0, dtype=np.int32)

    def take(self, start: int, count: int) -> npt.NDArray[np.int32]:
        """Return the ranks of the rows from `start`, shape ``(count,)``; spans must follow on."""
        rank_n = np.zeros(count, dtype=np.int32)
        while True:
            stop = int(np.searchsorted(self._row_r, start + count))
            rank_n[self._row_r[:stop] - start] = self._rank_r[:stop]
            self._row_r, self._rank_r = self._row_r[stop:], self._rank_r[stop:]
            batch = None if len(self._row_r) else next(self._batches, None)
            if batch is None:
                return rank_n
            self._row_r, self._rank_r = map(to_numpy, batch.columns)
