"""IDs of versions that a rollback took out of sight: they were live, so nobody else gets them.

What was logged while such a version was current names its items by these IDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from semid.arrays import to_arrow
from semid.id_columns import SID, code_matrix
from semid.sid_sets import Sids, SidSet
from semid.store import is_store, versions
from semid.streams import Batches
from semid.tables import ParquetTable, open_table
from semid.tombstones import REASON, RETIRED_AT, ROLLED_BACK, buried, open_retired

_ROWS = 1 << 16


def rolled_back(version: Path, now: datetime) -> list[Batches]:
    """Return what streams the rows of later versions whose SIDs a version does not have.

    Live or retired, in either: of an item that the version lacks, or that a later one moved. As
    retired rows, of which none comes back: their IDs may be what the rollback was for. Nothing when
    the version is the newest of its store, or of none.
    """
    if not is_store(version.parent):
        return []
    there = versions(version.parent)
    later = there[there.index(version.name) + 1 :] if version.name in there else []
    if not later:
        return []
    known, found = _tables(version), list[Batches]()
    width = _width(known[0])
    held = [SidSet(sids for table in known for sids in _sids(table))]
    for name in reversed(later):
        for table in _tables(version.parent / name):
            # Those of another length are no IDs that a version like this could give away.
            if _width(table) == width:
                source = _unknown(table, list(held), now)
                held.append(SidSet(code_matrix(batch[SID], SID) for batch in source()))
                found.append(source)
    return found


def _tables(version: Path) -> list[ParquetTable]:
    retired = open_retired(version)
    return [open_table(version), *([] if retired is None else [retired])]


def _width(table: ParquetTable) -> int:
    """Return how long the SIDs of a table are; 0 of one without rows."""
    return next((sids_ns.shape[1] for sids_ns in _sids(table)), 0)


def _sids(table: ParquetTable) -> Iterator[Sids]:
    for batch in table.batches([SID], rows=_ROWS):
        yield code_matrix(batch.column(0), SID)


def _unknown(table: ParquetTable, held: Sequence[SidSet], now: datetime) -> Batches:
    names = [name for name in table.schema.names if name not in (RETIRED_AT, REASON)]

    def stream() -> Iterator[pa.RecordBatch]:
        for batch in table.batches(names, rows=_ROWS):
            sids_ns = code_matrix(batch.column(SID), SID)
            new_n = np.all([known.places(sids_ns) < 0 for known in held], axis=0)
            if new_n.any():
                rows = batch.take(to_arrow(np.flatnonzero(new_n)))
                yield buried(rows, now=now, reason=ROLLED_BACK)

    return stream
