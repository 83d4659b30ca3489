"""TorchEasyRec: a folder of three Parquet files.

``codes.parquet``: ``item_id, codes`` (list<int64>, raw), as its predictions;
``item_to_sid.parquet``: ``item_id, origin_codebook, codebook, index``, the map that its
``resolve_sid_collisions`` writes: raw codes, the codes of the SID, and the place of the item among
those of one SID; ``sid_to_items.parquet``: ``codebook, itemids``, the items of every SID by their
place. A suffix of semid's is that place. Of other programs, `codes` alone are raw codes; in a map
with places above 0, these count as a suffix.

Read from alibaba/TorchEasyRec 0e639fb ``tzrec/tools/sid/resolve_sid_collisions.py`` and 08c2f21
``docs/source/models/sid_rqkmeans.md``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.errors import SemidError, display_path
from semid.export.source import Note, Request, Source, table_of_sids
from semid.export.tabular import LONGS, codes_in, long_lists, read_columns, write_columns
from semid.id_columns import CODES, SID, code_matrix
from semid.id_metadata import METADATA_KEY
from semid.id_table import IdTable
from semid.streams import ROW_GROUP_ROWS, open_writer

PASSES = 2
PREDICTED, TO_SID, TO_ITEMS = "codes.parquet", "item_to_sid.parquet", "sid_to_items.parquet"
ITEM, ORIGIN, FINAL, PLACE, ITEMS = "item_id", "origin_codebook", "codebook", "index", "itemids"

_MEMORY_BYTES = 1 << 30
_BATCH_ROWS = 65_536


def write(source: Source, path: Path) -> None:
    """Write the folder `path`; items are gathered by SID out of core.

    Raises
    ------
    SemidError
        As `Source.parts`, or when the disk runs out.
    """
    path.mkdir(parents=True)
    kinds = {ITEM: source.id_type, CODES: LONGS}
    write_columns(
        source, path / PREDICTED, kinds, lambda part, _: [part.item_ids, long_lists(part.codes)]
    )

    def values(part: IdTable, _: int) -> list[pa.Array]:
        place_n = part.sids[:, source.levels :].astype(np.int64).sum(axis=1)
        final_nl = part.sids[:, : source.levels]
        return [part.item_ids, long_lists(part.codes), long_lists(final_nl), to_arrow(place_n)]

    kinds = {ITEM: source.id_type, ORIGIN: LONGS, FINAL: LONGS, PLACE: pa.int64()}
    write_columns(source, path / TO_SID, kinds, values)
    by_sid = ", ".join(f"{FINAL}[{level + 1}]" for level in range(source.levels))
    if not source.has_suffix:
        # No suffix tells the items of one SID apart: their places are in the order of their rows.
        query = (
            f"SELECT {ITEM}, {ORIGIN}, {FINAL}, row_number() OVER "
            f'(PARTITION BY {by_sid} ORDER BY file_row_number) - 1 AS "{PLACE}" '
            "FROM source ORDER BY file_row_number"
        )
        _derive(query, source, path, kinds, "numbered.parquet")
        (path / "numbered.parquet").replace(path / TO_SID)
    query = f'SELECT {FINAL}, {ITEM} FROM source ORDER BY {by_sid}, "{PLACE}"'
    _derive(query, source, path, {FINAL: LONGS, ITEMS: pa.list_(source.id_type)}, TO_ITEMS)


def _derive(
    query: str, source: Source, path: Path, kinds: dict[str, pa.DataType], output: str
) -> None:
    """Write what a query makes of the map; one of SIDs and items has them gathered by SID."""
    from semid.database import out_of_core

    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])
    aside = path / "sorting"
    aside.mkdir()
    relief = "export to another format"
    with out_of_core(
        "gathering items by SID", aside, memory_bytes=_MEMORY_BYTES, relief=relief
    ) as database:
        rows = database.read_parquet(str(path / TO_SID), file_row_number=True)
        database.register("source", rows)
        batches = (b for b in database.sql(query).to_arrow_reader(_BATCH_ROWS) if b.num_rows)
        with open_writer(path / output, schema, {METADATA_KEY.decode(): source.note}) as writer:
            for batch in _gathered(batches) if ITEMS in kinds else batches:
                writer.write_batch(batch.cast(schema), ROW_GROUP_ROWS)
    shutil.rmtree(aside)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Turn rows of a SID and an item, sorted, into rows of a SID and its items."""
    waiting: list[pa.RecordBatch] = []  # of the last SID, which may go on
    for batch in batches:
        rows = pa.Table.from_batches([*waiting, batch]).combine_chunks().to_batches()[0]
        codes_nl = code_matrix(rows.column(FINAL), FINAL)
        start_m = np.flatnonzero((codes_nl[1:] != codes_nl[:-1]).any(axis=1)) + 1
        if len(start_m):
            yield _lists(rows, np.append(0, start_m))
        waiting = [rows.slice(start_m[-1] if len(start_m) else 0)]
    if waiting:
        yield _lists(waiting[0], np.array([0, len(waiting[0])]))


def _lists(rows: pa.RecordBatch, start_m: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Gather the items between starts; what begins at the last is left out."""
    sids = rows.column(FINAL).take(to_arrow(start_m[:-1]))
    items = rows.column(ITEM).slice(0, start_m[-1])
    lists = pa.ListArray.from_arrays(to_arrow(start_m.astype(np.int32)), items)
    return pa.record_batch([sids, lists], names=[FINAL, ITEMS])


def read(path: Path, request: Request) -> IdTable:
    """Read the map in a folder, or a file of predictions or of a map.

    Raises
    ------
    SemidError
        When the columns are others or hold anything but codes.
    """
    rows, note = read_columns(path / TO_SID if (path / TO_SID).is_file() else path)
    names = rows.schema.names
    if set(names) >= {ITEM, ORIGIN, FINAL, PLACE}:
        return _table_of_map(rows, note)
    if not set(names) >= {ITEM, CODES} or SID in names:
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(names)}; expected {ITEM} and "
            f"{CODES}, or {ITEM}, {ORIGIN}, {FINAL} and {PLACE}"
        )
    note = note._replace(levels=None)  # the file has the codes alone, whatever the table had
    return table_of_sids(rows.column(ITEM), codes_in(rows, CODES), request, note)


def _table_of_map(rows: pa.Table, note: Note) -> IdTable:
    codes_nl, sids_ns = codes_in(rows, ORIGIN), codes_in(rows, FINAL)
    place_n = np.asarray(rows.column(PLACE))
    has_suffix = place_n.any() if note.sid_length is None else note.sid_length > codes_nl.shape[1]
    if has_suffix:
        sids_ns = np.concatenate([sids_ns, place_n[:, None]], axis=1)
    return IdTable.from_arrays(
        rows.column(ITEM), codes_nl, sids_ns, metadata=note.metadata, item_id=note.item_id
    )
