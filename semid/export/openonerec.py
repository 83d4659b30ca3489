"""OpenOneRec: Parquet of ``pid``, ``codes``, ``sid`` and ``tokens``.

``codes`` (list<int64>) are the raw codes, as OpenOneRec's tokenizer writes them; ``sid``
(list<int64>) is the semantic ID, as its data scripts read it from a ``pid2sid`` file; ``tokens``
spells the SID: ``<|sid_begin|><s_a_340><s_b_6566><s_c_5603><|sid_end|>``. Levels have 8,192 tokens
each (``--width`` where ``VOCAB_SIZE_PER_LAYER`` is another). OpenOneRec's scripts take the first
three numbers of a SID and leave out a fourth, so that items which a suffix tells apart share an ID
there: ``--collisions reassign`` makes tables that it can tell apart.

Read from zzzzzap111/OpenOneRec 2b2b4b1 ``data/onerec_data/pretrain/video_rec.py`` and
``README.md``, and leoweng111/OpenOneRec 0b4316b ``tokenizer/infer_res_kmeans.py``, copies of
Kuaishou-OneRec/OpenOneRec, of which 8051650 ``pretrain/README.md`` could be read itself.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.export.source import Request, Source, table_of_sids
from semid.export.tabular import LONGS, codes_in, long_lists, read_columns, write_columns
from semid.export.text import joined, spelled
from semid.id_columns import CODES, SID
from semid.id_table import IdTable
from semid.spelling import SPELLINGS

WIDTH = 8_192
SPELLING = SPELLINGS["openonerec"]
PID, TOKENS = "pid", "tokens"


def write(source: Source, path: Path) -> None:
    """Write the Parquet file.

    Raises
    ------
    SemidError
        When a code or suffix is beyond the width, and has no token.
    """
    starts = SPELLING.starts(source.sid_length)

    def values(part: IdTable, _: int) -> list[pa.Array]:
        tokens = spelled(part.sids, starts, SPELLING.after)
        text = joined(SPELLING.start, *tokens, SPELLING.end)
        return [part.item_ids, long_lists(part.codes), long_lists(part.sids), text]

    columns = {PID: source.id_type, CODES: LONGS, SID: LONGS, TOKENS: pa.string()}
    write_columns(source, path, columns, values)


def read(path: Path, request: Request) -> IdTable:
    """Read the file, or one with only ``codes`` or only ``sid``.

    Raises
    ------
    SemidError
        When the columns are others or hold anything but codes.
    """
    rows, note = read_columns(path)
    there = [name for name in (CODES, SID) if name in rows.schema.names]
    if PID not in rows.schema.names or not there:
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(rows.schema.names)}; expected {PID}, "
            f"and {CODES} or {SID}"
        )
    if len(there) == 1:
        return table_of_sids(rows.column(PID), codes_in(rows, there[0]), request, note)
    return IdTable.from_arrays(
        rows.column(PID),
        codes_in(rows, CODES),
        codes_in(rows, SID),
        metadata=note.metadata,
        item_id=note.item_id,
    )
