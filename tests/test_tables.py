"""Tables: every row once and in order, whatever the files look like; errors that name the file."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.streams import ROW_GROUP_ROWS, open_writer, prefetch, rebatched
from semid.tables import ParquetTable, open_table

SCHEMA = pa.schema([("item_id", pa.int64()), ("name", pa.string())])


def rows(start: int, stop: int) -> pa.Table:
    ids = range(start, stop)
    return pa.table({"item_id": ids, "name": [f"n{i}" for i in ids]}, schema=SCHEMA)


def write_groups(path: Path, groups: list[int], start: int = 0) -> int:
    """Write a file with row groups of these sizes; returns the number after its last row."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for size in groups:
            writer.write_table(rows(start, start + size))
            start += size
    return start


def ids_of(batches: Iterator[pa.RecordBatch]) -> list[int]:
    return [value for batch in batches for value in batch["item_id"].to_pylist()]


row_groups = st.lists(
    st.lists(st.integers(0, 60), max_size=5).map(tuple), min_size=1, max_size=4
).map(tuple)


# Cutting and streaming


@settings(max_examples=300, deadline=None)
@given(row_groups, st.integers(1, 80))
def test_chunks_cover_every_row_once_and_keep_to_row_groups(
    groups: tuple[tuple[int, ...], ...], size: int
) -> None:
    table = ParquetTable("t", ("f",) * len(groups), pafs.LocalFileSystem(), SCHEMA, groups)
    chunks = table.chunks(size)
    covered = [row for start, stop in chunks for row in range(start, stop)]
    assert covered == list(range(table.num_rows))
    borders = {0, *accumulate(size for file in groups for size in file)}
    for start, stop in chunks:
        assert 0 < stop - start <= size
        if stop not in borders:  # cut inside a row group: only where no border was in reach
            assert stop - start == size
            assert not borders & set(range(start + 1, stop))


def test_chunks_by_hand() -> None:
    table = ParquetTable("t", ("f",), pafs.LocalFileSystem(), SCHEMA, ((3, 3, 3, 25, 1, 1),))
    # Two groups of 3 fit 8 rows, the third does not; the group of 25 is cut into 8, 8, 8 and 1,
    # and the last takes the two small ones along.
    assert table.chunks(8) == [(0, 6), (6, 9), (9, 17), (17, 25), (25, 33), (33, 36)]
    assert table.chunks(100) == [(0, 36)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=3),
    st.integers(1, 12),
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(0, 40)),
)
def test_batches_are_slices(
    files: list[list[int]], batch_rows: int, start: int, stop: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        end = 0
        for number, groups in enumerate(files):
            end = write_groups(Path(folder) / f"{number}.parquet", groups, end)
        table = open_table(folder, allow_empty=True)
        assert table.num_rows == end
        batches = list(table.batches(["item_id"], rows=batch_rows, start=start, stop=stop))
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)
    assert ids_of(iter(batches)) == list(range(end))[start:stop]


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_groups(tmp_path / "t.parquet", [5])
    (batch,) = open_table(tmp_path / "t.parquet").batches(["name"])
    assert batch.schema.names == ["name"]


def test_a_huge_row_group_is_streamed(tmp_path: Path) -> None:
    n, width = 60_000, 64
    values = np.random.default_rng(0).normal(size=n * width).astype(np.float32)
    table = pa.table(
        {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(values), width)},
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=n, use_dictionary=False)
    whole = table.nbytes
    del table
    opened = open_table(tmp_path / "t.parquet")
    assert opened.row_groups == ((n,),)
    before, peak, seen = pa.total_allocated_bytes(), 0, 0
    for batch in opened.batches(["embedding"], rows=1_000):
        assert batch.num_rows <= 1_000
        peak = max(peak, pa.total_allocated_bytes() - before)
        seen += batch.num_rows
    assert seen == n
    assert peak < whole / 3


