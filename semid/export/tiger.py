"""TIGER's re-implementations: ``semantic_ids.npy``, int64 ``(N, L+1)``, a row an item.

The last column is the de-duplication digit; a table without suffixes has L columns.
``item_ids.parquet`` in the same folder has the item id of every row. ``torch.from_numpy(numpy.load(
"semantic_ids.npy"))`` is what RQ-VAE-Recommender keeps as ``cached_ids``, which it makes itself and
reads from no file; it gives every column as many embeddings, so a suffix beyond the largest level
is refused. Also read: a tensor of this shape that ``torch.save`` wrote. Without a note or levels
the last column counts as the de-duplication digit.

Read from EdoardoBotta/RQ-VAE-Recommender 088595d ``modules/tokenizer/semids.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semid.export.item_map import named, read_map, write_map
from semid.export.source import Request, Source, table_of_sids
from semid.export.tensors import file_in, load_array, load_tensor
from semid.id_table import IdTable

PASSES = 2
FILE = "semantic_ids.npy"


def write(source: Source, path: Path) -> None:
    """Write the folder `path`.

    Raises
    ------
    SemidError
        When a code or suffix is beyond the width.
    """
    path.mkdir(parents=True)
    header = {"descr": "<i8", "fortran_order": False, "shape": (source.rows, source.sid_length)}
    with (path / FILE).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in source.parts():
            file.write(part.sids.astype("<i8").tobytes())
    write_map(source, path)


def read(path: Path, request: Request) -> IdTable:
    """Read an array or a tensor, or the array in a folder, with the map beside it.

    Raises
    ------
    SemidError
        When the file holds anything but a matrix of integers.
    """
    file = file_in(path, FILE)
    sids_ns = load_tensor(file) if file.suffix in (".pt", ".pth") else load_array(file)
    ids, note = read_map(file, request)
    return table_of_sids(named(ids, len(sids_ns), file), sids_ns, request, note, suffix=True)
