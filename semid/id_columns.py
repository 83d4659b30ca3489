"""The columns of an ids table: their names and types, and Arrow to arrays and back with checks.

Shared by all that reads or writes IDs. Each check raises a `SemidError` that names the row; nothing
here opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.errors import SemidError
from semid.ids import validate_codes

CODES, SID, DISTANCE, MARGIN = "codes", "sid", "distance", "margin"
CODES_TYPE = pa.list_(pa.field("element", pa.int32(), nullable=False))

MAX_STRING_BYTES = (1 << 31) - 1


def ids_schema(id_type: pa.DataType, item_id: str = "item_id") -> pa.Schema:
    """Return the schema of an ids table whose item ids have the type `id_type`; nothing is null."""
    return pa.schema(
        [
            pa.field(item_id, id_type, nullable=False),
            pa.field(CODES, CODES_TYPE, nullable=False),
            pa.field(SID, CODES_TYPE, nullable=False),
            pa.field(DISTANCE, pa.float32(), nullable=False),
            pa.field(MARGIN, pa.float32(), nullable=False),
        ]
    )


def id_column(
    values: Any, name: str = "item_id", *, at: Callable[[int], str] = "row {}".format
) -> pa.Array:
    """Turn item ids into an Arrow array of strings or int64, shape ``(n,)``.

    Parameters
    ----------
    values : an Arrow column, NumPy array or sequence of strings or integers, or of pandas
    name : the column's name, for messages
    at : turns a row of `values` into the words that name it

    Raises
    ------
    SemidError
        When an id is null, the ids are of another type, or there is one where a column should be.
    """
    if isinstance(values, str | bytes | int | np.integer):
        raise SemidError(f"'{name}' is {values!r}, one item id; pass a list of them")
    try:
        ids = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if isinstance(ids, np.ndarray) and ids.dtype.kind == "U":
            ids = ids.tolist()  # Arrow cuts NumPy's strings at a NUL
        ids = ids if isinstance(ids, pa.Array) else pa.array(ids)
        ids = ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids
    except (pa.ArrowInvalid, TypeError, KeyError, OverflowError, UnicodeError) as error:
        raise SemidError(f"'{name}' cannot be read as strings or integers: {error}") from error
    if pa.types.is_nested(ids.type):
        raise SemidError(
            f"'{name}' is {ids.type}; give item ids one after the other, or to a look-up as a "
            "NumPy array (b, t), padded with an id that no item has"
        )
    if ids.null_count:
        row = _first(ids.is_null())
        raise SemidError(f"{at(row)}: '{name}' is null; every item needs an id, drop the row")
    if pa.types.is_integer(ids.type) and ids.type != pa.uint64():
        return ids.cast(pa.int64())
    if pa.types.is_large_string(ids.type) and ids.nbytes <= MAX_STRING_BYTES:
        return ids.cast(pa.string())
    if pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
        return ids
    raise SemidError(
        f"'{name}' is {ids.type}, but item ids must be string or int64; convert the column"
    )


def code_column(codes_nl: npt.NDArray[np.int32]) -> pa.ListArray:
    """Turn codes, shape ``(n, l)``, into a column of lists of the ids table."""
    n, width = codes_nl.shape
    offsets = to_arrow(np.arange(0, n * width + 1, width, dtype=np.int32))
    values = to_arrow(np.ascontiguousarray(codes_nl, dtype=np.int32).reshape(-1))
    return pa.ListArray.from_arrays(offsets, values, type=CODES_TYPE)


def code_matrix(
    column: pa.Array,
    name: str,
    *,
    width: int | None = None,
    at: Callable[[int], str] = "row {}".format,
) -> npt.NDArray[np.int32]:
    """Turn a column of lists of codes into a checked matrix, shape ``(n, width)``, int32.

    Parameters
    ----------
    column : lists of integers, shape ``(n,)``
    name : the column's name, for messages
    width : the expected length; the first row's when not given
    at : turns a row of `column` into the words that name it

    Raises
    ------
    SemidError
        When the column holds anything but lists of integers, a row is null, empty or has another
        length, or a code is null, negative or beyond int32.
    """
    if not is_code_list(column.type):
        raise SemidError(
            f"{at(0)}: column '{name}' is {column.type}, but codes must be lists of int32; "
            "semid assign writes them"
        )
    if column.null_count:
        raise SemidError(f"{at(_first(column.is_null()))}: column '{name}' is null; drop the row")
    if len(column) == 0:
        return np.empty((0, width or 0), dtype=np.int32)
    length_n = to_numpy(pc.list_value_length(column))
    width = int(length_n[0]) if width is None else width
    wrong = np.flatnonzero((length_n != width) | (length_n == 0))
    if wrong.size:
        row = int(wrong[0])
        raise SemidError(
            f"{at(row)}: column '{name}' has {length_n[row]} codes where row 0 has {width}; "
            "every row needs the same number, at least 1"
        )
    values = column.flatten()
    if values.null_count:
        row = _first(values.is_null()) // width
        raise SemidError(f"{at(row)}: column '{name}' holds a null code; assign the item again")
    codes_nl: npt.NDArray[Any] = to_numpy(values).reshape(-1, width)
    validate_codes(codes_nl, at=lambda row: f"{at(row)}: column '{name}'")
    return codes_nl.astype(np.int32, copy=False)


def as_codes(values: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Turn integers ``(n, l)`` into checked codes; raises `SemidError` for anything else."""
    codes_nl = np.asarray(values)
    validate_codes(codes_nl)
    return codes_nl.astype(np.int32, copy=False)


def refuse_sid_width(
    codes_nl: Any, sids_ns: Any, at: Callable[[int], str] = "row {}".format
) -> None:
    """Raise `SemidError` unless SIDs ``(n, s)`` are as long as their codes, or one longer."""
    extra = sids_ns.shape[1] - codes_nl.shape[1]
    if extra not in (0, 1):
        raise SemidError(
            f"{at(0)}: the sid has {sids_ns.shape[1]} levels and the codes {codes_nl.shape[1]}; "
            "a sid is as long as its codes or one longer"
        )


def refuse_duplicates(ids: pa.Array) -> None:
    """Raise `SemidError` when an item id occurs twice, naming the rows."""
    if len(pc.unique(ids)) == len(ids):
        return
    counts = pc.value_counts(ids)
    value = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
    rows = np.flatnonzero(pc.equal(ids, value).to_numpy(zero_copy_only=False))
    raise SemidError(
        f"the item id {value.as_py()!r} occurs {len(rows)} times (rows {rows[0]} and {rows[1]}); "
        "ids must be unique, remove the duplicates"
    )


def concat_ids(parts: Sequence[pa.Array]) -> pa.Array:
    """Join arrays of item ids, of more than 2 GiB of text too."""
    if pa.types.is_string(parts[0].type) and sum(a.nbytes for a in parts) > MAX_STRING_BYTES:
        parts = [a.cast(pa.large_string()) for a in parts]
    return pa.concat_arrays(parts)


def is_code_list(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds codes: lists of integers."""
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in is_list) and pa.types.is_integer(kind.value_type)


def _first(true_n: pa.BooleanArray) -> int:
    return int(np.flatnonzero(true_n.to_numpy(zero_copy_only=False))[0])