def test_row_groups_outside_the_range_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_groups(path, [1_000] * 4)
    group = pq.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    begin = group.dictionary_page_offset or group.data_page_offset
    content[begin : begin + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(content)
    table = open_table(path)
    assert ids_of(table.batches(["item_id"], start=1_000)) == list(range(1_000, 4_000))
    with pytest.raises(SemidError, match=r"t\.parquet is damaged and cannot be read .*write it"):
        list(table.batches(["item_id"], start=999))


# Folders, globs and URIs


def test_a_folder_is_its_parts_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, start in (("b", 5), ("a", 0), ("c/part-1", 15), ("c/part-0", 10)):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_groups(path, [3, 2], start)
    table = open_table(tmp_path)
    assert [Path(file).name for file in table.files] == [
        "a.parquet",
        "b.parquet",
        "part-0.parquet",
        "part-1.parquet",
    ]
    assert table.num_rows == 20
    assert ids_of(table.batches(["item_id"])) == list(range(20))
    assert table.locate(0).endswith("a.parquet, row 0")
    assert table.locate(4).endswith("a.parquet, row 4")
    assert table.locate(5).endswith("b.parquet, row 0")
    assert table.locate(19).endswith("part-1.parquet, row 4")
    with pytest.raises(IndexError):
        table.locate(20)


def test_hidden_and_underscore_names_are_left_out(tmp_path: Path) -> None:
    write_groups(tmp_path / "a.parquet", [3])
    for name in ("_b.parquet", ".c.parquet", "_d/e.parquet", ".f/g.parquet", "h/_i.parquet"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty.parquet").mkdir()
    for folder in (tmp_path, f"{tmp_path}/", f"{tmp_path}//", f"file://{tmp_path}/"):
        assert ids_of(open_table(folder).batches(["item_id"])) == [0, 1, 2]


def test_a_folder_whose_own_name_is_hidden_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "_staging" / ".part"
    folder.mkdir(parents=True)
    write_groups(folder / "a.parquet", [3])
    assert open_table(folder).num_rows == 3


def test_a_trailing_slash_and_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "items").mkdir()
    write_groups(tmp_path / "items" / "a.parquet", [3])
    monkeypatch.chdir(tmp_path)
    assert open_table("items/").num_rows == 3
    assert open_table("items").locate(1) == "items/a.parquet, row 1"
    assert open_table(tmp_path / "items").locate(1) == "items/a.parquet, row 1"


def test_globs(tmp_path: Path) -> None:
    for number in range(3):
        write_groups(tmp_path / f"part-{number}.parquet", [2], 2 * number)
    (tmp_path / "deep").mkdir()
    write_groups(tmp_path / "deep" / "part-3.parquet", [2], 6)
    assert open_table(f"{tmp_path}/part-*.parquet").num_rows == 6
    assert open_table(f"{tmp_path}/part-[12].parquet").num_rows == 4
    assert open_table(f"{tmp_path}/**/part-?.parquet").num_rows == 8
    with pytest.raises(SemidError, match=r"no file matches .*/other-\*\.parquet; check the patt"):
        open_table(f"{tmp_path}/other-*.parquet")


def test_folders_that_a_glob_matches_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_groups(tmp_path / "a.parquet", [2])
    write_groups(tmp_path / "deep" / "b.parquet", [2], 2)
    assert open_table(f"{tmp_path}/**").num_rows == 4
    with pytest.raises(SemidError, match="no file matches"):
        open_table(f"{tmp_path}/dee*")


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    write_groups(tmp_path / "items[1].parquet", [2])
    assert open_table(tmp_path / "items[1].parquet").num_rows == 2


def test_uris(tmp_path: Path) -> None:
    write_groups(tmp_path / "a.parquet", [3])
    for uri in (f"file://{tmp_path}", f"file://{tmp_path}/a.parquet"):
        table = open_table(uri)
        assert table.is_local
        assert ids_of(table.batches(["item_id"])) == [0, 1, 2]
    with pytest.raises(SemidError, match=r"b\.parquet does not exist"):
        open_table(f"file://{tmp_path}/b.parquet")


@pytest.mark.parametrize("uri", ["ftp://host/items.parquet", "file://items.parquet", "s3://b/%%"])
def test_uris_that_nothing_opens(uri: str) -> None:
    with pytest.raises(SemidError, match=f"{uri} cannot be opened .*check the path"):
        open_table(uri)


# What is refused


def message_of(path: Any) -> str:
    with pytest.raises(SemidError) as error:
        open_table(path)
    return str(error.value)


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message_of("items.parquet") == "items.parquet does not exist; check the path"
    (tmp_path / "items").mkdir()
    assert message_of("items") == "the folder items holds no .parquet files; check the path"


def test_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_groups(tmp_path / "items.parquet", [])
    assert message_of("items.parquet") == "items.parquet has no rows; check the job that wrote it"
    table = open_table("items.parquet", allow_empty=True)
    assert table.num_rows == 0
    assert table.chunks(10) == []
    assert list(table.batches(["item_id"])) == []


def test_not_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_text("item_id,title\n1,a\n")
    assert message_of("items.csv") == (
        "items.csv is not a Parquet file (its first bytes are b'item'); name the table itself, or "
        "convert it, for example with pandas.DataFrame.to_parquet"
    )
    (tmp_path / "empty.parquet").touch()
    assert message_of("empty.parquet") == "empty.parquet is an empty file; write or copy it again"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.chdir(tmp_path)
    write_groups(tmp_path / "good.parquet", [2_000])
    content = (tmp_path / "good.parquet").read_bytes()
    kept = int(share * len(content))
    (tmp_path / "items.parquet").write_bytes(content[:kept])
    assert message_of("items.parquet") == (
        "items.parquet is truncated: it begins as Parquet but its footer is missing after "
        f"{kept:,} bytes; write or copy it again"
    )


def test_one_bad_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items").mkdir()
    write_groups(tmp_path / "items" / "a.parquet", [5])
    (tmp_path / "items" / "b.parquet").write_bytes(b"PAR1")
    assert message_of("items").startswith("items/b.parquet is truncated")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    write_groups(tmp_path / "items.parquet", [5])
    (tmp_path / "items.parquet").chmod(0)
    assert message_of(tmp_path / "items.parquet").startswith("no permission to read ")


NOT_NULL = pa.schema([pa.field("a", pa.int64(), nullable=False)])
PARTS: dict[str, tuple[pa.Table, pa.Table, str]] = {
    "type": (
        pa.table({"a": [1]}),
        pa.table({"a": ["x"]}),
        "the parts disagree on column 'a': int64 in items/a.parquet, string in items/b.parquet; "
        "write them alike",
    ),
    "missing": (
        pa.table({"a": [1], "b": [1]}),
        pa.table({"a": [1]}),
        "the parts disagree on column 'b': int64 in items/a.parquet, missing in items/b.parquet; "
        "write them alike",
    ),
    "more": (
        pa.table({"a": [1]}),
        pa.table({"a": [1], "b": [1]}),
        "items/b.parquet has columns that items/a.parquet lacks (b) or in another order; "
        "write the parts alike",
    ),
    "nullable": (
        pa.table({"a": [1]}, schema=NOT_NULL),
        pa.table({"a": [1]}),
        "the parts disagree on column 'a': int64 not null in items/a.parquet, int64 in "
        "items/b.parquet; write them alike",
    ),
    "width": (
        pa.table({"a": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))}),
        pa.table({"a": pa.array([[1.0]], pa.list_(pa.float32(), 1))}),
        "the parts disagree on column 'a': fixed_size_list<element: float>[2] in items/a.parquet, "
        "fixed_size_list<element: float>[1] in items/b.parquet; write them alike",
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, message = PARTS[name]
    (tmp_path / "items").mkdir()
    pq.write_table(first, tmp_path / "items" / "a.parquet")
    pq.write_table(second, tmp_path / "items" / "b.parquet")
    assert message_of("items") == message


def test_parts_may_differ_in_metadata(tmp_path: Path) -> None:
    for name in ("a", "b"):
        table = rows(0, 3).replace_schema_metadata({"made": name})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert open_table(tmp_path).num_rows == 6


def test_missing_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_groups(tmp_path / "items.parquet", [1])
    table = open_table("items.parquet")
    table.require(["name", "item_id"])
    with pytest.raises(SemidError) as error:
        table.require(["item_id", "title", "brand"])
    assert str(error.value) == (
        "items.parquet has no column 'title', 'brand'; its columns are item_id, name"
    )


# Reading ahead


def test_prefetch_keeps_order_and_every_item() -> None:
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch([])) == []


