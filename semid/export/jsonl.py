"""JSON lines: ``{"item_id": "B0001", "codes": [41, 7, 203], "sid": [41, 7, 203, 0]}``.

One item a line, in table order, UTF-8; item ids are strings or integers as in the table. A line of
other programs may lack ``codes``: then the codes of the SID stand for them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pa_json

from semid.errors import SemidError, display_path
from semid.export.source import Note, Request, Source, table_of_sids
from semid.export.tabular import codes_in
from semid.export.text import joined, json_strings, spelled, write_text
from semid.id_columns import CODES, CODES_TYPE, SID
from semid.id_table import IdTable


def write(source: Source, path: Path) -> None:
    """Write the file; raises `SemidError` as `Source.parts`."""
    text = pa.types.is_integer(source.id_type)
    start = '{"' + json.dumps(source.item_id, ensure_ascii=False)[1:] + ": "
    with path.open("wb") as file:
        for part in source.parts():
            ids = part.item_ids.cast(pa.string())
            codes, sid = (
                spelled(codes_nl, [""] * codes_nl.shape[1], "", ", ")
                for codes_nl in (part.codes, part.sids)
            )
            shown = ids if text else json_strings(ids)
            lines = joined(start, shown, f', "{CODES}": [', *codes, f'], "{SID}": [', *sid, "]}\n")
            write_text(file, lines)


def read(path: Path, request: Request) -> IdTable:
    """Read the file; the item id is the first member that is neither codes nor SID.

    Raises
    ------
    SemidError
        When a line is not such an object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(next(file, ""))
        item_id = next(name for name in first if name not in (CODES, SID))
        kind = pa.string() if isinstance(first[item_id], str) else pa.int64()
        lists = [(name, CODES_TYPE) for name in (CODES, SID) if name in first]
        schema = pa.schema([(item_id, kind), *lists])
        options = pa_json.ParseOptions(schema, unexpected_field_behavior="ignore")
        rows = pa_json.read_json(path, parse_options=options)
        names = [name for name, _ in lists]
        sids_ns = codes_in(rows, names[-1])
    except (ValueError, TypeError, KeyError, StopIteration, IndexError) as error:
        raise SemidError(
            f"{display_path(path)} is not lines of an item id, {CODES} and {SID} "
            f"({(str(error) or 'nothing there').splitlines()[0]}); export it again"
        ) from error
    if len(names) == 1:
        return table_of_sids(rows.column(item_id), sids_ns, request, Note(item_id=item_id))
    codes_nl = codes_in(rows, CODES)
    return IdTable.from_arrays(rows.column(item_id), codes_nl, sids_ns, item_id=item_id)
