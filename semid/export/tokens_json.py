r"""Tokens as JSON, in the manner of LC-Rec: ``{"<item_id>": ["<a_41>", "<b_7>", "<c_203>"], …}``.

One item per line, in table order, UTF-8. JSON keys are strings, so integer item ids become decimal
strings; on reading, ids become int64 again when every one of them is a canonical decimal of that
range ("7", "-3", but not "007"). String ids that all look like this come back as integers, and a
cast to string restores them exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.errors import SemidError, display_path
from semid.id_reading import id_batches
from semid.id_table import IdTable
from semid.ids import from_tokens, to_tokens
from semid.tables import ParquetTable

_quoted = json.JSONEncoder(ensure_ascii=False).encode
_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,18}")


def write(table: ParquetTable, path: Path, item_id: str, on_rows: Callable[[int], object]) -> None:
    """Write the tokens of every item's SID.

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables; names the row.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        before = "{\n"
        for part in id_batches(table, item_id=item_id, on_rows=on_rows):
            tokens = ('", "'.join(row) for row in to_tokens(part.sids).tolist())
            keys = map(_quoted, map(str, part.item_ids.to_pylist()))
            lines = [f'{key}: ["{row}"]' for key, row in zip(keys, tokens, strict=True)]
            file.write(before + ",\n".join(lines))
            before = ",\n"
        file.write("\n}\n")


def read(path: Path, levels: int | None) -> IdTable:
    """Read what `write` wrote.

    Parameters
    ----------
    path : the file
    levels : how many of the tokens are codes; all of them when not given

    Raises
    ------
    SemidError
        When the file is not a JSON object of token lists, all of one length, or an id occurs twice.
    """
    try:
        # Tuples tell objects from arrays and, unlike a dict, keep a key that occurs twice.
        rows = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=tuple)
    except ValueError as error:
        raise SemidError(f"{display_path(path)} is not JSON ({error}); export it again") from error
    if not isinstance(rows, tuple) or not all(isinstance(tokens, list) for _, tokens in rows):
        raise SemidError(
            f"{display_path(path)} is not a JSON object of lists of tokens; export it again"
        )
    try:
        sids_ns = from_tokens([tokens for _, tokens in rows])
        return IdTable.from_arrays(
            _item_ids([item for item, _ in rows]), sids_ns[:, :levels], sids_ns
        )
    except SemidError as error:
        raise SemidError(f"{display_path(path)}: {error}") from error


def _item_ids(keys: list[str]) -> Any:
    if all(_DECIMAL.fullmatch(key) for key in keys):
        try:
            return pa.array([int(key) for key in keys], pa.int64())
        except (pa.ArrowInvalid, OverflowError):
            pass  # beyond int64: they were strings
    return keys
