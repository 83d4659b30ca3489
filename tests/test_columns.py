"""The two checked columns: which ids and embeddings pass, and how the first bad row is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.columns import (
    check_rows,
    embedding_matrix,
    embedding_schema,
    embedding_width,
    id_type,
)
from semid.duplicates import check_ids
from semid.errors import SemidError
from semid.tables import ParquetTable, open_table

Matrix = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table_of(**columns: Any) -> ParquetTable:
    pq.write_table(pa.table(columns), "t.parquet")
    return open_table("t.parquet", allow_empty=True)


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(SemidError) as error:
        call(*arguments, **options)
    return str(error.value)


# Item ids


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (pa.string(), pa.string()),
        (pa.large_string(), pa.string()),
        (pa.int64(), pa.int64()),
        (pa.int16(), pa.int64()),
        (pa.uint32(), pa.int64()),
    ],
)
def test_id_types(kind: pa.DataType, found: pa.DataType) -> None:
    table = table_of(item_id=pa.array(["1", "2"]).cast(kind))
    assert id_type(table, "item_id") == found
    check_ids(table, "item_id")


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.uint64(), pa.date32()])
def test_other_types_are_no_ids(kind: pa.DataType) -> None:
    table = table_of(item_id=pa.array([0, 1], pa.int32()).cast(kind))
    message = refusal(id_type, table, "item_id")
    assert message.startswith(f"t.parquet: column 'item_id' is {kind}, but item ids must be string")


def test_a_missing_id_column() -> None:
    message = refusal(id_type, table_of(sku=["a"], title=["b"]), "item_id")
    assert message.startswith("t.parquet has no column 'item_id'; its columns are sku, title")


def test_ids_that_are_nearly_alike_are_different() -> None:
    check_ids(
        table_of(item_id=["a", "A", "a ", "a\0", "a\0b", "a\0c", "", "ä", "a\u0308"]), "item_id"
    )
    check_ids(table_of(item_id=[0, -1, 2**63 - 1, -(2**63)]), "item_id")


def test_duplicates_name_both_rows_and_files() -> None:
    Path("items").mkdir()
    for name, ids in (("a", ["x", "y", "z"]), ("b", ["w", "y"]), ("c", ["y", "z"])):
        pq.write_table(pa.table({"item_id": ids}), f"items/{name}.parquet")
    message = refusal(check_ids, open_table("items"), "item_id")
    # Of both ids that repeat the one that comes first, with its first and last row.
    assert message == (
        "items: column 'item_id' holds 'y' 3 times (items/a.parquet, row 1; items/c.parquet, "
        "row 0); ids must be unique, remove the duplicates"
    )


def test_a_duplicate_at_the_border_of_two_ascending_files() -> None:
    Path("items").mkdir()
    for name, ids in (("a", ["w", "x"]), ("b", ["x", "y"])):
        pq.write_table(pa.table({"item_id": ids}), f"items/{name}.parquet")
    message = refusal(check_ids, open_table("items"), "item_id")
    assert "holds 'x' 2 times (items/a.parquet, row 1; items/b.parquet, row 0)" in message


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-3, 30), min_size=1, max_size=12))
def test_duplicates_are_found_wherever_they_are(ids: list[int]) -> None:
    table = table_of(item_id=ids)
    if len(set(ids)) == len(ids):
        check_ids(table, "item_id")
    else:
        first = min(row for row, value in enumerate(ids) if ids.count(value) > 1)
        message = refusal(check_ids, table, "item_id")
        assert f"holds {ids[first]} {ids.count(ids[first])} times" in message
        assert f"(t.parquet, row {first};" in message


def test_a_null_id_names_its_row() -> None:
    Path("items").mkdir()
    for name, ids in (("a", ["x"] * 3), ("b", ["y", None])):
        pq.write_table(pa.table({"item_id": ids}), f"items/{name}.parquet")
    message = refusal(check_ids, open_table("items"), "item_id")
    assert message.startswith("items/b.parquet, row 1: column 'item_id' is null; every item needs")


# Embeddings


def drawn(n: int, d: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def fixed_size(x_nd: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), x_nd.shape[1])


def test_width() -> None:
    x_nd = drawn(3, 5)
    assert embedding_width(table_of(embedding=fixed_size(x_nd))) == 5
    assert embedding_width(table_of(embedding=x_nd.tolist())) == 5
    assert embedding_width(table_of(vector=fixed_size(x_nd.astype(np.float16))), "vector") == 5


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, 2.0], "t.parquet: column 'embedding' is double, but embeddings must be lists"),
        (["a"], "t.parquet: column 'embedding' is string, but embeddings must be lists"),
        ([[1, 2]], "t.parquet: column 'embedding' is list<element: int64>, but embeddings must"),
        (pa.array([None, [1.0]]), "t.parquet, row 0: column 'embedding' is null"),
        (pa.array([[], [1.0]]), "t.parquet, row 0: column 'embedding' is empty"),
    ],
)
def test_what_has_no_width(column: Any, message: str) -> None:
    assert refusal(embedding_width, table_of(embedding=column)).startswith(message)
    assert refusal(embedding_width, table_of(vector=column)).startswith(
        "t.parquet has no column 'embedding'; its columns are vector"
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_kind_of_list_gives_the_same_matrix(dtype: type) -> None:
    x_nd = drawn(7, 4).astype(np.float16).astype(dtype)
    value = pa.from_numpy_dtype(np.dtype(dtype))
    for column in (
        fixed_size(x_nd),
        pa.array(x_nd.tolist(), pa.list_(value)),
        pa.array(x_nd.tolist(), pa.large_list(value)),
    ):
        found = embedding_matrix(column, 4)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, x_nd)
        for start, stop in ((0, 7), (2, 5), (6, 7), (3, 3)):
            part = embedding_matrix(column.slice(start, stop - start), 4)
            np.testing.assert_array_equal(part, x_nd[start:stop])


def test_slices_past_nulls() -> None:
    x_nd = drawn(6, 4)
    for kind in (pa.list_(pa.float32(), 4), pa.list_(pa.float32())):
        column = pa.array([None, *x_nd.tolist(), None], kind)
        np.testing.assert_array_equal(embedding_matrix(column.slice(1, 6), 4), x_nd)
        np.testing.assert_array_equal(embedding_matrix(column.slice(3, 2), 4), x_nd[2:4])
        assert refusal(embedding_matrix, column.slice(4), 4).startswith("row 3: the embedding is n")


def test_float32_is_not_copied() -> None:
    x_nd = drawn(7, 4)
    assert np.shares_memory(embedding_matrix(fixed_size(x_nd), 4), x_nd)


def with_rows(rows: dict[int, list[float] | None]) -> pa.Array:
    values: list[list[float] | None] = drawn(6, 3).tolist()
    for row, value in rows.items():
        values[row] = value
    return pa.array(values, pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({2: None, 4: None}, "row 12: the embedding is null; drop the row or embed it again"),
        ({3: [1.0, 2.0]}, "row 13: the embedding has 2 values where 3 are expected; embed all"),
        ({3: []}, "row 13: the embedding has 0 values where 3 are expected"),
        ({4: [1.0, None, 2.0]}, "row 14: the embedding holds a null value; embed the row again"),
        ({1: [1.0, float("nan"), 2.0]}, "row 11: the embedding holds nan at position 1; drop the"),
        ({5: [1.0, 2.0, float("-inf")]}, "row 15: the embedding holds -inf at position 2"),
        ({0: [0.0, -0.0, 0.0]}, "row 10: the embedding is all zeros, which has no direction"),
    ],
)
def test_bad_rows_are_named(rows: dict[int, Any], message: str) -> None:
    column = with_rows(rows)
    assert refusal(embedding_matrix, column, 3, first_row=10).startswith(message)
    table = table_of(embedding=drawn(20, 3).tolist())
    named = refusal(embedding_matrix, column, 3, where=table, first_row=10)
    assert named.startswith(f"t.parquet, {message}")


def test_a_fixed_size_that_is_not_the_width() -> None:
    message = refusal(embedding_matrix, fixed_size(drawn(3, 4)), 5)
    assert message.startswith("row 0: the embedding has 4 values where 5 are expected")


def test_values_may_be_looked_at_later() -> None:
    found = embedding_matrix(with_rows({2: [0.0, float("nan"), 0.0]}), 3, finite=False)
    assert np.isnan(found[2, 1])


@pytest.mark.parametrize("value", [1e-45, 1e-30, 1e-20, 1e20, 3e38])
def test_extreme_but_finite_rows_pass(value: float) -> None:
    x_nd = np.zeros((3, 4), np.float32)
    x_nd[:, 1] = value
    check_rows(x_nd)
    x_nd[:] = value
    check_rows(x_nd)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(1, 20), d=st.integers(1, 5))
def test_the_first_bad_row_is_named(data: st.DataObject, n: int, d: int) -> None:
    x_nd = np.ones((n, d), np.float32)
    kinds = data.draw(
        st.lists(st.sampled_from(["good", "nan", "inf", "zero"]), min_size=n, max_size=n)
    )
    place = data.draw(st.integers(0, d - 1))
    for row, kind in enumerate(kinds):
        if kind == "zero":
            x_nd[row] = 0
        elif kind != "good":
            x_nd[row, place] = float(kind)
    bad = next((row for row, kind in enumerate(kinds) if kind != "good"), None)
    if bad is None:
        check_rows(x_nd)
    else:
        said = {"zero": "is all zeros"}.get(kinds[bad], f"holds {kinds[bad]} at position {place}")
        assert refusal(check_rows, x_nd).startswith(f"row {bad}: the embedding {said}")
        assert refusal(check_rows, x_nd, "item {}".format).startswith(f"item {bad}: ")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_schema_that_semid_writes(dtype: str) -> None:
    schema = embedding_schema(pa.string(), "sku", 4, dtype)
    assert schema.names == ["sku", "embedding"]
    assert not any(field.nullable for field in schema)
    kind = schema.field("embedding").type
    assert kind.list_size == 4
    assert kind.value_type == pa.from_numpy_dtype(np.dtype(dtype))
    assert not kind.value_field.nullable
