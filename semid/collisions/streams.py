"""Rows on their way into the database: row number, item id and codes packed into keys.

Every stream checks what it reads and names the row of what is wrong. Shapes: n rows, l levels,
s levels of a SID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.collisions.crowds import HELD, entries
from semid.errors import SemidError, first_few
from semid.id_columns import CODES, SID, code_matrix, id_column
from semid.ids import MAX_CODES, pack_keys, validate_codes

Codes = npt.NDArray[np.int32]
RowBatches = Iterator[pa.RecordBatch]


def row_after(start: int) -> Callable[[int], str]:
    """Return what names the rows of a batch that begins at row `start`."""
    return lambda row: f"row {start + row}"


def coded(
    batches: RowBatches, column: str, levels: Sequence[int] | None
) -> Iterator[tuple[pa.RecordBatch, Codes, int]]:
    """Yield every batch that is not empty, with its checked codes and the row it begins at."""
    row, width = 0, None
    for batch in filter(len, batches):
        require_columns(batch.schema, [column])
        at = row_after(row)
        codes_nl = code_matrix(batch.column(column), column, width=width, at=at)
        width = codes_nl.shape[1]
        validate_codes(codes_nl, sizes(width, levels), at=at)
        yield batch, codes_nl, row
        row += len(codes_nl)


def sizes(width: int, levels: Sequence[int] | None) -> list[int]:
    """Return K of every level; the largest there is where it is not known."""
    return [MAX_CODES] * width if levels is None else list(levels)


def require_columns(schema: pa.Schema, names: Sequence[str]) -> None:
    """Raise `SemidError` naming the columns that are missing."""
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise SemidError(
            f"the rows have no column {first_few([repr(name) for name in missing])}; "
            f"their columns are {', '.join(schema.names)}"
        )


def keyed(
    batches: RowBatches, item_id: str, levels: Sequence[int] | None, *, split: bool = False
) -> RowBatches:
    """Turn rows with codes into row numbers, item ids and packed raw SIDs.

    `split` keeps the last level beside the packed prefix, for `semid.collisions.crowds`.
    """
    for batch, codes_nl, row in coded(batches, CODES, levels):
        require_columns(batch.schema, [item_id])
        ids = id_column(batch.column(item_id), item_id, at=row_after(row))
        rows = np.arange(row, row + len(codes_nl))
        known = sizes(codes_nl.shape[1], levels)
        columns = {"item_id": ids, **_columns(codes_nl, rows, known, split=split)}
        yield pa.record_batch(list(columns.values()), names=list(columns))


def _columns(
    codes_nl: Codes, rows: npt.NDArray[np.int64], levels: Sequence[int], *, split: bool
) -> dict[str, pa.Array]:
    if split:
        return entries(codes_nl, rows, levels)
    return {"row": to_arrow(rows), **_keys(codes_nl, levels)}


def _keys(codes_nl: Codes, levels: Sequence[int]) -> dict[str, pa.Array]:
    keys_nm = pack_keys(codes_nl, levels)
    return {f"key_{m}": to_arrow(np.ascontiguousarray(key_n)) for m, key_n in enumerate(keys_nm.T)}


def held_suffixes(batches: RowBatches, levels: Sequence[int] | None) -> RowBatches:
    """Turn rows with SIDs that are held into packed raw SIDs and suffixes."""
    for _, sid_ns, _ in coded(batches, SID, None):
        raw_nl = sid_ns[:, :-1]
        columns = _keys(raw_nl, sizes(raw_nl.shape[1], levels))
        columns["suffix"] = to_arrow(np.ascontiguousarray(sid_ns[:, -1]))
        yield pa.record_batch(list(columns.values()), names=list(columns))


def held_entries(batches: RowBatches, levels: Sequence[int]) -> RowBatches:
    """Turn rows with SIDs that are held into entries that no item may take."""
    for _, sid_ns, _ in coded(batches, SID, None):
        first_ns = sid_ns[sid_ns[:, -1] == 0] if sid_ns.shape[1] > len(levels) else sid_ns
        raw_nl = first_ns[:, : len(levels)]
        columns = entries(raw_nl, np.full(len(raw_nl), HELD), levels)
        yield pa.record_batch(list(columns.values()), names=list(columns))


def raw_keys(batches: RowBatches, levels: Sequence[int] | None) -> RowBatches:
    """Turn rows with codes into packed raw SIDs."""
    for _, codes_nl, _ in coded(batches, CODES, levels):
        columns = _keys(codes_nl, sizes(codes_nl.shape[1], levels))
        yield pa.record_batch(list(columns.values()), names=list(columns))
