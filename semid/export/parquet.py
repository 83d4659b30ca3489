"""Flat Parquet: the item id, ``code_0`` … ``code_{L-1}`` and ``suffix`` when IDs have one, int32.

What pandas and SQL want: every level a column to group by and join on.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from semid.arrays import to_arrow
from semid.export.flat import flat_names, levels_of
from semid.export.source import Request, Source, table_of_sids
from semid.export.tabular import read_columns, stacked, write_columns
from semid.id_table import IdTable


def write(source: Source, path: Path) -> None:
    """Write an ids table flat; the note in its metadata comes along.

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables; names the row.
    """

    def values(part: IdTable, _: int) -> list[pa.Array]:
        return [part.item_ids, *(to_arrow(code_n) for code_n in part.sids.T)]

    names = flat_names(source.levels, source.sid_length)
    columns = {source.item_id: source.id_type, **dict.fromkeys(names, pa.int32())}
    write_columns(source, path, columns, values)


def read(path: Path, request: Request) -> IdTable:
    """Read what `write` wrote; the first column is the item id.

    Raises
    ------
    SemidError
        When the columns are others or hold anything but codes.
    """
    rows, note = read_columns(path)
    item_id, *names = rows.schema.names
    note = note._replace(levels=levels_of([item_id, *names], path), item_id=item_id)
    sids_ns = stacked([rows.column(name) for name in names])
    return table_of_sids(rows.column(item_id), sids_ns, request, note)
