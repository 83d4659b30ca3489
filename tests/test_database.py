"""DuckDB out of core: what goes wrong inside comes out as itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from semid.database import fed, out_of_core
from semid.errors import SemidError

SCHEMA = pa.schema([("n", pa.int64())])


def total(folder: Path, batches: Iterator[pa.RecordBatch]) -> object:
    with (
        out_of_core("adding up", folder, memory_bytes=1 << 28, relief="-") as connection,
        fed(connection, "rows", SCHEMA, batches),
    ):
        return connection.execute("SELECT sum(n) FROM rows").fetchall()[0][0]


def counting(stop: BaseException | None) -> Iterator[pa.RecordBatch]:
    for start in range(0, 100, 10):
        if stop is not None and start == 50:
            raise stop
        yield pa.record_batch([pa.array(range(start, start + 10))], schema=SCHEMA)


def test_rows_reach_a_query(tmp_path: Path) -> None:
    assert total(tmp_path, counting(None)) == 4_950


@pytest.mark.parametrize("stop", [SemidError("bad row"), KeyboardInterrupt(), ZeroDivisionError()])
def test_what_reading_raises_is_raised(tmp_path: Path, stop: BaseException) -> None:
    with pytest.raises(type(stop)) as raised:
        total(tmp_path, counting(stop))
    assert raised.value is stop


def endless(folder: Path) -> None:
    query = "SELECT sum(a.range * b.range % 7) FROM range(200000) a, range(200000) b"
    with out_of_core(
        "adding up", folder, memory_bytes=1 << 28, relief="-", threads="8"
    ) as connection:
        connection.execute(query).fetchone()


@pytest.mark.parametrize("attempt", range(6))
def test_an_interrupt_stops_the_query(tmp_path: Path, attempt: int) -> None:
    # Whether DuckDB works on the query by this thread or by one of its own is chance.
    before = signal.getsignal(signal.SIGINT)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        endless(tmp_path)
    assert time.monotonic() - start < 30, "it waited for the query, minutes"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_is_only_noted_stops_nothing(tmp_path: Path) -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        with out_of_core("adding up", tmp_path, memory_bytes=1 << 28, relief="-") as connection:
            signal.raise_signal(signal.SIGINT)
            assert connection.execute("SELECT sum(range) FROM range(10)").fetchone() == (45,)
    finally:
        signal.signal(signal.SIGINT, before)
    assert noted == [signal.SIGINT]


def test_too_little_memory_is_said(tmp_path: Path) -> None:
    many = (
        pa.record_batch([pa.array(range(start, start + 65_536))], schema=SCHEMA)
        for start in range(0, 1 << 22, 65_536)
    )
    with (
        pytest.raises(
            SemidError, match=r"^sorting failed within 0\.0?.* GiB .*; take less, or free"
        ),
        out_of_core(
            *("sorting", tmp_path),
            memory_bytes=1 << 21,
            relief="take less",
            max_temp_directory_size="1KB",
        ) as connection,
        fed(connection, "rows", SCHEMA, many),
    ):
        connection.execute("SELECT n, count(*) FROM rows GROUP BY n ORDER BY 2, 1 DESC").fetchall()
