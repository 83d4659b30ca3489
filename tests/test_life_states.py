"""Any life of a table in memory keeps every promise, whatever happens in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import semid
from semid import IdTable
from semid.collisions import CollisionConfig
from semid.tombstones import GONE

START = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = [f"i{n:02}" for n in range(24)]
DAYS = 30
POLICIES = {
    "suffix": CollisionConfig("suffix"),
    "reassign": CollisionConfig("reassign"),
    "overflow": CollisionConfig("reassign", overflow="suffix"),
    "none": CollisionConfig("none"),
}


def points():
    """Places on a line of eight, of which as many items as like share one."""
    return np.array([[1.0 + n // 4 * 10 + n % 4, 1.0] for n in range(16)], np.float32)


@cache
def model():
    return semid.fit(points(), quantizer="rqkmeans", levels=(4, 8), config={"holdout": 0.0})


class Life(RuleBasedStateMachine):
    """A table, what it was before each step, and when every SID was left."""

    policy = "suffix"

    @initialize(items=st.sets(st.sampled_from(ITEMS), min_size=1), data=st.data())
    def assign(self, items, data):
        self.at = {item: data.draw(st.integers(0, 15)) for item in ITEMS}
        self.now, self.undone, self.left = START, [], {}
        ids = sorted(items)
        self.table = IdTable.assign(model(), ids, self.x_of(ids), collisions=POLICIES[self.policy])

    def x_of(self, ids):
        return points()[[self.at[item] for item in ids]]

    @property
    def sids(self):
        pairs = zip(self.table.item_ids.to_pylist(), self.table.sids.tolist(), strict=True)
        return {item: tuple(sid) for item, sid in pairs}

    def graves(self):
        return [] if self.table.retired is None else self.table.retired.to_pylist()

    def step(self, table):
        self.undone.append((self.table, dict(self.left)))
        self.table = table

    @rule(
        items=st.sets(st.sampled_from(ITEMS), min_size=1),
        reclaim=st.sampled_from([None, DAYS]),
        move=st.sampled_from([None, 0.0, 1.0]),
    )
    def append(self, items, reclaim, move):
        before, ids = self.sids, sorted(items)
        held = {
            tuple(g["sid"])
            for g in self.graves()
            if reclaim is None or self.now - g["retired_at"] < timedelta(days=reclaim)
        }
        graves = {g["item_id"]: tuple(g["sid"]) for g in self.graves() if g["reason"] == GONE}
        if self.policy == "reassign" and len({*before, *items}) + len(held) > 32:
            return
        table, drifted = self.table.append(
            *(model(), ids, self.x_of(ids)), reclaim_after=reclaim, move_drifted=move, now=self.now
        )
        self.step(table)
        after = self.sids
        assert set(after) == {*before, *items}
        moved = {item for item in before if after[item] != before[item]}
        if move is None:
            assert not moved
        # Who comes back gets his own, and nobody else what is held.
        back = {item for item in items if item not in before and item in graves}
        assert all(after[item] == graves[item] for item in back)
        new = {after[item] for item in {*after} - {*before} - back | moved}
        if self.policy != "none":
            assert not new & held
        for item in moved:
            self.left[before[item]] = self.now
        assert {*drifted["item_id"].to_pylist()} <= {*items} - moved
        # Once more, nothing changes.
        again, _ = table.append(
            *(model(), ids, self.x_of(ids)), reclaim_after=reclaim, now=self.now
        )
        assert again.to_arrow().equals(table.to_arrow())

    @rule(data=st.data())
    @precondition(lambda self: len(self.table) > 1)
    def retire(self, data):
        before = self.sids
        most = len(before) - 1
        items = data.draw(st.sets(st.sampled_from(sorted(before)), min_size=1, max_size=most))
        self.step(self.table.retire(sorted(items), now=self.now))
        assert self.sids == {item: sid for item, sid in before.items() if item not in items}
        self.left |= {before[item]: self.now for item in items}
        assert {g["item_id"] for g in self.graves() if g["reason"] == GONE} >= items

    @rule(items=st.sets(st.sampled_from(ITEMS), max_size=6), to=st.integers(0, 15))
    def embeddings_change(self, items, to):
        self.at |= dict.fromkeys(items, to)

    @rule(days=st.sampled_from([1, 20, DAYS]))
    def days_pass(self, days):
        self.now += timedelta(days=days)

    @rule()
    @precondition(lambda self: self.undone)
    def undo(self):
        self.table, self.left = self.undone.pop()

    @invariant()
    def nobody_loses_an_id(self):
        if not hasattr(self, "table"):
            return
        live, graves = self.sids, self.graves()
        gone = [g["item_id"] for g in graves if g["reason"] == GONE]
        assert len(gone) == len(set(gone))
        assert not set(gone) & set(live)
        if self.policy == "none":
            return
        buried = [tuple(g["sid"]) for g in graves]
        assert len({*live.values(), *buried}) == len(live) + len(buried)
        # What was left within the days is remembered, or back where it was.
        for sid, when in self.left.items():
            if self.now - when < timedelta(days=DAYS):
                assert sid in buried or sid in live.values()

    def teardown(self):
        if hasattr(self, "table"):
            found = self.table.verify()
            assert found.total == 0, found.examples


@pytest.mark.parametrize("policy", POLICIES)
def test_any_life_keeps_every_promise(policy):
    machine = type(f"Life{policy.title()}", (Life,), {"policy": policy}).TestCase
    machine.settings = settings(
        max_examples=2,
        stateful_step_count=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()
