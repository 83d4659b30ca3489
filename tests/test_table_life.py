"""Nights of a table through the commands: what stays, what comes, what leaves, what is refused."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LSA, TINY, make_catalog, make_embeddings, run_here

from semid.id_reading import read_ids
from semid.jobs.assign import assign as assign_job
from semid.jobs.retire import retire as retire_job
from semid.store import current, versions
from semid.tables import open_table

IDS = [f"P{number:06d}" for number in range(500)]


def table_of(numbers, *, moved=()):
    """Embeddings of some items; those that moved have another item's."""
    whole = make_embeddings(500)
    rows = [(number + 250) % 500 if number in moved else number for number in numbers]
    column = whole["embedding"].combine_chunks().take(pa.array(rows))
    return pa.table({"item_id": [IDS[number] for number in numbers], "embedding": column})


@pytest.fixture
def nights(world, tmp_path):
    """Write a table of embeddings and assign it: ``nights(numbers, *options)``."""

    def night(numbers, *options, output="ids", moved=(), publish=True, model=world / "model"):
        place = tmp_path / "embeddings.parquet"
        pq.write_table(table_of(numbers, moved=moved), place)
        more = ("--publish",) if publish else ()
        return run_here(
            *("assign", place, "--model", model, "--output", tmp_path / output, *more, *options)
        )

    return night


def sids_of(path):
    table = read_ids(path)
    pairs = zip(table.item_ids.to_pylist(), map(tuple, table.sids.tolist()), strict=True)
    return dict(pairs)


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def retired_in(version):
    return pq.read_table(version / "_retired.parquet").to_pylist()


# nights


def test_a_week(nights, tmp_path):
    store = tmp_path / "ids"
    monday = nights(range(300), "--json").json
    assert (monday["output"], monday["up_to_date"]) == (str(store / "v0001"), False)
    first = sids_of(store)
    assert nights(range(300), "--json").json["up_to_date"]

    # New items come after those there, which stay byte for byte.
    tuesday = nights(range(50, 340), "--json").json["summary"]
    assert (tuesday["items"], tuesday["new"], tuesday["kept"]) == (340, 40, 300)
    old, new = (pq.read_table(store / v / "part-00000.parquet") for v in versions(store))
    assert new.slice(0, 300).equals(old)
    assert new["item_id"].to_pylist() == IDS[:340]
    assert len(set(sids_of(store).values())) == 340

    # Retired by a list and by a table; in any order, and those that are retired already.
    (tmp_path / "gone.txt").write_text(f"{IDS[7]}\n\n{IDS[3]}\r\n{IDS[7]}")
    done = run_here("retire", store, tmp_path / "gone.txt", "--json").json
    assert (done["summary"]["retired_now"], done["summary"]["retired"]) == (2, 2)
    assert done["summary"]["items"] == 338
    pq.write_table(pa.table({"item_id": [IDS[3], IDS[9]]}), tmp_path / "gone.parquet")
    done = run_here("retire", store, tmp_path / "gone.parquet", "--json").json
    assert (done["summary"]["retired_now"], done["summary"]["retired"]) == (1, 3)
    assert [row["item_id"] for row in retired_in(store / "v0004")] == [IDS[3], IDS[7], IDS[9]]
    assert run_here("retire", store, tmp_path / "gone.parquet", "--json").json["up_to_date"]
    assert run_here("retire", store, tmp_path / "gone.txt", "--json").json["up_to_date"]
    assert versions(store) == ["v0001", "v0002", "v0003", "v0004"]

    # Nobody gets their IDs; one comes back to its own.
    held = {first[IDS[number]] for number in (3, 7, 9)}
    nights([*range(340, 500)])
    assert not held & set(sids_of(store).values())
    back = nights([7, 499], "--json").json["summary"]
    assert (back["came_back"], back["new"], back["kept"]) == (1, 0, 497)
    assert sids_of(store)[IDS[7]] == first[IDS[7]]
    assert [row["item_id"] for row in retired_in(store / "v0006")] == [IDS[3], IDS[9]]
    now = sids_of(store)
    assert {item: now[item] for item in first if item not in (IDS[3], IDS[9])}.items() <= (
        first.items()
    )

    # What every version holds is found by its index, and looked up by a path of its own.
    found = run_here("lookup", store, "--item", IDS[7], "--json").json
    assert tuple(found["items"][0]["sid"]) == first[IDS[7]]
    assert sids_of(store / "v0001") == first


