"""Which row of one table is the item of which row of another, whatever their orders.

Ids in one order are seen to be so in passing; others are joined by DuckDB, on disk where memory is
small. What comes back takes 8 bytes a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow, to_numpy
from semid.columns import id_type
from semid.database import fed, out_of_core
from semid.errors import display_path
from semid.streams import rebatched
from semid.tables import ParquetTable

_ROWS = 65_536


def match_rows(
    table: ParquetTable,
    other: ParquetTable,
    item_id: str,
    *,
    temp_dir: Path | None = None,
    memory_bytes: int = 1 << 30,
) -> npt.NDArray[np.int64]:
    """Return for every row of `other` the row of `table` with its item, -1 where there is none.

    Parameters
    ----------
    table, other : tables with item ids of one type, in `table` unique
    item_id : name of the id column
    temp_dir : an existing folder for what does not fit in memory; the system's if not given
    memory_bytes : DuckDB's budget

    Raises
    ------
    SemidError
        When a table cannot be read, or memory or disk run out.
    """
    if in_one_order(table, other, item_id):
        return np.arange(other.num_rows)
    row_n = np.full(other.num_rows, -1)
    with (
        tempfile.TemporaryDirectory(prefix="match-", dir=temp_dir) as folder,
        out_of_core(
            f"finding the items of {display_path(table.name)} in {display_path(other.name)}",
            Path(folder),
            memory_bytes=memory_bytes,
            relief="allow more with --memory",
            preserve_insertion_order="false",
        ) as connection,
    ):
        kind = id_type(table, item_id)
        schema = pa.schema([("item", kind), ("row", pa.int64())])
        for name, source in (("here", table), ("there", other)):
            with fed(connection, "given", schema, _numbered(source, item_id, kind)):
                connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        found = connection.sql(
            "SELECT there.row AS place, here.row FROM there JOIN here USING (item)"
        )
        for batch in found.to_arrow_reader(1 << 20):
            row_n[to_numpy(batch.column(0))] = to_numpy(batch.column(1))
    return row_n


def in_one_order(table: ParquetTable, other: ParquetTable, item_id: str) -> bool:
    """Tell whether both tables hold the same items, of ids of one type, in the same order."""
    if table.num_rows != other.num_rows:
        return False
    kind = id_type(table, item_id)
    streams = (rebatched(each.batches([item_id], rows=_ROWS), _ROWS) for each in (table, other))
    return all(
        one.column(0).cast(kind).equals(two.column(0).cast(kind))
        for one, two in zip(*streams, strict=True)
    )


def _numbered(table: ParquetTable, item_id: str, kind: pa.DataType) -> Iterator[pa.RecordBatch]:
    row = 0
    for batch in table.batches([item_id], rows=_ROWS):
        ids = batch.column(0).cast(kind)
        rows = to_arrow(np.arange(row, row + len(ids)))
        yield pa.record_batch([ids, rows], names=["item", "row"])
        row += len(ids)
