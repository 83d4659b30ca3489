"""Codes for batches of rows: the engine-neutral heart of assignment.

An Arrow batch of embeddings in, an Arrow batch of raw codes out, row by row. No global state, so
that the local job, Ray and Spark map the same object and get the same rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.artifact import read_header
from semid.collisions.space import Space
from semid.embedding_columns import side_by_side, spans
from semid.errors import SemidError
from semid.id_columns import CODES, DISTANCE, MARGIN, code_column, id_column

if TYPE_CHECKING:
    from semid.quantizer import Quantizer
    from semid.tables import ParquetTable

_LOADING = threading.Lock()
Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


class Assigner:
    """Maps rows of (item id, embedding) to rows of (item id, codes, distance, margin).

    It carries the model's folder, not the model, which is loaded where it is first used: it can be
    pickled to other processes and machines that see the folder.

    Parameters
    ----------
    model : a model directory
    item_id : name of the id column
    device : ``cpu``, ``cuda`` or ``auto``
    """

    def __init__(self, model: str | Path, *, item_id: str = "item_id", device: str = "cpu") -> None:
        self.model = Path(model).absolute()  # other processes may run in other folders
        self.item_id = item_id
        self.device = device
        self._quantizer: Quantizer | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return (self.item_id, *self.widths)

    @cached_property
    def widths(self) -> dict[str, int]:
        """The embedding columns of the model, with their widths."""
        found: dict[str, int] = read_header(self.model)["columns"]
        return found

    @property
    def quantizer(self) -> Quantizer:
        """The model, loaded on first use, once whatever the threads that ask for it."""
        with _LOADING:
            if self._quantizer is None:
                from semid.quantizer import load

                self._quantizer = load(self.model, device=self.device)
        return self._quantizer

    def __getstate__(self) -> dict[str, Any]:
        named = {"model": self.model, "item_id": self.item_id, "device": self.device}
        return {**named, "_quantizer": None}

    def __call__(
        self, rows: Rows, *, where: ParquetTable | None = None, first_row: int = 0
    ) -> Rows:
        """Assign raw codes; `where` and `first_row` place the rows for messages.

        Raises
        ------
        SemidError
            For a missing column, or for a null id, a bad embedding, or a width that is not the
            model's; names the row.
        """

        def at(row: int) -> str:
            return where.locate(first_row + row) if where else f"row {first_row + row}"

        ids = id_column(_column(rows, self.item_id), self.item_id, at=at)
        embeddings = {name: _column(rows, name) for name in self.widths}
        read = partial(side_by_side, embeddings, self.widths, where=where, first_row=first_row)
        x_nd = read(finite=False)
        found = self.quantizer.quantize(x_nd)
        # NaN and infinity show in the distance, an embedding of zeros in its first value: no need
        # to read every one twice.
        first = [span.start for span in spans(self.widths).values()]
        if not np.isfinite(found.distance_n).all() or not x_nd[:, first].all():
            read(finite=True)
        columns = {
            self.item_id: ids,
            CODES: code_column(found.codes_nl),
            DISTANCE: to_arrow(found.distance_n),
            MARGIN: to_arrow(found.margin_n),
        }
        fields = [pa.field(name, array.type, nullable=False) for name, array in columns.items()]
        return type(rows).from_arrays(list(columns.values()), schema=pa.schema(fields))


def space_of(
    quantizer: Quantizer, rows: Callable[[npt.NDArray[np.int64]], Iterator[npt.NDArray[np.float32]]]
) -> Space:
    """Return the latent space of a model for collision policies that move items.

    `rows` takes row numbers, ascending, and yields their checked embeddings ``(b, d)``.
    """
    levels = quantizer.network.search_levels
    books = [level.codebook_kz.detach().cpu().numpy().astype(np.float64) for level in levels]
    return Space(books, levels[0].layer_norm, lambda row_m: map(quantizer.latents, rows(row_m)))


def _column(rows: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    if name not in rows.schema.names:
        raise SemidError(
            f"the rows have no column '{name}'; the columns are {', '.join(rows.schema.names)}"
        )
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
