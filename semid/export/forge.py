"""FORGE: CSV of ``item_id,SID``, the codes of a SID joined by commas: ``A1,"12,7,200"``.

As its inference writes it; FORGE adds l·8,192 to the code of level l when it spells tokens
(``C12C8199C16584``), so codes beyond 8,191 are refused (``--width`` where codebooks are larger).
Its evaluation reads SIDs of three codes, split into columns. Without levels every number that is
read counts as a code.

Read from jiaozihao18/al_sid 45d015b ``SID_generation/infer_SID.py``, a copy of selous123/al_sid, of
which ffe070f ``algr/calc_hr.py`` could be read itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from semid.errors import SemidError, display_path
from semid.export.source import Note, Request, Source, table_of_sids
from semid.export.text import (
    delimited,
    id_text,
    ids_of,
    integers,
    joined,
    read_delimited,
    spelled,
    write_text,
)
from semid.id_table import IdTable

WIDTH = 8_192
ITEM, SID = "item_id", "SID"


def write(source: Source, path: Path) -> None:
    """Write the CSV file.

    Raises
    ------
    SemidError
        When a code or suffix is beyond the width.
    """
    starts = [""] * source.sid_length
    with path.open("wb") as file:
        file.write(f"{ITEM},{SID}\n".encode())
        for part in source.parts():
            text = joined(*spelled(part.sids, starts, "", ","))
            write_text(file, delimited([part.item_ids.cast(pa.string()), text], ","))


def read(path: Path, request: Request) -> IdTable:
    """Read the CSV file.

    Raises
    ------
    SemidError
        When the columns are others, or SIDs are not numbers, as many in every row.
    """
    names, rows = read_delimited(path, ",")
    if names != [ITEM, SID] or not len(rows):
        raise SemidError(
            f"{display_path(path)} has {len(rows)} rows of the columns {', '.join(names)}; "
            f"expected rows of {ITEM} and {SID}"
        )
    lists = pc.split_pattern(rows.column(SID), ",").combine_chunks()
    length_n = np.asarray(pc.list_value_length(lists))
    ragged = np.flatnonzero(length_n != length_n[0])
    if ragged.size:
        raise SemidError(
            f"{display_path(path)}, row {ragged[0]}: the {SID} has {length_n[ragged[0]]} codes "
            f"where row 0 has {length_n[0]}; every row needs the same number"
        )
    flat = integers(pa.chunked_array([lists.flatten()]), SID, path)
    sids_ns = flat.reshape(len(rows), -1)
    return table_of_sids(ids_of(id_text(rows.column(ITEM))), sids_ns, request, Note())