def test_prefetch_reads_one_ahead_in_another_thread() -> None:
    read: list[tuple[int, int]] = []
    second = threading.Event()

    def source() -> Iterator[int]:
        for number in range(5):
            read.append((number, threading.get_ident()))
            if number == 1:
                second.set()
            yield number

    ahead = prefetch(source())
    assert next(ahead) == 0
    assert second.wait(10)
    assert list(ahead) == [1, 2, 3, 4]
    assert {thread for _, thread in read}.isdisjoint({threading.get_ident()})


def test_prefetch_passes_errors_on_where_they_belong() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise SemidError("row 2 is bad")

    ahead = prefetch(source())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(SemidError, match="row 2 is bad"):
        next(ahead)


def test_prefetch_ends_when_nobody_reads_on() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1_000_000):
            read.append(number)
            yield number

    threads = threading.active_count()
    for number in prefetch(source()):
        if number == 3:
            break
    assert threading.active_count() == threads
    assert read == [0, 1, 2, 3, 4]


# Writing


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_writing_and_reading_embeddings(tmp_path: Path, dtype: str) -> None:
    n, width = 40_000, 4
    values = np.random.default_rng(0).normal(size=(n, width)).astype(dtype)
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(np.dtype(dtype)), False), width)
    schema = pa.schema(
        [pa.field("item_id", pa.string(), False), pa.field("embedding", kind, False)]
    )
    ids = [f"item {i}" for i in range(n)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    path = tmp_path / "e.parquet"
    with open_writer(path, schema, {"semid": "{}"}) as writer:
        batch = pa.record_batch([pa.array(ids), column], schema=schema)
        writer.write_batch(batch, ROW_GROUP_ROWS)
    table = open_table(path)
    assert table.schema.equals(schema)
    assert table.row_groups == ((ROW_GROUP_ROWS, ROW_GROUP_ROWS, n - 2 * ROW_GROUP_ROWS),)
    read = pa.Table.from_batches(table.batches(schema.names))
    assert read["item_id"].to_pylist() == ids
    found = read["embedding"].combine_chunks().flatten().to_numpy()
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.reshape(n, width), values)
    metadata = pq.read_metadata(path)
    assert metadata.metadata[b"semid"] == b"{}"
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).column(1).compression == "UNCOMPRESSED"


