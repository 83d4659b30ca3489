"""The embedding columns of a table as one matrix, side by side: one column, or several fused ones.

Shapes: n rows, d dims of all columns together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.columns import as_matrix, embedding_matrix, embedding_width
from semid.errors import SemidError
from semid.tables import ParquetTable

Matrix = npt.NDArray[np.float32]
# The embedding columns in their order, each with its width.
Widths = Mapping[str, int]


def embedding_widths(table: ParquetTable, columns: Sequence[str]) -> dict[str, int]:
    """Return the width of each column; raises as `semid.columns.embedding_width`."""
    return {name: embedding_width(table, name) for name in columns}


def spans(widths: Widths) -> dict[str, slice]:
    """Return where the dims of each column stand in a row."""
    ends = pairwise(accumulate(widths.values(), initial=0))
    return {name: slice(*end) for name, end in zip(widths, ends, strict=True)}


def side_by_side(
    rows: pa.RecordBatch | Mapping[str, pa.Array],
    widths: Widths,
    *,
    where: ParquetTable | None = None,
    first_row: int = 0,
    finite: bool = True,
) -> Matrix:
    """Turn columns of lists into one checked matrix ``(n, d)``; zero-copy where one column is.

    Parameters
    ----------
    rows : the columns by name, each ``(n,)``; others may stand beside them
    widths : which columns, in their order, with the width of each
    where, first_row, finite : as of `semid.columns.embedding_matrix`

    Raises
    ------
    SemidError
        As `semid.columns.embedding_matrix`; with several columns it names the one.
    """
    found = []
    for name, width in widths.items():
        with _naming(name if len(widths) > 1 else None):
            found.append(
                embedding_matrix(rows[name], width, where=where, first_row=first_row, finite=finite)
            )
    return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def take_rows(table: ParquetTable, widths: Widths, row_m: npt.NDArray[np.int64]) -> Matrix:
    """Read the rows `row_m`, which ascend, of a table ``(m, d)``, streaming past the others."""
    return np.concatenate(list(stream_rows(table, widths, row_m)))


def stream_rows(
    table: ParquetTable, widths: Widths, row_m: npt.NDArray[np.int64]
) -> Iterator[Matrix]:
    """Yield the rows `row_m`, which ascend, of a table, some at a time."""
    if not len(row_m):
        return
    start = int(row_m[0])
    for batch in table.batches(list(widths), start=start, stop=int(row_m[-1]) + 1):
        stop = start + batch.num_rows
        chosen = row_m[slice(*np.searchsorted(row_m, (start, stop)))] - start
        if len(chosen):
            yield side_by_side(batch.take(to_arrow(chosen)), widths)
        start = stop


def read_rows(
    x: Any, widths: Widths | None = None, *, empty: bool = False
) -> tuple[Matrix, dict[str, int]]:
    """Turn embeddings in memory into a checked matrix ``(n, d)`` and the widths of its columns.

    Parameters
    ----------
    x : one embedding per item, ``(n, d)``, or a mapping of column names to several
    widths : those that are expected, if any; one matrix may then hold all columns side by side
    empty : whether no rows will do

    Raises
    ------
    SemidError
        For bad rows, columns of different lengths, or other columns than expected.
    """
    if not isinstance(x, Mapping):
        x_nd = as_matrix(x, empty=empty)
        return x_nd, {"embedding": x_nd.shape[1]} if widths is None else dict(widths)
    if not x or (widths is not None and set(x) != set(widths)):
        raise SemidError(
            f"x holds the columns {', '.join(map(repr, x)) or '(none)'}, but "
            f"{', '.join(map(repr, widths or ())) or 'at least one'} is expected"
        )
    found = {}
    for name in x if widths is None else widths:
        with _naming(name):
            found[name] = as_matrix(x[name], empty=empty)
    return _joined(found, widths)


@contextmanager
def _naming(column: str | None) -> Iterator[None]:
    """Put the column, if one is given, in front of what is said of it."""
    try:
        yield
    except SemidError as error:
        if column is None:
            raise
        raise SemidError(f"column '{column}': {error}") from error


def _joined(found: dict[str, Matrix], widths: Widths | None) -> tuple[Matrix, dict[str, int]]:
    there = {name: part_nd.shape[1] for name, part_nd in found.items()}
    if widths is not None and there != dict(widths):
        raise SemidError(
            f"the columns have {list(there.values())} dimensions but the model was trained on "
            f"{list(widths.values())}; use the encoders that the model was trained with"
        )
    rows = {name: len(part_nd) for name, part_nd in found.items()}
    if len(set(rows.values())) > 1:
        raise SemidError(f"the columns of x have different numbers of rows: {rows}")
    return np.concatenate(list(found.values()), axis=1), there
