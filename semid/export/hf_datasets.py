"""A folder that Hugging Face ``datasets`` loads: ``load_dataset("out/dataset", split="train")``.

``data/train-00000-of-00001.parquet`` holds the item id, ``codes`` and ``sid`` (lists of int32), and
``README.md`` is the card whose header names the file as the split ``train``. Writing and reading it
needs no package of theirs.

After https://huggingface.co/docs/datasets/repository_structure, as of November 2026.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.export.source import Request, Source
from semid.export.tabular import codes_in, read_columns, write_columns
from semid.id_columns import CODES, CODES_TYPE, SID, code_column
from semid.id_table import IdTable

DATA = "data"
_FILE = "train-00000-of-00001.parquet"
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
tags:
- semantic-ids
---

# Semantic IDs

{rows:,} items with semantic IDs of {sid_length} codes. `codes` are the {levels} raw codes of the
quantizer, `sid` the ID under the table's collision policy{suffix}.
"""


def write(source: Source, path: Path) -> None:
    """Write the folder `path`; raises `SemidError` as `Source.parts`."""

    def values(part: IdTable, _: int) -> list[pa.Array]:
        return [part.item_ids, code_column(part.codes), code_column(part.sids)]

    (path / DATA).mkdir(parents=True)
    columns = {source.item_id: source.id_type, CODES: CODES_TYPE, SID: CODES_TYPE}
    write_columns(source, path / DATA / _FILE, columns, values)
    suffix = ", which ends in a number that tells items of one code apart"
    card = _CARD.format(
        rows=source.rows,
        levels=source.levels,
        sid_length=source.sid_length,
        suffix=suffix if source.has_suffix else "",
    )
    (path / "README.md").write_text(card, encoding="utf-8")


def read(path: Path, request: Request) -> IdTable:
    """Read the folder, or a Parquet file of these columns; the first that is neither is the item's.

    Raises
    ------
    SemidError
        When the columns are others or hold anything but codes.
    """
    rows, note = read_columns(path / DATA if (path / DATA).is_dir() else path)
    names = [name for name in rows.schema.names if name not in (CODES, SID)]
    if not names or CODES not in rows.schema.names or SID not in rows.schema.names:
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(rows.schema.names)}; expected an "
            f"item id, {CODES} and {SID}"
        )
    return IdTable.from_arrays(
        rows.column(names[0]),
        codes_in(rows, CODES),
        codes_in(rows, SID),
        metadata=note.metadata,
        item_id=names[0],
    )
