"""Interactions tables: which columns say who met what and when, and their rows, checked.

A user's items are in the order of ``timestamp``, or of ``position`` where there is none. At the
same timestamp they are in the order of their ids as text, wherever interactions are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from semid.errors import SemidError, display_path, first_few
from semid.tables import ParquetTable

USER, POSITION, TIMESTAMP = "user_id", "position", "timestamp"

_TEXT = (pa.types.is_string, pa.types.is_large_string)
_ORDERED = (
    *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    *(pa.types.is_date, pa.types.is_timestamp),
)


def is_interactions(table: ParquetTable) -> bool:
    """Tell whether a table has users and an order, as no table of items has."""
    names = table.schema.names
    return USER in names and (TIMESTAMP in names or POSITION in names)


def interaction_columns(table: ParquetTable, item_id: str) -> list[str]:
    """Return the columns of users, items and order, after a look at their types.

    Raises `SemidError` when one is missing or of another type.
    """
    table.require([USER, item_id])
    orders = [name for name in (TIMESTAMP, POSITION) if name in table.schema.names]
    if not orders:
        raise SemidError(
            f"{display_path(table.name)} has neither a column {TIMESTAMP!r} nor {POSITION!r}; its "
            f"columns are {first_few(table.schema.names)}; one of them must order a user's items"
        )
    table.require(orders[:1])
    for name, allowed, words in (
        (USER, (*_TEXT, pa.types.is_integer), "text or integers"),
        (item_id, (*_TEXT, pa.types.is_integer), "text or integers"),
        (orders[0], _ORDERED, "numbers, dates or timestamps"),
    ):
        kind = table.schema.field(name).type
        if not any(is_kind(kind) for is_kind in allowed):
            raise SemidError(
                f"{display_path(table.name)}: column '{name}' is {kind}, but it must hold {words}; "
                "cast it"
            )
    return [USER, item_id, orders[0]]


def interaction_batches(
    table: ParquetTable, names: Sequence[str], *, rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Stream columns of interactions; raises `SemidError` for the first row with a null or NaN."""
    row = 0
    for batch in table.batches(names, rows=rows):
        for name, column in zip(names, batch.columns, strict=True):
            missing = pc.is_null(column, nan_is_null=True)
            if pc.any(missing).as_py():
                where = table.locate(row + pc.index(missing, True).as_py())
                raise SemidError(f"{where}: column '{name}' is null; drop the row")
        row += batch.num_rows
        yield batch


def strangers(table: ParquetTable, ids: pa.Array, item_id: str) -> SemidError:
    """Return what to say of interactions none of which is of an item of an ids table."""
    here, there = table.schema.field(item_id).type, ids.type
    alike = pa.types.is_integer(here) == pa.types.is_integer(there)
    kinds = "" if alike else f", whose ids are {there} where theirs are {here}"
    return SemidError(
        f"none of the {table.num_rows:,} interactions in {display_path(table.name)} is of an item "
        f"of the ids table{kinds}; give those of its catalog, with item ids written alike"
    )


def refuse_tied(connection: Any, table: ParquetTable, user: str = USER) -> None:
    """Raise `SemidError` for a place that a user has twice in DuckDB's ``met`` (`user`, ``place``).

    Such places say nothing, and a split for evaluation depends on them.
    """
    found = connection.sql(
        f'SELECT "{user}", place, count(*) FROM met GROUP BY ALL HAVING count(*) > 1 '
        "ORDER BY ALL LIMIT 1"
    ).fetchall()
    if found:
        raise tied(table, *found[0])


def tied(table: ParquetTable, user: Any, place: Any, times: int) -> SemidError:
    """Return what to say of positions that a user has several times."""
    return SemidError(
        f"{display_path(table.name)}: user {user!r} has {times} rows with {POSITION} {place}; "
        f"it must count up within a user, or give a column {TIMESTAMP!r}"
    )
