"""What is measured: an ids table with its embeddings, and the model that assigned it, if known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semid.artifact import CONFIG, WEIGHTS, read_header
from semid.columns import EMBEDDING
from semid.embedding_columns import embedding_widths
from semid.errors import SemidError, display_path
from semid.id_columns import CODES, SID, code_matrix
from semid.id_metadata import read_metadata
from semid.jobs.job import require_codes, require_like_ids, require_widths
from semid.row_checks import require_types
from semid.tables import ParquetTable, open_table

if TYPE_CHECKING:
    from semid.coded_items import Embedded

NEED = "evaluate needs the embeddings that the IDs were assigned from"


@dataclass(frozen=True)
class Evaluated:
    """What is measured: an opened table, its embeddings and its model.

    Without a model there is no folder, and of the header the levels, the columns, and no kind.
    """

    ids: ParquetTable
    table: ParquetTable
    folder: Path | None
    header: dict[str, Any]
    item_id: str

    @classmethod
    def opened(cls, ids: str, embeddings: str, model: str | None, item_id: str) -> Evaluated:
        """Open them; raises `SemidError` when they do not belong together."""
        ids_table, table = open_table(ids), open_table(embeddings)
        folder = None if model is None else Path(model)
        header = {} if folder is None else read_header(folder)
        ids_table.require([CODES, SID])
        if folder is not None:
            require_codes(header, folder)
            require_widths(table, header["columns"], folder)
        require_like_ids(ids_table, table, item_id, NEED)
        require_types(ids_table.schema, display_path(ids_table.name))
        if folder is None:
            widths = embedding_widths(table, [EMBEDDING])
            header = {"kind": None, "levels": _levels_of(ids_table), "columns": widths}
        return cls(ids_table, table, folder, header, item_id)

    def inputs(self) -> dict[str, ParquetTable | Path]:
        """Return what its figures depend on."""
        found: dict[str, ParquetTable | Path] = {"ids": self.ids, "embeddings": self.table}
        if self.folder is not None:
            found |= {"model": self.folder / WEIGHTS, "model config": self.folder / CONFIG}
        return found


def _levels_of(ids: ParquetTable) -> tuple[int, ...]:
    """Return codes per level: those that a table notes, or one above the largest that occurs."""
    if noted := read_metadata(ids).get("summary", {}).get("levels"):
        return tuple(noted)
    batches = ids.batches([CODES], rows=65_536)
    most = [code_matrix(batch.column(0), CODES).max(axis=0) for batch in batches if batch.num_rows]
    if not most:
        raise SemidError(f"{display_path(ids.name)} has no rows; there is nothing to measure")
    return tuple((np.max(most, axis=0) + 1).tolist())


def require_any(beside: Embedded, ids: ParquetTable, table: ParquetTable, need: str) -> None:
    """Raise `SemidError` when no item of an ids table has an embedding."""
    if not len(beside.items):
        raise SemidError(
            f"{display_path(table.name)} has none of the items of {display_path(ids.name)}; {need}"
        )
