"""Batches on their way between tables: cut alike, read ahead, written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 16_384

# What streams the rows of a table, from the first, whenever it is called.
Batches = Callable[[], Iterator[pa.RecordBatch]]

Batch = TypeVar("Batch")
Done = TypeVar("Done")


def rebatched(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Cut a stream into batches of exactly `rows` rows, the last one shorter.

    Two tables of one order but other row groups can then be walked side by side.
    """
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            joined = pa.Table.from_batches(waiting)
            yield joined.slice(0, rows).combine_chunks().to_batches()[0]
            waiting = joined.slice(rows).to_batches()
            count -= rows
    if count:
        yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]


def prefetch(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Read one batch ahead in a thread, so that reading overlaps what the caller computes."""
    iterator = iter(batches)
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(next, iterator, None)
        while (batch := ahead.result()) is not None:
            ahead = thread.submit(next, iterator, None)
            yield batch


def in_order(
    work: Callable[[Batch], Done], batches: Iterable[Batch], at_once: int
) -> Iterator[Done]:
    """Yield ``work(batch)`` of every batch in its order, working on so many at the same time."""
    if at_once == 1:  # here, where an interrupt is heard
        yield from map(work, batches)
        return
    begun: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(at_once) as threads:
        for batch in batches:
            begun.append(threads.submit(work, batch))
            if len(begun) == at_once:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def open_writer(
    path: Path, schema: pa.Schema, metadata: dict[str, str] | None = None
) -> pq.ParquetWriter:
    """Open a Parquet writer with semid's layout: zstd level 1, small row groups.

    Embeddings are left as they are: their bytes shrink by a seventh, and writing and reading them
    would take twice the time. Write with ``writer.write_batch(batch, ROW_GROUP_ROWS)``.
    """
    embeddings = {f"{field.name}.list.element" for field in schema if _is_embedding(field)}
    leaves = {
        f"{field.name}.list.element" if _is_list(field) else field.name: field for field in schema
    }
    floats = [name for name, field in leaves.items() if pa.types.is_floating(field.type)]
    return pq.ParquetWriter(
        path,
        schema.with_metadata(metadata),
        compression={name: "none" if name in embeddings else "zstd" for name in leaves},
        compression_level={name: 1 for name in leaves if name not in embeddings},
        use_byte_stream_split=floats,
        use_dictionary=False,
        write_statistics=[name for name in leaves if name not in embeddings],
    )


def _is_list(field: pa.Field) -> bool:
    return isinstance(field.type, pa.ListType | pa.FixedSizeListType)


def _is_embedding(field: pa.Field) -> bool:
    kind = field.type
    return isinstance(kind, pa.FixedSizeListType) and bool(pa.types.is_floating(kind.value_type))
