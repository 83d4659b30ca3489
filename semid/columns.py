"""The two columns that semid reads from any table, item ids and embeddings, with their checks.

Each check raises a `SemidError` that names the file and the row. Everything streams; nothing here
holds a catalog in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_numpy
from semid.errors import SemidError, display_path
from semid.tables import ParquetTable

EMBEDDING = "embedding"


def id_type(table: ParquetTable, item_id: str) -> pa.DataType:
    """Return the type that item ids have in semid's tables: string or int64.

    Raises `SemidError` when the column is missing or holds another type.
    """
    if item_id not in table.schema.names:
        raise SemidError(
            f"{display_path(table.name)} has no column '{item_id}'; its columns are "
            f"{', '.join(table.schema.names)}; name the one with the ids by --item-id"
        )
    table.require([item_id])
    found = table.schema.field(item_id).type
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return pa.string()
    if pa.types.is_integer(found) and found != pa.uint64():
        return pa.int64()
    raise SemidError(
        f"{display_path(table.name)}: column '{item_id}' is {found}, but item ids must be "
        "string or int64; cast the column or name another with --item-id"
    )


def embedding_width(table: ParquetTable, column: str = EMBEDDING) -> int:
    """Return d of an embeddings table from its schema, or from its first row for plain lists.

    Raises `SemidError` when the column is missing, not lists of floats, or null or empty there.
    """
    table.require([column])
    kind = table.schema.field(column).type
    if not is_embedding(kind):
        raise SemidError(
            f"{display_path(table.name)}: column '{column}' is {kind}, but embeddings must be "
            "lists of float32 or float16; semid embed makes them from items"
        )
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    first = next(iter(table.batches([column], rows=1))).column(0)
    if first.null_count or not len(first[0]):
        raise SemidError(
            f"{table.locate(0)}: column '{column}' is {'null' if first.null_count else 'empty'}; "
            "drop the row or embed it again"
        )
    return len(first[0])


def embedding_schema(ids: pa.DataType, item_id: str, width: int, dtype: str) -> pa.Schema:
    """Return the schema of an embeddings table: ids and fixed-size lists, neither null."""
    return embeddings_schema(ids, item_id, {EMBEDDING: width}, dtype)


def embeddings_schema(
    ids: pa.DataType, item_id: str, widths: Mapping[str, int], dtype: str
) -> pa.Schema:
    """Return the schema of a table with several embedding columns, each with its width."""
    value = pa.field("element", pa.from_numpy_dtype(np.dtype(dtype)), nullable=False)
    lists = [pa.field(name, pa.list_(value, d), nullable=False) for name, d in widths.items()]
    return pa.schema([pa.field(item_id, ids, nullable=False), *lists])


def is_embedding(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds embeddings: lists of floats."""
    return _is_list(kind) and bool(pa.types.is_floating(kind.value_type))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def embedding_matrix(
    column: pa.Array,
    width: int,
    *,
    where: ParquetTable | None = None,
    first_row: int = 0,
    finite: bool = True,
) -> npt.NDArray[np.float32]:
    """Turn a column of lists into a checked matrix, shape ``(n, width)``, float32.

    Zero-copy for non-null fixed-size lists of float32; the result may be read-only.

    Parameters
    ----------
    column : fixed-size, plain or large lists of float16, float32 or float64, shape ``(n,)``
    width : d
    where, first_row : the table and the row number of ``column[0]``, for messages
    finite : whether to look at the values; a caller that leaves it out calls `check_rows`

    Raises
    ------
    SemidError
        When the column holds anything but lists of numbers, a row is null or has another width, or
        (if `finite`) is not finite or all zeros.
    """

    def at(row: int) -> str:
        row += first_row
        return where.locate(row) if where is not None else f"row {row}"

    if not _is_list(column.type) or not _is_number(column.type.value_type):
        raise SemidError(
            f"{display_path(where.name) if where is not None else 'x'} is {column.type}, but "
            "embeddings must be lists of float32 or float16"
        )
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise SemidError(f"{at(row)}: the embedding is null; drop the row or embed it again")
    if not pa.types.is_fixed_size_list(column.type):
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != width)
    else:
        wrong = np.arange(len(column))[: len(column) if column.type.list_size != width else 0]
    if wrong.size:
        row = int(wrong[0])
        raise SemidError(
            f"{at(row)}: the embedding has {len(column[row])} values where {width} are expected; "
            "embed all items with one encoder"
        )
    values = column.flatten()
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // width
        raise SemidError(f"{at(row)}: the embedding holds a null value; embed the row again")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found
        x_nd = np.asarray(to_numpy(values), np.float32).reshape(-1, width)
    if finite:
        check_rows(x_nd, at)
    return x_nd


def check_rows(x_nd: npt.NDArray[np.float32], at: Any = "row {}".format) -> None:
    """Raise `SemidError` for the first row with NaN or infinity, or of zeros only.

    `at` turns a row number into the words that name it.
    """
    square_n = np.einsum("nd,nd->n", x_nd, x_nd)
    suspect = np.flatnonzero(~np.isfinite(square_n) | (square_n == 0))
    for row in suspect:
        finite = np.isfinite(x_nd[row])
        if not finite.all():
            place = int(np.flatnonzero(~finite)[0])
            raise SemidError(
                f"{at(int(row))}: the embedding holds {x_nd[row, place]} at position {place}; "
                "drop the row or embed it again"
            )
        if not x_nd[row].any():
            raise SemidError(
                f"{at(int(row))}: the embedding is all zeros, which has no direction to encode; "
                "drop the row or embed it again"
            )


def as_matrix(x: Any, *, empty: bool = False) -> npt.NDArray[np.float32]:
    """Turn NumPy, torch or Arrow input into a checked float32 matrix, shape ``(n, d)``.

    Raises
    ------
    SemidError
        When `x` is not two-dimensional, has no rows (unless `empty`), or a row is NaN, infinite or
        all zeros.
    """
    if isinstance(x, pa.ChunkedArray):
        x = x.combine_chunks()
    if isinstance(x, pa.Array) and _is_list(x.type):
        return _list_matrix(x, empty)
    if isinstance(x, pa.Table | pa.RecordBatch):
        raise SemidError("x is a table; give its column of embeddings, as in x['embedding']")
    if hasattr(x, "detach"):
        x = x.detach().cpu().float().numpy()  # NumPy has no bfloat16
    try:
        x_nd = np.asarray(x)
        if x_nd.dtype == object and x_nd.ndim == 1 and len(x_nd):  # a column of vectors
            x_nd = np.stack(list(x_nd))
        if np.iscomplexobj(x_nd):
            raise TypeError("it holds complex numbers")
        x_nd = x_nd.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise SemidError(f"x cannot be read as a matrix of floats: {error}") from error
    if x_nd.ndim != 2 or 0 in x_nd.shape[empty:]:
        raise SemidError(f"x has shape {x_nd.shape}; expected (n, d) with n and d at least 1")
    check_rows(x_nd)
    return x_nd


def _list_matrix(x: pa.Array, empty: bool) -> npt.NDArray[np.float32]:
    if empty and len(x) == 0 and pa.types.is_fixed_size_list(x.type):
        return np.empty((0, x.type.list_size), np.float32)
    if len(x) == 0 or (x[0].is_valid and not len(x[0])):
        raise SemidError(f"x has no {'values in row 0' if len(x) else 'rows'}")
    return embedding_matrix(x, len(x[0]) if x[0].is_valid else 0)
