"""Columns to lines of text and back, a batch at a time: no Python for each row.

Item ids become text in every textual format. On reading they become int64 again when every one of
them is a canonical decimal of that range ("7", "-3", but not "007"). String ids that all look like
this come back as integers, and a cast to string restores them exactly: `semid.export.read` does
it where it is told that ids are strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from semid.arrays import strings_to_arrow, to_arrow
from semid.errors import SemidError, display_path
from semid.id_columns import concat_ids, id_column
from semid.ids import from_tokens
from semid.spelling import OWN

_DECIMAL = r"\A(0|-?[1-9][0-9]{0,18})\z"
_ESCAPED = r'[[:cntrl:]"\\]'
# Between two members, never inside a string: a quote that follows there ends a key.
_CUT = re.compile(r'\]\s*,\s*(?="(?!\s*:))')
_PIECE_CHARACTERS = 1 << 18
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def numbers(value_n: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """Spell integers ``(n,)`` as decimals."""
    return to_arrow(value_n).cast(pa.string())


def joined(*pieces: pa.Array | str) -> pa.Array:
    """Join columns of text ``(n,)`` and what stands between them, row by row."""
    return pc.binary_join_element_wise(*pieces, "")


def spelled(
    sids_ns: npt.NDArray[np.integer[Any]], before: Iterable[str], after: str, between: str = ""
) -> list[pa.Array | str]:
    """Return the pieces that spell SIDs ``(n, s)``: ``before[l]``, the code, `after`, `between`."""
    pieces: list[pa.Array | str] = []
    for start, code_n in zip(before, sids_ns.T, strict=True):
        pieces += [between + start if pieces else start, numbers(code_n), after]
    return pieces


def write_text(file: BinaryIO, lines: pa.Array) -> None:
    """Write a column of text as it stands."""
    file.write(raw(lines).data)


def raw(text: pa.Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of a column of strings, one after the other."""
    _, offsets, values = text.buffers()
    offset_m = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(values or b"", np.uint8)[offset_m[0] : offset_m[-1]]


def are_decimals(ids: pa.Array) -> pa.Array:
    """Tell which ids are spelled as integers are, perhaps some beyond int64."""
    return pc.match_substring_regex(ids, _DECIMAL)


def ids_of(text: Any) -> pa.Array:
    """Return item ids from their text, as the module says; raises `SemidError` as `id_column`."""
    ids = id_column(text)
    if pa.types.is_integer(ids.type):
        return ids
    if pc.all(are_decimals(ids)).as_py():
        try:
            return ids.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # beyond int64: they were strings
    return ids


# JSON: one object of lists of tokens, by item.


def write_token_lists(path: Path, rows: Iterator[tuple[pa.Array, Any]]) -> None:
    """Write batches of keys and SIDs ``(n, s)`` as ``{"<key>": ["<a_41>", "<b_7>"], …}``."""
    with path.open("wb") as file:
        file.write(b"{\n")
        for place, (keys, sids_ns) in enumerate(rows):
            starts = [f'"{start}' for start in OWN.starts(sids_ns.shape[1])]
            tokens = spelled(sids_ns, starts, f'{OWN.after}"', ", ")
            lines = joined(",\n", json_strings(keys), ": [", *tokens, "]")
            if place == 0:
                write_text(file, pc.utf8_slice_codeunits(lines[:1], 2))
                lines = lines[1:]
            write_text(file, lines)
        file.write(b"\n}\n")


def json_strings(values: pa.Array) -> pa.Array:
    """Return text as JSON strings."""
    quoted = joined('"', values, '"')
    special = pc.match_substring_regex(values, _ESCAPED)
    if not pc.any(special).as_py():
        return quoted
    escaped = [_quoted(value) for value in values.filter(special).to_pylist()]
    return pc.replace_with_mask(quoted, special, strings_to_arrow(escaped))


def read_token_lists(path: Path) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Read what `write_token_lists` wrote: keys, and SIDs ``(n, s)``.

    Raises
    ------
    SemidError
        When the file is not a JSON object of token lists, all of one length.
    """
    try:
        text = path.read_text(encoding="utf-8")
        parts = [_token_lists(piece, path) for piece in _pieces(text)]
        sids_ns = np.concatenate([sids_ns for _, sids_ns in parts])
    except UnicodeDecodeError as error:
        raise SemidError(f"{display_path(path)} is not JSON ({error}); export it again") from error
    except ValueError:
        parts = [_token_lists(text, path)]  # which names the row in the file
        sids_ns = parts[0][1]
    return concat_ids([keys for keys, _ in parts]), sids_ns


def _pieces(text: str) -> Iterator[str]:
    """Cut an object of lists into some of a few MB: Python's own lists are large."""
    start = 0
    while cut := _CUT.search(text, start + _PIECE_CHARACTERS):
        yield ("{" if start else "") + text[start : cut.start() + 1] + "}"
        start = cut.end()
    yield ("{" if start else "") + text[start:]


def _token_lists(text: str, path: Path) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    try:
        # Tuples tell objects from arrays and, unlike a dict, keep a key that occurs twice.
        rows = json.loads(text, object_pairs_hook=tuple)
    except ValueError as error:
        raise SemidError(f"{display_path(path)} is not JSON ({error}); export it again") from error
    if not isinstance(rows, tuple) or not all(isinstance(tokens, list) for _, tokens in rows):
        raise SemidError(
            f"{display_path(path)} is not a JSON object of lists of tokens; export it again"
        )
    sids_ns = from_tokens([tokens for _, tokens in rows])
    return id_column([key for key, _ in rows]), sids_ns


# Delimited text, with quotes where they are needed, doubled inside.


def delimited(columns: list[pa.Array], delimiter: str) -> pa.Array:
    """Return the lines of columns of text, each ended by a line feed."""
    pieces: list[pa.Array | str] = []
    for column in columns:
        pieces += [_field(column, delimiter), delimiter]
    return joined(*pieces[:-1], "\n")


def _field(values: pa.Array, delimiter: str) -> pa.Array:
    # An empty field may be read as a missing one.
    special = pc.match_substring_regex(values, f'[{delimiter}"\r\n]|\\A\\z')
    if not pc.any(special).as_py():
        return values
    quoted = joined('"', pc.replace_substring(values, '"', '""'), '"')
    return pc.if_else(special, quoted, values)


def read_delimited(path: Path, delimiter: str) -> tuple[list[str], pa.Table]:
    """Read delimited text with a header: the names, and all columns as text.

    Raises
    ------
    SemidError
        When it is not such text.
    """
    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        with pa_csv.open_csv(path, parse_options=parse) as reader:
            names: list[str] = reader.schema.names
        if len(set(names)) < len(names):
            raise pa.ArrowInvalid(f"its header repeats a name: {', '.join(names)}")
        kinds = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )
        return names, pa_csv.read_csv(path, parse_options=parse, convert_options=kinds)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise SemidError(
            f"{display_path(path)} is not text with a header ({str(error).splitlines()[0]}); "
            "export it again"
        ) from error


def integers(column: pa.ChunkedArray, name: str, path: Path) -> npt.NDArray[np.int64]:
    """Return a column of decimals as int64 ``(n,)``; raises `SemidError` for other text."""
    try:
        return np.asarray(column.cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise SemidError(
            f"{display_path(path)}: column '{name}' holds other than whole numbers "
            f"({str(error).splitlines()[0]}); export it again"
        ) from error


def id_text(column: pa.ChunkedArray) -> pa.Array:
    """Return a column that was read as one array of text, of any size."""
    return concat_ids(column.chunks) if column.num_chunks else pa.array([], pa.string())
