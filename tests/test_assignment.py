"""Assigner and Embedder: the two objects that every engine maps over batches of rows."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import semid
from semid.assignment import Assigner
from semid.embedding import Embedder
from semid.encoders import FeaturesConfig, LsaConfig, load_encoder, make_encoder
from semid.errors import SemidError
from semid.jobs.mapping import map_table
from semid.tables import open_table

Matrix = npt.NDArray[np.float32]
SMALL = {"training": {"epochs": 2}, "model": {"latent_dim": 4, "hidden": [16]}}


def drawn(n: int, d: int = 6, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.fixture(scope="module", params=["rqvae", "fsq", "rqkmeans"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("assigner") / "model"
    config = {} if request.param == "rqkmeans" else SMALL
    semid.fit(drawn(300), request.param, (8, 4), config=config, device="cpu").save(path)
    return path


def rows_of(x_nd: Matrix, ids: Any = None, name: str = "item_id") -> pa.RecordBatch:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x_nd.reshape(-1)), x_nd.shape[1])
    ids = [f"item{i}" for i in range(len(x_nd))] if ids is None else ids
    return pa.record_batch([pa.array(ids), vectors], names=[name, "embedding"])


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(SemidError) as error:
        call(*arguments, **options)
    return str(error.value)


# Assigner


def test_a_batch_in_and_a_batch_out(folder: Path) -> None:
    rows = rows_of(drawn(50, seed=1))
    found = Assigner(folder)(rows)
    assert isinstance(found, pa.RecordBatch)
    assert found.schema.equals(
        pa.schema(
            [
                pa.field("item_id", pa.string(), nullable=False),
                pa.field("codes", pa.list_(pa.field("element", pa.int32(), False)), nullable=False),
                pa.field("distance", pa.float32(), nullable=False),
                pa.field("margin", pa.float32(), nullable=False),
            ]
        )
    )
    expected = semid.load(folder).quantize(drawn(50, seed=1))
    assert found["item_id"].equals(rows["item_id"])
    assert found["codes"].to_pylist() == expected.codes_nl.tolist()
    np.testing.assert_array_equal(found["distance"].to_numpy(), expected.distance_n)
    np.testing.assert_array_equal(found["margin"].to_numpy(), expected.margin_n)


def test_a_table_in_and_a_table_out(folder: Path) -> None:
    assign = Assigner(folder)
    batch = rows_of(drawn(50, seed=1))
    table = pa.Table.from_batches([batch[:20], batch[20:20], batch[20:]])
    found = assign(table)
    assert isinstance(found, pa.Table)
    assert found.equals(pa.Table.from_batches([assign(batch)]))
    assert assign(table[:0]).num_rows == 0
    assert assign(batch[:0]).schema == assign(batch).schema


def test_other_columns_and_their_order_do_not_matter(folder: Path) -> None:
    batch = rows_of(drawn(9, seed=1))
    wide = pa.record_batch(
        [batch["embedding"], pa.array(range(9)), batch["item_id"]],
        names=["embedding", "title", "item_id"],
    )
    assert Assigner(folder)(wide).equals(Assigner(folder)(batch))
    assert Assigner(folder).columns == ("item_id", "embedding")


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (pa.array(range(9), pa.int32()), pa.int64()),
        (pa.array(range(9)), pa.int64()),
        (pa.array(map(str, range(9)), pa.large_string()), pa.string()),
        (pa.array(f"a\0{i}" for i in range(9)), pa.string()),
    ],
)
def test_ids_keep_their_values(folder: Path, ids: pa.Array, kind: pa.DataType) -> None:
    found = Assigner(folder, item_id="sku")(rows_of(drawn(9), ids, "sku"))
    assert found.schema.field("sku").type == kind
    assert found["sku"].to_pylist() == ids.to_pylist()


@cache
def loaded(folder: Path) -> Assigner:
    return Assigner(folder)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_batches_do_not_matter(folder: Path, cuts: list[int]) -> None:
    batch, assign = rows_of(drawn(60, seed=1)), loaded(folder)
    borders = sorted({0, 60, *cuts})
    parts = [assign(batch.slice(start, stop - start)) for start, stop in pairwise(borders)]
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([assign(batch)]))


def test_pickles_carry_the_folder_not_the_model(folder: Path) -> None:
    assign = Assigner(folder, item_id="sku", device="cpu")
    rows = rows_of(drawn(9), name="sku")
    found = assign(rows)  # the model is loaded now
    pickled = pickle.dumps(assign)
    assert len(pickled) < 1_000
    copy = pickle.loads(pickled)  # noqa: S301
    assert (copy.item_id, copy.device) == ("sku", "cpu")
    assert copy(rows).equals(found)


def test_a_pickle_works_from_another_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assign, rows = Assigner("model"), rows_of(drawn(9))
    expected, pickled = assign(rows), pickle.dumps(assign)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled)(rows).equals(expected)  # noqa: S301


def test_it_loads_nothing_before_its_first_batch(tmp_path: Path) -> None:
    code = (
        "import sys; from semid.assignment import Assigner; Assigner('nowhere');"
        "sys.exit(bool({'torch', 'faiss'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    assert "does not exist" in refusal(Assigner(tmp_path / "nowhere"), rows_of(drawn(3)))


BAD: dict[str, tuple[pa.RecordBatch, str]] = {
    "null id": (rows_of(drawn(3), ["a", None, "c"]), "'item_id' is null; every item needs an id"),
    "NaN": (
        rows_of(np.array([[1] * 6, [1, 1, 1, np.nan, 1, 1]], np.float32)),
        "the embedding holds nan at position 3; drop the row or embed it again",
    ),
    "infinity": (
        rows_of(np.array([[1] * 6, [np.inf] * 6], np.float32)),
        "the embedding holds inf at position 0",
    ),
    "zeros": (rows_of(np.array([[0, 1] * 3, [0] * 6], np.float32)), "the embedding is all zeros"),
    "null": (
        pa.record_batch([["a", "b"], [[1.0] * 6, None]], names=["item_id", "embedding"]),
        "the embedding is null",
    ),
    "ragged": (
        pa.record_batch([["a", "b"], [[1.0] * 6, [1.0] * 5]], names=["item_id", "embedding"]),
        "the embedding has 5 values where 6 are expected",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_file_and_the_row(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, message = BAD[name]
    assert refusal(loaded(folder), rows).startswith(f"row 1: {message}")
    assert refusal(loaded(folder), rows, first_row=40).startswith(f"row 41: {message}")
    Path("items").mkdir()
    for part in "ab":
        pq.write_table(pa.table({"item_id": range(30)}), f"items/{part}.parquet")
    said = refusal(loaded(folder), rows, where=open_table("items"), first_row=40)
    assert said.startswith(f"items/b.parquet, row 11: {message}")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def mapped(folder: Path, source: Path, parts: Path, at_once: int) -> pa.Table:
    """Map a table with so many batches in flight, on two threads."""
    table, assigner = open_table(source), Assigner(folder)
    parts.mkdir()
    sizes = {"chunk_rows": 400, "batch_rows": 50}
    map_table(table, assigner, parts, **sizes, what="assign", at_once=at_once)
    return pq.read_table(parts)


def test_batches_mapped_at_the_same_time_do_not_matter(
    folder: Path, tmp_path: Path, two_threads: None
) -> None:
    pq.write_table(pa.Table.from_batches([rows_of(drawn(1_030))]), tmp_path / "x.parquet")
    tables = [
        mapped(folder, tmp_path / "x.parquet", tmp_path / f"parts-{at_once}", at_once)
        for at_once in (1, 2, 5)
    ]
    assert tables[0].num_rows == 1_030
    assert tables[1] == tables[0]
    assert tables[2] == tables[0]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_the_first_bad_row_is_told_and_no_part_of_it_left(
    folder: Path, tmp_path: Path, two_threads: None, at_once: int
) -> None:
    x_nd = drawn(400)
    x_nd[[127, 128, 390], 3] = np.nan
    pq.write_table(pa.Table.from_batches([rows_of(x_nd)]), tmp_path / "x.parquet")
    with pytest.raises(SemidError, match=r"row 127\b.*nan at position 3"):
        mapped(folder, tmp_path / "x.parquet", tmp_path / "parts", at_once)
    assert not list((tmp_path / "parts").glob("part-*"))


def test_another_width(folder: Path) -> None:
    message = refusal(loaded(folder), rows_of(drawn(3, 5)))
    assert message.startswith("row 0: the embedding has 5 values where 6 are expected")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of(drawn(3), name="sku"), "no column 'item_id'; the columns are sku, embedding"),
        (
            rows_of(drawn(3)).rename_columns(["item_id", "vector"]),
            "no column 'embedding'; the columns are item_id, vector",
        ),
        (
            pa.record_batch([["a"], ["b"]], names=["item_id", "embedding"]),
            "x is string, but embeddings must be lists of float32 or float16",
        ),
        (rows_of(drawn(3), [0.5, 1.5, 2.5]), "'item_id' is double, but item ids must be string"),
    ],
)
def test_columns_that_are_missing_or_something_else(
    folder: Path, rows: pa.RecordBatch, message: str
) -> None:
    assert message in refusal(loaded(folder), rows)
    assert message in refusal(loaded(folder), pa.Table.from_batches([rows]))


def test_rows_whose_first_value_is_zero_pass(folder: Path) -> None:
    x_nd = drawn(20)
    x_nd[:, 0] = 0
    assert loaded(folder)(rows_of(x_nd)).num_rows == 20


# Embedder


WORDS = ["red", "blue", "soap", "cream", "brush", "nail", "hair", "skin"]


def items_of(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "item_id": [f"item{i}" for i in range(n)],
            "title": [" ".join(words) for words in rng.choice(WORDS, (n, 4))],
            "price": rng.gamma(2, 10, n),
            "brand": rng.choice(["a", "b", "c"], n),
        }
    )


CONFIGS = [
    LsaConfig(text=("title",), dim=4, features=64, char_ngrams=(0, 0)),
    LsaConfig(text=("title",), dim=4, features=64, char_ngrams=(0, 0), dtype="float16"),
    FeaturesConfig(numeric=("price",), category=("brand",)),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=["lsa", "lsa float16", "features"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return Embedder(make_encoder(request.param).fit(items_of(200)))


def test_embedding_a_table_and_a_batch(embedder: Embedder) -> None:
    items = items_of(30, seed=1)
    found = embedder(items)
    assert isinstance(found, pa.Table)
    dtype = getattr(embedder.encoder.config, "dtype", "float32")
    kind = found.schema.field("embedding").type
    assert kind.list_size == embedder.encoder.width
    assert kind.value_type == pa.from_numpy_dtype(np.dtype(dtype))
    assert [field.name for field in found.schema] == ["item_id", "embedding"]
    assert not any(field.nullable for field in found.schema)
    assert found["item_id"].to_pylist() == items["item_id"].to_pylist()
    expected = embedder.encoder.encode(items)
    values = found["embedding"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(values.reshape(30, -1), expected)
    (batch,) = items.to_batches()
    assert isinstance(embedder(batch), pa.RecordBatch)
    assert pa.Table.from_batches([embedder(batch)]).equals(found)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=5))
def test_embedding_does_not_depend_on_the_batches(embedder: Embedder, cuts: list[int]) -> None:
    items = items_of(30, seed=1)
    borders = sorted({0, 30, *cuts})
    parts = [embedder(items.slice(start, stop - start)) for start, stop in pairwise(borders)]
    assert pa.concat_tables(parts).equals(embedder(items))


def test_an_embedder_survives_pickling_and_saving(embedder: Embedder, tmp_path: Path) -> None:
    items = items_of(30, seed=1)
    assert pickle.loads(pickle.dumps(embedder))(items).equals(embedder(items))  # noqa: S301
    embedder.encoder.save(tmp_path / "encoder")
    assert Embedder(load_encoder(tmp_path / "encoder"))(items).equals(embedder(items))


def test_columns_it_reads(embedder: Embedder) -> None:
    assert embedder.columns[0] == "item_id"
    assert set(embedder.columns[1:]) == set(embedder.encoder.columns)
    only = items_of(5).select(list(embedder.columns))
    assert embedder(only).equals(embedder(items_of(5)))


def test_the_id_may_be_a_feature_too() -> None:
    config = LsaConfig(text=("title", "item_id"), dim=4, features=64, char_ngrams=(0, 0))
    embed = Embedder(make_encoder(config).fit(items_of(50)))
    assert embed.columns == ("item_id", "title")
    assert embed(items_of(5)).num_rows == 5


def test_embedding_errors_name_the_file_and_the_row(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(items_of(50), "items.parquet")
    items = items_of(5).set_column(0, "item_id", pa.array(["a", "b", None, "d", "e"]))
    message = "'item_id' is null; every item needs an id, drop the row"
    assert refusal(embedder, items) == f"row 2: {message}"
    where = open_table("items.parquet")
    assert (
        refusal(embedder, items, where=where, first_row=20) == f"items.parquet, row 22: {message}"
    )


def test_items_without_the_columns(embedder: Embedder) -> None:
    items = items_of(5)
    message = refusal(embedder, items.drop_columns("item_id"))
    assert message == "the rows have no column 'item_id'; the columns are title, price, brand"
    (*_, needed) = embedder.columns
    assert f"'{needed}'" in refusal(embedder, items.drop_columns(needed))


class ZeroEncoder:
    """An encoder whose third vector is not one."""

    columns = ("title",)

    def encode(self, items: pa.Table) -> Matrix:
        x_nd = np.ones((items.num_rows, 2), np.float32)
        x_nd[2] = 0
        return x_nd


def test_vectors_that_are_none_are_refused() -> None:
    message = refusal(Embedder(ZeroEncoder()), items_of(5), first_row=10)  # type: ignore[arg-type]
    assert message.startswith("row 12: the embedding is all zeros")
