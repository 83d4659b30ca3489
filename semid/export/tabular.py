"""What the Parquet formats share: columns written in batches, and read whole with the note."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.export.source import Note, Source, read_note
from semid.id_columns import code_column, code_matrix
from semid.id_metadata import METADATA_KEY
from semid.id_table import IdTable
from semid.streams import ROW_GROUP_ROWS, open_writer
from semid.tables import open_table

LONGS = pa.list_(pa.field("element", pa.int64(), nullable=False))

Columns = dict[str, pa.DataType]


def write_columns(
    source: Source,
    path: Path,
    columns: Columns,
    values: Callable[[IdTable, int], Sequence[pa.Array]],
) -> None:
    """Write what `values` makes of every part and its first row, with the note; nothing is null.

    Raises
    ------
    SemidError
        As `Source.parts`.
    """
    schema = pa.schema([pa.field(n, kind, nullable=False) for n, kind in columns.items()])
    with open_writer(path, schema, {METADATA_KEY.decode(): source.note}) as writer:
        row = 0
        for part in source.parts():
            batch = pa.record_batch(list(values(part, row)), schema=schema)
            writer.write_batch(batch, ROW_GROUP_ROWS)
            row += len(part)


def read_columns(path: Path) -> tuple[pa.Table, Note]:
    """Read a Parquet file, or a folder of them, and its note.

    Raises
    ------
    SemidError
        When it cannot be read.
    """
    table = open_table(path)
    rows = pa.Table.from_batches(table.batches(table.schema.names), schema=table.schema)
    return rows, read_note(table.schema, path)


def long_lists(codes_nl: npt.NDArray[np.int32]) -> pa.Array:
    """Turn codes ``(n, l)`` into lists of int64."""
    return code_column(codes_nl).cast(LONGS)


def codes_in(rows: pa.Table, name: str) -> npt.NDArray[np.int32]:
    """Return a column of lists as codes ``(n, l)``; raises `SemidError` as `code_matrix`."""
    return code_matrix(rows.column(name).combine_chunks(), name)


def stacked(columns: Sequence[Any]) -> npt.NDArray[Any]:
    """Return columns of integers as the levels of SIDs, ``(n, s)``."""
    return np.stack([np.asarray(column) for column in columns], axis=1)
