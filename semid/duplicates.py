"""Values of a column that must not repeat: item ids, and IDs with a suffix.

Everything streams; what does not fit in memory is grouped on disk.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow
from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.interactions import POSITION, USER, interaction_batches, interaction_columns, refuse_tied
from semid.tables import ParquetTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_GROUPING_BYTES = 1 << 30


def check_ids(
    table: ParquetTable, item_id: str, *, on_rows: Callable[[int], object] | None = None
) -> None:
    """Raise `SemidError` when an item id is null or occurs twice, naming the rows.

    Ids in ascending order are seen to be unique in passing. Others are grouped by DuckDB, which
    spills to disk what does not fit, so any number of rows will do; `on_rows` then hears of every
    batch how many rows it had.
    """
    kind = id_type(table, item_id)
    if _ascend(table, item_id):
        return

    def ids() -> Iterator[pa.Array]:
        row = 0
        for batch in table.batches([item_id], rows=65_536):
            _refuse_null_ids(batch.column(0), item_id, table, row)
            row += batch.num_rows
            yield batch.column(0).cast(kind)

    refuse_repeated(
        table, item_id, kind, ids(), "ids must be unique, remove the duplicates", on_rows=on_rows
    )


def check_interactions(
    table: ParquetTable, item_id: str, *, on_rows: Callable[[int], object] = lambda _: None
) -> None:
    """Raise `SemidError` for what those who read interactions refuse; `on_rows` is as of ids.

    That is a column which is missing or of another type, a null, and where there are no timestamps
    a user who has a position twice.
    """
    from semid.database import fed

    names = interaction_columns(table, item_id)

    def places() -> Iterator[pa.RecordBatch]:
        for batch in interaction_batches(table, names):
            yield pa.record_batch([batch.column(0), batch.column(2)], schema=schema)
            on_rows(batch.num_rows)

    kinds = [table.schema.field(name).type for name in (USER, names[-1])]
    schema = pa.schema(list(zip((USER, POSITION), kinds, strict=True)))
    if names[-1] != POSITION:
        deque(places(), maxlen=0)
        return
    with (
        _grouping("positions that repeat", table) as connection,
        fed(connection, "given", schema, places()),
    ):
        connection.execute(f"CREATE VIEW met AS SELECT {USER}, {POSITION} AS place FROM given")
        refuse_tied(connection, table)


def refuse_repeated(
    table: ParquetTable,
    column: str,
    kind: pa.DataType,
    values: Iterable[pa.Array],
    advice: str,
    *,
    on_rows: Callable[[int], object] | None = None,
) -> None:
    """Raise `SemidError` when one of the `values` of a column occurs twice, naming the rows."""
    from semid.database import fed

    def numbered() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in values:
            rows = to_arrow(np.arange(row, row + len(batch)))
            yield pa.record_batch([batch, rows], names=["value", "row"])
            row += len(batch)
            if on_rows is not None:
                on_rows(len(batch))

    with (
        _grouping("duplicates", table) as connection,
        fed(connection, "ids", pa.schema([("value", kind), ("row", pa.int64())]), numbered()),
    ):
        found = connection.execute(
            "SELECT value, min(row), max(row), count(*) FROM ids GROUP BY value "
            "HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
        ).fetchone()
    if found:
        value, first, last, times = found
        raise SemidError(
            f"{display_path(table.name)}: column '{column}' holds {value!r} {times} times "
            f"({table.locate(first)}; {table.locate(last)}); {advice}"
        )


def _grouping(what: str, table: ParquetTable) -> AbstractContextManager[DuckDBPyConnection]:
    """Open a database that groups values on disk."""
    from semid.database import out_of_core

    return out_of_core(
        f"looking for {what} in {display_path(table.name)}",
        Path(tempfile.gettempdir()),
        memory_bytes=_GROUPING_BYTES,
        relief="name a larger folder in TMPDIR",
    )


def _ascend(table: ParquetTable, item_id: str) -> bool:
    """Tell whether every id is there and above the one before."""
    last = None
    for batch in table.batches([item_id], rows=65_536):
        ids = batch.column(0)
        if ids.null_count or not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
            return False
        if last is not None and not pc.less(last, ids[0]).as_py():
            return False
        last = ids[-1]
    return True


def _refuse_null_ids(ids: pa.Array, item_id: str, table: ParquetTable, first_row: int) -> None:
    if ids.null_count:
        row = first_row + int(np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))[0])
        raise SemidError(
            f"{table.locate(row)}: column '{item_id}' is null; every item needs an id, "
            "drop the row or fill it in"
        )
