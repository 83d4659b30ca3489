"""Interactions in the order of users, time and item ids as text: sorted on disk, by DuckDB.

Beside DuckDB's memory are 8 bytes an interaction while they are joined, and the ids of users and
items. Shapes: u users, m interactions, b those of a batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.database import fed, out_of_core
from semid.errors import display_path
from semid.interactions import POSITION, USER, interaction_batches, refuse_tied
from semid.recsys.ordering import ROWS, Bounds, Ordered, as_numbers, parts, wide
from semid.tables import ParquetTable

ITEM, PLACE = "item", "place"

# DuckDB compares text by its bytes, as Arrow does.
_ORDERED = f"""
SELECT {USER}, coalesce(number, -1)::INTEGER AS number, {PLACE}
FROM met LEFT JOIN catalog USING ({ITEM})
ORDER BY {USER}, {PLACE}, {ITEM}::VARCHAR
"""


def ordered_on_disk(
    table: ParquetTable,
    names: list[str],
    ids: pa.Array,
    bounds: Bounds | None,
    memory_bytes: int,
) -> Ordered:
    """Read and sort interactions; columns are users, items and time or position.

    Raises
    ------
    SemidError
        When the memory or the disk are not enough, a row has a null, or a user a position twice.
    """
    item_kind = wide(table.schema.field(names[1]).type)
    if item_kind != wide(ids.type):  # the one text, the other integers
        item_kind = pa.large_string()
    catalog = pa.table({ITEM: ids.cast(item_kind), "number": np.arange(len(ids), dtype=np.int32)})
    with (
        tempfile.TemporaryDirectory(prefix="sequences-") as folder,
        out_of_core(
            f"sorting {display_path(table.name)}",
            Path(folder),
            memory_bytes=memory_bytes,
            relief="give a larger memory_gib",
            file="sequences.duckdb",
            preserve_insertion_order="false",
        ) as connection,
    ):
        _load(connection, table, names, item_kind)
        if names[-1] == POSITION:
            refuse_tied(connection, table)
        connection.register("catalog", catalog)
        batches = connection.sql(_ORDERED).to_arrow_reader(ROWS)
        return _gathered(batches, wide(table.schema.field(names[0]).type), bounds)


def _load(
    connection: duckdb.DuckDBPyConnection,
    table: ParquetTable,
    names: list[str],
    item_kind: pa.DataType,
) -> None:
    kinds = [table.schema.field(name).type for name in names]
    place_kind = as_numbers(pa.nulls(0, kinds[2]), kinds[2]).type
    fields = ((USER, wide(kinds[0])), (ITEM, item_kind), (PLACE, place_kind))
    schema = pa.schema([pa.field(*field) for field in fields])

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in interaction_batches(table, names):
            user, item, time = batch.columns
            columns = [user.cast(wide(kinds[0])), item.cast(item_kind), as_numbers(time, kinds[2])]
            yield pa.record_batch(columns, schema=schema)

    with fed(connection, "given", schema, rows()):
        connection.execute("CREATE TABLE met AS SELECT * FROM given")


def _gathered(
    batches: pa.RecordBatchReader, user_kind: pa.DataType, bounds: Bounds | None
) -> Ordered:
    """Gather sorted batches: users where they begin, numbers of items, parts of places."""
    users, firsts = [pa.array([], user_kind)], [np.zeros(0, np.int64)]
    numbers, found = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)]
    count, last = 0, None
    for batch in batches:
        user_b = batch.column(0).cast(user_kind)
        new_b = _begins(user_b, last)
        users.append(user_b.take(to_arrow(new_b)))
        firsts.append(new_b + count)
        numbers.append(to_numpy(batch.column(1)))
        found.append(parts(to_numpy(batch.column(2)), bounds))
        count, last = count + len(user_b), user_b[-1]
    first_u = np.concatenate(firsts)
    return Ordered(
        pa.concat_arrays(users),
        np.diff(first_u, append=count),
        np.concatenate(numbers),
        np.concatenate(found),
    )


def _begins(user_b: pa.Array, last: Any) -> npt.NDArray[np.int64]:
    """Return where users begin in a batch that goes on from another, which ended in `last`."""
    new_b = np.ones(len(user_b), np.bool_)
    new_b[1:] = pc.not_equal(user_b[1:], user_b[:-1]).to_numpy(zero_copy_only=False)
    new_b[0] = last is None or last != user_b[0]
    return np.flatnonzero(new_b)