def test_drifted_items_are_listed_and_moved_only_when_asked(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(100))
    first = sids_of(store)
    done = nights(range(110), "--json", moved=range(5)).json["summary"]
    listed = pq.read_table(store / "v0002" / "_drifted.parquet")
    assert done["drifted"] == len(listed) > 0
    assert done["moved_for_drift"] == 0
    assert set(listed["item_id"].to_pylist()) <= set(IDS[:5])
    drift = listed["drift"].to_pylist()
    assert drift == sorted(drift, reverse=True)
    assert first.items() <= sids_of(store).items()
    assert not (store / "v0002" / "_retired.parquet").exists()

    threshold = drift[0]
    done = nights(range(110), "--move-drifted", threshold, "--json", moved=range(5)).json
    assert done["summary"]["moved_for_drift"] == drift.count(threshold) == 1
    (grave,) = retired_in(store / "v0003")
    item = listed["item_id"][0].as_py()
    assert (grave["item_id"], grave["reason"]) == (item, "moved")
    assert tuple(grave["sid"]) == first[item] != sids_of(store)[item]
    assert sids_of(store)[item][:2] == tuple(listed["fresh_codes"][0].as_py())
    assert nights(range(110), "--move-drifted", threshold, "--json", moved=range(5)).json[
        "up_to_date"
    ]
    # The ID that it left is nobody's, and says where it is now.
    now = sids_of(store)[item]
    left = ",".join(map(str, first[item]))
    (found,) = run_here("lookup", store, "--sid", left, "--json").json["items"]
    assert (found["item_id"], found["state"], tuple(found["sid_now"])) == (item, "moved", now)
    said = run_here("lookup", store, "--sid", left).out
    assert f"; its SID was {left}, it is {','.join(map(str, now))} now" in said
    # It is live: there is nothing to retire but itself, and it comes back to its new ID.
    (tmp_path / "gone.txt").write_text(item)
    assert run_here("retire", store, tmp_path / "gone.txt").code == 0
    nights(range(110), moved=range(5))
    assert sids_of(store)[item] == now


def test_a_retired_sid_is_given_away_after_its_days(nights, world, tmp_path):
    store, start = tmp_path / "ids", datetime(2026, 1, 1, tzinfo=UTC)
    nights(range(400))
    first = sids_of(store)
    (tmp_path / "gone.txt").write_text("\n".join(IDS[:390]))
    retire_job(str(store), str(tmp_path / "gone.txt"), now=start)
    held = {first[item] for item in IDS[:390]}

    def later(numbers, days, **options):
        pq.write_table(table_of(numbers), tmp_path / "e.parquet")
        return assign_job(
            str(tmp_path / "e.parquet"),
            model=str(world / "model"),
            output=str(store),
            publish=True,
            now=start + timedelta(days=days),
            **options,
        )

    later(range(400, 420), 29.9, reclaim_after=30)
    assert not held & set(sids_of(store).values())
    later(range(420, 440), 31)
    assert not held & set(sids_of(store).values())
    done = later(range(440, 460), 31, reclaim_after=30)
    given = {sid for item, sid in sids_of(store).items() if item in IDS[440:460]}
    assert len(given & held) > 15  # of 20; the others have raw IDs that nobody had
    assert done.summary["new"] == 20
    # Who had an ID is known until somebody else has it, of as many items as the table has.
    known = {tuple(row["sid"]) for row in retired_in(store / current(store))}
    assert known < held - given
    assert len(known) == done.summary["items"]


def test_fresh_keeps_nothing(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(100))
    nights(range(50, 200))
    fresh = nights(range(50, 200), "--fresh", "--json").json
    assert (fresh["up_to_date"], fresh["summary"]["items"]) == (False, 150)
    assert "kept" not in fresh["summary"]
    nights(range(50, 200), output="alone.parquet", publish=False)
    assert sids_of(store) == sids_of(tmp_path / "alone.parquet")
    assert nights(range(50, 200), "--fresh", "--json").json["up_to_date"]
    assert nights(range(50, 200), "--json").json["up_to_date"]
    assert versions(store) == ["v0001", "v0002", "v0003"]


