"""LC-Rec, LETTER and MiniOneRec: ``<name>.index.json``, row number → tokens, in a folder.

``{"0": ["<a_183>", "<b_70>", "<c_232>", "<d_6>"], …}``: the keys are item numbers, for which
``item_ids.parquet`` has the item ids. ``info.txt`` is MiniOneRec's, a line for each item: its
tokens joined, a title, its number, with tabs between; the titles are ``Item_<number>``, which is
what MiniOneRec puts where it has none. LC-Rec's own collisions are resolved in the last code, not
by a suffix: without a note or levels, every token that is read counts as a code.

Read from zhengbw0324/LC-Rec 4dde5da ``index/generate_indices.py`` and c9bcdf0
``data_process/utils.py``; HonghuiBao2000/LETTER 0d4a115 ``RQ-VAE/generate_indices.py``,
``LETTER-TIGER/data.py`` and ``data/Beauty/Beauty.index.json``; AkaliKong/MiniOneRec 0606902
``data.py`` and ``evaluate.py``, and 94b3d4a ``convert_dataset.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from semid.arrays import to_arrow
from semid.errors import SemidError, display_path
from semid.export.item_map import read_map, write_map
from semid.export.source import Request, Source, table_of_sids
from semid.export.text import (
    ids_of,
    joined,
    numbers,
    read_token_lists,
    spelled,
    write_text,
    write_token_lists,
)
from semid.id_table import IdTable
from semid.spelling import OWN

PASSES = 3
INDEX, INFO = ".index.json", "info.txt"


def write(source: Source, path: Path) -> None:
    """Write the folder `path`; its name is the data set's.

    Raises
    ------
    SemidError
        When the table breaks the contract of ids tables; names the row.
    """
    path.mkdir(parents=True)
    parts = ((numbers(number_n), sids_ns) for number_n, sids_ns in _numbered(source))
    write_token_lists(path / f"{path.name}{INDEX}", parts)
    starts = OWN.starts(source.sid_length)
    with (path / INFO).open("wb") as file:
        for number_n, sids_ns in _numbered(source):
            number = numbers(number_n)
            tokens = spelled(sids_ns, starts, OWN.after)
            write_text(file, joined(*tokens, "\tItem_", number, "\t", number, "\n"))
    write_map(source, path)


def _numbered(
    source: Source,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    row = 0
    for part in source.parts():
        yield np.arange(row, row + len(part), dtype=np.int64), part.sids
        row += len(part)


def read(path: Path, request: Request) -> IdTable:
    """Read an index file, or the one in a folder, with the map beside it.

    Without a map the keys are the item ids.

    Raises
    ------
    SemidError
        When the file is not a JSON object of token lists, all of one length, or the map has not
        all of its keys.
    """
    file = path
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX}"))
        if len(found) != 1:
            raise SemidError(
                f"the folder {display_path(path)} holds {len(found)} files *{INDEX}; name the file"
            )
        (file,) = found
    keys, sids_ns = read_token_lists(file)
    item_ids, (ids, note) = ids_of(keys), read_map(file, request)
    if ids is None:
        return table_of_sids(item_ids, sids_ns, request, note)
    row_n = np.asarray(item_ids) if item_ids.type.bit_width == 64 else None
    if row_n is None or row_n.min() < 0 or row_n.max() >= len(ids):
        raise SemidError(
            f"{display_path(file)} has keys that are no numbers of the {len(ids):,} items of its "
            "map; name the map that was made with it"
        )
    return table_of_sids(ids.take(to_arrow(row_n)), sids_ns, request, note)
