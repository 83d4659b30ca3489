"""Embeddings to raw codes: the way that every job takes that encodes a table."""

from __future__ import annotations

from pathlib import Path

from semid.assignment import Assigner
from semid.errors import require_package
from semid.jobs.job import require_unique_ids
from semid.jobs.mapping import Engine, map_table, open_parts
from semid.tables import ParquetTable

# Chunks are as large as the largest row groups that are usual, so none is decoded twice.
CHUNK_ROWS = 1 << 20
# Many blocks for every core between two waits; 32 MiB of embeddings for the wide ones.
BATCH_ROWS = 16_384
BATCH_BYTES = 32 << 20


def encode(
    table: ParquetTable,
    assigner: Assigner,
    folder: Path,
    *,
    what: str,
    workers: int = 1,
    show: bool = False,
    engine: Engine = map_table,
) -> ParquetTable:
    """Write item id, codes, distance and margin of every row of embeddings to parts in `folder`.

    Parts that are there already are kept. `what` names the job on the bar.

    Raises
    ------
    SemidError
        For an item id that is null or occurs twice, a bad embedding, or a device that is not there.
    """
    require_package("torch", extra="cpu", purpose="encoding")
    if assigner.device != "cpu":
        from semid.devices import pick_device

        pick_device(assigner.device)
    require_unique_ids(table, assigner.item_id, show=show)
    width = sum(assigner.widths.values())
    engine(
        table,
        assigner,
        folder,
        chunk_rows=CHUNK_ROWS,
        batch_rows=max(min(BATCH_ROWS, BATCH_BYTES // (4 * width)), 1_024),
        what=what,
        workers=workers,
        at_once=2,
        show=show,
    )
    return open_parts(folder, table.num_rows)
