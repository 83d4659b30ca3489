"""Ids tables from their files: into memory, or streamed for catalogs of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.id_columns import (
    CODES,
    DISTANCE,
    MARGIN,
    SID,
    code_matrix,
    concat_ids,
    id_column,
    refuse_sid_width,
)
from semid.id_metadata import read_metadata
from semid.id_table import IdTable
from semid.tables import ParquetTable, open_table
from semid.tombstones import open_retired


def read_ids(path: str | Path, item_id: str = "item_id") -> IdTable:
    """Read an ids table into memory.

    Parameters
    ----------
    path : a file, folder, glob or URI as `open_table` takes
    item_id : the name of the item id column

    Raises
    ------
    SemidError
        When the table cannot be read or breaks the contract of the ids table; names the row.
    """
    table = open_table(path)
    parts = list(id_batches(table, item_id=item_id))

    def joined(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    try:
        found = IdTable.from_arrays(
            concat_ids([part.item_ids for part in parts]),
            joined("codes"),
            joined("sids"),
            distance=joined("distance"),
            margin=joined("margin"),
            metadata=parts[0].metadata,
            item_id=item_id,
        )
    except SemidError as error:
        raise SemidError(f"{display_path(table.name)}: {error}") from error
    gone = open_retired(Path(table.files[0]).parent) if table.is_local else None
    if gone is None or Path(path).is_file():
        return found
    retired = pa.Table.from_batches(list(gone.batches(gone.schema.names)))
    return replace(found, retired=retired)


def id_batches(
    table: ParquetTable,
    *,
    item_id: str = "item_id",
    rows: int = 65_536,
    on_rows: Callable[[int], object] = lambda _: None,
) -> Iterator[IdTable]:
    """Stream an ids table as checked tables of at most `rows` rows, all of one L and sid length.

    `on_rows` hears of every table, once it is dealt with, how many rows it had.

    Raises
    ------
    SemidError
        As `read_ids`, except that item ids which occur twice go unnoticed.
    """
    table.require([item_id, CODES, SID])
    extra = [name for name in (DISTANCE, MARGIN) if name in table.schema.names]
    metadata = read_metadata(table)
    row, width, sid_width = 0, None, None
    for batch in table.batches([item_id, CODES, SID, *extra], rows=rows):

        def at(i: int, row: int = row) -> str:
            return table.locate(row + i)

        ids = id_column(batch.column(item_id), item_id, at=at)
        codes_nl = code_matrix(batch.column(CODES), CODES, width=width, at=at)
        sids_ns = code_matrix(batch.column(SID), SID, width=sid_width, at=at)
        refuse_sid_width(codes_nl, sids_ns, at)
        width, sid_width = codes_nl.shape[1], sids_ns.shape[1]
        floats = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in extra}
        yield IdTable(
            ids,
            codes_nl,
            sids_ns,
            floats.get(DISTANCE),
            floats.get(MARGIN),
            metadata,
            item_id,
        )
        row += len(ids)
        on_rows(len(ids))