def test_only_so_many_versions_are_kept(nights, tmp_path):
    store = tmp_path / "ids"
    for last in (100, 110, 120, 130):
        nights(range(last), "--keep", 2)
    assert versions(store) == ["v0003", "v0004"]
    (tmp_path / "gone.txt").write_text(IDS[0])
    run_here("retire", store, tmp_path / "gone.txt", "--keep", 1)
    # The one that was current until now stays too: readers may be in the middle of it.
    assert versions(store) == ["v0004", "v0005"]
    assert len(read_ids(store)) == 129


@pytest.mark.parametrize("output", ["next.parquet", "next"])
def test_a_table_goes_on_without_a_store(nights, tmp_path, output):
    nights(range(100), output="before.parquet", publish=False)
    before = tmp_path / "before.parquet"
    options = {"output": output, "publish": False, "moved": range(5)}
    done = nights(range(130), "--previous", before, "--json", **options).json
    assert (done["summary"]["new"], done["summary"]["kept"]) == (30, 100)
    first, after = pq.read_table(before), open_table(tmp_path / output)
    after = pa.Table.from_batches(list(after.batches(after.schema.names)))
    assert after.slice(0, 100).to_pylist() == first.to_pylist()
    assert nights(range(130), "--previous", before, "--json", **options).json["up_to_date"]
    listed = tmp_path / output / "_drifted.parquet"
    assert listed.is_file() == (output == "next")


def test_a_store_may_be_what_goes_before(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(100))
    (tmp_path / "gone.txt").write_text(IDS[0])
    run_here("retire", store, tmp_path / "gone.txt")
    done = nights(range(50, 120), "--previous", store, "--json", output="next", publish=False).json
    assert done["summary"]["items"] == 119
    assert [row["item_id"] for row in retired_in(tmp_path / "next")] == [IDS[0]]
    before = contents(store)
    said = nights(range(120, 130), "--previous", store, output="n.parquet", publish=False).error
    assert said.startswith("the table has retired items, for which a single file has no place;")
    assert not (tmp_path / "n.parquet").exists()
    assert contents(store) == before


def test_ids_of_any_letters_live_and_leave(world, tmp_path):
    names = [
        "a,b",
        "a\nb",
        "é",
        "e\u0301",
        "日本",
        "x\u2028y",
        "p\x85q",
        "r\x1cs",
        " 1",
        "1",
        "😀",
        "",
    ]
    embeddings, store = tmp_path / "e.parquet", tmp_path / "ids"
    command = ("assign", embeddings, "--model", world / "model", "--output", store, "--publish")
    pq.write_table(make_embeddings(len(names), ids=names), embeddings)
    assert run_here(*command).code == 0
    first = sids_of(store)
    assert set(first) == set(names)
    lines = [name for name in names if name and "\n" not in name][:-1]
    (tmp_path / "gone.txt").write_text("\n".join(lines), "utf-8")
    done = run_here("retire", store, tmp_path / "gone.txt", "--json").json
    assert done["summary"]["retired"] == len(lines)
    pq.write_table(pa.table({"item_id": ["a\nb", ""]}), tmp_path / "gone.parquet")
    assert run_here("retire", store, tmp_path / "gone.parquet").code == 0
    assert set(sids_of(store)) == {"😀"}
    assert run_here(*command).code == 0
    assert sids_of(store) == first


def test_integers_live_and_leave(world, tmp_path):
    numbers = [-(2**63), 2**63 - 1, 0, 7]
    embeddings, store = tmp_path / "e.parquet", tmp_path / "ids"
    command = ("assign", embeddings, "--model", world / "model", "--output", store, "--publish")
    pq.write_table(make_embeddings(4, ids=numbers), embeddings)
    assert run_here(*command).code == 0
    first = sids_of(store)
    (tmp_path / "gone.txt").write_text(f"{2**63 - 1}\n7\n")
    assert run_here("retire", store, tmp_path / "gone.txt").code == 0
    assert set(sids_of(store)) == {-(2**63), 0}
    (tmp_path / "gone.txt").write_text("seven\n")
    assert "gone.txt cannot be read as item ids, one on every line" in (
        run_here("retire", store, tmp_path / "gone.txt").error
    )
    assert run_here(*command).code == 0
    assert sids_of(store) == first


