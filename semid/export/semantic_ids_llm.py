"""semantic-ids-llm: Parquet of ``parent_asin``, ``semantic_id_0`` … and ``semantic_id``.

``semantic_id_l`` (int64) are the codes of the SID, the last of them the digit that tells items of
one code apart, and ``semantic_id`` spells them as the tokens that the vocabulary is extended by:
``<|sid_start|><|sid_191|><|sid_260|><|sid_716|><|sid_768|><|sid_end|>``, where level l begins at
l·256 (``--width`` where the codebooks are of another size). Without a note or levels the last
column that is read counts as the digit that tells items apart.

Read from jasonzyx/semantic-ids-llm b551a7c, a copy of eugeneyan/semantic-ids-llm, which could not
be read itself: ``notebooks/06-get-semantic-ids-per-asin.ipynb`` and
``notebooks/07-get-semantic-ids-to-asin-sequences.ipynb``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from semid.arrays import to_arrow
from semid.errors import SemidError, display_path
from semid.export.source import Request, Source, table_of_sids
from semid.export.tabular import read_columns, stacked, write_columns
from semid.export.text import joined, spelled
from semid.id_table import IdTable
from semid.spelling import SPELLINGS

SPELLING = SPELLINGS["semantic-ids-llm"]
WIDTH = SPELLING.width
ITEM, CODE, TOKENS = "parent_asin", "semantic_id_", "semantic_id"


def write(source: Source, path: Path) -> None:
    """Write the Parquet file.

    Raises
    ------
    SemidError
        When a code or suffix is beyond the width, and would take the token of the next level.
    """
    offset_s = np.arange(source.sid_length, dtype=np.int64) * (source.width or WIDTH)
    starts = SPELLING.starts(source.sid_length)

    def values(part: IdTable, _: int) -> list[pa.Array]:
        sids_ns = part.sids.astype(np.int64)
        tokens = spelled(sids_ns + offset_s, starts, SPELLING.after)
        text = joined(SPELLING.start, *tokens, SPELLING.end)
        return [part.item_ids, *(to_arrow(code_n) for code_n in sids_ns.T), text]

    names = [f"{CODE}{level}" for level in range(source.sid_length)]
    columns = {ITEM: source.id_type, **dict.fromkeys(names, pa.int64()), TOKENS: pa.string()}
    write_columns(source, path, columns, values)


def read(path: Path, request: Request) -> IdTable:
    """Read the file; the first column is the item id, and tokens are not looked at.

    Raises
    ------
    SemidError
        When the columns are others or hold anything but codes.
    """
    rows, note = read_columns(path)
    found = [name for name in rows.schema.names if name.startswith(CODE)]
    names = [f"{CODE}{level}" for level in range(len(found))]
    if not names or sorted(found) != sorted(names) or rows.schema.names[0] in names:
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(rows.schema.names)}; expected an "
            f"item id, {CODE}0, {CODE}1, …"
        )
    sids_ns = stacked([rows.column(name) for name in names])
    return table_of_sids(rows.column(0), sids_ns, request, note, suffix=True)
