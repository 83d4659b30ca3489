"""How many items share a raw SID."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa

from semid.arrays import to_numpy
from semid.collisions.crowds import crowds
from semid.collisions.settings import CollisionReport
from semid.database import fed
from semid.tables import open_table


def of_suffixes(items: int, path: Path) -> CollisionReport:
    """Report on a table by the suffixes of its items, numbered without gaps."""
    repeats, groups, largest = 0, 0, 1
    for batch in open_table(path, allow_empty=True).batches(["rank"]):
        rank_n = to_numpy(batch.column(0))
        repeats += len(rank_n)
        groups += int((rank_n == 1).sum())
        largest = max(largest, int(rank_n.max()) + 1)
    return _report(items, items - repeats, groups, repeats + groups, largest)


def of_crowds(ranked: Path, levels: Sequence[int]) -> CollisionReport:
    """Report on a table by its sorted raw SIDs, where none is held."""
    items, unique, groups, shared, largest = 0, 0, 0, 0, 1
    for crowd in crowds(ranked, levels):
        shared_s = crowd.sizes[crowd.sizes > 1]
        items, unique = items + len(crowd.row_e), unique + len(crowd.sizes)
        groups, shared = groups + len(shared_s), shared + int(shared_s.sum())
        largest = max(largest, int(shared_s.max(initial=1)))
    return _report(items, unique, groups, shared, largest)


def of_rows(
    connection: duckdb.DuckDBPyConnection, keyed: Iterator[pa.RecordBatch]
) -> CollisionReport:
    """Report on a table by the packed raw SIDs of all its rows."""
    first = next(keyed)
    keys = ", ".join(first.schema.names)
    with fed(connection, "raw", first.schema, chain([first], keyed)):
        found = connection.sql(
            f"""
            SELECT sum(size), count(*), count(*) FILTER (size > 1),
                sum(size) FILTER (size > 1), max(size)
            FROM (SELECT count(*) AS size FROM raw GROUP BY {keys})
            """
        ).fetchall()
    items, unique, groups, shared, largest = (int(value or 0) for value in found[0])
    return _report(items, unique, groups, shared, largest)


def _report(items: int, unique: int, groups: int, shared: int, largest: int) -> CollisionReport:
    return CollisionReport(items, unique, unique / items, groups, shared, largest)
