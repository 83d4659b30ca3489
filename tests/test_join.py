"""Embedding columns of several tables side by side: values, orders, mistakes, and the commands."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, Outcome, make_catalog, run_apart, run_here, start
from forks import end, wait_until
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.jobs.join import join
from semid.joining import put_in_order

Matrix = npt.NDArray[np.float32]
SOME = ["a", "b", "c"]


def write(path: Path, ids: Any, rows: Any, kind: pa.DataType | None = None, **more: Any) -> Path:
    """Write embeddings ``(n, d)``, by default as fixed-size lists of float32."""
    kind = kind or pa.list_(pa.float32(), len(rows[0]))
    columns = {"item_id": ids, "embedding": pa.array([list(row) for row in rows], kind)}
    pq.write_table(pa.table(columns), path, **more)
    return path


def drawn(rows: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def values(path: Path, column: str) -> list[list[float]]:
    found: list[list[float]] = pq.read_table(path)[column].to_pylist()
    return found


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with text of a, b, c and behaviour of c, a, b."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "text.parquet", SOME, [[1, 2], [3, 4], [5, 6]])
    write(tmp_path / "behaviour.parquet", ["c", "a", "b"], [[9, 9, 9], [7, 7, 7], [8, 8, 8]])
    return tmp_path


# what comes out


def test_rows_are_those_of_the_first_table(two: Path) -> None:
    done = run_here("join", "t=text.parquet", "behaviour.parquet", "-o", "both.parquet", "--json")
    assert done.json["summary"] == {"items": 3, "columns": {"t": 2, "behaviour": 3}}
    both = pq.read_table("both.parquet")
    element = pa.field("element", pa.float32(), nullable=False)
    assert both.schema.remove_metadata() == pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("t", pa.list_(element, 2), nullable=False),
            pa.field("behaviour", pa.list_(element, 3), nullable=False),
        ]
    )
    assert both["item_id"].to_pylist() == SOME
    assert both["t"].to_pylist() == [[1, 2], [3, 4], [5, 6]]
    assert both["behaviour"].to_pylist() == [[7, 7, 7], [8, 8, 8], [9, 9, 9]]
    assert not (two / ".both.parquet.partial").exists()
    assert run_here("join", "behaviour.parquet", "text.parquet", "-o", "other.parquet").code == 0
    assert pq.read_table("other.parquet")["item_id"].to_pylist() == ["c", "a", "b"]
    assert values(Path("other.parquet"), "text") == [[5, 6], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (pa.string(), pa.string()),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.int64(), pa.int64()),
        (pa.int32(), pa.int64()),
    ],
    ids=str,
)
def test_ids_of_every_type(two: Path, kind: pa.DataType, written: pa.DataType) -> None:
    ids: list[Any] = [30, 10, 20] if pa.types.is_integer(kind) else ["x", "é", ""]
    write(two / "one.parquet", pa.array(ids, kind), [[1], [2], [3]])
    write(two / "two.parquet", pa.array(ids[::-1], written), [[30], [20], [10]])
    assert run_here("join", "one.parquet", "two.parquet", "-o", "both.parquet").code == 0
    both = pq.read_table("both.parquet")
    assert both.schema.field("item_id").type == written
    assert both["item_id"].to_pylist() == ids
    assert both["two"].to_pylist() == [[10], [20], [30]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float16(), 2),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float16()),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_lists_of_every_type(two: Path, kind: pa.DataType, order: list[int]) -> None:
    rows = np.array([[0.5, 1], [2, -3], [0, 65_504]], np.float16)
    ids = [SOME[row] for row in order]
    write(two / "other.parquet", ids, rows[order], kind)
    assert run_here("join", "text.parquet", "other.parquet", "-o", "both.parquet").code == 0
    assert values(Path("both.parquet"), "other") == rows.tolist()
    assert pq.read_schema("both.parquet").field("other").type.value_type == pa.float32()


def test_joined_tables_keep_their_columns(two: Path) -> None:
    write(two / "image.parquet", ["b", "c", "a"], [[2], [3], [1]])
    pairs = ("t=text.parquet", "behaviour.parquet")
    assert run_here("join", *pairs, "-o", "both.parquet").code == 0
    assert run_here("join", "image.parquet", "both.parquet", "-o", "all.parquet").code == 0
    assert pq.read_schema("all.parquet").names == ["item_id", "image", "t", "behaviour"]
    assert values(Path("all.parquet"), "t") == [[3, 4], [5, 6], [1, 2]]
    assert values(Path("all.parquet"), "behaviour") == [[8, 8, 8], [9, 9, 9], [7, 7, 7]]
    said = run_here("join", "image.parquet", "x=both.parquet", "-o", "all.parquet").error
    assert "has 2 columns of embeddings (t, behaviour), which keep their names" in said
    assert said.endswith("leave out 'x='")


def test_a_column_of_another_name_is_called_as_its_table(two: Path) -> None:
    pq.write_table(pq.read_table("text.parquet").rename_columns(["item_id", "x"]), "named.parquet")
    assert run_here("join", "named.parquet", "text.parquet", "-o", "both.parquet").code == 0
    assert pq.read_schema("both.parquet").names == ["item_id", "named", "text"]


def test_other_columns_are_left_alone(two: Path) -> None:
    text = pq.read_table("text.parquet").append_column("price", pa.array([1.0, 2.0, 3.0]))
    pq.write_table(text.append_column("tags", pa.array([["x"]] * 3)), "text.parquet")
    assert run_here("join", "text.parquet", "behaviour.parquet", "-o", "both.parquet").code == 0
    assert pq.read_schema("both.parquet").names == ["item_id", "text", "behaviour"]


def test_folders_of_parts_in_and_out(two: Path) -> None:
    for name in ("text", "behaviour"):
        (two / name).mkdir()
        table = pq.read_table(f"{name}.parquet")
        for part in range(3):
            pq.write_table(table.slice(part, 1), two / name / f"p{part}.parquet")
    assert run_here("join", "text.parquet", "behaviour.parquet", "-o", "both.parquet").code == 0
    assert run_here("join", "text/", "behaviour", "-o", "both").code == 0
    names = sorted(path.name for path in (two / "both").iterdir())
    assert names == ["_manifest.json", "part-00000.parquet"]
    assert pq.read_table("both").equals(pq.read_table("both.parquet"))
    assert "up to date" in run_here("join", "text/", "behaviour", "-o", "both").out


def test_another_id_column(two: Path) -> None:
    for name in ("text", "behaviour"):
        table = pq.read_table(f"{name}.parquet").rename_columns(["sku", "embedding"])
        pq.write_table(table, f"{name}.parquet")
    given = ("join", "text.parquet", "behaviour.parquet", "-o", "both.parquet")
    assert "has no column 'item_id'" in run_here(*given).error
    assert run_here(*given, "--item-id", "sku").code == 0
    assert pq.read_schema("both.parquet").names == ["sku", "text", "behaviour"]


def test_row_groups_of_other_sizes(tmp_path: Path) -> None:
    """Batches of the tables begin and end at other rows."""
    rows = 40_000
    wide, narrow = drawn(rows, 40), drawn(rows, 3, seed=1)
    ids = np.arange(rows)
    write(tmp_path / "wide.parquet", ids, wide, row_group_size=7_001)
    write(tmp_path / "narrow.parquet", ids, narrow, pa.list_(pa.float32()), row_group_size=30_000)
    tables = (tmp_path / "narrow.parquet", tmp_path / "wide.parquet")
    assert run_here("join", *tables, "-o", tmp_path / "both").code == 0
    both = pq.read_table(tmp_path / "both")
    assert both["item_id"].to_pylist() == ids.tolist()
    for name, x_nd in (("wide", wide), ("narrow", narrow)):
        found = both[name].combine_chunks().flatten().to_numpy().reshape(rows, -1)
        np.testing.assert_array_equal(found, x_nd)


# orders


@tried(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.permutations(range(12)), st.booleans())
def test_the_order_of_the_others_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, one: list[int], two: list[int], text: bool
) -> None:
    folder = tmp_path_factory.mktemp("orders")
    ids = np.array([f"P{n}" if text else n for n in range(12)][::-1])
    tables = {"a": drawn(12, 3), "b": drawn(12, 5, 1), "c": drawn(12, 1, 2)}
    orders = {"a": list(range(12)), "b": one, "c": two}
    found = []
    for name, of in (("as they are", {}), ("turned", orders)):
        paths = []
        for table, x_nd in tables.items():
            order = of.get(table, list(range(12)))
            paths.append(str(write(folder / f"{table}.parquet", ids[order], x_nd[order])))
        output = folder / f"{name}.parquet"
        join(paths, output=str(output))
        found.append(pq.read_table(output))
    assert found[0].equals(found[1])


class _Rows:
    """Embeddings in memory, read in batches of a few rows."""

    def __init__(self, x_nd: Matrix) -> None:
        self.x_nd, self.read = x_nd, 0

    def batches(self, start: int = 0) -> Any:
        for row in range(start, len(self.x_nd), 7):
            self.read += 1
            yield self.x_nd[row : row + 7]


@tried(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5_000), st.data())
def test_rows_put_in_order_on_disk(
    tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, memory: int, data: Any
) -> None:
    folder = tmp_path_factory.mktemp("sorted")
    place_n = np.array(data.draw(st.permutations(range(rows))), np.int64)
    start = data.draw(st.integers(0, rows))
    source = _Rows(drawn(rows, width))
    expected = np.empty_like(source.x_nd)
    expected[place_n] = source.x_nd
    for _ in range(2):
        ordered = put_in_order(source, width, place_n, folder, memory_bytes=memory)
        found = [np.empty((0, width), np.float32), *ordered.batches(start)]
        np.testing.assert_array_equal(np.concatenate(found), expected[start:])
    assert source.read == -(-rows // 7), "what is there already is not written again"
    row_bytes = 8 + 4 * width
    files = list(ordered.folder.iterdir())
    assert max(file.stat().st_size for file in files) <= max(memory // 2, row_bytes)


def test_small_memory_changes_nothing(tmp_path: Path) -> None:
    rows, width = 20_000, 300  # 24 MB, and of 32 MB half is for a file of them
    x_nd, order = drawn(rows, width), np.random.default_rng(1).permutation(rows)
    ids = np.array([f"P{n:05d}" for n in range(rows)])
    write(tmp_path / "text.parquet", ids, drawn(rows, 2, seed=1))
    write(tmp_path / "same.parquet", ids, x_nd)
    write(tmp_path / "mixed.parquet", ids[order], x_nd[order])
    for name, memory in (("same", "1"), ("mixed", "0.03")):
        tables = (tmp_path / "text.parquet", f"x={tmp_path / name}.parquet")
        done = run_here("join", *tables, "-o", tmp_path / f"{name}.out", "--memory", memory)
        assert done.code == 0, done.err
        assert ("sort x" in done.err) is (name == "mixed")
    assert pq.read_table(tmp_path / "mixed.out").equals(pq.read_table(tmp_path / "same.out"))


# mistakes


def refused(*arguments: Any) -> str:
    """Return the sentence of a join that must be refused, and leave an output as it was."""
    output = Path("both.parquet")
    output.write_bytes(b"what stood here")
    said: str = run_here("join", *arguments, "-o", output, "--overwrite").error
    assert output.read_bytes() == b"what stood here"
    return said


ONLY_TWO = [[1.0], [2.0]]
ITEMS = (
    "items that {} lacks, such as '{}'; an item needs all its embeddings: embed the same items for "
    "every table, or leave these out"
)


@pytest.mark.parametrize(
    ("ids", "rows", "said"),
    [
        (["b", "a"], ONLY_TWO, "text.parquet has 1 " + ITEMS.format("other.parquet", "c")),
        (["a", "b"], ONLY_TWO, "text.parquet has 1 " + ITEMS.format("other.parquet", "c")),
        (
            ["a", "x", "c", "b", "y"],
            [[1.0]] * 5,
            "other.parquet has 2 " + ITEMS.format("text.parquet", "x"),
        ),
        (["a", "b", "d"], [[1.0]] * 3, "other.parquet has 1 " + ITEMS.format("text.parquet", "d")),
        (["a", "b", "b", "c"], [[1.0]] * 4, "column 'item_id' holds 'b' 2 times"),
        (["a", None, "b"], [[1.0]] * 3, "other.parquet, row 1: column 'item_id' is null"),
        ([1, 2, 3], [[1.0]] * 3, "is string in text.parquet but int64 in other.parquet; cast one"),
    ],
)
def test_items_that_differ(two: Path, ids: Any, rows: Any, said: str) -> None:
    write(two / "other.parquet", ids, rows)
    assert said in refused("text.parquet", "other.parquet")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([1, float("nan")], "row {}: the embedding holds nan at position 1"),
        ([0, 0], "row {}: the embedding is all zeros"),
        ([1, 2, 3], "row {}: the embedding has 3 values where 2 are expected"),
        (None, "row {}: the embedding is null"),
        ([1, None], "row {}: the embedding holds a null value"),
    ],
)
@pytest.mark.parametrize("place", [1, 2])
def test_embeddings_that_are_bad(two: Path, bad: Any, said: str, place: int) -> None:
    """Rows are named as they are in the file, in whatever order it is."""
    rows: list[Any] = [[1, 1], [2, 2], [3, 3]]
    rows[place] = bad
    for ids in (SOME, SOME[::-1]):
        lists = pa.array(rows, pa.list_(pa.float32()))
        pq.write_table(pa.table({"item_id": ids, "embedding": lists}), "other.parquet")
        for tables in (("text.parquet", "other.parquet"), ("other.parquet", "text.parquet")):
            assert f"other.parquet, {said.format(place)}" in refused(*tables)


def test_half_a_file_is_not_kept(two: Path) -> None:
    write(two / "bad.parquet", SOME, [[1], [2], [0]])
    assert "row 2: the embedding is all zeros" in refused("text.parquet", "bad.parquet")
    assert sorted(path.name for path in two.iterdir()) == [
        *("bad.parquet", "behaviour.parquet", "both.parquet", "text.parquet")
    ]


def test_a_bad_column_of_several_is_named(two: Path) -> None:
    assert run_here("join", "text.parquet", "behaviour.parquet", "-o", "all.parquet").code == 0
    table = pq.read_table("all.parquet")
    zeros = pa.array([[1.0], [0.0], [1.0]], pa.list_(pa.float32(), 1))
    pq.write_table(table.append_column("image", zeros), "all.parquet")
    write(two / "more.parquet", SOME, [[1], [2], [3]])
    said = refused("more.parquet", "all.parquet")
    assert "column 'image': all.parquet, row 1: the embedding is all zeros" in said


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (["text.parquet"], "one table is given to join; give two or more, each as name=path"),
        (["x=text.parquet", "x=behaviour.parquet"], "2 columns are called 'x'; give their tables"),
        (["text.parquet", "text=behaviour.parquet"], "2 columns are called 'text'"),
        (["item_id=text.parquet", "behaviour.parquet"], "'item_id', but that is the column with"),
        (["a,b=text.parquet", "behaviour.parquet"], "'a,b', which cannot be a column"),
        (["text.parquet", "b =behaviour.parquet"], "'b ', which cannot be a column"),
        (["text.parquet", "none.parquet"], "none.parquet does not exist"),
        (["text.parquet", "facts.parquet"], "facts.parquet has no column of embeddings, lists of"),
    ],
)
def test_tables_that_cannot_be_joined(two: Path, tables: list[str], said: str) -> None:
    pq.write_table(pa.table({"item_id": SOME, "price": [1.0, 2.0, 3.0]}), "facts.parquet")
    assert said in refused(*tables)


def test_duplicates_in_the_first_table(two: Path) -> None:
    for name in ("one", "two"):
        write(two / f"{name}.parquet", ["a", "b", "a"], [[1], [2], [3]])
    said = refused("one.parquet", "two.parquet")
    assert "one.parquet: column 'item_id' holds 'a' 2 times" in said


def test_a_memory_that_cannot_be(two: Path) -> None:
    tables = ("text.parquet", "behaviour.parquet")
    assert "the memory is 0.0 GiB" in refused(*tables, "--memory", "0")
    said = refused(*tables, "--memory", "0.0001")
    assert "finding the items of text.parquet in behaviour.parquet failed within 0.0001 GiB" in said
    assert "allow more with --memory" in said


def test_an_output_is_no_input_and_what_is_foreign_stays(two: Path) -> None:
    tables = ("text.parquet", "behaviour.parquet")
    assert (
        "is also an input (embeddings text: text.parquet)"
        in run_here(*("join", *tables, "-o", "text.parquet", "--overwrite")).error
    )
    assert run_here("join", *tables, "-o", "both.parquet").code == 0
    before = Path("both.parquet").read_bytes()
    assert run_here("join", *tables, "-o", "both.parquet", "--json").json["up_to_date"] is True
    said = run_here("join", *tables[::-1], "-o", "both.parquet").error
    assert "both.parquet exists and belongs to other settings" in said
    assert Path("both.parquet").read_bytes() == before
    assert run_here("join", *tables[::-1], "-o", "both.parquet", "--overwrite").code == 0
    assert pq.read_schema("both.parquet").names == ["item_id", "behaviour", "text"]


# the way on


def embedded(folder: Path, *settings: str) -> tuple[str, str]:
    """Embed the items in `folder` twice, and return both tables with their names."""
    items = folder / "items.parquet"
    for name, more in (
        ("text", ("--text", "title", "--set", "char_ngrams=[0,0]", "--set", "features=512")),
        ("facts", ("--encoder", "features", "--numeric", "price", "--category", "brand")),
    ):
        more = (*more, "--set", "dim=8", *settings) if name == "text" else more
        done: Outcome = run_here("embed", items, "-o", folder / f"{name}.parquet", *more)
        assert done.code == 0, done.err
    return f"text={folder}/text.parquet", f"facts={folder}/facts.parquet"


def test_join_train_and_assign(tmp_path: Path) -> None:
    pq.write_table(make_catalog(), tmp_path / "items.parquet")
    both, model, ids = (tmp_path / name for name in ("both", "model", "ids.parquet"))
    columns = ("--columns", "text,facts")
    for command in (
        ("join", *embedded(tmp_path), "-o", both),
        ("check", both),
        ("train", both, "-o", model, *columns, *TINY),
        ("assign", both, "-m", model, "-o", ids),
    ):
        done = run_here(*command)
        assert done.code == 0, done.err
    assert run_here("show", both, "--json").json["what"] == "embeddings"
    assert list(run_here("show", model, "--json").json["columns"]) == ["text", "facts"]
    assert pq.read_metadata(ids).num_rows == 400
    # Which encoders a model was trained on is known of joined tables, too.
    new = tmp_path / "new"
    new.mkdir()
    pq.write_table(make_catalog(), new / "items.parquet")
    for settings, known in (((), True), (("--set", "seed=3"), False)):
        tables = embedded(new, *settings, "--overwrite")
        assert run_here("join", *tables[::-1], "-o", new / "both", "--overwrite").code == 0
        done = run_here("assign", new / "both", "-m", model, "-o", new / "ids", "--overwrite")
        assert (done.code == 0) is known, done.err
        if not known:
            assert "embeddings of the encoder" in done.error


def steps(folder: Path) -> dict[str, str]:
    """The steps of a pipeline, as text."""
    return {
        "text": f"""
