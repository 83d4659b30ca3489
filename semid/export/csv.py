"""CSV: the item id, ``code_0`` … ``code_{L-1}`` and ``suffix`` when IDs have one.

UTF-8, with a header; fields are quoted where they hold a comma, a quote or a line break.
"""

from __future__ import annotations

from pathlib import Path

from semid.export.flat_text import read_flat, write_flat
from semid.export.source import Request, Source
from semid.id_table import IdTable


def write(source: Source, path: Path) -> None:
    """Write the file; raises `SemidError` as `Source.parts`."""
    write_flat(source, path, ",")


def read(path: Path, request: Request) -> IdTable:
    """Read what `write` wrote; raises `SemidError` when the columns are others."""
    return read_flat(path, request, ",")
