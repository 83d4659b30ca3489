"""IDs of versions that a rollback took out of sight: they were live, so nobody else gets them.

What was logged while such a version was current names its items by these IDs.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa

from semid.store import is_store, versions
from semid.tables import ParquetTable, open_table
from semid.tombstones import ROLLED_BACK, Batches, buried, having

_ROWS = 1 << 16


def rolled_back(version: Path, item_id: str, now: datetime) -> list[Batches]:
    """Return what streams the rows of later versions whose items a version does not have.

    As retired rows, of which none comes back: their IDs may be what the rollback was for. Nothing
    when the version is the newest of its store, or of none.
    """
    if not is_store(version.parent):
        return []
    there = versions(version.parent)
    later = there[there.index(version.name) + 1 :] if version.name in there else []
    if not later:
        return []
    known, sources = _ids(open_table(version), item_id), []
    for name in reversed(later):
        table = open_table(version.parent / name)
        gone = having(_rows(table), known, item_id, inside=False)
        sources.append(_buried(gone, now))
        known = pa.concat_arrays([known, *(batch.column(item_id) for batch in gone())])
    return sources


def _buried(rows: Batches, now: datetime) -> Batches:
    return lambda: (buried(batch, now=now, reason=ROLLED_BACK) for batch in rows())


def _rows(table: ParquetTable) -> Batches:
    return lambda: table.batches(table.schema.names, rows=_ROWS)


def _ids(table: ParquetTable, item_id: str) -> pa.Array:
    return pa.concat_arrays([batch.column(0) for batch in table.batches([item_id], rows=_ROWS)])