[steps.text]
command = "embed"
items = "{folder}/items.parquet"
output = "{folder}/text.parquet"
settings = {{ text = ["title"], dim = 4, features = 256, char_ngrams = [0, 0] }}
""",
        "facts": f"""
[steps.facts]
command = "embed"
items = "{folder}/items.parquet"
encoder = "features"
output = "{folder}/facts.parquet"
settings = {{ numeric = ["price"], category = ["brand"] }}
""",
        "join": f"""
[steps.join]
embeddings = ["{folder}/text.parquet", "f={folder}/facts.parquet"]
output = "{folder}/both.parquet"
""",
        "train": f"""
[steps.train]
embeddings = "{folder}/both.parquet"
output = "{folder}/model"
settings = {{ columns = ["text", "f"], quantizer = "rqkmeans", levels = [4, 4] }}
""",
    }


def test_as_steps_of_a_pipeline(tmp_path: Path) -> None:
    pq.write_table(make_catalog(), tmp_path / "items.parquet")
    pipeline, made = tmp_path / "p.toml", steps(tmp_path)
    for text, said in (
        (made["join"] + made["text"] + made["facts"], "made by the step 'text' that comes later"),
        (made["text"] + made["join"], "facts.parquet' does not exist and no step before makes it"),
        (made["text"] + made["join"].replace('"f=', '"item_id='), "a table is called 'item_id'"),
        (made["join"].replace("both.parquet", "both.csv"), "ends in .csv"),
        (made["join"] + "memory_gib = -1", "the memory is -1.0 GiB"),
    ):
        pipeline.write_text(text)
        assert said in run_here("run", pipeline).error
        assert not (tmp_path / "text.parquet").exists()
    pipeline.write_text("".join(made.values()))
    done = run_here("run", pipeline)
    assert done.code == 0, done.err
    assert "everything is up to date" in run_here("run", pipeline).out
    header = json.loads((tmp_path / "model" / "config.json").read_text())
    assert list(header["columns"]) == ["text", "f"]
    # What a pipeline made, it replaces.
    pipeline.write_text(pipeline.read_text().replace("dim = 4", "dim = 5"))
    assert run_here("run", pipeline).code == 0
    assert pq.read_schema(tmp_path / "both.parquet").field("text").type.list_size == 5


# killed


SMALL = """
import semid.jobs.mapping, semid.joining, time
semid.jobs.mapping.PART_ROWS = semid.joining.BATCH_ROWS = 1_000
of = semid.joining.joined
def slow(*given, **named):
    for batch in of(*given, **named):
        time.sleep(0.05)
        yield batch
