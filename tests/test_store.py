"""Versions of a table: published, read, rolled back, pruned, and one writer at a time."""

import json
import os
import shutil
import signal
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_embeddings, run_here, start
from forks import wait_until

from semid.errors import SemidError
from semid.id_reading import read_ids
from semid.jobs.mapping import write_table
from semid.jobs.publishing import produce_version
from semid.manifests import METADATA_KEY, read_manifest
from semid.store import (
    current,
    is_store,
    point_to,
    prune,
    require_store,
    resolve_table,
    rollback,
    versions,
    writing,
)
from semid.tables import open_table


def publish(store, value, *, keep=0, rows=1, unless=None):
    """Publish a version whose only row, or rows, hold `value`."""

    def build(stage, manifest, before):
        if value == unless:
            return None, {}
        batch = pa.record_batch(
            {
                "item_id": [f"i{row}" for row in range(rows)],
                "sid": pa.array([[value, row] for row in range(rows)], pa.list_(pa.int32())),
            }
        )
        note = {METADATA_KEY: json.dumps(manifest)}
        return write_table(iter([batch]), stage / "ids", batch.schema, note), {"value": value}

    settings = {"item_id": "item_id", "value": value}
    return produce_version("test", store, inputs={}, settings=settings, build=build, keep=keep)


def value_of(store):
    table = open_table(store)
    batches = pa.Table.from_batches(list(table.batches(["sid"])))
    values = {sid[0] for sid in batches["sid"].to_pylist()}
    (value,) = values
    return value


def entries(folder):
    return sorted(p.name for p in folder.iterdir())


def damage(folder):
    part = folder / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"?")


# publishing


def test_versions_follow_each_other_and_readers_get_the_last(tmp_path):
    store = tmp_path / "ids"
    assert versions(store) == []
    assert current(store) is None
    assert not is_store(store)
    assert resolve_table(store) == store
    for number, value in enumerate([5, 6, 7], start=1):
        done = publish(store, value)
        assert (done.output, done.up_to_date) == (store / f"v{number:04d}", False)
        assert current(store) == f"v{number:04d}"
        assert value_of(store) == value
    assert versions(store) == ["v0001", "v0002", "v0003"]
    assert resolve_table(store) == store / "v0003"
    assert [value_of(store / version) for version in versions(store)] == [5, 6, 7]
    assert (store / "CURRENT").read_text() == "v0003\n"
    assert entries(store) == [".lock", "CURRENT", "v0001", "v0002", "v0003"]
    for version in versions(store):
        assert read_manifest(store / version)["summary"] == {"value": int(version[1:]) + 4}


def test_the_same_again_is_up_to_date(tmp_path):
    publish(tmp_path / "ids", 5)
    again = publish(tmp_path / "ids", 5)
    assert (again.up_to_date, again.summary) == (True, {"value": 5})
    assert publish(tmp_path / "ids", 6, unless=6).up_to_date
    assert versions(tmp_path / "ids") == ["v0001"]
    assert entries(tmp_path / "ids") == [".lock", "CURRENT", "v0001"]


def test_the_ten_thousandth_version_follows(tmp_path):
    store = tmp_path / "ids"
    publish(store, 5)
    (store / "v0001").rename(store / "v9999")
    point_to(store, "v9999")
    publish(store, 6)
    publish(store, 7)
    assert versions(store) == ["v9999", "v10000", "v10001"]
    assert rollback(store) == ("v10001", "v10000")
    assert value_of(store) == 6


def test_only_the_newest_are_kept_and_the_current_one(tmp_path):
    store = tmp_path / "ids"
    for value in range(5):
        publish(store, value, keep=3)
    assert versions(store) == ["v0003", "v0004", "v0005"]
    rollback(store, "v0003")
    with writing(store):
        assert prune(store, 1) == ["v0004"]
        assert prune(store, 0) == []
    assert versions(store) == ["v0003", "v0005"]
    assert value_of(store) == 2
    publish(store, 9, keep=1)
    # The one that was current until now stays too: readers may be in the middle of it.
    assert versions(store) == ["v0003", "v0006"]
    assert entries(store) == [".lock", "CURRENT", "v0003", "v0006"]


def test_what_a_kill_left_of_a_removed_version_goes(tmp_path):
    store = tmp_path / "ids"
    for value in range(3):
        publish(store, value)
    (store / "v0001").rename(store / ".v0001.removed")
    assert publish(store, 2, keep=1).up_to_date
    assert entries(store) == [".lock", "CURRENT", "v0003"]


