"""RecBole: an atomic ``.item`` file, tab-separated, of the item id and its codes as tokens.

The header gives every column its type: ``item_id:token``, ``code_0:token`` … and ``suffix:token``
when IDs have one: each is a discrete feature of the item. RecBole reads atomic files by pandas,
with quotes: ids that hold a tab, a quote or a line break are quoted.

Read from RUCAIBox/RecBole 27c41f6 ``docs/source/user_guide/data/atomic_files.rst`` and 01e95bd
``recbole/data/dataset/dataset.py``.
"""

from __future__ import annotations

from pathlib import Path

from semid.export.flat_text import read_flat, write_flat
from semid.export.source import Request, Source
from semid.id_table import IdTable

_TYPE = ":token"


def write(source: Source, path: Path) -> None:
    """Write the file; raises `SemidError` as `Source.parts`."""
    write_flat(source, path, "\t", _TYPE)


def read(path: Path, request: Request) -> IdTable:
    """Read what `write` wrote; raises `SemidError` when the columns are others."""
    return read_flat(path, request, "\t", _TYPE)