# refusals; what is there stays


@pytest.fixture
def settled(nights, tmp_path):
    """A store of two versions and a file, and what asserts that they are as they were."""
    nights(range(100))
    nights(range(120))
    nights(range(100), output="file.parquet", publish=False)
    (tmp_path / "gone.txt").write_text(IDS[0])
    before = contents(tmp_path / "ids"), (tmp_path / "file.parquet").read_bytes()

    def unchanged():
        now = contents(tmp_path / "ids"), (tmp_path / "file.parquet").read_bytes()
        assert now == before
        assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".partial")] == []

    return unchanged


FILE = {"output": "file.parquet", "publish": False}
OTHER = {"output": "other", "publish": False}


@pytest.mark.parametrize(
    ("options", "where", "sentence"),
    [
        (("--collisions", "none"), {}, "the policy of {}/ids/v0002 is suffix, but none was asked"),
        (("--collisions", "sinkhorn"), {}, "is suffix, but sinkhorn was asked for; IDs are kept"),
        (("--collisions", "reassign"), {}, "130 items cannot each have an ID of their own among"),
        (
            ("--collisions", "reassign", "--overflow", "suffix"),
            {},
            "is suffix, but reassign was asked for; IDs are kept",
        ),
        (("--previous", "{}/file.parquet"), {}, "publish goes on from the store's current version"),
        ((), {"output": "file.parquet"}, "file.parquet is a file, but publish writes versions"),
        ((), {"output": "embeddings"}, "embeddings exists and is no store of versions"),
        ((), {"publish": False}, "ids is a store of versions; add --publish to write the next"),
        (("--fresh",), FILE, "fresh is for versions of a store; add publish or leave it out"),
        (("--keep", 2), FILE, "keep is for versions of a store; add publish or leave it out"),
        (("--keep", -1), {}, "keep is -1; it must be 0, for all versions, or more"),
        (("--move-drifted", 1), FILE, "move_drifted is for a table that goes on from a previous"),
        (("--reclaim-after", 1), FILE, "reclaim_after is for a table that goes on from a prev"),
        (("--reclaim-after", 1, "--fresh"), {}, "reclaim_after is for a table that goes on"),
        (("--move-drifted", -1), {}, "move_drifted is -1.0; it must be 0 or more"),
        (("--reclaim-after", "nan"), {}, "reclaim_after is nan; it must be 0 or more"),
        (("--previous", "{}/file.parquet"), FILE, "the output {}/file.parquet is also an input"),
        (("--previous", "{}/nothing"), OTHER, "{}/nothing does not exist; check the path"),
        (("--previous", "{}/plain.parquet"), OTHER, "does not say which model assigned it, so"),
        (("--previous", "s3://b/ids"), OTHER, "s3://b/ids is a URI; a table that goes on is read"),
        (("--previous", "{}/numbers.parquet"), OTHER, "column 'item_id' is int64 in {}"),
    ],
)
def test_what_does_not_fit_is_refused(nights, settled, tmp_path, options, where, sentence):
    (tmp_path / "embeddings").mkdir()
    (tmp_path / "embeddings" / "notes.txt").touch()
    plain = pq.read_table(tmp_path / "file.parquet")
    pq.write_table(plain.replace_schema_metadata(None), tmp_path / "plain.parquet")
    numbers = plain.set_column(0, "item_id", pa.array(np.arange(len(plain))))
    pq.write_table(numbers, tmp_path / "numbers.parquet")
    filled = [str(option).replace("{}", str(tmp_path)) for option in options]
    said = nights(range(130), *filled, **where).error
    assert sentence.replace("{}", str(tmp_path)) in said
    settled()
    assert not (tmp_path / "other").exists()


