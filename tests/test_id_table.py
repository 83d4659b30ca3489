import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semid.errors import SemidError
from semid.id_columns import CODES_TYPE, code_column, code_matrix, id_column, ids_schema
from semid.id_reading import id_batches, read_ids
from semid.id_table import IdTable
from semid.tables import open_table

CODES = np.array([[1, 2, 3], [1, 2, 3], [0, 0, 9]], np.int32)
SIDS = np.array([[1, 2, 3, 1], [1, 2, 3, 0], [0, 0, 9, 0]], np.int32)


def small(**changes):
    arrays = {
        "item_ids": ["b", "a", "日本"],
        "codes": CODES,
        "sids": SIDS,
        "distance": [0.5, 1.5, 2.5],
        "margin": [0.1, 0.2, 0.3],
        "metadata": {"model": "f00d", "policy": "suffix"},
    }
    return IdTable.from_arrays(**(arrays | changes))


def write(path, columns, metadata=None):
    table = pa.table(
        {name: pa.array(c) if isinstance(c, list) else c for name, c in columns.items()}
    )
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_a_table_comes_back_from_its_file(tmp_path):
    pq.write_table(small().to_arrow(), tmp_path / "ids.parquet")
    table = read_ids(tmp_path / "ids.parquet")
    assert len(table) == 3
    assert table.item_ids.equals(pa.array(["b", "a", "日本"]))
    assert table.codes.dtype == table.sids.dtype == np.int32
    assert table.codes.tolist() == CODES.tolist()
    assert table.sids.tolist() == SIDS.tolist()
    assert table.distance.tolist() == [0.5, 1.5, 2.5]
    assert table.margin.dtype == np.float32
    assert table.metadata == {"model": "f00d", "policy": "suffix"}
    assert table.to_arrow().equals(small().to_arrow(), check_metadata=True)


def test_what_a_table_lacks(tmp_path):
    lists = pa.array([[1], [0]])
    path = write(tmp_path / "ids.parquet", {"sku": [7, 3], "codes": lists, "sid": lists})
    table = read_ids(path, item_id="sku")
    assert table.item_ids.equals(pa.array([7, 3]))
    assert (table.distance, table.margin, table.metadata) == (None, None, {})
    assert table.to_arrow().schema.names == ["sku", "codes", "sid"]


def test_parts_are_read_in_order(tmp_path):
    for part in (1, 0):
        table = small(item_ids=[f"{part}-{row}" for row in range(3)])
        pq.write_table(table.to_arrow(), tmp_path / f"part-{part}.parquet")
    table = read_ids(tmp_path)
    assert table.item_ids.to_pylist() == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    assert table.sids.tolist() == [*SIDS.tolist(), *SIDS.tolist()]
    assert table.metadata["model"] == "f00d"


def test_schema_by_hand():
    schema = ids_schema(pa.int64(), "sku")
    assert schema.names == ["sku", "codes", "sid", "distance", "margin"]
    assert [field.nullable for field in schema] == [False] * 5
    assert schema.field("sid").type == pa.list_(pa.field("element", pa.int32(), nullable=False))


def test_pandas():
    frame = small().to_pandas()
    assert list(frame.columns) == ["item_id", "codes", "sid", "distance", "margin"]
    assert frame["item_id"].tolist() == ["b", "a", "日本"]
    assert frame["sid"][0].tolist() == [1, 2, 3, 1]


def test_batches_are_tables(tmp_path):
    pq.write_table(small().to_arrow(), tmp_path / "ids.parquet")
    parts = list(id_batches(open_table(tmp_path / "ids.parquet"), rows=2))
    assert [len(part) for part in parts] == [2, 1]
    assert parts[1].codes.tolist() == [[0, 0, 9]]
    assert parts[1].item_ids.to_pylist() == ["日本"]


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series(["b", "a"]),
        np.array(["b", "a"]),
        pa.array(["b", "a"], pa.large_string()),
        pa.chunked_array([["b"], ["a"]]),
        ("b", "a"),
    ],
)
def test_strings_of_any_kind_are_ids(ids):
    table = IdTable.from_arrays(ids, [[0], [1]])
    assert table.item_ids.equals(pa.array(["b", "a"], pa.string()))
    assert table.sids is table.codes


def test_numpy_strings_keep_an_inner_nul():
    assert id_column(np.array(["a\0b", ""])).to_pylist() == ["a\0b", ""]