# a store that is none


def test_a_folder_with_other_files_is_no_store(tmp_path):
    store = tmp_path / "ids"
    require_store(store)
    store.mkdir()
    (store / ".lock").touch()
    require_store(store)
    (store / "notes.txt").write_text("mine")
    for attempt in (require_store, lambda path: publish(path, 1)):
        with pytest.raises(SemidError, match=r"ids exists and is no store of versions; choose an"):
            attempt(store)
    assert entries(store) == [".lock", "notes.txt"]
    with pytest.raises(SemidError, match=r"notes\.txt exists and is no store of versions"):
        require_store(store / "notes.txt")
    with pytest.raises(SemidError, match=r"nowhere is no store of versions; semid assign --publ"):
        rollback(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("text", ["v0007\n", "", "../v0001\n", "part-00000.parquet", "v1"])
def test_a_pointer_to_nothing_is_told_and_put_right(tmp_path, text):
    store = tmp_path / "ids"
    publish(store, 5)
    (store / "CURRENT").write_text(text)
    for attempt in (current, lambda path: publish(path, 6), resolve_table, open_table, rollback):
        with pytest.raises(SemidError, match=r"CURRENT names .* \(v0001\); semid rollback --to wr"):
            attempt(store)
    assert rollback(store, "v0001")[1] == "v0001"
    assert value_of(store) == 5


def test_versions_without_a_pointer_are_not_guessed_among(tmp_path):
    store = tmp_path / "ids"
    publish(store, 5)
    publish(store, 6)
    (store / "CURRENT").unlink()
    attempts = [resolve_table, open_table, rollback]
    for attempt in [*attempts, *(lambda path, v=v: publish(path, v) for v in (5, 6, 7))]:
        with pytest.raises(SemidError, match="none is current; choose one of v0001, v0002 with"):
            attempt(store)
    assert versions(store) == ["v0001", "v0002"]
    assert rollback(store, "v0002") == ("", "v0002")


def test_a_damaged_version_is_neither_built_on_nor_rolled_back_to(tmp_path):
    store = tmp_path / "ids"
    for value in range(3):
        publish(store, value)
    damage(store / "v0001")
    with pytest.raises(SemidError, match=r"v0001 is damaged: its files are not those .*--to"):
        rollback(store, "v0001")
    assert current(store) == "v0003"
    damage(store / "v0003")
    with pytest.raises(SemidError, match=r"v0003 is damaged: .* go back .* with semid rollback"):
        publish(store, 9)
    assert rollback(store) == ("v0003", "v0002")
    assert not publish(store, 9).up_to_date
    assert versions(store)[-1] == "v0004"


# rolling back


def test_rollback_goes_to_the_one_before_or_to_a_named_one(tmp_path):
    store = tmp_path / "ids"
    for value in range(3):
        publish(store, value)
    assert rollback(store) == ("v0003", "v0002")
    assert value_of(store) == 1
    assert rollback(store) == ("v0002", "v0001")
    with pytest.raises(SemidError, match=r"ids has no version before v0001; its versions are"):
        rollback(store)
    with pytest.raises(SemidError, match=r"has no version v0009; its versions are v0001, v0002, v"):
        rollback(store, "v0009")
    assert rollback(store, "v0003") == ("v0001", "v0003")
    assert value_of(store) == 2
    assert entries(store) == [".lock", "CURRENT", "v0001", "v0002", "v0003"]


def test_rollback_skips_what_was_rolled_back_before(tmp_path):
    """The version before is the one that the current one was made from, whatever its number."""
    store = tmp_path / "ids"
    for value in range(3):
        publish(store, value)
    rollback(store)
    publish(store, 9)
    assert rollback(store) == ("v0004", "v0002")
    shutil.rmtree(store / "v0002")
    point_to(store, "v0004")
    with pytest.raises(SemidError, match=r"v0002, .* made from, is gone; its versions are"):
        rollback(store)
    assert current(store) == "v0004"


def test_the_same_command_after_a_rollback_goes_forth_again(tmp_path):
    store = tmp_path / "ids"
    publish(store, 5)
    publish(store, 6)
    rollback(store)
    again = publish(store, 6)
    assert (again.output.name, again.up_to_date, again.summary) == ("v0002", False, {"value": 6})
    assert versions(store) == ["v0001", "v0002"]


# kills at the moments that matter


@pytest.mark.parametrize("before", [[], [5]])
def test_a_version_that_was_not_yet_pointed_to_is_taken_up(tmp_path, before):
    store = tmp_path / "ids"
    for value in before:
        publish(store, value)
    publish(store, 6)
    made = versions(store)
    # As a kill between the two renames leaves it: the pointer is the old one, or none is there.
    if before:
        point_to(store, "v0001")
    else:
        (store / "CURRENT").unlink()
    left = store / ".next.partial"
    left.mkdir()
    (left / "plan.json").write_text(read_manifest(store / made[-1])["fingerprint"])
    (left / "raw").mkdir()
    inode = (store / made[-1] / "part-00000.parquet").stat().st_ino
    done = publish(store, 6)
    assert (done.output.name, done.summary) == (made[-1], {"value": 6})
    assert value_of(store) == 6
    assert (store / made[-1] / "part-00000.parquet").stat().st_ino == inode
    assert entries(store) == [".lock", "CURRENT", *made]


def test_a_damaged_version_is_not_taken_up(tmp_path):
    store = tmp_path / "ids"
    publish(store, 5)
    publish(store, 6)
    damage(store / "v0002")
    point_to(store, "v0001")
    assert publish(store, 6).output.name == "v0003"
    assert value_of(store) == 6


def test_readers_see_a_whole_version_at_any_time(tmp_path):
    store, rows, over, seen, failed = tmp_path / "ids", 500, threading.Event(), [], []
    publish(store, 0, rows=rows)

    def read():
        while not over.is_set():
            try:
                table = open_table(store)
                assert table.num_rows == rows
                seen.append(value_of(store))
            except Exception as error:
                failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for value in range(1, 30):
        publish(store, value, rows=rows, keep=5)
        if value % 7 == 0:
            rollback(store)
    over.set()
    for reader in readers:
        reader.join()
    assert failed == []
    assert len(set(seen)) > 3


# two writers


@pytest.fixture
def night(world, tmp_path):
    """A store, and the command that publishes its next version."""
    pq.write_table(make_embeddings(600), tmp_path / "all.parquet")
    command = ("assign", tmp_path / "all.parquet", "--model", world / "model", "--publish")
    return tmp_path / "ids", (*command, "--output", tmp_path / "ids")


def test_a_second_writer_is_told_and_the_lock_is_free_after_a_kill(night, world, tmp_path):
    store, command = night
    assert run_here(*command).code == 0
    (tmp_path / "gone.txt").write_text("P000001\n")
    # It stops where its version is about to be moved into the store.
    slow = (
        "import os, signal, semid.jobs.publishing as p; b = p.build_index\n"
        "def stopped(*a, **k):\n    os.kill(os.getpid(), signal.SIGSTOP); return b(*a, **k)\n"
        "p.build_index = stopped"
    )
    for way in (signal.SIGCONT, signal.SIGKILL):
        (tmp_path / "gone.txt").write_text(f"P00000{1 if way == signal.SIGCONT else 2}\n")
        before = current(store)
        first = start("retire", store, tmp_path / "gone.txt", before=slow)
        wait_until(lambda first=first: os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT))
        for other in (
            command,
            ("retire", store, tmp_path / "gone.txt"),
            ("rollback", store, "--to", "v0001"),
        ):
            said = run_here(*other).error
            assert said.startswith("another semid job is writing ")
            assert said.endswith("ids; wait for it to end")
        assert current(store) == before
        assert len(read_ids(store)) in (600, 599)
        first.send_signal(way)
        first.communicate(timeout=180)
        assert (current(store) == before) == (way == signal.SIGKILL)
    done = run_here("retire", store, tmp_path / "gone.txt", "--json").json
    assert done["summary"]["retired"] == 2
    assert entries(store) == [".lock", "CURRENT", "v0001", "v0002", "v0003"]


def test_of_many_writers_one_wins_and_the_others_are_told(tmp_path):
    store, ends = tmp_path / "ids", []

    def write(value):
        for turn in range(10):
            try:
                publish(store, 10 * value + turn % 3)
                ends.append("written")
            except SemidError as error:
                ends.append(str(error).split(" writing ")[0])

    writers = [threading.Thread(target=write, args=(value,)) for value in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert set(ends) <= {"written", "another semid job is"}
    assert ends.count("written") >= len(versions(store)) > 0
    for version in versions(store):
        assert read_manifest(store / version)["summary"] == {"value": value_of(store / version)}
