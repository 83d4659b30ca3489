"""Map a table through a row-local object, chunk by chunk, in one process or several.

Every finished chunk is a part file; a job that is killed goes on with the chunks that are missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from semid.jobs.processes import end_with_parent, in_processes
from semid.jobs.progress import Bar, bar
from semid.streams import ROW_GROUP_ROWS, in_order, open_writer, prefetch
from semid.tables import ParquetTable, open_table

# Rows of one part in an output folder.
PART_ROWS = 1 << 20


class RowMap(Protocol):
    """An Arrow batch in, an Arrow batch out, row by row; `Assigner` and `Embedder` are."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        ...

    def __call__(
        self, rows: pa.RecordBatch, *, where: ParquetTable | None = None, first_row: int = 0
    ) -> pa.RecordBatch:
        """Map a batch."""
        ...


Engine = Callable[..., None]


def map_table(
    table: ParquetTable,
    mapper: RowMap,
    folder: Path,
    *,
    chunk_rows: int,
    batch_rows: int,
    what: str,
    workers: int = 1,
    at_once: int = 1,
    show: bool = False,
) -> None:
    """Write ``mapper(rows)`` for all rows to part files in `folder`, in the order of their names.

    The engine of the local jobs. Another engine takes the same parameters and may ignore those
    after `folder`.

    Parts that are there already are kept. The result does not depend on `workers`, nor on
    `at_once`: the batches that one process maps at the same time, so that a mapper of many threads
    need not wait for the last of them; above 1 it must bear being called so.

    Raises
    ------
    SemidError
        For a bad row, from the mapper.
    """
    todo = missing_parts(table, folder, chunk_rows)
    with bar(what, table.num_rows, "rows", show=show) as shown:
        shown.update(table.num_rows - sum(stop - start for (start, stop), _ in todo))
        if workers > 1 and len(todo) > 1:
            _map_in_processes(table, mapper, todo, batch_rows, workers, shown)
        else:
            for span, part in todo:
                for rows in write_part(table, mapper, span, part, batch_rows, at_once):
                    shown.update(rows)


def missing_parts(
    table: ParquetTable, folder: Path, chunk_rows: int
) -> list[tuple[tuple[int, int], Path]]:
    """Return the row ranges that have no part in `folder` yet, each with the part's path.

    The cut depends on the table alone, so that a resumed job finds the parts it left.
    """
    folder.mkdir(exist_ok=True)
    _remove_unfinished(folder)
    chunks = table.chunks(chunk_rows)
    parts = [folder / f"part-{number:05d}.parquet" for number in range(len(chunks))]
    return [pair for pair in zip(chunks, parts, strict=True) if not pair[1].exists()]


def open_parts(folder: Path, rows: int) -> ParquetTable:
    """Open what an engine wrote, making sure that it is every row once."""
    written = open_table(folder)
    if written.num_rows != rows:
        raise RuntimeError(f"the engine wrote {written.num_rows} rows to {folder}, not {rows}")
    return written


def write_part(
    table: ParquetTable,
    mapper: RowMap,
    span: tuple[int, int],
    part: Path,
    batch_rows: int,
    at_once: int = 1,
) -> Iterator[int]:
    """Write ``mapper(rows)`` of a row range to `part`; yields the rows of each batch when done.

    Raises
    ------
    SemidError
        For a bad row, from the mapper; nothing is left at `part`.
    """
    start, stop = span
    writing = part.with_name(f".{part.name}.{os.getpid()}")
    writer: pq.ParquetWriter | None = None
    batches = table.batches(mapper.columns, rows=batch_rows, start=start, stop=stop)

    def mapped(placed: tuple[int, pa.RecordBatch]) -> pa.RecordBatch:
        return mapper(placed[1], where=table, first_row=placed[0])

    # Reading and writing run beside the mapping, one batch ahead and one behind.
    with ThreadPoolExecutor(1) as behind:
        written: Future[None] | None = None
        try:
            for rows in in_order(mapped, _placed(prefetch(batches), start), at_once):
                writer = writer or open_writer(writing, rows.schema)
                if written is not None:
                    written.result()
                written = behind.submit(writer.write_batch, rows, ROW_GROUP_ROWS)
                yield rows.num_rows
            if written is not None:
                written.result()
        finally:
            if writer is not None:
                behind.submit(writer.close).result()
    writing.replace(part)


