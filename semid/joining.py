"""Embedding columns of several tables side by side, the items in the order of the first table.

Tables in one order are read side by side. Another is put into that order on disk before: its rows
go to files by the places that they take, each file small enough to be sorted in memory. Nothing
here holds embeddings but a few batches, and one such file of every table that is not in order.
Shapes: n items, b rows of a batch, d dims of all columns of a table together.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.columns import embeddings_schema, id_type
from semid.embedding_columns import Matrix, Widths, side_by_side, spans
from semid.errors import SemidError, display_path
from semid.item_matching import match_rows
from semid.streams import rebatched
from semid.tables import ParquetTable

Integers = npt.NDArray[np.int64]

# Rows of a batch: 32 MiB of wide embeddings, and a row group of narrow ones.
BATCH_ROWS = 16_384
_BATCH_BYTES = 32 << 20


class Rows(Protocol):
    """Embeddings of items, read from any of them on."""

    def batches(self, start: int = 0) -> Iterator[Matrix]:
        """Yield the rows from `start` on, some at a time, each ``(b, d)``."""
        ...


@dataclass(frozen=True)
class Source:
    """A table to be joined, with its embedding columns.

    Attributes
    ----------
    widths : of its columns, by their names in the table
    names : what they are called in the result
    """

    table: ParquetTable
    widths: Widths
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """All dims of an item."""
        return sum(self.widths.values())

    @property
    def renamed(self) -> dict[str, int]:
        """The widths by the names in the result."""
        return dict(zip(self.names, self.widths.values(), strict=True))

    def batches(self, start: int = 0) -> Iterator[Matrix]:
        """Yield the table's rows from `start` on, checked, some at a time, each ``(b, d)``.

        Raises
        ------
        SemidError
            As `semid.embedding_columns.side_by_side`, naming the row.
        """
        row = start
        rows = batch_rows(self.width)
        for batch in self.table.batches(list(self.widths), rows=rows, start=start):
            yield side_by_side(batch, self.widths, where=self.table, first_row=row)
            row += batch.num_rows


def batch_rows(width: int) -> int:
    """Return how many rows of so many dims are read and written at a time."""
    return min(BATCH_ROWS, max(_BATCH_BYTES // (4 * width), 1_024))


def joined_schema(sources: Sequence[Source], item_id: str) -> pa.Schema:
    """Return the schema of the result: the ids of the first table, float32 lists of them all."""
    widths = {name: d for source in sources for name, d in source.renamed.items()}
    return embeddings_schema(id_type(sources[0].table, item_id), item_id, widths, "float32")


def joined(
    sources: Sequence[Source], rows: Sequence[Rows], item_id: str, *, start: int = 0
) -> Iterator[pa.RecordBatch]:
    """Yield the items of the first table from `start` on, with the embeddings of all.

    Parameters
    ----------
    sources : the tables; ids are those of the first
    rows : the rows of each, in the order of the first; a table that is in order is its own
    item_id : name of the id column

    Raises
    ------
    SemidError
        For a bad embedding, naming its row.
    """
    schema = joined_schema(sources, item_id)
    height = batch_rows(sum(source.width for source in sources))
    ids = sources[0].table.batches([item_id], rows=height, start=start)
    lists = [
        _lists(source.renamed, each.batches(start), schema)
        for source, each in zip(sources, rows, strict=True)
    ]
    streams = (rebatched(stream, height) for stream in (ids, *lists))
    for first, *others in zip(*streams, strict=True):
        columns = [column for batch in others for column in batch.columns]
        yield pa.RecordBatch.from_arrays(
            [first.column(0).cast(schema.field(0).type), *columns], schema=schema
        )


def _lists(
    widths: Mapping[str, int], batches: Iterable[Matrix], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Cut matrices into the columns that stand side by side in them."""
    fields = [schema.field(name) for name in widths]
    for x_bd in batches:
        columns = [
            pa.FixedSizeListArray.from_arrays(to_arrow(x_bd[:, span].reshape(-1)), type=field.type)
            for field, span in zip(fields, spans(widths).values(), strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def find_places(
    first: ParquetTable, other: ParquetTable, item_id: str, *, folder: Path, memory_bytes: int
) -> Integers:
    """Return which row of `first` has the item of each row of `other`, ``(n,)``.

    Parameters
    ----------
    first, other : tables with item ids of one type, each of them unique
    folder : an existing folder for what does not fit in memory

    Raises
    ------
    SemidError
        When one has an item that the other lacks, naming one, or memory or disk run out.
    """
    place_n = match_rows(first, other, item_id, temp_dir=folder, memory_bytes=memory_bytes)
    _refuse_lacking(np.flatnonzero(place_n < 0), other, first, item_id)
    there_n = np.zeros(first.num_rows, np.bool_)
    there_n[place_n] = True
    _refuse_lacking(np.flatnonzero(~there_n), first, other, item_id)
    return place_n


def _refuse_lacking(
    row_m: Integers, table: ParquetTable, other: ParquetTable, item_id: str
) -> None:
    """Raise `SemidError` if there are rows of `table` whose items the other table lacks."""
    if not len(row_m):
        return
    row = int(row_m[0])
    example = next(table.batches([item_id], start=row, stop=row + 1)).column(0)[0].as_py()
    raise SemidError(
        f"{display_path(table.name)} has {len(row_m):,} items that {display_path(other.name)} "
        f"lacks, such as {example!r}; an item needs all its embeddings: embed the same items for "
        "every table, or leave these out"
    )


@dataclass(frozen=True)
class Ordered:
    """Rows that were put in order on disk, in files of `block_rows` rows each but the last."""

    folder: Path
    width: int
    block_rows: int

    def batches(self, start: int = 0) -> Iterator[Matrix]:
        """Yield the rows from `start` on, some at a time, each ``(b, d)``."""
        height = batch_rows(self.width)
        for path in sorted(self.folder.iterdir())[start // self.block_rows :]:
            placed = np.fromfile(path, _placed(self.width))
            order_n = np.argsort(placed["place"])
            first = max(start - int(placed["place"][order_n[0]]), 0)
            for row in range(first, len(order_n), height):
                yield placed["x"][order_n[row : row + height]]


def put_in_order(
    rows: Rows,
    width: int,
    place_n: Integers,
    folder: Path,
    *,
    memory_bytes: int,
    on_rows: Callable[[int], object] | None = None,
) -> Ordered:
    """Write rows to files in `folder`, from which they are read again in the order of their places.

    What is in `folder` already, of an earlier call for the same rows, is not written again.

    Parameters
    ----------
    rows : embeddings, ``(n, d)``
    width : d
    place_n : where each row goes: every number from 0 to n - 1 once
    memory_bytes : what reading may take
    on_rows : hears of every batch how many rows it had

    Raises
    ------
    SemidError
        For a bad embedding, naming its row.
    """
    kind = _placed(width)
    # Two files are in memory while one follows another.
    block_rows = max(memory_bytes // (2 * kind.itemsize), 1)
    whole = Ordered(folder / f"by-{block_rows}", width, block_rows)
    if whole.folder.exists():
        return whole
    writing = folder / ".writing"
    for other in folder.glob("by-*"):  # of a run that had another memory
        shutil.rmtree(other)
    _make_empty(writing)
    row = 0
    for x_bd in rows.batches():
        placed = np.empty(len(x_bd), kind)
        placed["place"], placed["x"] = place_n[row : row + len(x_bd)], x_bd
        placed = placed[np.argsort(placed["place"])]
        block_b = placed["place"] // block_rows
        for part in np.split(placed, np.flatnonzero(np.diff(block_b)) + 1):
            # Opened anew each time: there may be more files than may be open at once.
            with (writing / f"{part['place'][0] // block_rows:09d}").open("ab") as file:
                file.write(part.data)
        row += len(x_bd)
        if on_rows is not None:
            on_rows(len(x_bd))
    writing.rename(whole.folder)
    return whole


def _make_empty(folder: Path) -> None:
    """Make a folder, without what a job that was killed left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()


def _placed(width: int) -> np.dtype[np.void]:
    return np.dtype([("place", np.int64), ("x", np.float32, (width,))])
