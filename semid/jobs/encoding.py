"""Embeddings to raw codes: the way that every job takes that encodes a table.

And what embeddings, and the tables that come of them, say of the encoder and of usual items.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from semid.assignment import Assigner
from semid.errors import require_package
from semid.id_columns import CODES, code_matrix
from semid.jobs.job import require_unique_ids
from semid.jobs.mapping import Engine, map_table, open_parts
from semid.manifests import read_manifest
from semid.tables import ParquetTable

# Chunks are as large as the largest row groups that are usual, so none is decoded twice.
CHUNK_ROWS = 1 << 20
# Many blocks for every core between two waits; 32 MiB of embeddings for the wide ones.
BATCH_ROWS = 16_384
BATCH_BYTES = 32 << 20
# Rows whose codes are decoded for the mean of what a model was fitted to.
USUAL_ROWS = 16_384

RAW = "raw"
"""Where in a staging folder encoded rows are, for a job to go on from."""


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


def encoder_fingerprint(table: ParquetTable) -> str | None:
    """Return what identifies the encoder that made embeddings, or None where nothing says."""
    noted = read_manifest(Path(table.name)) if table.is_local else None
    found = (noted or {}).get("summary", {}).get("encoder_digest")
    return None if found is None else str(found)


def usual_codes(ids: ParquetTable) -> npt.NDArray[np.int32]:
    """Return the codes of at most `USUAL_ROWS` rows that lie evenly over an ids table, ``(n, l)``.

    Raises
    ------
    SemidError
        When codes are malformed.
    """
    step, row, found = -(-ids.num_rows // USUAL_ROWS), 0, []
    for batch in ids.batches([CODES]):
        found.append(code_matrix(batch[CODES], CODES, at=ids.locator(row))[-row % step :: step])
        row += batch.num_rows
    return np.concatenate(found)