def test_another_model_is_refused(nights, settled, world, tmp_path):
    model = tmp_path / "model"
    embeddings = world / "embeddings.parquet"
    assert run_here("train", embeddings, "--output", model, *TINY, "--seed", 5).code == 0
    for options in ({}, {"output": "other", "publish": False}):
        more = () if not options else ("--previous", tmp_path / "file.parquet")
        said = nights(range(130), *more, model=model, **options).error
        assert " was assigned by the model " in said
        assert "model is " in said
        assert said.endswith("(semid align makes a new model's codes agree with the old ones)")
    settled()


def test_items_that_were_never_there_are_passed_over_when_asked(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(20))
    (tmp_path / "gone.txt").write_text(f"{IDS[1]}\nnobody\nno one\n")
    done = run_here("retire", store, tmp_path / "gone.txt", "--ignore-unknown", "--json").json
    assert (done["summary"]["retired_now"], done["summary"]["unknown"]) == (1, 2)
    assert set(IDS[:20]) - set(sids_of(store)) == {IDS[1]}


@pytest.mark.parametrize(
    ("ids", "items", "sentence"),
    [
        ("ids", "unknown.txt", "names 1 items that {}/ids does not have: 'nobody'; take them"),
        ("ids", "unknown.parquet", "take them out, or pass over them with --ignore-unknown"),
        ("ids", "numbers.parquet", "but int64 in"),
        ("ids", "null.parquet", "null.parquet, row 1: 'item_id' is null; every item needs an id"),
        ("ids", "sku.parquet", "sku.parquet has no column 'item_id'; its columns are sku"),
        ("ids", "everybody.txt", "names every item of {}/ids; a table cannot be empty"),
        ("ids", "latin.txt", "latin.txt cannot be read as item ids, one on every line"),
        ("ids", "nothing.txt", "nothing.txt does not exist; check the path"),
        ("ids", "nothing.parquet", "nothing.parquet does not exist; check the path"),
        ("file.parquet", "gone.txt", "file.parquet is no store of versions, where retired IDs"),
        ("nowhere", "gone.txt", "nowhere is no store of versions, where retired IDs are kept"),
    ],
)
def test_what_cannot_retire_is_refused(settled, tmp_path, ids, items, sentence):
    (tmp_path / "unknown.txt").write_text(f"{IDS[1]}\nnobody\n")
    (tmp_path / "everybody.txt").write_text("\n".join(IDS[:120]))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    for name, column in (
        ("unknown", {"item_id": [IDS[1], "nobody"]}),
        ("numbers", {"item_id": [1]}),
        ("null", {"item_id": [IDS[1], None]}),
        ("sku", {"sku": [IDS[1]]}),
    ):
        pq.write_table(pa.table(column), tmp_path / f"{name}.parquet")
    said = run_here("retire", tmp_path / ids, tmp_path / items).error
    assert sentence.replace("{}", str(tmp_path)) in said
    settled()
    assert not (tmp_path / "nowhere").exists()


def test_rollback_through_the_command(settled, tmp_path):
    store = tmp_path / "ids"
    done = run_here("rollback", store, "--json").json
    assert done == {"command": "rollback", "summary": {"before": "v0002", "after": "v0001"}}
    assert len(read_ids(store)) == 100
    assert "has no version before v0001; its versions are v0001, v0002" in (
        run_here("rollback", store).error
    )
    assert "has no version v0009" in run_here("rollback", store, "--to", "v0009").error
    assert "file.parquet is no store" in run_here("rollback", tmp_path / "file.parquet").error
    done = run_here("rollback", store, "--to", "v0002")
    assert done.out.strip().endswith("ids: v0002 is current again, was v0001")
    settled()


def test_what_a_version_says_of_itself(nights, tmp_path):
    nights(range(100))
    noted = json.loads((tmp_path / "ids" / "v0001" / "_manifest.json").read_text())
    assert noted["summary"]["items"] == 100
    assert noted["plan"]["previous"] is None


