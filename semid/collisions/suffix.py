"""One more level that tells apart the items of a raw SID: their rank, as TIGER has it (2305.05065).

An item gets the least number that no item and no held SID of its raw SID has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_numpy
from semid.collisions.settings import CollisionConfig
from semid.database import fed
from semid.tables import open_table

RowBatches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Streams:
    """What suffixes are made from; every stream is read once.

    Attributes
    ----------
    items : ``row``, ``item_id`` and the packed raw SID, ``key_0`` and so on
    held : packed raw SIDs and ``suffix``, of SIDs that are held; None for none
    order : ``item_id`` and ``value``, what suffixes go by; None for the item ids
    """

    items: RowBatches
    held: RowBatches | None = None
    order: RowBatches | None = None


def write_suffixes(
    connection: duckdb.DuckDBPyConnection, path: Path, streams: Streams, config: CollisionConfig
) -> None:
    """Write (row, rank) of the items whose suffix is not 0, sorted by row."""
    with ExitStack() as feeds:

        def feed(name: str, batches: RowBatches | None) -> pa.Schema | None:
            first = None if batches is None else next(batches, None)
            if batches is None or first is None:
                return None
            rows = chain([first], batches)
            feeds.enter_context(fed(connection, name, first.schema, rows))
            return first.schema

        order = "item_id"
        if (ordered := feed("ordered", streams.order)) is not None:
            # DuckDB's NaN is the largest number; here it is no number.
            is_float = pa.types.is_floating(ordered.field("value").type)
            value = "nullif(value, 'nan')" if is_float else "value"
            order = f"{value} {'DESC' if config.descending else 'ASC'} NULLS LAST, item_id"
        join = " LEFT JOIN ordered USING (item_id)" if order != "item_id" else ""
        items = feed("items", streams.items)
        assert items is not None
        keys = ", ".join(name for name in items.names if name.startswith("key_"))
        # DuckDB's default collation compares strings byte by byte, which is by code point in UTF-8.
        place = f"row_number() OVER (PARTITION BY {keys} ORDER BY {order}) - 1 AS place"
        fresh = f"SELECT row, {keys}, {place} FROM items{join}"
        if feed("held", streams.held) is None:
            ranking = f"SELECT row, place AS rank FROM ({fresh})"
        else:
            connection.execute(f"CREATE TABLE fresh AS {fresh}")
            ranking = _between(keys)
        connection.sql(
            f"SELECT row, rank::INTEGER AS rank FROM ({ranking}) WHERE rank > 0 ORDER BY row"
        ).write_parquet(str(path))


def _between(keys: str) -> str:
    """Write the query that numbers items around the suffixes that are held.

    Of held suffixes s_0 < s_1 < … of a raw SID, s_i leaves s_i - i free numbers below it. The item
    at place j comes after all i with s_i - i <= j, so its number is j plus how many they are.
    """
    same = " AND ".join(f"fresh.{key} = steps.{key}" for key in keys.split(", "))
    return f"""
        WITH touched AS (SELECT * FROM held SEMI JOIN fresh USING ({keys})),
        counted AS (
            SELECT {keys}, suffix,
                row_number() OVER (PARTITION BY {keys} ORDER BY suffix) AS number FROM touched
        ),
        steps AS (
            SELECT {keys}, suffix - number + 1 AS room, max(number) AS below
            FROM counted GROUP BY {keys}, room
        )
        SELECT fresh.row, fresh.place + coalesce(steps.below, 0) AS rank
        FROM fresh ASOF LEFT JOIN steps ON {same} AND fresh.place >= steps.room
    """


class Suffixes:
    """Rows whose suffix is not 0, in row order, handed out span by span."""

    def __init__(self, path: Path) -> None:
        self._batches = open_table(path, allow_empty=True).batches(["row", "rank"])
        self._row_r = np.empty(0, dtype=np.int64)
        self._rank_r = np.empty(0, dtype=np.int32)

    def take(self, start: int, count: int) -> npt.NDArray[np.int32]:
        """Return the suffixes of the rows from `start`, ``(count,)``; spans must follow on."""
        rank_n = np.zeros(count, dtype=np.int32)
        while True:
            stop = int(np.searchsorted(self._row_r, start + count))
            rank_n[self._row_r[:stop] - start] = self._rank_r[:stop]
            self._row_r, self._rank_r = self._row_r[stop:], self._rank_r[stop:]
            batch = None if len(self._row_r) else next(self._batches, None)
            if batch is None:
                return rank_n
            self._row_r, self._rank_r = map(to_numpy, batch.columns)
