"""DuckDB for what does not fit in memory, with its failures as sentences."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import duckdb
import pyarrow as pa

from semid.errors import SemidError, display_path


@contextmanager
def out_of_core(
    what: str,
    folder: Path,
    *,
    memory_bytes: int,
    relief: str,
    file: str | None = None,
    **settings: str,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database that spills to `folder` what does not fit in `memory_bytes`.

    Parameters
    ----------
    what : what it is used for, such as ``resolving collisions``
    folder : an existing folder
    relief : what its user may do when the memory is too small
    file : keep the tables themselves in a file of this name, too
    settings : DuckDB's

    Raises
    ------
    SemidError
        When memory or the disk run out inside the block.
    KeyboardInterrupt
        As anywhere, also while a query runs.
    """
    place = ":memory:" if file is None else str(folder / file)
    limits = {"memory_limit": f"{memory_bytes}B", "temp_directory": str(folder)}
    try:
        with (
            duckdb.connect(place, config={**limits, **settings}) as connection,
            _interrupted_with_us(connection),
        ):
            yield connection
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        if "No space left on device" in str(error):
            raise SemidError(
                f"the disk is full: no space left below {display_path(folder)} for {what}; free "
                "some space and run the same command again"
            ) from error
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            raise SemidError(
                f"{what} failed within {memory_bytes / 2**30:.3g} GiB of memory and the disk below "
                f"{display_path(folder)} ({str(error).splitlines()[0]}); {relief}, or free space "
                "there"
            ) from error
        raise
    except RuntimeError as error:
        # What DuckDB makes of Ctrl-C while it waits for a query.
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


@contextmanager
def _interrupted_with_us(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let Ctrl-C stop the query inside the block.

    DuckDB itself only stops waiting for it: while one of its threads works on the query, the
    connection is not closed before that is done, which may be in an hour.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        try:
            before(number, frame)
        except BaseException:
            with suppress(duckdb.Error):  # closed, where databases do not end in turn
                connection.interrupt()
            raise

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def fed(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[None]:
    """Let one query inside the block read `batches` as the table `name`.

    Whatever reading them raises, an interrupt too, is raised by the block: it would not survive the
    way through DuckDB.
    """
    failure: list[BaseException] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except GeneratorExit:
            raise
        except BaseException as error:
            failure.append(error)

    connection.register(name, pa.RecordBatchReader.from_batches(schema, watched()))
    try:
        yield
    except duckdb.Error:
        if failure:
            raise failure.pop() from None
        raise
    if failure:
        raise failure.pop()