def test_a_version_links_to_the_full_parts_of_the_one_before(nights, world, tmp_path, monkeypatch):
    monkeypatch.setattr("semid.jobs.mapping.PART_ROWS", 64)
    store, model = tmp_path / "ids", ("--model", world / "model")
    for items in (300, 340, 360):
        assert nights(range(items)).code == 0
        ids = read_ids(store)
        assert ids.item_ids.to_pylist() == IDS[:items]
        assert ids.metadata["summary"]["items"] == items  # the part that is first is older
        done = run_here("verify", store, *model, "--embeddings", tmp_path / "embeddings.parquet")
        assert done.code == 0, done.err
    first, second, third = (
        [p.stat().st_ino for p in sorted((store / v).glob("part-*"))] for v in versions(store)
    )
    assert (len(first), len(second), len(third)) == (1, 2, 2)
    assert first[0] == second[0] == third[0]
    assert second[1] != third[1]  # not full: written again, with the new items
    (tmp_path / "gone.txt").write_text(IDS[5])
    assert run_here("retire", store, tmp_path / "gone.txt").code == 0
    assert read_ids(store).metadata["summary"]["items"] == 359
    done = run_here("verify", store, *model, "--embeddings", tmp_path / "embeddings.parquet")
    assert done.code == 0, done.err


def test_a_night_of_changed_embeddings_alone_is_listed_and_verified(nights, world, tmp_path):
    store = tmp_path / "ids"
    assert nights(range(100)).code == 0
    before = sids_of(store)
    done = nights(range(100), "--json", moved=(3, 8)).json
    assert (done["output"], done["summary"]["drifted"]) == (str(store / "v0002"), 2)
    listed = pq.read_table(store / "v0002" / "_drifted.parquet")
    assert sorted(listed["item_id"].to_pylist()) == [IDS[3], IDS[8]]
    assert sids_of(store) == before
    fresh = ("--embeddings", tmp_path / "embeddings.parquet")
    done = run_here("verify", store, "--model", world / "model", *fresh)
    assert done.code == 0, done.out
    assert nights(range(100), "--json", moved=(3, 8)).json["up_to_date"]
    # Those that are moved have no codes that they keep.
    done = nights(range(100), "--move-drifted", 0, "--json", moved=(3, 8)).json
    assert done["summary"]["moved_for_drift"] == 2
    assert not (store / "v0003" / "_drifted.parquet").exists()
    assert run_here("verify", store, "--model", world / "model", *fresh).code == 0


def test_ids_that_were_rolled_back_are_nobody_elses(nights, world, tmp_path):
    store = tmp_path / "ids"
    assert nights(range(50)).code == 0
    assert nights(range(60)).code == 0
    out_of_sight = {sids_of(store)[IDS[number]] for number in range(50, 60)}
    assert run_here("rollback", store).code == 0
    # The vectors of those, by other items.
    table = table_of(range(50, 60)).set_column(
        0, "item_id", pa.array([f"other {number}" for number in range(10)])
    )
    pq.write_table(table, tmp_path / "others.parquet")
    assign = ("--model", world / "model", "--output", store, "--publish")
    assert run_here("assign", tmp_path / "others.parquet", *assign).code == 0
    assert not out_of_sight & set(sids_of(store).values())
    (tmp_path / "gone.txt").write_text(IDS[1])
    assert run_here("retire", store, tmp_path / "gone.txt").code == 0
    assert {tuple(r["sid"]) for r in retired_in(store / "v0004")} >= out_of_sight
    assert nights(range(70)).code == 0
    assert not out_of_sight & set(sids_of(store).values())


def test_an_id_that_an_item_was_moved_to_and_rolled_back_from_is_held(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(100))
    first = sids_of(store)
    nights(range(100), "--move-drifted", 0, moved=(3, 8))
    moved = {sids_of(store)[IDS[number]] for number in (3, 8)}
    assert not moved & set(first.values())
    run_here("rollback", store)
    assert sids_of(store) == first
    nights([*range(100), *range(250, 330)])
    assert not moved & set(sids_of(store).values())
    assert {tuple(row["sid"]) for row in retired_in(store / "v0003")} == moved
    assert run_here("verify", store).code == 0


def test_an_item_that_came_back_in_a_version_that_was_rolled_back_comes_back(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(100))
    first = sids_of(store)
    (tmp_path / "gone.txt").write_text(IDS[5])
    run_here("retire", store, tmp_path / "gone.txt")
    nights(range(100))
    run_here("rollback", store)
    nights(range(120))
    assert sids_of(store)[IDS[5]] == first[IDS[5]]
    assert not (store / "v0004" / "_retired.parquet").exists()
    assert run_here("verify", store).code == 0