import semid.jobs.join
semid.jobs.join.joined = slow
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_run_again(tmp_path: Path, sent: signal.Signals) -> None:
    rows = 40_000
    order = np.random.default_rng(0).permutation(rows)
    x_nd = drawn(rows, 4)
    one = write(tmp_path / "one.parquet", np.arange(rows), drawn(rows, 3))
    two = write(tmp_path / "two.parquet", order, x_nd[order])
    output, stage = tmp_path / "both", tmp_path / ".both.partial"

    def parts() -> dict[str, int]:
        return {part.name: part.stat().st_ino for part in stage.glob("parts/part-*.parquet")}

    process = start("join", one, two, "-o", output, before=SMALL)
    wait_until(lambda: len(parts()) > 3)
    end(process, sent)
    before = parts()
    assert not output.exists()
    assert 3 < len(before) < 40
    done = run_apart("join", one, two, "-o", output, before=SMALL.replace("0.05", "0"))
    assert done.code == 0, done.err
    assert not stage.exists()
    after = {part.name: part.stat().st_ino for part in output.glob("part-*.parquet")}
    assert len(after) == 40
    assert before.items() <= after.items()
    both = pq.read_table(output)
    assert both["item_id"].to_pylist() == list(range(rows))
    found = both["two"].combine_chunks().flatten().to_numpy().reshape(rows, 4)
    np.testing.assert_array_equal(found, x_nd)


