"""Flat Parquet: the item id, ``code_0`` … ``code_{L-1}`` and ``suffix`` when IDs have one, int32.

What pandas and SQL want: every level a column to group by and join on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.id_metadata import METADATA_KEY, read_metadata
from semid.id_reading import id_batches
from semid.id_table import IdTable
from semid.streams import ROW_GROUP_ROWS, open_writer
from semid.tables import ParquetTable, open_table

SUFFIX = "suffix"


def write(table: ParquetTable, path: Path, item_id: str, on_rows: Callable[[int], object]) -> None:
    """Write an ids table flat; the note in its metadata comes along.

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables; names the row.
    """
    first = next(id_batches(table, item_id=item_id, rows=1))
    levels, sid_length = first.codes.shape[1], first.sids.shape[1]
    names = [f"code_{level}" for level in range(levels)] + [SUFFIX] * (sid_length - levels)
    schema = pa.schema(
        [pa.field(item_id, first.item_ids.type, nullable=False)]
        + [pa.field(name, pa.int32(), nullable=False) for name in names]
    )
    note = (table.schema.metadata or {}).get(METADATA_KEY)
    metadata = None if note is None else {METADATA_KEY.decode(): note.decode()}
    with open_writer(path, schema, metadata) as writer:
        for part in id_batches(table, item_id=item_id, on_rows=on_rows):
            columns = [pa.array(np.ascontiguousarray(code_n)) for code_n in part.sids.T]
            batch = pa.record_batch([part.item_ids, *columns], schema=schema)
            writer.write_batch(batch, ROW_GROUP_ROWS)


def read(path: Path, levels: int | None) -> IdTable:
    """Read what `write` wrote; the first column is the item id, `levels` is not needed.

    Raises
    ------
    SemidError
        When the columns are others or hold anything but codes.
    """
    table = open_table(path)
    item_id, *names = table.schema.names
    codes = [f"code_{level}" for level in range(len(names) - (SUFFIX in names))]
    if not codes or names not in (codes, [*codes, SUFFIX]):
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(table.schema.names)}; expected an "
            f"item id, code_0, code_1, … and perhaps {SUFFIX}, as semid export writes them"
        )
    rows = pa.Table.from_batches(table.batches(table.schema.names), schema=table.schema)
    sids_ns = np.stack([rows.column(name).to_numpy() for name in names], axis=1)
    return IdTable.from_arrays(
        rows.column(item_id),
        sids_ns[:, : len(codes)],
        sids_ns,
        metadata=read_metadata(table),
        item_id=item_id,
    )
