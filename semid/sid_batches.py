"""Item ids and SIDs of an ids table, streamed and checked, without its other columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.columns import id_type
from semid.id_columns import SID, code_matrix, id_column
from semid.tables import ParquetTable

ROWS = 65_536


def sid_batches(
    table: ParquetTable,
    item_id: str = "item_id",
    *,
    start: int = 0,
    on_rows: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[pa.Array, npt.NDArray[np.int32]]]:
    """Stream item ids ``(b,)``, strings or int64, and SIDs ``(b, s)``, all of one length s.

    From the row `start` on. `on_rows` hears of every batch, once it is dealt with, how many rows it
    had.

    Raises
    ------
    SemidError
        When a column is missing or malformed; names the row. Ids that occur twice go unnoticed.
    """
    kind = id_type(table, item_id)
    table.require([SID])
    row, width = start, None
    for batch in table.batches([item_id, SID], rows=ROWS, start=start):
        at = table.locator(row)
        ids = id_column(batch.column(item_id), item_id, at=at)
        sids_ns = code_matrix(batch.column(SID), SID, width=width, at=at)
        width = sids_ns.shape[1]
        yield ids.cast(kind), sids_ns
        row += len(ids)
        on_rows(len(ids))


def sid_length(table: ParquetTable) -> int:
    """Return s of an ids table, from its first row.

    Raises
    ------
    SemidError
        When the column is missing or malformed there.
    """
    table.require([SID])
    first = next(iter(table.batches([SID], rows=1))).column(0)
    return int(code_matrix(first, SID, at=table.locate).shape[1])