def test_integers_become_int64():
    assert id_column(np.array([1, 2], np.uint32)).type == pa.int64()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_ids": ["a", "b"]}, "codes has 3 rows but there are 2 item ids"),
        ({"item_ids": ["a", "b", "a"]}, r"'a' occurs 2 times \(rows 0 and 2\)"),
        ({"item_ids": [5, 7, 7]}, r"7 occurs 2 times \(rows 1 and 2\)"),
        ({"item_ids": ["a", None, "b"]}, "row 1: 'item_id' is null"),
        ({"item_ids": [1.5, 2.5, 3.5]}, "'item_id' is double, but item ids must be"),
        ({"item_ids": ["a", 1, 2]}, "'item_id' cannot be read as strings or integers"),
        ({"item_ids": [1, 2, 2**64]}, "'item_id' cannot be read"),
        ({"item_ids": np.array([1, 2, 3], np.uint64)}, "'item_id' is uint64"),
        ({"item_ids": [], "codes": CODES[:0], "sids": None}, "no rows"),
        ({"codes": CODES.astype(float)}, "float64"),
        ({"codes": CODES - 1}, "row 2 holds the code -1 at level 0"),
        ({"codes": CODES[:2]}, "codes has 2 rows but there are 3"),
        ({"margin": [0.5]}, "margin has 1 rows but there are 3"),
        ({"sids": CODES[:, :2]}, "the sid has 2 levels and the codes 3"),
        ({"sids": np.hstack([SIDS, SIDS])}, "the sid has 8 levels and the codes 3"),
    ],
)
def test_bad_arrays_are_refused(changes, message):
    with pytest.raises(SemidError, match=message):
        small(**changes)


def lists(*rows):
    return pa.array(rows, pa.list_(pa.int64()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_id": None}, "ids.parquet has no column 'item_id'; its columns are codes, sid"),
        ({"sid": None}, "ids.parquet has no column 'sid'"),
        ({"item_id": ["a", None]}, "ids.parquet, row 1: 'item_id' is null"),
        ({"item_id": ["a", "a"]}, r"ids.parquet: the item id 'a' occurs 2 times"),
        ({"item_id": [0.5, 1.5]}, "'item_id' is double"),
        ({"codes": ["0", "1"]}, "ids.parquet, row 0: column 'codes' is string"),
        ({"codes": lists([0], None)}, "ids.parquet, row 1: column 'codes' is null"),
        ({"codes": lists([0], [0, 1])}, "ids.parquet, row 1: .* has 2 codes where row 0 has 1"),
        ({"codes": lists([], [])}, "ids.parquet, row 0: .* has 0 codes"),
        ({"codes": lists([0], [None])}, "ids.parquet, row 1: .* null code"),
        ({"codes": lists([0], [-1])}, "ids.parquet, row 1: column 'codes' holds the code -1"),
        ({"sid": lists([0, 1], [0])}, "ids.parquet, row 1: column 'sid' has 1 codes"),
        ({"sid": lists([0, 0, 0], [0, 0, 0])}, "ids.parquet, row 0: the sid has 3 levels"),
    ],
)
def test_bad_files_are_named(tmp_path, changes, message):
    good = {"item_id": ["a", "b"], "codes": lists([0], [1]), "sid": lists([0], [1])}
    columns = {name: c for name, c in (good | changes).items() if c is not None}
    path = write(tmp_path / "ids.parquet", columns)
    with pytest.raises(SemidError, match=message):
        read_ids(path)


@pytest.mark.parametrize("note", [b"not json", json.dumps([1]).encode()])
def test_a_broken_note_is_refused(tmp_path, note):
    columns = {"item_id": ["a"], "codes": lists([0]), "sid": lists([0])}
    path = write(tmp_path / "ids.parquet", columns, {b"semid": note})
    with pytest.raises(SemidError, match="metadata 'semid' is not a JSON object"):
        read_ids(path)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int64()), pa.large_list(pa.uint8()), pa.list_(pa.int16(), 2), CODES_TYPE],
)
def test_code_columns_of_any_kind(kind):
    column = pa.array([[9, 9], [1, 2], [3, 4]], kind).slice(1)
    codes_nl = code_matrix(column, "codes")
    assert codes_nl.dtype == np.int32
    assert codes_nl.tolist() == [[1, 2], [3, 4]]
    assert code_column(codes_nl).to_pylist() == [[1, 2], [3, 4]]
    assert code_matrix(column.slice(2), "codes", width=2).shape == (0, 2)