def test_writing_plain_floats_and_lists_of_codes(tmp_path: Path) -> None:
    schema = pa.schema(
        [("item_id", pa.int64()), ("codes", pa.list_(pa.int32())), ("distance", pa.float32())]
    )
    batch = pa.record_batch([[1, 2], [[3, 4], [5, 6]], [0.5, 1.5]], schema=schema)
    with open_writer(tmp_path / "ids.parquet", schema) as writer:
        writer.write_batch(batch, ROW_GROUP_ROWS)
    table = open_table(tmp_path / "ids.parquet")
    assert list(table.batches(schema.names)) == [batch]
    encodings = pq.read_metadata(tmp_path / "ids.parquet").row_group(0).column(2).encodings
    assert "BYTE_STREAM_SPLIT" in encodings


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_rebatched_cuts_a_stream_anew(sizes: list[int], size: int) -> None:
    starts = [0, *accumulate(sizes)]
    stream = [
        b
        for start, n in zip(starts, sizes, strict=False)
        for b in rows(start, start + n).to_batches()
    ]
    cut = list(rebatched(stream, size))
    assert [batch.num_rows for batch in cut[:-1]] == [size] * (len(cut) - 1)
    assert all(0 < batch.num_rows <= size for batch in cut[-1:])
    assert pa.Table.from_batches(cut, SCHEMA) == rows(0, starts[-1])


def test_a_store_is_its_current_version(tmp_path):
    for version, value in (("v0001", 1), ("v0002", 2)):
        (tmp_path / "ids" / version).mkdir(parents=True)
        pq.write_table(pa.table({"a": [value]}), tmp_path / "ids" / version / "part-00000.parquet")
        pq.write_table(pa.table({"a": [9]}), tmp_path / "ids" / version / "_retired.parquet")
    pointer = tmp_path / "ids" / "CURRENT"
    for version in ("v0001", "v0002", "v0001"):
        pointer.write_text(f"{version}\n")
        (batch,) = open_table(tmp_path / "ids").batches(["a"])
        assert batch.column(0).to_pylist() == [int(version[-1])]
    # The folder above has all versions in it, one after the other.
    with pytest.raises(SemidError, match=r"is no table but holds the store .*ids; name that"):
        open_table(tmp_path)
    pointer.write_text("../elsewhere\n")
    with pytest.raises(SemidError, match=r"CURRENT names '../elsewhere', which is no version"):
        open_table(tmp_path / "ids")
    pointer.write_text("v0003\n")
    with pytest.raises(SemidError, match=r"'v0003', which is no version that is there \(v0001, v"):
        open_table(tmp_path / "ids")
