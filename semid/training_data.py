"""Where training rows come from: an array in memory, or a Parquet table streamed.

Both split off held-out items by a hash of the item id, so that an item stays on its side of the
split when the catalog grows or is reordered. A source knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from semid.embedding_columns import Widths, embedding_widths, side_by_side
from semid.errors import SemidError
from semid.streams import prefetch
from semid.tables import ParquetTable

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Rows in the shuffle buffer of a streamed table, by its memory: half of the budget.
BUFFER_SHARE = 0.5
# Rows that are held in memory however small the budget: fewer would not mix or fit a codebook.
LEAST_ROWS = 65_536


def held_out(item_ids: pa.Array | Sequence[int], share: float) -> Mask:
    """Return which items are held out: ``(n,)``, about `share` of them, by a hash of the id."""
    values = item_ids.to_pylist() if isinstance(item_ids, pa.Array) else item_ids
    limit = round(share * 2**64)
    # An integer id and the same id as text fall on the same side.
    hashes = (xxhash.xxh3_64_intdigest(str(value).encode()) for value in values)
    return np.fromiter((h < limit for h in hashes), np.bool_, len(values))


class TrainingData(Protocol):
    """What a fit needs of its rows; every matrix is ``(n, d)`` float32 without NaN.

    ``widths`` are those of the embedding columns that stand side by side in a row, ``width`` their
    sum.
    """

    widths: Widths
    width: int
    train_rows: int
    held_out_rows: int

    def sample(self, rows: int, *, seed: int) -> Matrix:
        """Draw at most `rows` training rows uniformly, in a fixed order."""
        ...

    def held_out_sample(self, rows: int, *, seed: int) -> Matrix:
        """Draw at most `rows` held-out rows uniformly."""
        ...

    def batches(self, rows: int, *, seed: int) -> Iterator[Matrix]:
        """Yield one epoch of training rows, shuffled, in batches of `rows`."""
        ...


class ArrayData:
    """Training rows in memory.

    Parameters
    ----------
    x_nd : embeddings, shape ``(n, d)``
    held_out_n : which rows are held out, shape ``(n,)``
    widths : of the columns of `x_nd`; one when not given
    """

    def __init__(self, x_nd: Matrix, held_out_n: Mask, widths: Widths | None = None) -> None:
        self.train_nd, self._held_out = x_nd[~held_out_n], x_nd[held_out_n]
        self.width = x_nd.shape[1]
        self.widths: Widths = {"embedding": self.width} if widths is None else widths
        self.train_rows, self.held_out_rows = len(self.train_nd), len(self._held_out)

    def sample(self, rows: int, *, seed: int) -> Matrix:
        """Draw at most `rows` training rows uniformly, in a fixed order."""
        return _draw(self.train_nd, rows, seed)

    def held_out_sample(self, rows: int, *, seed: int) -> Matrix:
        """Draw at most `rows` held-out rows uniformly."""
        return _draw(self._held_out, rows, seed)

    def batches(self, rows: int, *, seed: int) -> Iterator[Matrix]:
        """Yield one epoch of training rows, shuffled over the whole array."""
        order_n = self.order(seed)
        for start in range(0, len(order_n), rows):
            yield self.train_nd[order_n[start : start + rows]]

    def order(self, seed: int) -> npt.NDArray[np.int64]:
        """Return the order in which an epoch takes the training rows, ``(n,)``."""
        return np.random.default_rng(seed).permutation(self.train_rows)


def _draw(x_nd: Matrix, rows: int, seed: int) -> Matrix:
    if len(x_nd) <= rows:
        return x_nd
    picked = np.random.default_rng(seed).choice(len(x_nd), rows, replace=False)
    return x_nd[np.sort(picked)]


@dataclass(frozen=True)
class _Buffer:
    """A shuffle buffer: rows go in, a random one comes out for each that follows."""

    rows_bd: Matrix
    random: np.random.Generator

    def exchange(self, incoming_nd: Matrix) -> Matrix:
        """Put `incoming_nd` in random places and return the rows that were there."""
        slots = self.random.choice(len(self.rows_bd), len(incoming_nd), replace=False)
        outgoing_nd = self.rows_bd[slots]
        self.rows_bd[slots] = incoming_nd
        return outgoing_nd


class StreamedData:
    """Training rows streamed from a table that does not fit in memory.

    Row groups are read in random order and rows mixed in a shuffle buffer of half the budget.

    Parameters
    ----------
    table, item_id, columns : the embeddings table, its id column and its embedding columns
    share : share of items held out
    memory_bytes : budget for the buffer and the samples
    """

    def __init__(
        self,
        table: ParquetTable,
        item_id: str,
        *,
        share: float,
        memory_bytes: int,
        columns: Sequence[str] = ("embedding",),
    ) -> None:
        self._table, self._item_id, self._share = table, item_id, share
        self.widths: Widths = embedding_widths(table, columns)
        self.width = sum(self.widths.values())
        self._memory_rows = max(int(memory_bytes * BUFFER_SHARE) // (4 * self.width), LEAST_ROWS)
        # One pass now: counts the split and finds bad rows before any training is done.
        self.held_out_rows = sum(
            int(held_n.sum()) for _, held_n in self._read([(0, table.num_rows)])
        )
        self.train_rows = table.num_rows - self.held_out_rows

    def _read(self, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Matrix, Mask]]:
        """Yield the rows of the spans as ``(x_nd, held_out_n)``."""

        def read() -> Iterator[tuple[Matrix, Mask]]:
            for start, stop in spans:
                row = start
                columns = [self._item_id, *self.widths]
                for batch in self._table.batches(columns, start=start, stop=stop):
                    x_nd = side_by_side(batch, self.widths, where=self._table, first_row=row)
                    yield x_nd, held_out(batch[self._item_id], self._share)
                    row += batch.num_rows

        return prefetch(read())

    def sample(self, rows: int, *, seed: int) -> Matrix:
        """Draw at most `rows` training rows uniformly, in a fixed order."""
        return self._draw(rows, self.train_rows, seed, held=False)

    def held_out_sample(self, rows: int, *, seed: int) -> Matrix:
        """Draw at most `rows` held-out rows uniformly."""
        return self._draw(rows, self.held_out_rows, seed, held=True)

    def _draw(self, rows: int, of: int, seed: int, *, held: bool) -> Matrix:
        rows = min(rows, of, self._memory_rows)
        picked = np.zeros(of, dtype=np.bool_)
        picked[np.random.default_rng(seed).choice(of, rows, replace=False, shuffle=False)] = True
        out_nd = np.empty((rows, self.width), dtype=np.float32)
        seen = filled = 0
        for x_nd, held_n in self._read([(0, self._table.num_rows)]):
            side_nd = x_nd[held_n == held]
            chosen_nd = side_nd[picked[seen : seen + len(side_nd)]]
            out_nd[filled : filled + len(chosen_nd)] = chosen_nd
            seen, filled = seen + len(side_nd), filled + len(chosen_nd)
        return out_nd

    def batches(self, rows: int, *, seed: int) -> Iterator[Matrix]:
        """Yield one epoch of training rows, shuffled as far as the buffer reaches."""
        random = np.random.default_rng(seed)
        # A row group that is cut is decoded from its start for every piece: no smaller than needed.
        spans = self._table.chunks(max(16_384, self._memory_rows // 16))
        spans = [spans[place] for place in random.permutation(len(spans))]
        buffer = _Buffer(
            np.empty((min(self._memory_rows, self.train_rows), self.width), np.float32), random
        )
        filled = 0
        rest_nd = np.empty((0, self.width), np.float32)
        for x_nd, held_n in self._read(spans):
            train_nd = x_nd[~held_n]
            room = len(buffer.rows_bd) - filled
            first_nd = train_nd[:room]
            buffer.rows_bd[filled : filled + len(first_nd)] = first_nd
            filled += len(first_nd)
            if len(train_nd) > room:
                rest_nd = np.concatenate([rest_nd, buffer.exchange(train_nd[room:])])
                yield from _full(rest_nd, rows)
                rest_nd = rest_nd[len(rest_nd) // rows * rows :]
        rest_nd = np.concatenate([rest_nd, buffer.rows_bd[random.permutation(filled)]])
        yield from _full(rest_nd, rows)
        if len(rest_nd) % rows:
            yield rest_nd[len(rest_nd) // rows * rows :]


def _full(x_nd: Matrix, rows: int) -> Iterator[Matrix]:
    for start in range(0, len(x_nd) - rows + 1, rows):
        yield x_nd[start : start + rows]


def open_training_data(
    table: ParquetTable,
    item_id: str,
    *,
    share: float,
    memory_bytes: int,
    columns: Sequence[str] = ("embedding",),
) -> TrainingData:
    """Read a table into memory when it takes at most half of `memory_bytes`, else stream it.

    Raises
    ------
    SemidError
        For any bad row, naming it; see `semid.embedding_columns.side_by_side`.
    """
    widths = embedding_widths(table, columns)
    width = sum(widths.values())
    if 2 * 4 * width * table.num_rows > memory_bytes:
        return StreamedData(table, item_id, share=share, memory_bytes=memory_bytes, columns=columns)
    x_nd = np.empty((table.num_rows, width), dtype=np.float32)
    held_n = np.empty(table.num_rows, dtype=np.bool_)
    row = 0
    for batch in table.batches([item_id, *columns]):
        stop = row + batch.num_rows
        x_nd[row:stop] = side_by_side(batch, widths, where=table, first_row=row)
        held_n[row:stop] = held_out(batch[item_id], share)
        row = stop
    return ArrayData(x_nd, held_n, widths)


def training_ids(table: ParquetTable, item_id: str, *, share: float) -> pa.Array:
    """Return the ids of the training rows of a table, in their order."""
    found = []
    for batch in table.batches([item_id]):
        ids = batch.column(0)
        found.append(ids.filter(pa.array(~held_out(ids, share))))
    return pa.chunked_array(found).combine_chunks()


def require_rows(data: TrainingData, levels: Sequence[int]) -> None:
    """Raise `SemidError` when there are fewer training rows than codewords on some level."""
    largest = max(levels)
    if data.train_rows < largest:
        raise SemidError(
            f"{data.train_rows:,} training rows ({data.held_out_rows:,} more are held out) are "
            f"fewer than the {largest} codewords of level {list(levels).index(largest)}; use "
            "smaller levels, a smaller holdout, or more items"
        )
