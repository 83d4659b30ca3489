"""Items to texts: one string per item, put together from its columns.

Knows nothing about what is done with the text.
"""

from __future__ import annotations

from string import Formatter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from semid.encoders.item_columns import (
    STRING,
    as_string_lists,
    as_strings,
    check_columns,
    is_list,
    read_column,
)
from semid.encoders.settings import check_names
from semid.errors import SemidError

DEFAULT_TEXT = ("title", "brand", "categories")
LIST_SEPARATOR = " > "
_SPACE = pa.scalar(" ", STRING)


def compose(
    items: pa.Table | pa.RecordBatch, columns: tuple[str, ...], template: str | None = None
) -> list[str]:
    """Put the text of every item together, one string per row.

    Without a template the text is ``"Title: … Brand: … Categories: a > b > c"``: each of `columns`
    in turn behind its capitalised name, those that are missing left out; an item with none of them
    gets ``""``. A template such as ``"{title} by {brand}"`` names its own columns (`columns` is not
    used) and writes ``""`` for what is missing. Lists are joined with ``" > "``, dates written as
    YYYY-MM-DD, numbers plainly, and surrounding blanks dropped.

    Raises
    ------
    SemidError
        A column that the items lack or that has no text form; a malformed template.
    """
    check_columns(items, text_columns(columns, template))
    if template is None:
        return _labelled(items, columns)
    parts: list[pa.Array | pa.Scalar] = []
    for literal, name in _parse_template(template):
        parts.append(pa.scalar(literal, STRING))
        if name is not None:
            parts.append(_column_texts(items, name).fill_null(""))
    return _to_list(_join(parts))


def text_columns(columns: tuple[str, ...], template: str | None) -> tuple[str, ...]:
    """Name the item columns that `compose` reads, each once."""
    if template is None:
        return columns
    names = [name for _, name in _parse_template(template) if name is not None]
    return tuple(dict.fromkeys(names))


def check_text(columns: tuple[str, ...], template: str | None) -> None:
    """Raise `SemidError` when the settings `text` and `template` cannot make a text."""
    check_names("text", columns)
    if template is not None and not text_columns(columns, template):
        raise SemidError(
            f"template {template!r} names no column; write for example 'Title: {{title}}'"
        )
    if template is None and not columns:
        raise SemidError("text names no column; list the item columns that make up the text")


def _labelled(items: pa.Table | pa.RecordBatch, columns: tuple[str, ...]) -> list[str]:
    # Not null_handling="skip": it drops a row whose parts are all null.
    parts = []
    for name in columns:
        words = name.replace("_", " ")
        label = pa.scalar(f"{words[:1].upper()}{words[1:]}: ", STRING)
        parts.append(_join([label, _column_texts(items, name), _SPACE]).fill_null(""))
    return _to_list(pc.utf8_trim_whitespace(_join(parts)))


def _join(parts: list[pa.Array | pa.Scalar]) -> pa.Array:
    """Concatenate `parts` row by row; a null in any of them makes the row null."""
    return pc.binary_join_element_wise(*parts, pa.scalar("", STRING))


def _to_list(texts: pa.Array) -> list[str]:
    listed: list[str] = texts.to_pylist()
    return listed


def _column_texts(items: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """Return column `name` as large_string with nulls for what is missing, lists joined."""
    column = read_column(items, name)
    if not is_list(column.type):
        return as_strings(column, name)
    strings, rows = as_string_lists(column, name)
    offsets = np.searchsorted(rows, np.arange(len(column) + 1)).astype(np.int32)
    # Arrow joins only lists of 32-bit strings.
    lists = pa.ListArray.from_arrays(offsets, pc.cast(strings, pa.string()))
    return as_strings(pc.binary_join(lists, LIST_SEPARATOR), name)


def _parse_template(template: str) -> list[tuple[str, str | None]]:
    """Split a template into (literal text, column name or None) pairs."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise SemidError(
            f"template {template!r} is malformed ({error}); write columns as {{title}} and "
            f"a literal brace twice"
        ) from error
    for _, name, form, conversion in parsed:
        if name is not None and (not name or form or conversion):
            raise SemidError(
                f"template {template!r} holds a field that is not simply a column name; "
                f"write columns as {{title}}"
            )
    return [(literal, name) for literal, name, _, _ in parsed]