def test_a_version_of_another_model_may_have_been_rolled_back(nights, world, tmp_path):
    store, other = tmp_path / "ids", tmp_path / "other"
    done = run_here(
        *("train", world / "embeddings.parquet", "--output", other, "--levels", "8,8,8"), *TINY[2:]
    )
    assert done.code == 0, done.err
    nights(range(50))
    nights(range(60), "--fresh", model=other)
    fresh = sids_of(store)
    run_here("rollback", store)
    done = nights(range(70))
    assert done.code == 0, done.err
    assert not (store / "v0003" / "_retired.parquet").exists()
    assert len(next(iter(fresh.values()))) == 4


def test_a_fresh_version_that_was_rolled_back_holds_what_is_not_live(nights, tmp_path):
    store = tmp_path / "ids"
    nights(range(50))
    nights(range(45, 95), "--fresh")
    hidden = set(sids_of(store).values())
    run_here("rollback", store)
    first = set(sids_of(store).values())
    nights(range(120))
    held = [tuple(row["sid"]) for row in retired_in(store / "v0003")]
    assert sorted(held) == sorted(hidden - first)
    assert not set(held) & set(sids_of(store).values())
    assert run_here("verify", store).code == 0


def test_the_order_of_suffixes_stays_the_same(nights, world, tmp_path):
    numbers = pa.table({"item_id": IDS, "sales": list(range(500)), "price": [1.0] * 500})
    pq.write_table(numbers, tmp_path / "items.parquet")
    by = ("--items", tmp_path / "items.parquet", "--suffix-order")
    assert nights(range(60), *by, "sales:desc").code == 0
    said = nights(range(80), *by, "price").error
    assert "ids/v0001 is sales:desc, but price was asked for; IDs are kept only by" in said
    said = nights(range(80)).error
    assert "the suffix order of" in said
    assert "is sales:desc, but the item id was asked for" in said
    assert nights(range(80), *by, "sales:desc").code == 0


def test_an_id_column_called_as_another_is_refused(nights, world, tmp_path):
    table = table_of(range(20)).rename_columns(["reason", "embedding"])
    pq.write_table(table, tmp_path / "e.parquet")
    done = run_here(
        *("assign", tmp_path / "e.parquet", "--model", world / "model", "--item-id", "reason"),
        *("--output", tmp_path / "ids", "--publish"),
    )
    assert "e.parquet is called 'reason', as one of the columns of an ids table" in done.error


def test_tables_models_and_embeddings_are_of_one_encoder(world, tmp_path):
    """The same sentence wherever they meet: assign, drift, align."""
    model, items = world / "model", tmp_path / "items.parquet"
    first = json.loads((model / "manifest.json").read_text())["encoder_fingerprint"]
    noted = read_ids(world / "ids.parquet").metadata
    assert noted["encoder_fingerprint"] == first
    assert len(noted["input_fingerprint"]) == 16
    pq.write_table(make_catalog(seed=3), items)
    other = tmp_path / "other.parquet"
    assert run_here("embed", items, "--output", other, *LSA).code == 0
    for command, made in (
        (("assign", other, "--model", model, "--output", tmp_path / "ids"), "model was trained on"),
        (
            *(("drift", world / "ids.parquet", "--model", model, "--embeddings", other),),
            "ids.parquet was assigned from",
        ),
        (
            *(("align", model, "--to", model, "--embeddings", other, "-o", tmp_path / "aligned"),),
            "model was trained on",
        ),
    ):
        said = run_here(*command).error
        assert f"{made} embeddings of the encoder {first}, but those of {other} are of " in said
        assert said.endswith("; embed the items with the first")


@pytest.mark.parametrize("name", ["it's ids", 'say "ids"'])
def test_a_path_with_quotes(nights, tmp_path, name):
    done = nights(range(60), "--max-suffix", 40, output=name)
    assert done.code == 0, done.err
    assert nights(range(80), "--max-suffix", 40, output=name).code == 0
    done = nights(range(90), "--max-suffix", 41, output=name)
    assert "the max suffix of" in done.error
    assert "is 40, but 41 was asked for" in done.error
