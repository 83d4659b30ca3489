"""Items, IDs and prefixes looked up: in memory, by an index, without one, and by the command."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.id_hashes import hash_ids
from semid.id_table import IdTable
from semid.index_building import build_index
from semid.jobs.lookup import lookup
from semid.table_index import INDEX, open_index
from semid.table_rows import rows_at, values_of
from semid.tables import open_table

IDS = ["d", "日本", "", "b", "a"]
SIDS = [[1, 2, 0], [0, 1, 1], [0, 1, 0], [1, 0, 0], [0, 3, 0]]

# Written into indexes on disk.
HASHES = [3793791033, 3616575219, 2976960383]
NUMBER_HASHES = [3793791033, 2433363436, 3839455607]


def small(ids=IDS, sids=SIDS):
    sids_ns = np.array(sids, np.int32)
    return IdTable.from_arrays(ids, sids_ns[:, :-1], sids_ns)


def write(folder, table, rows=2):
    """A folder of parts of `rows` rows, each of row groups of one."""
    folder.mkdir()
    for number, start in enumerate(range(0, len(table), rows)):
        part = table.to_arrow().slice(start, rows)
        pq.write_table(part, folder / f"part-{number}.parquet", row_group_size=1)
    return folder


@pytest.fixture(params=[True, False], ids=["index", "no index"])
def folder(request, tmp_path):
    made = write(tmp_path / "ids", small())
    if request.param:
        build_index(open_table(made), made / INDEX)
        assert open_index(open_table(made)) is not None
    return made


# in memory


def test_items_in_memory():
    table = small()
    assert table.rows_of(["b", "x", "", "日本", "b"]).tolist() == [3, -1, 2, 1, 3]
    assert table.lookup(["d", "x"]).tolist() == [[1, 2, 0], [-1, -1, -1]]
    assert table.lookup([]).shape == (0, 3)
    assert table.rows_of(pa.array(IDS, pa.large_string()).slice(2)).tolist() == [2, 3, 4]


def test_sids_and_prefixes_in_memory():
    table = small()
    assert table.items_of([0, 1, 1]).to_pylist() == ["日本"]
    assert table.items_of([0, 1, 9]).to_pylist() == []
    assert table.items_of([0, -1, 0]).to_pylist() == []
    assert table.with_prefix([0]).to_pylist() == ["", "日本", "a"]
    assert table.with_prefix([]).to_pylist() == ["", "日本", "a", "b", "d"]


def test_integers_in_memory():
    ids = [-5, 7 * 10**15, 0]
    table = small(ids, SIDS[:3])
    assert table.rows_of(np.array([0, 1, -5])).tolist() == [2, -1, 0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.rows_of([1]), "asked for are int64 but the table's are string"),
        (lambda t: t.rows_of(["a", None]), "row 1: 'item_id' is null"),
        (lambda t: t.items_of([0, 1]), "0,1 has 2 codes but the IDs have 3; with_prefix takes"),
        (lambda t: t.with_prefix([0, 1, 0, 4]), "0,1,0,4 has 4 codes but the IDs have 3"),
    ],
)
def test_what_cannot_be_looked_up(ask, message):
    with pytest.raises(SemidError, match=message):
        ask(small())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.sampled_from([3, 300, 2**31 - 1]))
def test_spans_are_those_of_a_loop(data, size):
    code = st.integers(0, size - 1) | st.integers(0, 1)
    sids = data.draw(st.lists(st.lists(code, min_size=4, max_size=4), min_size=1, max_size=30))
    table = small(list(range(len(sids))), sids)
    prefix = data.draw(st.lists(code, max_size=4) | st.sampled_from(sids))
    depth = data.draw(st.integers(0, len(prefix)))
    wanted = [i for i, sid in enumerate(sids) if sid[:depth] == prefix[:depth]]
    assert sorted(table.with_prefix(prefix[:depth]).to_pylist()) == wanted
    if depth < 4:
        follow = {sids[i][depth] for i in wanted}
        assert table.index.next_codes(prefix[:depth]) == len(follow)


# hashes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=20), st.integers(0, 5))
def test_a_hash_depends_on_the_string_alone(texts, start):
    ids = pa.array(["before", *texts])
    alone = [int(hash_ids(pa.array([text]))[0]) for text in texts]
    assert hash_ids(ids)[1:].tolist() == alone
    assert hash_ids(ids.cast(pa.large_string()).slice(start)).tolist() == (
        hash_ids(ids)[start:].tolist()
    )


def test_hashes_never_change():
    assert hash_ids(pa.array(["", "a", "B004756YJA"])).tolist() == HASHES
    assert hash_ids(pa.array([0, 1, -1])).tolist() == NUMBER_HASHES


def test_hashes_of_like_ids_are_spread():
    for ids in (pa.array([f"item-{n:09d}" for n in range(100_000)]), pa.array(range(100_000))):
        # Of 2^32 values drawn at random, about 1.2 pairs would be equal.
        assert len(np.unique(hash_ids(ids))) > 99_980


def test_ids_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr("semid.table_index.hash_ids", lambda ids: np.zeros(len(ids), np.uint32))
    table = small()
    assert table.rows_of(["a", "x", "日本"]).tolist() == [4, -1, 1]


# on disk


def test_an_index_of_another_table_is_ignored(tmp_path):
    made = write(tmp_path / "ids", small())
    build_index(open_table(made), made / INDEX)
    first = made / "part-0.parquet"
    swapped = small(["x", "y"], SIDS[:2]).to_arrow()
    pq.write_table(swapped, first, row_group_size=1)
    assert open_index(open_table(made)) is None
    assert lookup(str(made), item=["x", "d"])["items"][0]["sid"] == SIDS[0]


@pytest.mark.parametrize("broken", ["index.json", "id_rows.npy", "sid_keys_0.npy"])
def test_a_damaged_index_is_ignored(tmp_path, broken):
    made = write(tmp_path / "ids", small())
    build_index(open_table(made), made / INDEX)
    file = made / INDEX / broken
    file.write_bytes(file.read_bytes()[:-3])
    assert open_index(open_table(made)) is None
    assert lookup(str(made), item=["a"])["items"][0]["sid"] == [0, 3, 0]


def test_a_moved_table_keeps_its_index(tmp_path):
    made = write(tmp_path / "ids", small())
    build_index(open_table(made), made / INDEX)
    moved = made.rename(tmp_path / "moved")
    assert open_index(open_table(moved)) is not None
    assert open_index(open_table(moved), "sku") is None
    assert open_index(open_table(moved / "part-0.parquet")) is None


def arrays_of(folder):
    return {file.name: file.read_bytes() for file in sorted((folder / INDEX).iterdir())}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_an_index_goes_on_from_the_one_before(tmp_path, data):
    """Merged with what is new it is the same to the byte as made from the beginning."""
    sid = st.tuples(st.integers(0, 3), st.integers(0, data.draw(st.sampled_from([3, 2**31 - 1]))))
    sids = data.draw(st.lists(sid, min_size=3, max_size=14))
    kept = data.draw(st.integers(1, (len(sids) - 1) // 2))  # parts, of two rows each
    ids = [f"i{data.draw(st.integers(0, 2))}-{row}" for row in range(len(sids))]
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        stop = data.draw(st.integers(2 * kept, len(sids)))
        old = write(Path(name, "old"), small(ids[:stop], sids[:stop]))
        new = write(Path(name, "new"), small(ids, sids))
        build_index(open_table(old), old / INDEX)
        for number in range(kept):
            part = new / f"part-{number}.parquet"
            part.unlink()
            part.hardlink_to(old / part.name)
        build_index(open_table(new), new / INDEX)
        alone = arrays_of(new)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("semid.index_building._BLOCK_ROWS", data.draw(st.integers(1, 4)))
            build_index(open_table(new), new / INDEX, before=old)
        if json.loads(alone["index.json"])["levels"] == levels_of(old):
            assert arrays_of(new) == alone
        index = open_index(open_table(new))
        assert index.rows_within(*index.span(sids[-1])).tolist() == [
            row for row, one in enumerate(sids) if one == sids[-1]
        ]


def levels_of(folder):
    return json.loads((folder / INDEX / "index.json").read_text())["levels"]


def test_rows_come_in_the_order_asked_for(tmp_path):
    table = open_table(write(tmp_path / "ids", small(), rows=3))
    rows = rows_at(table, np.array([4, 0, 3, 0]), ["sid", "item_id"])
    assert rows.column_names == ["sid", "item_id"]
    assert rows["item_id"].to_pylist() == ["a", "d", "b", "d"]
    assert rows["sid"].to_pylist() == [SIDS[4], SIDS[0], SIDS[3], SIDS[0]]
    assert len(rows_at(table, np.array([], np.int64), ["item_id"])) == 0


def test_titles_of_categories_and_other_strings(tmp_path):
    titles = pa.array(["x", "y", "x"]).dictionary_encode()
    pq.write_table(
        pa.table({"item_id": pa.array(["a", "b", "c"], pa.large_string()), "title": titles}),
        tmp_path / "items.parquet",
    )
    found = values_of(open_table(tmp_path / "items.parquet"), pa.array(["c", "z", "b"]), "title")
    assert found == {"c": "x", "b": "y"}


# the command


def test_items(folder):
    found = run_here("lookup", folder, "--item", "日本", "--item", "x", "--json").json
    live = {"item_id": "日本", "state": "live", "sid": [0, 1, 1], "codes": [0, 1]}
    assert found["items"] == [live | {"sharing": [3, 2, 1]}, {"item_id": "x", "state": "absent"}]
    assert run_here("lookup", folder, "--item", "a", "--item", "x").out.splitlines() == [
        "a: 0,3,0",
        "  raw codes 0,3",
        "  items with the prefix 0: 3; 0,3: 1; 0,3,0: 1",
        "x: not in the table",
    ]


def test_a_sid(folder):
    found = run_here("lookup", folder, "--sid", "1,2,0", "--json").json
    assert (found["sid"], [item["item_id"] for item in found["items"]]) == ([1, 2, 0], ["d"])
    done = run_here("lookup", folder, "--sid", "1,2,5")
    assert (done.code, done.out) == (0, "no item has the SID 1,2,5\n")


def test_a_prefix(folder, tmp_path):
    titles = pa.table({"item_id": ["", "a"], "title": ["first", "last"]})
    pq.write_table(titles, tmp_path / "items.parquet")
    more = ("--items", tmp_path / "items.parquet", "--limit", "2")
    found = run_here("lookup", folder, "--prefix", "0", *more, "--json").json
    assert (found["prefix"], found["count"], found["next_codes"]) == ([0], 3, 2)
    assert [item["item_id"] for item in found["items"]] == ["", "日本"]
    assert [item.get("title") for item in found["items"]] == ["first", None]
    assert run_here("lookup", folder, "--prefix", "0", *more).out.splitlines() == [
        "prefix 0: 3 items, 2 next codes",
        "  0,1,0    first",
        "  0,1,1  日本",
        "  … and 1 more",
    ]
    assert run_here("lookup", folder, "--prefix", "7").out == "prefix 7: 0 items\n"


def test_a_sid_of_several_items(tmp_path):
    made = write(tmp_path / "ids", small(sids=[[1, 1], [0, 1], [1, 1], [1, 1], [0, 0]]))
    found = run_here("lookup", made, "--sid", "1,1", "--limit", "2", "--json").json
    assert (found["count"], [item["item_id"] for item in found["items"]]) == (3, ["d", ""])
    assert run_here("lookup", made, "--sid", "1,1", "--limit", "1").out.splitlines() == [
        "d: 1,1",
        "  raw codes 1",
        "  items with the prefix 1: 3; 1,1: 3",
        "  … and 2 more",
    ]


def test_retired_items_are_told(folder):
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    tombs = pa.table(
        {
            "item_id": ["gone", "old"],
            "codes": pa.array([[1, 1], [1, 3]], pa.list_(pa.int32())),
            "sid": pa.array([[1, 1, 0], [1, 3, 0]], pa.list_(pa.int32())),
            "retired_at": pa.array([at, at], pa.timestamp("us", "UTC")),
            "reason": ["retired", "rolled back"],
        }
    )
    pq.write_table(tombs, folder / "_retired.parquet")
    found = run_here("lookup", folder, "--item", "gone", "--item", "a", "--json").json["items"]
    assert [item["state"] for item in found] == ["retired", "live"]
    assert found[0]["sid"] == [1, 1, 0]
    assert found[0]["retired_at"] == "2026-03-01T12:00:00+00:00"
    said = run_here("lookup", folder, "--sid", "1,3,0").out
    assert said == "old: rolled back at 2026-03-01T12:00:00+00:00; its SID was 1,3,0\n"


def test_a_store_is_looked_up_at_its_current_version(tmp_path):
    store = tmp_path / "ids"
    store.mkdir()
    write(store / "v0001", small(["x"], [[0, 0]]))
    version = write(store / "v0002", small())
    build_index(open_table(version), version / INDEX)
    (store / "CURRENT").write_text("v0002\n")
    assert open_index(open_table(store)) is not None
    found = lookup(str(store), item=["a", "x"])["items"]
    assert [item["state"] for item in found] == ["live", "absent"]


def test_numbers_are_ids(tmp_path):
    made = write(tmp_path / "ids", small([30, 10, -20], SIDS[:3]))
    found = run_here("lookup", made, "--item", "-20", "--json").json["items"]
    assert found[0]["sid"] == [0, 1, 0]
    said = run_here("lookup", made, "--item", "B00").error
    assert "--item 'B00': the item ids of" in said
    assert said.endswith("are whole numbers")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say what to look up by one of --item, --sid and --prefix"),
        (("--item", "a", "--prefix", "0"), "by one of --item, --sid and --prefix"),
        (("--sid", "41,x"), "--sid '41,x': expected whole numbers separated by commas"),
        (("--prefix", ""), "--prefix '': expected whole numbers"),
        (("--sid", "0,1"), "--sid 0,1: these are 2 codes but the IDs of"),
        (("--prefix", "0,1,0,4"), "have 3"),
        (("--prefix", "0", "--limit", "-1"), "the limit is -1; it must be at least 0"),
    ],
)
def test_malformed_requests(folder, options, said):
    assert said in run_here("lookup", folder, *options).error


def test_titles_of_other_items(folder, tmp_path):
    pq.write_table(pa.table({"item_id": [1], "title": ["x"]}), tmp_path / "items.parquet")
    more = ("--items", tmp_path / "items.parquet")
    said = run_here("lookup", folder, "--item", "a", *more).error
    assert "'item_id' is int64 in" in said
    assert "but string in the ids table" in said


def test_an_index_note_is_plain(tmp_path):
    made = write(tmp_path / "ids", small())
    build_index(open_table(made), made / INDEX)
    note = json.loads((made / INDEX / "index.json").read_text())
    assert (note["rows"], note["levels"]) == (5, [2, 4, 2])
    assert sum(f.stat().st_size for f in (made / INDEX).glob("*.npy")) < 4 * 128 + 5 * 16 + 1