def test_a_pattern_names_no_column(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    one = write(tmp_path / "one.parquet", np.arange(4), drawn(4, 3))
    write(tmp_path / "d" / "part-0.parquet", np.arange(4), drawn(4, 2))
    given = ("join", one, "--output", tmp_path / "both.parquet")
    said = run_here(*given, f"{tmp_path}/d/*.parquet").error
    assert "d/*.parquet names no one file or folder; give a name to it, as name=" in said
    done = run_here(*given, f"many={tmp_path}/d/*.parquet")
    assert done.code == 0, done.err
    assert pq.read_schema(tmp_path / "both.parquet").names == ["item_id", "one", "many"]


@pytest.mark.parametrize("name", ["both", "both.parquet"])
def test_a_finished_sort_is_not_made_again(tmp_path: Path, name: str) -> None:
    rows = 20_000
    order = np.random.default_rng(0).permutation(rows)
    one = write(tmp_path / "one.parquet", np.arange(rows), drawn(rows, 3))
    two = write(tmp_path / "two.parquet", order, drawn(rows, 4))
    output, stage = tmp_path / name, tmp_path / f".{name}.partial"
    failing = """
import semid.jobs.join
from semid.errors import SemidError
def full(*given, **named):
    raise SemidError("the disk is full")
    yield
semid.jobs.join.joined = full
"""
    assert "the disk is full" in run_apart("join", one, two, "-o", output, before=failing).error
    (kept,) = stage.glob("sorted/*/by-*")
    assert {entry.name for entry in stage.iterdir()} <= {".lock", "plan.json", "parts", "sorted"}
    asked = ("join", one, two, "-o", output)
    less = (*asked, "--memory", "0.5")
    assert "the disk is full" in run_apart(*less, before=failing).error
    (other,) = stage.glob("sorted/*/by-*")  # of another memory, in place of the first
    assert other != kept
    assert run_apart(*less).code == 0
    assert not stage.exists()
    assert len(pq.read_table(output)) == rows


def test_put_in_order_refuses_a_bad_row_and_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    class Bad:
        def batches(self, start: int = 0) -> Any:
            yield drawn(3, 2)
            raise SemidError("row 3 is bad")

    with pytest.raises(SemidError, match="row 3 is bad"):
        put_in_order(Bad(), 2, np.arange(6), tmp_path, memory_bytes=100)
    ordered = put_in_order(_Rows(drawn(6, 2)), 2, np.arange(6), tmp_path, memory_bytes=100)
    np.testing.assert_array_equal(np.concatenate(list(ordered.batches())), drawn(6, 2))
