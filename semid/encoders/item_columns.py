"""Reading item columns whatever Arrow type they came in: strings, lists of strings, numbers, days.

Null, NaN, and empty or blank text all mean *missing*. Every function is row-local and vectorised;
the row numbers in messages count from 0 within the batch given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from semid.errors import RowError, SemidError, first_few

STRING = pa.large_string()


def check_columns(items: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> None:
    """Raise `SemidError` unless `items` has each of `columns` exactly once."""
    names = items.schema.names
    missing = [name for name in columns if name not in names]
    if missing:
        raise SemidError(
            f"the items have no column {first_few([*map(repr, missing)])}; "
            f"the columns there are: {first_few([*names], limit=30)}"
        )
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise SemidError(f"the items have the column {twice[0]!r} twice; rename one of them")


def read_column(items: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """Return column `name` as one plain array, its dictionary (if any) decoded.

    Raises
    ------
    SemidError
        The column is missing or there twice.
    """
    check_columns(items, [name])
    column = items.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def is_list(type_: pa.DataType) -> bool:
    """Tell whether `type_` is one of Arrow's list types."""
    return bool(pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_))


def as_strings(column: pa.Array, name: str) -> pa.Array:
    """Format `column` as large_string, trimmed, with null for what is missing.

    Dates and timestamps become YYYY-MM-DD; numbers are written plainly (``12.5``, and ``3`` for
    3.0). `name` is for the message.

    Raises
    ------
    SemidError
        The type has no plain text form (lists, structs, bytes that are not UTF-8).
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pt.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        if pt.is_date(column.type) or pt.is_timestamp(column.type):
            column = pc.strftime(column, "%Y-%m-%d")
        strings = pc.utf8_trim_whitespace(pc.cast(column, STRING))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SemidError(
            f"column {name!r} of type {column.type} cannot be read as text ({_first_line(error)}); "
            f"cast it to string, or leave it out"
        ) from error
    return pc.if_else(pc.equal(strings, pa.scalar("", STRING)), None, strings)


def as_string_lists(column: pa.Array, name: str) -> tuple[pa.Array, np.ndarray]:
    """Flatten a list column to ``(strings, rows)``, without what is missing.

    `rows` (int64) holds the row of each string, in order. A column without lists counts as
    lists of one.

    Raises
    ------
    SemidError
        As `as_strings`, for the elements.
    """
    if is_list(column.type):
        # Null lists go first: a fixed-size list keeps elements under its nulls.
        row_of_list = np.flatnonzero(_to_numpy(pc.is_valid(column)))
        column = column.drop_null()
        rows = row_of_list[_to_numpy(pc.list_parent_indices(column))]
        column = pc.list_flatten(column)
    else:
        rows = np.arange(len(column))
    strings = as_strings(column, name)
    there = pc.is_valid(strings)
    return strings.filter(there), rows[_to_numpy(there)]


def as_numbers(column: pa.Array, name: str) -> np.ndarray:
    """Read `column` as float64, shape ``(n,)``, with NaN for what is missing.

    Strings are parsed. `name` is for the message.

    Raises
    ------
    SemidError
        A value that is not a number, or infinite, or a type that holds no numbers.
    """
    if pt.is_temporal(column.type) or is_list(column.type) or pt.is_struct(column.type):
        raise SemidError(
            f"column {name!r} is of type {column.type}, which is not numeric; "
            f"name it under 'dates', 'lists' or 'category' instead"
        )
    values = _to_numpy(_parse(column, name, pa.float64(), "a number"))
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        after = f" ({column[row]}); make it null or a finite number"
        raise RowError(f"column {name!r} is infinite", row, after)
    return values


def as_days(column: pa.Array, name: str) -> np.ndarray:
    """Read `column` as whole days since 1970, float64, shape ``(n,)``, NaN for what is missing.

    Takes dates, timestamps (those with a zone in UTC) and ISO 8601 strings. `name` is for the
    message.

    Raises
    ------
    SemidError
        A string that is not an ISO date, or a type that holds no dates.
    """
    if not (pt.is_date(column.type) or pt.is_timestamp(column.type)):
        if not (_is_text(column.type) or pt.is_null(column.type)):
            raise SemidError(
                f"column {name!r} is of type {column.type}, which holds no dates; "
                f"cast it to date, timestamp or ISO 8601 text"
            )
        column = _parse(column, name, pa.timestamp("us"), "an ISO 8601 date without zone")
    days = _to_numpy(column).astype("datetime64[D]")
    return np.where(np.isnat(days), np.nan, days.astype(np.int64))


def _parse(column: pa.Array, name: str, type_: pa.DataType, what: str) -> pa.Array:
    """Cast `column` to `type_`, naming the first row that is not `what`."""
    if _is_text(column.type):
        column = as_strings(column, name)
    try:
        return pc.cast(column, type_, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        for row, value in enumerate(column):
            if not _castable(value, type_):
                after = f" ({value.as_py()!r}); correct it or make it null"
                raise RowError(f"column {name!r} is not {what}", row, after) from error
        raise SemidError(f"column {name!r} of type {column.type} is not {what}") from error


def _is_text(type_: pa.DataType) -> bool:
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def _castable(value: pa.Scalar, type_: pa.DataType) -> bool:
    try:
        value.cast(type_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _to_numpy(array: pa.Array) -> np.ndarray:
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
