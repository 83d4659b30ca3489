"""Embeddings for batches of items: an Arrow batch in, an Arrow batch out, row by row.

The counterpart of `semid.assignment.Assigner` for encoders; the local job and Ray map the same
object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from semid.columns import check_rows, embedding_schema
from semid.encoders import Encoder
from semid.errors import RowError, SemidError
from semid.id_columns import id_column

if TYPE_CHECKING:
    from semid.tables import ParquetTable

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


class Embedder:
    """Maps rows of (item id, text and feature columns) to rows of (item id, embedding).

    Parameters
    ----------
    encoder : a fitted encoder
    item_id : name of the id column
    """

    def __init__(self, encoder: Encoder, *, item_id: str = "item_id") -> None:
        self.encoder = encoder
        self.item_id = item_id

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        rest = (name for name in self.encoder.columns if name != self.item_id)
        return (self.item_id, *rest)

    def __call__(
        self, rows: Rows, *, where: ParquetTable | None = None, first_row: int = 0
    ) -> Rows:
        """Embed items; `where` and `first_row` place the rows for messages.

        Raises
        ------
        SemidError
            For a missing column, a null id or a value that the encoder refuses; names the row.
        """

        def at(row: int) -> str:
            return where.locate(first_row + row) if where else f"row {first_row + row}"

        if self.item_id not in rows.schema.names:
            raise SemidError(
                f"the rows have no column '{self.item_id}'; the columns are "
                f"{', '.join(rows.schema.names)}"
            )
        ids = id_column(rows.column(self.item_id), self.item_id, at=at)
        try:
            x_nd = self.encoder.encode(rows)
        except RowError as error:
            raise error.at(at(error.row)) from error
        if len(x_nd) != len(ids):
            raise SemidError(f"the encoder gave {len(x_nd)} rows for {len(ids)} items")
        check_rows(x_nd, at)
        width = x_nd.shape[1]
        schema = embedding_schema(ids.type, self.item_id, width, str(x_nd.dtype))
        values = pa.array(np.ascontiguousarray(x_nd).reshape(-1))
        embeddings = pa.FixedSizeListArray.from_arrays(values, type=schema.field(1).type)
        return type(rows).from_arrays([ids, embeddings], schema=schema)