def _placed(batches: Iterator[pa.RecordBatch], row: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        yield row, batch
        row += batch.num_rows


_worker: tuple[ParquetTable, RowMap, int] | None = None  # of a spawned process, set once


def _map_in_processes(
    table: ParquetTable,
    mapper: RowMap,
    todo: Sequence[tuple[tuple[int, int], Path]],
    batch_rows: int,
    workers: int,
    shown: Bar,
) -> None:
    done = in_processes(
        _work,
        todo,
        workers=workers,
        start=_start_worker,
        start_with=(table, mapper, batch_rows),
        ended="a worker process",
    )
    for number, _ in done:
        start, stop = todo[number][0]
        shown.update(stop - start)


def _start_worker(table: ParquetTable, mapper: RowMap, batch_rows: int) -> None:
    global _worker
    end_with_parent()
    # One thread each; torch is not loaded yet and reads this when it is.
    os.environ["OMP_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    _worker = (table, mapper, batch_rows)


def _work(span: tuple[int, int], part: Path) -> None:
    assert _worker is not None
    table, mapper, batch_rows = _worker
    for _ in write_part(table, mapper, span, part, batch_rows):
        pass


def write_table(
    batches: Iterator[pa.RecordBatch], staged: Path, schema: pa.Schema, metadata: dict[str, str]
) -> Path:
    """Write batches to one Parquet file, or to a folder of parts when `staged` has no suffix."""
    shutil.rmtree(staged, ignore_errors=True)
    if staged.suffix == ".parquet":
        try:
            with open_writer(staged, schema, metadata) as writer:
                for batch in batches:
                    writer.write_batch(batch, ROW_GROUP_ROWS)
        except BaseException:
            staged.unlink(missing_ok=True)  # nothing can go on from a part of it
            raise
        return staged
    staged.mkdir()
    _write_parts(batches, staged, schema, metadata)
    return staged


def extend_table(
    table: ParquetTable,
    batches: Iterator[pa.RecordBatch],
    staged: Path,
    schema: pa.Schema,
    metadata: dict[str, str],
) -> Path:
    """Write a folder with all rows of `table` and then `batches`.

    Parts that are full are not written again: the new folder holds links to them, so that a version
    of a table takes the room of what is new in it.
    """
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    full = 0 if not table.is_local else len(table.files)
    while full and sum(table.row_groups[full - 1]) < PART_ROWS:
        full -= 1
    for number, file in enumerate(table.files[:full]):
        _link(Path(file), staged / f"part-{number:05d}.parquet")
    start = sum(map(sum, table.row_groups[:full]))
    rest = table.batches(table.schema.names, rows=1 << 16, start=start)
    _write_parts(chain(rest, batches), staged, schema, metadata, first=full)
    return staged


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def write_missing_parts(
    rows_from: Callable[[int], Iterator[pa.RecordBatch]], folder: Path, schema: pa.Schema
) -> None:
    """Write all rows of a stream to part files in `folder`, keeping those that are there already.

    ``rows_from(row)`` gives the rows from `row` on; what it gives must not depend on when it is
    called.
    """
    folder.mkdir(exist_ok=True)
    _remove_unfinished(folder)
    there = sorted(folder.glob("part-*.parquet"))
    row = sum(pq.read_metadata(part).num_rows for part in there)
    _write_parts(rows_from(row), folder, schema, {}, first=len(there))


def _remove_unfinished(folder: Path) -> None:
    for unfinished in folder.glob(".part-*"):  # by a job that was killed
        unfinished.unlink()


def _write_parts(
    batches: Iterator[pa.RecordBatch],
    folder: Path,
    schema: pa.Schema,
    metadata: dict[str, str],
    first: int = 0,
) -> None:
    number = first
    while (begin := next(batches, None)) is not None:
        part, written = folder / f"part-{number:05d}.parquet", 0
        writing = part.with_name(f".{part.name}")
        with open_writer(writing, schema, metadata) as writer:
            for batch in chain([begin], batches):
                writer.write_batch(batch, ROW_GROUP_ROWS)
                written += batch.num_rows
                if written >= PART_ROWS:
                    break
        writing.replace(part)
        number += 1
