"""Tokens as JSON: ``{"<item_id>": ["<a_41>", "<b_7>", "<c_203>"], …}``, the item ids as keys.

One item per line, in table order, UTF-8. JSON keys are strings; `semid.export.text` says which come
back as integers. The file does not say whether the last token is a suffix.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from semid.export.source import Note, Request, Source, table_of_sids
from semid.export.text import ids_of, read_token_lists, write_token_lists
from semid.id_table import IdTable


def write(source: Source, path: Path) -> None:
    """Write the tokens of every item's SID.

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables; names the row.
    """
    parts = ((part.item_ids.cast(pa.string()), part.sids) for part in source.parts())
    write_token_lists(path, parts)


def read(path: Path, request: Request) -> IdTable:
    """Read what `write` wrote; without levels in the request every token counts as a code.

    Raises
    ------
    SemidError
        When the file is not a JSON object of token lists, all of one length, or an id occurs twice.
    """
    keys, sids_ns = read_token_lists(path)
    return table_of_sids(ids_of(keys), sids_ns, request, Note())
