"""The item of every row number, for the formats that number items: ``item_ids.parquet``.

It stands in the folder of the export: ``row`` (int64, from 0) and the item id, in row order, with
the note. A map of another program's is a Parquet file of item ids, in row order or with a column
``row``, or lines of an item id, a tab and its number, as LC-Rec's ``*.item2id``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from semid.arrays import to_arrow
from semid.errors import SemidError, display_path
from semid.export.source import Note, Request, Source
from semid.export.tabular import read_columns, write_columns
from semid.export.text import id_text, ids_of
from semid.id_table import IdTable

ITEM_IDS, ROW = "item_ids.parquet", "row"


def write_map(source: Source, folder: Path) -> None:
    """Write the map of an export into its folder."""

    def values(part: IdTable, row: int) -> list[pa.Array]:
        return [to_arrow(np.arange(row, row + len(part), dtype=np.int64)), part.item_ids]

    name = source.item_id if source.item_id != ROW else "item_id"
    write_columns(source, folder / ITEM_IDS, {ROW: pa.int64(), name: source.id_type}, values)


def has_map(path: Path) -> bool:
    """Tell whether a map is in a folder, or beside a file."""
    return ((path if path.is_dir() else path.parent) / ITEM_IDS).is_file()


def read_map(beside: Path, request: Request) -> tuple[pa.Array | None, Note]:
    """Return the item ids by row number, and the note; None and an empty one without a map.

    Parameters
    ----------
    beside : the file whose rows are numbered; its folder is looked into
    request : names a map elsewhere, if any

    Raises
    ------
    SemidError
        When the map cannot be read, or does not number items from 0 without gaps.
    """
    path = request.items or beside.parent / ITEM_IDS
    if request.items is None and not path.is_file():
        return None, Note()
    if not path.is_file():
        raise SemidError(f"{display_path(path)} is not a file; check the path of the map")
    if path.suffix != ".parquet":
        return _in_order(*_lines(path), path), Note()
    rows, note = read_columns(path)
    names = [name for name in rows.schema.names if name != ROW]
    if len(names) != 1 and "item_id" not in names:
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(rows.schema.names)}; a map has "
            f"item_id, and {ROW} if it is not in the order of the rows"
        )
    ids = rows.column(names[0] if len(names) == 1 else "item_id").combine_chunks()
    if ROW not in rows.schema.names:
        return ids, note
    return _in_order(ids, np.asarray(rows.column(ROW)), path), note


def _lines(path: Path) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    names = ["item", ROW]
    try:
        table = pa_csv.read_csv(
            path,
            pa_csv.ReadOptions(column_names=names),
            pa_csv.ParseOptions(delimiter="\t", quote_char=False),
            pa_csv.ConvertOptions(column_types={"item": pa.string(), ROW: pa.int64()}),
        )
    except pa.ArrowInvalid as error:
        raise SemidError(
            f"{display_path(path)} does not hold lines of an item id, a tab and its number "
            f"({str(error).splitlines()[0]}); give a Parquet file with item_id in row order"
        ) from error
    return ids_of(id_text(table.column("item"))), np.asarray(table.column(ROW))


def _in_order(ids: pa.Array, row_n: npt.NDArray[np.int64], path: Path) -> pa.Array:
    if len(row_n) and np.array_equal(np.sort(row_n), np.arange(len(row_n))):
        return ids.take(to_arrow(np.argsort(row_n)))
    raise SemidError(
        f"{display_path(path)} does not number its {len(ids):,} items from 0 to {len(ids) - 1:,}, "
        "each once; a map has every row number"
    )


def named(item_ids: pa.Array | None, rows: int, path: Path) -> pa.Array:
    """Return the item ids of `rows` rows: those of the map, else the row numbers themselves.

    Raises
    ------
    SemidError
        When the map has another length.
    """
    if item_ids is None:
        return to_arrow(np.arange(rows, dtype=np.int64))
    if len(item_ids) != rows:
        raise SemidError(
            f"{display_path(path)} numbers {rows:,} items but the map beside it {len(item_ids):,}; "
            "name the map that was made with it, or the format of what it is"
        )
    return item_ids
