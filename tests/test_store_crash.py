"""A kill at any moment of the life of a store: a whole version is current, and the life goes on."""

import random
import signal
import subprocess
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_embeddings
from forks import end

from semid.id_reading import read_ids
from semid.manifests import read_manifest
from semid.store import current, versions

KILLS = 100
# Items that are there, of 600, every night; what leaves in between.
NIGHTS = [range(400), range(40, 450), range(20, 520), range(600)]
GONE = [range(10), range(5, 30), range(410, 440)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory, world):
    """Embeddings of every night, lists of what leaves, and the model."""
    folder = tmp_path_factory.mktemp("tables")
    whole, other = make_embeddings(600), make_embeddings(600, seed=1)
    for number, items in enumerate(NIGHTS):
        # Some have moved every night.
        mixed = [(other if item % 50 == number else whole).slice(item, 1) for item in items]
        pq.write_table(pa.concat_tables(mixed), folder / f"night{number}.parquet")
    for number, items in enumerate(GONE):
        (folder / f"gone{number}.txt").write_text("\n".join(f"P{i:06d}" for i in items))
    return folder, world / "model"


def make_life(clock):
    """What happens to a store: a first night, then nights, lists and rollbacks in any order."""
    happens = ["night0", "night1", "gone0", "rollback", "night2"]
    return happens + clock.choices(["night1", "night2", "night3", "gone0", "rollback"], k=3)


def command_of(what, tables, store):
    folder, model = tables
    if what == "rollback":
        return ("rollback", store)
    if what.startswith("gone"):
        return ("retire", store, folder / f"{what}.txt")
    moved = ("--move-drifted", "20") if what == "night3" else ()
    return (
        *("assign", folder / f"{what}.parquet", "--model", model),
        *("--output", store, "--publish", *moved),
    )


def version_of(store, name, known):
    """What a version holds, checked the first time that it is seen: live and retired IDs."""
    noted = read_manifest(store / name)
    assert noted is not None, name
    if name in known:
        return known[name]
    ids = read_ids(store / name)
    live = dict(zip(ids.item_ids.to_pylist(), map(tuple, ids.sids.tolist()), strict=True))
    assert len(set(live.values())) == len(live) == noted["summary"]["items"]
    place = store / name / "_retired.parquet"
    rows = pq.read_table(place).to_pylist() if place.exists() else []
    left = [(row["item_id"], tuple(row["sid"]), row["reason"]) for row in rows]
    assert not {sid for _, sid, _ in left} & set(live.values())
    if (before := noted["plan"]["previous"]) is not None:
        was, _ = version_of(store, before, known)
        # Whoever was there has its ID still, or left it where nobody gets it.
        for item, sid in was.items():
            assert live.get(item) == sid or (item, sid) in {one[:2] for one in left}
    known[name] = live, left
    return known[name]


def state_of(store, known):
    """What readers get, after checking that every version in the store is whole."""
    for name in versions(store):
        version_of(store, name, known)
    name = current(store)
    return None if name is None else (name, *known[name])


@pytest.fixture
def run_life(tables, forks):
    """Live a life to its end, killed now and then; returns the states and the kills."""
    seconds = {}

    def run(store, life, clock=None, most=0):
        known, states, kills = {}, [], 0
        for what in life:
            command, before, tries = command_of(what, tables, store), current(store), 0
            while True:
                began = time.monotonic()
                process = forks.start(*command)
                limit = 180.0
                if clock is not None and kills < most and tries < 8:
                    limit = clock.uniform(0, 1.1) * seconds[what]
                try:
                    process.communicate(timeout=limit)
                    assert process.returncode == 0, forks.log.read_text()
                    if clock is None:
                        seconds[what] = time.monotonic() - began
                    break
                except subprocess.TimeoutExpired:
                    end(process, signal.SIGKILL)
                    kills, tries = kills + 1, tries + 1
                after = state_of(store, known)
                assert after is not None or before is None
                if what == "rollback" and after[0] != before:
                    break  # it was done: again would go back further
            states.append(state_of(store, known))
        return states, kills

    return run


@pytest.mark.timeout(600)
def test_a_hundred_kills_leave_whole_versions_and_a_life_that_goes_on(tmp_path, run_life):
    clock, kills, number, rolled = random.Random(11), 0, 0, 0
    while kills < KILLS:
        life = make_life(clock)
        expected, _ = run_life(tmp_path / f"whole{number}", life)
        store = tmp_path / f"killed{number}"
        states, more = run_life(store, life, clock, KILLS - kills)
        assert states == expected
        kills, number, rolled = kills + more, number + 1, rolled + life.count("rollback")
        left = {p.name for p in store.iterdir()} - set(versions(store))
        assert left <= {".lock", "CURRENT", ".CURRENT.new"}
    assert kills == KILLS
    assert rolled > 0
