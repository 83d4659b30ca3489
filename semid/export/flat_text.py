"""Flat columns as delimited text with a header."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from semid.arrays import strings_to_arrow
from semid.errors import SemidError, display_path
from semid.export.flat import flat_names, levels_of
from semid.export.source import Note, Request, Source, table_of_sids
from semid.export.tabular import stacked
from semid.export.text import (
    delimited,
    id_text,
    ids_of,
    integers,
    numbers,
    read_delimited,
    write_text,
)
from semid.id_table import IdTable


def write_flat(source: Source, path: Path, delimiter: str, kind: str = "") -> None:
    """Write a table; `kind` ends the name of every column.

    Raises
    ------
    SemidError
        As `Source.parts`.
    """
    names = [source.item_id, *flat_names(source.levels, source.sid_length)]
    with path.open("wb") as file:
        header = [strings_to_arrow([name + kind]) for name in names]
        write_text(file, delimited(header, delimiter))
        for part in source.parts():
            columns = [part.item_ids.cast(pa.string()), *map(numbers, part.sids.T)]
            write_text(file, delimited(columns, delimiter))


def read_flat(path: Path, request: Request, delimiter: str, kind: str = "") -> IdTable:
    """Read what `write_flat` wrote.

    Raises
    ------
    SemidError
        When the columns are others, or codes are not whole numbers.
    """
    names, rows = read_delimited(path, delimiter)
    if not all(name.endswith(kind) for name in names):
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(names)}; the name of each must end "
            f"in {kind}"
        )
    item_id, *codes = (name.removesuffix(kind) for name in names)
    note = Note(levels=levels_of([item_id, *codes], path), item_id=item_id)
    sids_ns = stacked([integers(rows.column(name), name, path) for name in names[1:]])
    return table_of_sids(ids_of(id_text(rows.column(0))), sids_ns, request, note)
