"""GRID: ``semantic_ids.pt``, an int64 tensor ``(L+1, N)`` whose columns are dense item numbers.

The last row is the de-duplication digit; a table without suffixes has L rows, and GRID's
``num_hierarchies`` is the number of rows. ``item_ids.parquet`` in the same folder has the item id
of every column. GRID gives every row as many embeddings (``num_embeddings_per_hierarchy``), so a
suffix beyond the largest level is refused. ``torch.save`` pickles by nature: only a tensor is
written, and only tensors are read (``weights_only=True``). A GRID file says nothing of its levels:
without a note or levels its last row counts as the de-duplication digit.

Read from snap-research/GRID 921893f ``src/models/modules/semantic_id/tiger_generation_model.py``,
``configs/experiment/tiger_train_flat.yaml`` and ``README.md``, and 8cbee4c
``src/utils/tensor_utils.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semid.errors import require_package
from semid.export.item_map import named, read_map, write_map
from semid.export.source import Request, Source, table_of_sids
from semid.export.tensors import file_in, load_tensor, save_tensor
from semid.id_table import IdTable

PASSES = 2
FILE = "semantic_ids.pt"


def write(source: Source, path: Path) -> None:
    """Write the folder `path`; the tensor is laid out on disk, not in memory.

    Raises
    ------
    SemidError
        When torch is missing, or a code or suffix is beyond the width.
    """
    require_package("torch", extra="cpu", purpose="exporting to GRID")
    path.mkdir(parents=True)
    aside = path / "values"
    values_sn = np.memmap(aside, np.int64, "w+", shape=(source.sid_length, source.rows))
    row = 0
    for part in source.parts():
        values_sn[:, row : row + len(part)] = part.sids.T
        row += len(part)
    save_tensor(values_sn, path / FILE)
    aside.unlink()
    write_map(source, path)


def read(path: Path, request: Request) -> IdTable:
    """Read a tensor, or the one in a folder, with the map beside it.

    Raises
    ------
    SemidError
        When the file holds anything but a matrix of integers.
    """
    file = file_in(path, FILE)
    sids_ns = load_tensor(file).T
    ids, note = read_map(file, request)
    return table_of_sids(named(ids, len(sids_ns), file), sids_ns, request, note, suffix=True)
