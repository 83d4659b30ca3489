"""Tables that go on: what is there stays, what comes gets free SIDs, what left keeps its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_collisions import EXAMPLES, pieces_of, plane
from test_reassign import quantised

from semid import collisions
from semid.appending import Rules, Table, append
from semid.collisions import CollisionConfig, Resources, Surroundings
from semid.errors import SemidError
from semid.id_columns import code_column, ids_schema
from semid.tombstones import GONE, buried, having

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICIES = {
    "suffix": CollisionConfig("suffix"),
    "reassign": CollisionConfig("reassign"),
    "overflow": CollisionConfig("reassign", overflow="suffix"),
    "none": CollisionConfig("none"),
}
# One level of four and one of two: eight raw SIDs.
BOOKS = [[[0.0], [10.0], [20.0], [30.0]], [[0.0], [1.0]]]
ROOM = 8


def fresh_batch(latents, kind, codebooks=BOOKS, codes=None):
    """Rows as an assigner makes them; `latents` are a number or a vector for every item."""
    latent_nz = np.array([np.atleast_1d(x) for x in latents.values()], np.float32)
    codes_nl = quantised(latent_nz, codebooks) if codes is None else np.array(codes, np.int32)
    total_nz = sum(np.asarray(b)[codes_nl[:, level]] for level, b in enumerate(codebooks))
    schema = ids_schema(kind)
    return pa.record_batch(
        {
            "item_id": pa.array(list(latents), kind),
            "codes": code_column(codes_nl),
            "distance": pa.array(np.square(latent_nz - total_nz).sum(1).astype(np.float32)),
            "margin": pa.array(np.zeros(len(latents), np.float32)),
        },
        schema=schema.remove(schema.get_field_index("sid")),
    )


@dataclass
class Life:
    """A table in memory and what happens to it, day by day."""

    folder: object
    config: CollisionConfig
    codebooks: list = field(default_factory=lambda: BOOKS)
    kind: pa.DataType = field(default_factory=pa.string)
    rows: pa.Table | None = None
    retired: pa.Table | None = None
    days: int = 0
    drifted: pa.Table | None = None

    @property
    def now(self):
        return START + timedelta(days=self.days)

    @property
    def sids(self):
        if self.rows is None:
            return {}
        pairs = zip(self.rows["item_id"].to_pylist(), self.rows["sid"].to_pylist(), strict=True)
        return {item: tuple(sid) for item, sid in pairs}

    def tombstones(self, reason=None):
        """The retired rows as (item, sid, reason)."""
        rows = [] if self.retired is None else self.retired.to_pylist()
        found = [(row["item_id"], tuple(row["sid"]), row["reason"]) for row in rows]
        return [one for one in found if reason in (None, one[2])]

    def table(self):
        def stream(table):
            return lambda: iter(table.to_batches(max_chunksize=3))

        none = self.retired is None or not len(self.retired)
        return Table(stream(self.rows), None if none else stream(self.retired))

    def assign(self, latents, *, cuts=(), move=None, reclaim=None, keep=True):
        """Assign items, as the first or on top of the table; returns the facts."""
        batch = fresh_batch(latents, self.kind, self.codebooks)
        rows = pieces_of(batch, cuts)
        space = plane([np.atleast_1d(x) for x in latents.values()], self.codebooks)
        resources, around = Resources(self.folder), Surroundings(space.levels, space)
        schema, retired = ids_schema(self.kind), None
        if self.rows is None:
            found = collisions.resolve(rows, self.config, resources, around)
            facts, after = found.facts, pa.Table.from_batches(list(found.rows), schema)
        else:
            rules = Rules(self.now, move, reclaim)
            found = append(rows, self.table(), self.config, rules, resources, around)
            after = pa.Table.from_batches(list(found.rows), schema)
            facts, left = found.facts, list(found.retired)
            retired = pa.Table.from_batches(left) if left else None
            assert found.report.items == len(after)
            said = any(found.facts[name] for name in ("new", "came_back", "moved_for_drift"))
            assert said != after.equals(self.rows)
            self.drifted = found.drifted if keep else self.drifted
        if keep:
            self.rows, self.retired = after, retired
        else:
            return after, retired
        return facts

    def retire(self, items):
        ids = pa.array(list(items), self.kind)
        if not len(ids):
            return
        rows = lambda: iter(self.rows.to_batches())  # noqa: E731
        gone = [buried(b, now=self.now, reason=GONE) for b in having(rows, ids, "item_id")()]
        stay = list(having(rows, ids, "item_id", inside=False)())
        before = [] if self.retired is None else self.retired.to_batches()
        self.rows = pa.Table.from_batches(stay, self.rows.schema)
        self.retired = pa.Table.from_batches([*before, *gone])


# the contract of every policy that keeps IDs


LATENT = st.integers(-8, 8 * 31).map(lambda n: n / 8)


@st.composite
def steps(draw):
    """What happens: items that are assigned together, and items that are retired."""
    names = [f"{i}" for i in range(ROOM)]
    some = st.lists(st.sampled_from(names), min_size=1, max_size=ROOM, unique=True)
    first = draw(some)
    later = st.tuples(st.sampled_from(["assign", "assign", "retire"]), some)
    return [("assign", first), *draw(st.lists(later, max_size=4))]


@pytest.mark.parametrize("policy", POLICIES)
@settings(EXAMPLES, max_examples=6)
@given(data=st.data())
def test_a_life_keeps_every_promise(policy, tmp_path, data):
    life = Life(tmp_path, POLICIES[policy])
    at = {f"{i}": data.draw(LATENT) for i in range(ROOM)}
    last = None
    for what, items in data.draw(steps()):
        before, grave = life.sids, life.tombstones()
        life.days += 1
        if what == "retire":
            leaving = [item for item in items if item in before]
            if len(leaving) == len(before):
                continue
            life.retire(leaving)
            last = None
            assert life.sids == {i: s for i, s in before.items() if i not in leaving}
            assert set(life.tombstones()) == {*grave, *((i, before[i], GONE) for i in leaving)}
            continue
        names = {item for item, _, _ in grave}
        if policy == "reassign" and len({*before, *names, *items}) > ROOM:
            continue
        latents = {item: at[item] for item in items}
        kept = None if life.rows is None else life.rows
        life.assign(latents, cuts=data.draw(st.lists(st.integers(0, len(items)), max_size=2)))
        # Rows that were there come first, as they were.
        if kept is not None:
            assert life.rows.slice(0, len(kept)).equals(kept)
        sids = life.sids
        assert set(sids) == {*before, *items}
        back = {item: sid for item, sid, _ in grave if item in items}
        assert {item: sids[item] for item in back} == back
        held = {sid for item, sid, _ in grave if item not in back}
        assert set(life.tombstones()) == {one for one in grave if one[0] not in back}
        last = latents
        if policy == "none":
            continue
        assert len(set(sids.values())) == len(sids)
        assert not held & set(sids.values())
    if last is not None:  # once more: nothing changes, not even the order
        again, retired = life.assign(last, keep=False)
        assert again.equals(life.rows)
        assert retired is None or retired.equals(life.retired)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("policy", POLICIES)
@settings(EXAMPLES, max_examples=4)
@given(data=st.data())
def test_neither_order_nor_pieces_nor_a_replay_matter(policy, tmp_path, data):
    at = {f"{i}": data.draw(LATENT) for i in range(ROOM)}
    names = list(at)
    cut = data.draw(st.integers(1, ROOM - 2))
    gone = data.draw(st.sampled_from(names[:cut])) if cut > 1 else None
    found = []
    for _ in range(2):
        life = Life(tmp_path, POLICIES[policy])
        life.assign({name: at[name] for name in names[:cut]})
        if gone:
            life.retire([gone])
        order = data.draw(st.permutations(names[cut:]))
        cuts = data.draw(st.lists(st.integers(0, len(order)), max_size=3))
        life.assign({name: at[name] for name in order}, cuts=cuts)
        found.append((life.sids, sorted(life.tombstones())))
    assert found[0] == found[1]


@settings(EXAMPLES, max_examples=6)
@given(data=st.data())
def test_suffixes_fill_the_least_free_numbers(tmp_path, data):
    """By brute force: the items of a raw SID, by their ids, get the least numbers not held."""
    life, held = Life(tmp_path, POLICIES["suffix"]), {}
    at = {f"{i:02}": data.draw(st.sampled_from([0.0, 10.0])) for i in range(12)}
    for _ in range(data.draw(st.integers(1, 4))):
        new = data.draw(st.lists(st.sampled_from(sorted(at)), min_size=1, unique=True))
        taken = defaultdict(set)
        for sid in held.values():
            taken[sid[:-1]].add(sid[-1])
        for item in sorted(set(new) - set(held)):
            raw = tuple(quantised([[at[item]]], BOOKS)[0].tolist())
            number = next(n for n in range(100) if n not in taken[raw])
            taken[raw].add(number)
            held[item] = (*raw, number)
        life.assign({item: at[item] for item in new})
        assert life.sids.items() <= held.items()
        assert {item: held[item] for item in new} == {item: life.sids[item] for item in new}
        live = sorted(life.sids)
        life.retire(data.draw(st.lists(st.sampled_from(live), max_size=len(live) - 1)))


# by hand


def test_suffixes_around_what_is_held_by_hand(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    life.assign({"a": 0, "b": 0, "c": 0, "x": 10})
    assert life.sids == {"a": (0, 0, 0), "b": (0, 0, 1), "c": (0, 0, 2), "x": (1, 0, 0)}
    life.days = 1
    life.retire(["b", "x"])
    # The number of b and that of x are held; the new ones come by their ids after those there.
    life.assign({"e": 0, "d": 0, "y": 10})
    assert life.sids == {
        "a": (0, 0, 0),
        "c": (0, 0, 2),
        "d": (0, 0, 3),
        "e": (0, 0, 4),
        "y": (1, 0, 1),
    }
    life.days = 2
    assert life.assign({"b": 0, "f": 0})["came_back"] == 1
    assert life.sids["b"] == (0, 0, 1)
    assert life.sids["f"] == (0, 0, 5)
    assert life.tombstones() == [("x", (1, 0, 0), GONE)]


def test_a_retired_sid_is_free_after_its_days(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    life.assign({"a": 0, "b": 0, "c": 0})
    life.days = 10
    life.retire(["a"])
    life.days = 15
    life.retire(["b"])
    life.days = 40  # 30 days and 25 after
    facts = life.assign({"z": 0}, reclaim=30)
    assert facts["new"] == 1
    assert life.sids == {"c": (0, 0, 2), "z": (0, 0, 0)}
    assert life.tombstones() == [("b", (0, 0, 1), GONE)]
    # a's was given away: when it comes back it is new; b's is free, yet still there.
    life.days = 45
    facts = life.assign({"a": 0, "b": 0}, reclaim=30)
    assert (facts["new"], facts["came_back"]) == (1, 1)
    assert life.sids == {"c": (0, 0, 2), "z": (0, 0, 0), "b": (0, 0, 1), "a": (0, 0, 3)}
    assert life.tombstones() == []


def test_who_had_a_sid_is_known_until_it_is_given_away(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    life.assign({"a": 0, "b": 0, "c": 0, "x": 10})
    life.retire(["a", "b"])
    life.days = 31
    life.assign({"y": 10}, reclaim=30)
    assert life.tombstones() == [("a", (0, 0, 0), GONE), ("b", (0, 0, 1), GONE)]
    life.assign({"z": 0}, reclaim=30)
    assert life.sids["z"] == (0, 0, 0)
    assert life.tombstones() == [("b", (0, 0, 1), GONE)]
    # Asked for more days again, it is held again.
    life.assign({"w": 0}, reclaim=90)
    assert life.sids["w"] == (0, 0, 3)


def test_of_free_sids_as_many_are_known_as_there_are_items(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    life.assign(dict.fromkeys("abcdef", 0))
    for days, leaving in enumerate(["b", "a", "c", "d"]):
        life.days = days
        life.retire([leaving])
    life.days = 32  # of all but d 30 days and more
    life.assign({"y": 10}, reclaim=30)
    assert [item for item, _, _ in life.tombstones()] == ["b", "a", "c", "d"]
    life.retire(["y"])
    life.retire(["f"])
    life.assign({"g": 10}, reclaim=30)
    # Two items live: of the three whose days are over, the two that left last.
    assert [item for item, _, _ in life.tombstones()] == ["a", "c", "d", "y", "f"]


def test_a_retired_sid_is_held_to_the_last_microsecond(tmp_path):
    life = Life(tmp_path, POLICIES["reassign"])
    life.assign({"a": 0, "b": 20})
    life.retire(["a"])
    for hours, sid in ((-0.0001, (0, 1)), (0, (0, 0))):
        life.days = 30 + hours / 24
        after, _ = life.assign({"n": 0}, reclaim=30, keep=False)
        assert tuple(after["sid"].to_pylist()[-1]) == sid


def test_drift_by_hand(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    # Squared errors .25, .25 and .04: their mean is .18.
    life.assign({"a": 0.5 - 1, "b": 10.5 - 1, "c": 21.2})
    assert life.sids == {"a": (0, 0, 0), "b": (1, 0, 0), "c": (2, 1, 0)}
    # b's codes 10 + 0 describe 11.2 with 1.44, its own 10 + 1 with .04; c moved within its cell.
    facts = life.assign({"b": 11.2, "c": 21.3, "a": 20.0})
    counts = {"new": 0, "kept": 3, "came_back": 0, "drifted": 2, "moved_for_drift": 0, "held": 0}
    assert facts == counts
    assert life.sids == {"a": (0, 0, 0), "b": (1, 0, 0), "c": (2, 1, 0)}
    assert life.drifted["item_id"].to_pylist() == ["a", "b"]
    assert life.drifted["codes"].to_pylist() == [[0, 0], [1, 0]]
    assert life.drifted["fresh_codes"].to_pylist() == [[2, 0], [1, 1]]
    assert life.drifted["drift"].to_pylist() == pytest.approx([400 / 0.18, 1.4 / 0.18], rel=1e-5)
    assert life.retired is None


def test_items_beyond_a_drift_move_and_leave_their_sid(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    life.assign({"a": -0.5, "b": 9.5, "c": 21.2})
    life.days = 3
    facts = life.assign({"a": 21.0, "b": 11.2, "d": 0.0, "e": 21.0}, move=100)
    assert (facts["moved_for_drift"], facts["kept"], facts["held"]) == (1, 2, 1)
    assert (facts["new"], facts["drifted"]) == (2, 1)
    # a's old SID stays held: d does not get it; a and e come by their ids after c.
    assert life.sids == {
        "b": (1, 0, 0),
        "c": (2, 1, 0),
        "a": (2, 1, 1),
        "d": (0, 0, 1),
        "e": (2, 1, 2),
    }
    (grave,) = life.retired.to_pylist()
    assert (grave["item_id"], grave["sid"], grave["reason"]) == ("a", [0, 0, 0], "moved")
    assert grave["retired_at"] == life.now
    # It does not go back when it drifts back: another has moved on.
    life.assign({"a": 0.0}, move=100)
    assert life.sids["a"] == (0, 0, 2)
    assert [(i, s) for i, s, _ in life.tombstones("moved")] == [("a", (0, 0, 0)), ("a", (2, 1, 1))]
    # Retired after that, it comes back to where it was last.
    life.retire(["a"])
    assert life.assign({"a": 0.0})["came_back"] == 1
    assert life.sids["a"] == (0, 0, 2)
    assert len(life.tombstones()) == 2


def test_an_item_that_drifts_to_its_own_sid_stays(tmp_path):
    life = Life(tmp_path, POLICIES["reassign"])
    life.assign({"a": 0.0, "b": 0.0, "c": 20.2})
    assert life.sids == {"a": (0, 0), "b": (0, 1), "c": (2, 0)}
    # Its codes (0, 0) describe 1.0 badly, but the ID that it was moved to is just that.
    facts = life.assign({"b": 1.0}, move=0)
    assert (facts["drifted"], facts["moved_for_drift"]) == (1, 0)
    assert life.sids["b"] == (0, 1)
    assert life.drifted.to_pylist() == [
        {"item_id": "b", "codes": [0, 0], "fresh_codes": [0, 1], "drift": 0.0}
    ]
    # How far it drifted is told by the ID: 1.3 from 10.0 is what (1, 0) says and (0, 1) does not.
    facts = life.assign({"b": 10.0}, move=1)
    assert facts["moved_for_drift"] == 1
    assert life.sids["b"] == (1, 0)
    assert life.tombstones() == [("b", (0, 1), "moved")]


def test_nothing_moves_unasked_where_the_table_has_no_error_at_all(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    life.assign({"a": 0.0, "b": 10.0})
    facts = life.assign({"a": 21.0})
    assert (facts["drifted"], facts["moved_for_drift"]) == (1, 0)
    assert life.drifted["drift"].to_pylist() == [np.inf]
    assert life.sids["a"] == (0, 0, 0)
    assert life.assign({"a": 21.0}, move=1e9)["moved_for_drift"] == 1


def test_overflow_goes_on_beyond_what_is_held(tmp_path):
    books = [[[0.0]], [[0.0], [1.0]]]
    life = Life(tmp_path, POLICIES["overflow"], books)
    life.assign({"a": 0.0, "b": 1.0})
    life.assign({"c": 0.0})
    assert life.sids == {"a": (0, 0, 0), "b": (0, 1, 0), "c": (0, 0, 1)}
    life.retire(["c"])
    life.assign({"d": 0.0, "e": 1.0})
    assert life.sids == {"a": (0, 0, 0), "b": (0, 1, 0), "d": (0, 0, 2), "e": (0, 1, 1)}


def test_a_full_table_takes_nobody(tmp_path):
    life = Life(tmp_path, POLICIES["reassign"])
    life.assign(dict.fromkeys("abcdefgh", 0.0))
    assert len(set(life.sids.values())) == ROOM
    before = life.rows
    with pytest.raises(SemidError, match="cannot each have an ID of their own among 4 x 2 = 8"):
        life.assign({"i": 0.0})
    # Its SID is held: the one that leaves makes no room, but it may come back.
    life.retire(["a"])
    with pytest.raises(
        SemidError,
        match="8 items cannot each have an ID of their own among 4 x 2 = 8, of which 1 is held for "
        r"retired items; train .* or free some with --reclaim-after",
    ):
        life.assign({"i": 0.0})
    assert life.assign({"a": 0.0})["came_back"] == 1
    assert life.sids["a"] == tuple(before["sid"][0].as_py())
    assert list(tmp_path.iterdir()) == []


def test_the_policy_none_keeps_codes(tmp_path):
    life = Life(tmp_path, POLICIES["none"])
    life.assign({"a": 0.0, "b": 0.0})
    life.assign({"a": 31.0, "c": 0.0})
    assert life.sids == {"a": (0, 0), "b": (0, 0), "c": (0, 0)}


def test_integers_are_items_too(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"], kind=pa.int64())
    life.assign({10: 0.0, -(2**63): 0.0})
    life.retire([10])
    life.assign({9: 0.0, 2**63 - 1: 0.0})
    assert life.sids == {-(2**63): (0, 0, 0), 9: (0, 0, 2), 2**63 - 1: (0, 0, 3)}


def test_ids_of_any_letters_are_kept_apart(tmp_path):
    life = Life(tmp_path, POLICIES["suffix"])
    names = [
        "",
        "a,b",
        "a\nb",
        "a\r\nb",
        "é",
        "e\u0301",
        "日本",
        "😀",
        "\uffff",
        'q"',
        "\x00",
        "NULL",
    ]
    life.assign(dict.fromkeys(names[::2], 0.0))
    kept = life.sids
    assert kept == {name: (0, 0, n) for n, name in enumerate(sorted(names[::2]))}
    life.retire(names[2:6:2])
    life.assign(dict.fromkeys(names, 0.0))
    assert kept.items() <= life.sids.items()
    assert sorted(life.sids.values()) == [(0, 0, n) for n in range(len(names))]
    assert life.tombstones() == []


def test_what_cannot_be_is_refused(tmp_path):
    for given_, message in (
        ({"move_drifted": -0.1}, r"move_drifted is -0\.1; it must be 0 or more"),
        ({"move_drifted": float("nan")}, "move_drifted is nan"),
        ({"reclaim_after": -1}, "reclaim_after is -1; it must be 0 or more"),
    ):
        with pytest.raises(SemidError, match=message):
            Rules(START, **given_)
    life = Life(tmp_path, CollisionConfig("sinkhorn"))
    life.assign({"a": 0.0, "b": 0.0})
    with pytest.raises(SemidError, match="sinkhorn moves items that have an ID already; use suff"):
        life.assign({"c": 0.0})
