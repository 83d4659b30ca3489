"""A few rows of a large table, by their numbers or by their item ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from semid.arrays import to_arrow, to_numpy
from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.tables import ParquetTable, damage_explained

_SCAN_ROWS = 65_536


def rows_at(table: ParquetTable, row_m: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    """Read the rows `row_m`, in that order; only the row groups that hold them are read.

    Raises
    ------
    SemidError
        When a file cannot be read.
    """
    schema = pa.schema([table.schema.field(name) for name in columns])
    wanted_w, place_m = np.unique(row_m, return_inverse=True)
    parts = [part.cast(schema) for part in _ascending(table, wanted_w, list(columns))]
    if not parts:
        return schema.empty_table()
    return pa.concat_tables(parts).take(to_arrow(place_m.reshape(-1)))


def _ascending(
    table: ParquetTable, wanted_w: npt.NDArray[np.int64], columns: list[str]
) -> Iterator[pa.Table]:
    first = 0
    for file, groups in zip(table.files, table.row_groups, strict=True):
        ends = list(accumulate(groups, initial=first))
        here_w = wanted_w[slice(*np.searchsorted(wanted_w, (first, ends[-1])))]
        if len(here_w):
            group_w = np.searchsorted(ends, here_w, "right") - 1
            with (
                damage_explained(file),
                pq.ParquetFile(file, filesystem=table.filesystem) as parquet,
            ):
                for group in np.unique(group_w).tolist():
                    rows = parquet.read_row_group(group, columns=columns).select(columns)
                    yield rows.take(to_arrow(here_w[group_w == group] - ends[group]))
        first = ends[-1]


def values_of(
    table: ParquetTable, ids: pa.Array, column: str, *, item_id: str = "item_id"
) -> dict[str | int, object]:
    """Return what items have in a column, for those of `ids` that the table has.

    The ids stream past until all are found; of the column only the row groups of those are read.

    Raises
    ------
    SemidError
        When a column is missing, or the ids are of another type than the table's.
    """
    kind = id_type(table, item_id)
    table.require([column])
    if pa.types.is_integer(kind) != pa.types.is_integer(ids.type):
        raise SemidError(
            f"column '{item_id}' is {kind} in {display_path(table.name)} but {ids.type} in the ids "
            "table; name the items that the IDs belong to"
        )
    ids = ids.cast(kind).unique()
    rows, start = [], 0
    for batch in table.batches([item_id], rows=_SCAN_ROWS):
        here = pc.is_in(batch.column(0).cast(kind), value_set=ids, skip_nulls=True)
        rows += (to_numpy(pc.indices_nonzero(here)).astype(np.int64) + start).tolist()
        start += batch.num_rows
        if len(rows) >= len(ids):
            break
    found = rows_at(table, np.array(rows, np.int64), [item_id, column])
    keys, values = found.column(item_id).to_pylist(), found.column(column).to_pylist()
    return dict(zip(keys, values, strict=True))
