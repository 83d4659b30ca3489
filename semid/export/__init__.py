"""Export an ids table to the formats that others read, and read these back.

An export holds the item ids and their semantic IDs: codes that a collision policy moved elsewhere
stay in the ids table, except in npz, which holds both. Files are written to the path given, row by
row or batch by batch; making that atomic is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from semid.errors import SemidError, display_path
from semid.export import npz, parquet, tokens_json
from semid.id_reading import id_batches
from semid.id_table import IdTable
from semid.tables import ParquetTable

OnRows = Callable[[int], object]


class Format(NamedTuple):
    """A writer of (table, path, item id column, on_rows) and a reader of (path, levels).

    The writer passes over the table `passes` times and tells `on_rows` of every batch.
    """

    write: Callable[[ParquetTable, Path, str, OnRows], None]
    read: Callable[[Path, int | None], IdTable]
    passes: int = 1


FORMATS: dict[str, Format] = {
    "parquet": Format(parquet.write, parquet.read),
    "tokens-json": Format(tokens_json.write, tokens_json.read),
    "npz": Format(npz.write, npz.read, npz.PASSES),
}


def export_ids(
    table: ParquetTable,
    path: Path,
    format: str,
    *,
    item_id: str = "item_id",
    on_rows: OnRows = lambda _: None,
) -> dict[str, Any]:
    """Write the ids table to `path` in a format of `FORMATS`; memory is bounded by a batch.

    `on_rows` hears how many rows were passed over, as often as the format's `passes`.

    Returns
    -------
    summary : the format, items, levels (L), sid_length (L or L+1) and bytes written

    Raises
    ------
    SemidError
        When the format is unknown, or the table has no rows or breaks the contract of ids tables.
    """
    chosen = _format(format)
    first = next(id_batches(table, item_id=item_id, rows=1), None)
    if first is None:
        raise SemidError(f"{display_path(table.name)} has no rows; check the job that wrote it")
    chosen.write(table, path, item_id, on_rows)
    return {
        "format": format,
        "items": table.num_rows,
        "levels": first.codes.shape[1],
        "sid_length": first.sids.shape[1],
        "bytes": path.stat().st_size,
    }


def import_ids(path: Path, format: str, *, levels: int | None = None) -> IdTable:
    """Read an exported file into memory.

    Parameters
    ----------
    path : a file that `export_ids` wrote
    format : one of `FORMATS`
    levels : L, the summary's ``levels``. tokens-json does not say whether its last token is a
        suffix: without `levels` every token there counts as a code. The other formats know L.

    Raises
    ------
    SemidError
        When the format is unknown, the file is missing or malformed, or its L is not `levels`.
    """
    chosen = _format(format)
    if not path.is_file():
        raise SemidError(f"{display_path(path)} is not a file; check the path")
    table = chosen.read(path, levels)
    if levels is not None and table.codes.shape[1] != levels:
        raise SemidError(
            f"{display_path(path)} holds codes of {table.codes.shape[1]} levels where {levels} "
            "are expected; check the path and the number of levels"
        )
    return table


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise SemidError(f"the format {name!r} is none of {', '.join(FORMATS)}")
    return FORMATS[name]
