"""The click model: what its figures are, and that it learns who meets what."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from semid.errors import SemidError
from semid.metrics.ranking import auc
from semid.probe import ClickModel, NetworkSettings, auc_by_group, fit, judged
from semid.probe.clicks import Clicks
from semid.recsys import CodeEmbedding, PrefixNgramEmbedding, SidSequenceDataset, read_sequences

SETTINGS = NetworkSettings(
    width=8, feedforward=16, dropout=0.1, epochs=12, batch=16, learning_rate=1e-2
)
# Two kinds of items, which the first code tells apart.
CODES = np.array([[item // 5, item % 5] for item in range(10)])


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Forty users, every one of whom meets one kind alone."""
    random = np.random.default_rng(0)
    rows = [
        (f"u{user:02}", f"i{item}", place)
        for user in range(40)
        for place, item in enumerate(random.integers(0, 5, 6) + 5 * (user % 2))
    ]
    path = tmp_path_factory.mktemp("clicks") / "interactions.parquet"
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=["user_id", "item_id", "position"]), path)
    return read_sequences(path, [f"i{item}" for item in range(10)])


def model(embedding=None, seed=0):
    embedding = embedding or CodeEmbedding(8, (2, 5))
    return ClickModel(embedding, SETTINGS, Generator().manual_seed(seed))


def test_areas_by_hand() -> None:
    clicked = np.array([True, True, False, False])
    assert auc(np.array([4.0, 3.0, 2.0, 1.0]), clicked) == 1
    assert auc(np.array([4.0, 1.0, 2.0, 3.0]), clicked) == 0.5
    assert auc(np.array([2.0, 2.0, 2.0, 1.0]), clicked) == 0.75  # two pairs tied, two won


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2))
def test_an_area_is_the_share_of_pairs_that_are_won(rows) -> None:
    score, clicked = (np.array(column) for column in zip(*rows, strict=True))
    if clicked.all() or not clicked.any():
        with pytest.raises(SemidError, match=f"{clicked.sum()} of {len(rows)} rows are clicked"):
            auc(score, clicked)
        return
    gap = score[clicked][:, None] - score[~clicked]
    assert auc(score, clicked) == pytest.approx(((gap > 0) + 0.5 * (gap == 0)).mean())


@pytest.mark.parametrize("kind", ["codes", "prefixes"])
def test_it_learns_who_meets_what(sequences, kind) -> None:
    embedding = PrefixNgramEmbedding(64, 8, (2, 5)) if kind == "prefixes" else None
    made = model(embedding)
    losses = fit(made, SidSequenceDataset(sequences, CODES, padding=-1), SETTINGS, seed=0).losses
    assert losses[-1] < losses[0]
    clicks = judged(made, SidSequenceDataset(sequences, CODES, "test", padding=-1), seed=1)
    kind_m = clicks.item // 5
    user_m = np.tile(np.arange(40), 2) % 2
    # Nothing but the kind is to be learnt: every item of the user's kind is above all others.
    assert clicks.score[kind_m == user_m].min() > clicks.score[kind_m != user_m].max()


def test_rows_are_what_users_met_and_the_same_items_dealt(sequences) -> None:
    data = SidSequenceDataset(sequences, CODES, "test", padding=-1)
    clicks = judged(model(), data, seed=0)
    own, dealt = clicks.item[clicks.clicked], clicks.item[~clicks.clicked]
    assert own.tolist() == [int(data[example].target_items) for example in range(40)]
    assert sorted(own) == sorted(dealt)
    again = judged(model(seed=3), data, seed=0)
    assert np.array_equal(again.item, clicks.item)
    assert not np.array_equal(judged(model(), data, seed=1).item, clicks.item)


def test_padding_and_other_rows_change_no_logit() -> None:
    made = model()
    codes = torch.tensor([[[0, 1], [1, 2]], [[1, 4], [-1, -1]]])
    items = torch.tensor([[0, 3], [1, 0]])
    together = made(codes, items)
    alone = torch.cat([made(codes[:1], items[:1]), made(codes[1:, :1], items[1:])])
    torch.testing.assert_close(together, alone)


def test_groups_are_of_how_often_items_were_met() -> None:
    met = np.array([9, 5, 4, 3, 2, 1, 1, 1, 0, 0])
    item = np.array([0, 8, 0, 8])
    clicks = Clicks(np.array([2, 1, 1, 0], np.float32), np.array([1, 1, 0, 0], np.bool_), item)
    found = auc_by_group(clicks, met)
    assert found["all"] == {"targets": 2, "auc": 0.875}
    assert found["head"] == found["cold"] == {"targets": 1, "auc": 1.0}
    assert found["torso"] == {"targets": 0, "auc": None}
