"""Retired items: rows that left a table, kept so that nobody else gets their IDs too soon.

They stand in ``_retired.parquet`` beside the parts of a folder table, whole rows with the time and
the reason, so that an item that comes back is given its ID again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from semid.errors import SemidError
from semid.id_columns import ids_schema
from semid.streams import Batches, rebatched
from semid.tables import ParquetTable, open_table

RETIRED = "_retired.parquet"
RETIRED_AT, REASON = "retired_at", "reason"
# Why a row left: its item did, its item was moved to another ID, or its version was rolled back.
GONE, MOVED, ROLLED_BACK = "retired", "moved", "rolled back"

# Columns of the list of drifted items; see `semid.appending.Appended`.
_OF_DRIFT = ("fresh_codes", "drift")

_MANY, _LOOKED_UP = 10_000, 1 << 20


def retired_schema(id_type: pa.DataType, item_id: str = "item_id") -> pa.Schema:
    """Return the schema of retired rows: those of an ids table, when they left, and why."""
    return (
        ids_schema(id_type, item_id)
        .append(pa.field(RETIRED_AT, pa.timestamp("us", tz="UTC"), nullable=False))
        .append(pa.field(REASON, pa.string(), nullable=False))
    )


def require_id_name(item_id: str, where: str) -> None:
    """Raise `SemidError` for an id column called as another of an ids table, or beside one."""
    taken = [*retired_schema(pa.int64()).names[1:], *_OF_DRIFT]
    if item_id in taken:
        raise SemidError(
            f"the id column of {where} is called {item_id!r}, as one of the columns of an ids "
            f"table and of what stands beside it ({', '.join(taken)}); rename it"
        )


def open_retired(folder: Path) -> ParquetTable | None:
    """Open the retired rows of a folder table, or None when it has none."""
    place = folder / RETIRED
    return open_table(place, allow_empty=True) if place.is_file() else None


def having(rows: Batches, ids: pa.Array, item_id: str, *, inside: bool = True) -> Batches:
    """Return what streams the rows of some items, or those of all others."""
    if not len(ids):
        return (lambda: iter(())) if inside else rows

    def stream() -> Iterator[pa.RecordBatch]:
        # Every look-up makes a table of all ids anew: few and large ones.
        for batch in rebatched(rows(), _LOOKED_UP) if len(ids) > _MANY else rows():
            among = pc.is_in(batch.column(item_id), value_set=ids)
            found = batch.filter(among if inside else pc.invert(among))
            if len(found):
                yield found

    return stream


def buried(batch: pa.RecordBatch, *, now: datetime, reason: str) -> pa.RecordBatch:
    """Turn rows of an ids table into retired rows."""
    schema = retired_schema(batch.schema.field(0).type, batch.schema.names[0])
    n = len(batch)
    when = pa.array([now] * n, schema.field(RETIRED_AT).type)
    return pa.record_batch([*batch.columns, when, pa.array([reason] * n)], schema=schema)
