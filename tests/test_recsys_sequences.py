"""Histories from interactions, their splits, and batches for training and evaluation."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.fit_config import ContrastConfig
from semid.id_table import IdTable
from semid.met_items import steps_left_out
from semid.recsys import (
    LeaveOneOut,
    Sequences,
    SidConstraint,
    SidSequenceDataset,
    SidVocabulary,
    TimeSplit,
    read_sequences,
)
from semid.tables import open_table

IDS = list("abcdefgh")
CODES = np.array([[i // 4, i % 4] for i in range(8)], np.int32)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(rows: list[tuple[Any, ...]], order: str = "position", **types: pa.DataType) -> str:
    columns = zip(*rows, strict=True)
    names = ("user_id", "item_id", order)
    arrays = [
        pa.array(list(values), types.get(name)) for name, values in zip(names, columns, strict=True)
    ]
    pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), "met.parquet")
    return "met.parquet"


def histories(users: dict[Any, str], **types: pa.DataType) -> str:
    rows = [(user, item, at) for user, items in users.items() for at, item in enumerate(items)]
    return write(rows, **types)


def as_text(sequences: Sequences) -> dict[Any, list[str]]:
    """The items of every user by part."""
    found = {}
    for user, name in enumerate(sequences.user_ids.to_pylist()):
        rows = slice(*sequences.offset_u[user : user + 2])
        names = np.array(IDS)[sequences.item_m[rows]]
        parts = sequences.part_m[rows]
        found[name] = ["".join(names[parts == part]) for part in range(3)]
    return found


def met(sequences: Sequences) -> str:
    return "".join(sorted("".join("".join(parts) for parts in as_text(sequences).values())))


# reading


def test_one_is_left_out_to_validate_and_one_to_test() -> None:
    found = read_sequences(histories({1: "abcde", 2: "bca", 3: "fg", 4: "h"}), IDS)
    assert as_text(found) == {
        **{1: ["abc", "d", "e"], 2: ["b", "c", "a"]},
        # too short for it
        **{3: ["fg", "", ""], 4: ["h", "", ""]},
    }
    assert (found.items, found.interactions, len(found)) == (8, 11, 4)
    assert (found.unknown, found.users_unknown, found.users_short) == (0, 0, 2)
    assert found.met().tolist() == [1, 2, 1, 0, 0, 1, 1, 1]
    assert found.met("test").tolist() == [1, 0, 0, 0, 1, 0, 0, 0]


def test_items_that_are_not_there_keep_their_places() -> None:
    found = read_sequences(histories({1: "abxcd", 2: "abcx", 3: "abxd", 4: "xyz", 5: "x"}), IDS)
    assert as_text(found) == {1: ["ab", "c", "d"], 2: ["ab", "c", ""], 3: ["ab", "", "d"]}
    assert (found.interactions, found.unknown) == (17, 7)
    assert (found.users_unknown, found.users_short) == (2, 1)


def test_what_is_left_out_is_what_contrast_leaves_out() -> None:
    rows = [
        *((1, item, at) for item, at in zip("abdcef", (1, 2, 2, 2, 3, 3), strict=True)),
        *((2, item, at) for item, at in zip("bxay", (1, 2, 3, 4), strict=True)),
    ]
    path = write(rows, "timestamp")
    assert as_text(read_sequences(path, IDS))[1] == ["abcd", "e", "f"]
    steps = steps_left_out(open_table(path), pa.array(IDS), ContrastConfig(exclude_last=2))
    assert sorted(IDS[a] + IDS[b] for a, b in steps) == ["de", "ef"]


def test_the_order_of_rows_is_of_no_matter() -> None:
    random = np.random.default_rng(0)
    rows = [(int(u), IDS[i], int(t)) for u, i, t in random.integers(0, 8, (300, 3))]
    one = read_sequences(write(rows, "timestamp"), IDS)
    other = read_sequences(write([rows[i] for i in random.permutation(300)], "timestamp"), IDS)
    assert as_text(one) == as_text(other)
    assert one.user_ids.to_pylist() == sorted(one.user_ids.to_pylist())
    by_hand = {user: sorted((t, i) for u, i, t in rows if u == user) for user in range(8)}
    for user, parts in as_text(one).items():
        assert "".join(parts) == "".join(item for _, item in by_hand[user])


@pytest.mark.parametrize("rows", [1, 7])
def test_batches_of_the_table_are_of_no_matter(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = histories({7: "abcde", 2: "hgf", 5: "axb"})
    whole = as_text(read_sequences(path, IDS))
    monkeypatch.setattr("semid.recsys.ordering.ROWS", rows)
    assert as_text(read_sequences(path, IDS)) == whole


@pytest.mark.parametrize(
    ("users", "ids"),
    [
        (pa.string(), pa.large_string()),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_text_of_any_kind(users: pa.DataType, ids: pa.DataType) -> None:
    path = histories({"v": "abc", "u": "cab"}, user_id=users, item_id=ids)
    assert as_text(read_sequences(path, IDS)) == {"u": ["c", "a", "b"], "v": ["a", "b", "c"]}


def test_ids_that_are_integers_on_either_side() -> None:
    rows = [(1, 10, 0), (1, 9, 1), (1, 7, 2)]
    for kind in (pa.int16(), pa.int64()):
        path = write(rows, item_id=kind)
        for ids in ([9, 10], ["9", "10"], pa.array([9, 10], pa.int32())):
            found = read_sequences(path, ids)
            assert found.item_m.tolist() == [1, 0]
            assert found.part_m.tolist() == [0, 1]
    text = write([(u, str(i), at) for u, i, at in rows])
    assert read_sequences(text, [9, 10]).item_m.tolist() == [1, 0]


def test_a_table_of_ids_will_do() -> None:
    table = IdTable.from_arrays(IDS, CODES)
    path = histories({1: "abc"})
    assert as_text(read_sequences(open_table(path), table)) == {1: ["a", "b", "c"]}


@given(
    st.lists(
        st.tuples(st.sampled_from([3, 10, 9, -1]), st.sampled_from("abcxyé"), st.integers(0, 4)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([LeaveOneOut(), TimeSplit(1, 3)]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_sorted_on_disk_as_in_memory(rows: Any, split: Any, as_text_ids: bool) -> None:
    table = [(str(user) if as_text_ids else user, item, at) for user, item, at in rows]
    path = write([*table, (table[0][0], "a", 0)], "timestamp")

    def found(**more: Any) -> Any:
        try:
            return read_sequences(path, IDS, split=split, **more)
        except SemidError as error:
            return str(error)

    here, there = found(), found(memory_gib=0.2)
    if isinstance(here, str):
        assert here == there
        return
    assert here.user_ids.equals(there.user_ids)
    for name in ("offset_u", "item_m", "part_m"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name), name)
        assert getattr(here, name).dtype == getattr(there, name).dtype
    for name in ("items", "interactions", "unknown", "users_unknown", "users_short"):
        assert getattr(here, name) == getattr(there, name), name


def test_sorting_on_disk_has_the_same_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for rows, order, said in (
        ([(1, "a", 0), (1, "b", 0)], "position", "user 1 has 2 rows with position 0"),
        ([(1, "a", 0), (1, None, 1)], "position", "row 1: column 'item_id' is null"),
        ([(1, "x", 0)], "timestamp", "none of the 1 interactions in met.parquet is of"),
        ([(1, 7, 0)], "timestamp", "whose ids are string where theirs are int64; give those"),
    ):
        with pytest.raises(SemidError, match=said):
            read_sequences(write(rows, order), IDS, memory_gib=0.2)
    # Integers there, text here, and users that go on from one batch of DuckDB's to the next.
    monkeypatch.setattr("semid.recsys.ordering_on_disk.ROWS", 1)
    path = write([(at // 5, 7, at) for at in range(50_000)], "timestamp")
    found = read_sequences(path, ["7"], memory_gib=0.2)
    assert np.array_equal(found.offset_u, np.arange(0, 50_001, 5))
    assert found.user_ids.to_pylist() == list(range(10_000))
    with pytest.raises(SemidError, match="memory_gib is 0; it must be above 0"):
        read_sequences(path, ["7"], memory_gib=0)


NOON = datetime(2025, 6, 30, 12)


@pytest.mark.parametrize(
    ("times", "split"),
    [
        ([1, 2, 3, 4], TimeSplit(2, 4)),
        ([0.1, 0.2, 0.3, 0.4], TimeSplit(0.2, 0.4)),
        ([Decimal("1.50"), Decimal("2.50"), Decimal("3.50"), Decimal("4.50")], TimeSplit(2, 4)),
        ([date(2025, 6, day) for day in (1, 2, 3, 4)], TimeSplit("2025-06-02", date(2025, 6, 4))),
        (
            [NOON + timedelta(hours=h) for h in range(4)],
            TimeSplit("2025-06-30 13:00", "2025-06-30 15:00"),
        ),
        (
            [NOON + timedelta(days=d) for d in range(4)],
            TimeSplit("2025-07-01", NOON + timedelta(days=3)),
        ),
    ],
)
def test_splits_in_time(times: list[Any], split: TimeSplit) -> None:
    # One user is late, another has left.
    rows = [(1, item, at) for item, at in zip("abcd", times, strict=True)]
    rows += [(2, "e", times[3]), (2, "f", times[2]), (3, "g", times[0])]
    found = read_sequences(write(rows, "timestamp"), IDS, split=split)
    assert as_text(found) == {1: ["a", "bc", "d"], 2: ["", "f", "e"], 3: ["g", "", ""]}
    assert found.users_short == 0


@pytest.mark.parametrize(
    ("rows", "order", "split", "said"),
    [
        (
            [(1, "a", 0), (1, "b", 0)],
            "position",
            LeaveOneOut(),
            "user 1 has 2 rows with position 0",
        ),
        (
            [(1, "x", 0)],
            "position",
            LeaveOneOut(),
            "none of the 1 interactions in met.parquet is of",
        ),
        ([(1, "a", 0)], "when", LeaveOneOut(), "neither a column 'timestamp' nor 'position'"),
        (
            [(1, "a", 0), (1, None, 1)],
            "position",
            LeaveOneOut(),
            "met.parquet, row 1: column 'item_id' is null",
        ),
        (
            [(1, "a", True)],
            "position",
            LeaveOneOut(),
            "column 'position' is bool, but it must hold",
        ),
        ([(1, "a", 0)], "position", TimeSplit(0, 1), "has no column 'timestamp' to split by"),
        (
            [(1, "a", NOON)],
            "timestamp",
            TimeSplit("soon", "x"),
            "validation is 'soon', which is no",
        ),
        (
            [(1, "a", 3)],
            "timestamp",
            TimeSplit(3, 2),
            "validates from 3 on but tests from 2, which",
        ),
        # Seconds, where the column has microseconds: all would be tested on.
        ([(1, "a", NOON), (1, "b", NOON)], "timestamp", TimeSplit(5, 6), "nothing to train on"),
        ([(1, "a", 3), (1, "b", 4)], "timestamp", TimeSplit(4, 9), "or to test on; give times"),
        ([(1, "a", 3)], "timestamp", (3, 4), r"the split is \(3, 4\); give LeaveOneOut\(\) or"),
        ([(1, "a", 3)], "timestamp", LeaveOneOut, "the split is <class"),
    ],
)
def test_mistakes_in_interactions(rows: Any, order: str, split: Any, said: str) -> None:
    with pytest.raises(SemidError, match=said):
        read_sequences(write(rows, order), IDS, split=split)


def test_interactions_are_a_table_of_a_file() -> None:
    rows = pa.table({"user_id": [1], "item_id": ["a"], "position": [0]})
    for table in (rows, rows.to_pandas()):
        with pytest.raises(SemidError, match=f"are given as {type(table).__name__}; write them to"):
            read_sequences(table, IDS)  # type: ignore[arg-type]


def test_ids_that_are_given_twice() -> None:
    with pytest.raises(SemidError, match="the item id 'a' occurs 2 times"):
        read_sequences(histories({1: "ab"}), list("aba"))


# batches


@pytest.fixture
def sequences() -> Sequences:
    return read_sequences(histories({1: "abcdef", 2: "hgfe", 3: "ba"}), IDS)


TOKENS = SidVocabulary((2, 4), special=("pad",)).tokens(CODES)


def texts(items: torch.Tensor) -> list[str]:
    """Rows of items, with . for padding."""
    rows = items.reshape(len(items), -1).tolist()
    return ["".join("." if item < 0 else IDS[item] for item in row) for row in rows]


def examples_of(dataset: SidSequenceDataset) -> list[tuple[int, str, str]]:
    batch = dataset.__getitems__(list(range(len(dataset))))
    users = batch.users_b.tolist()
    return list(zip(users, texts(batch.items_bt), texts(batch.target_items), strict=True))


def test_examples_of_training(sequences: Sequences) -> None:
    found = {
        kind: examples_of(SidSequenceDataset(sequences, TOKENS, examples=kind))
        for kind in ("prefixes", "windows", "last", "shifted", "chunks")
    }
    assert found["prefixes"] == [(0, "a..", "b"), (0, "ab.", "c"), (0, "abc", "d"), *LATER]
    assert found["windows"] == [
        *[(0, "a..", "b"), (0, "ab.", "c"), (0, "b..", "c")],
        *[(0, "abc", "d"), (0, "bc.", "d"), (0, "c..", "d"), *LATER],
    ]
    assert found["last"] == [(0, "abc", "d"), *LATER]
    assert found["shifted"] == [(0, "abc", "bcd"), (1, "h..", "g.."), (2, "b..", "a..")]
    assert found["chunks"] == found["shifted"]


LATER = [(1, "h..", "g"), (2, "b..", "a")]


def test_histories_are_cut_to_the_latest(sequences: Sequences) -> None:
    def found(**more: Any) -> list[str]:
        return [
            h for u, h, _ in examples_of(SidSequenceDataset(sequences, TOKENS, **more)) if not u
        ]

    assert found(max_items=2) == ["a.", "ab", "bc"]
    assert found(max_items=2, examples="windows") == ["a.", "ab", "b.", "bc", "c."]
    assert found(max_items=2, examples="shifted") == ["bc"]
    assert found(max_items=2, examples="chunks") == ["a.", "bc"]
    assert found(max_items=4, padding_side="left") == ["..a", ".ab", "abc"]
    assert found(max_items=4, fixed_length=True) == ["a...", "ab..", "abc."]
    assert found(max_items=4, fixed_length=True, padding_side="left") == ["...a", "..ab", ".abc"]


def test_validation_and_test(sequences: Sequences) -> None:
    validation = SidSequenceDataset(sequences, TOKENS, "validation", examples="shifted")
    assert examples_of(validation) == [(0, "abcd", "e"), (1, "hg..", "f")]
    test = SidSequenceDataset(sequences, TOKENS, "test", max_items=2)
    assert examples_of(test) == [(0, "de", "f"), (1, "gf", "e")]
    batch = test.__getitems__([1, 0])
    assert batch.seen_rows.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert texts(batch.seen_items[None]) == ["hgfabcde"]
    training = SidSequenceDataset(sequences, TOKENS)[0]
    assert training.seen_rows.shape == training.seen_items.shape == (0,)


def test_what_was_seen_is_excluded_by_row(sequences: Sequences) -> None:
    batch = SidSequenceDataset(sequences, TOKENS, "test").__getitems__([1, 0])
    seen_bm = batch.seen_padded()
    assert texts(seen_bm) == ["hgf..", "abcde"]
    constraint = SidConstraint.of(IdTable.from_arrays(IDS, CODES)).excluding_by_row(seen_bm)
    # Left are a to e of codes (0, …) and (1, 0); f, g and h of (1, …).
    assert constraint.allowed(constraint.start(2), 0).tolist() == [[True, True], [False, True]]
    assert SidSequenceDataset(sequences, TOKENS)[0].seen_padded().shape == (1, 0)


def test_targets_without_history_are_counted() -> None:
    # Of user 2 nothing is known before the test, user 3 is new in it.
    rows = [(1, item, at) for at, item in enumerate("abc")]
    rows += [(2, "x", 0), (2, "y", 1), (2, "d", 2), (3, "e", 2)]
    found = read_sequences(write(rows, "timestamp"), IDS, split=TimeSplit(1, 2))
    test = SidSequenceDataset(found, TOKENS, "test")
    assert (len(test), test.without_history) == (1, 2)
    assert SidSequenceDataset(found, TOKENS, "validation").without_history == 0


def test_a_vocabulary_says_which_token_pads(sequences: Sequences) -> None:
    table = IdTable.from_arrays(IDS, CODES)
    vocabulary = SidVocabulary.of(table, special=("eos", "pad"))
    for sids in (table.sids, torch.from_numpy(table.sids)):
        tokens = vocabulary.tokens(sids)
        data = SidSequenceDataset(sequences, tokens, padding=vocabulary.pad)
        batch = data.__getitems__([0, 1])
        assert batch.tokens_bts.flatten(1).tolist() == [[2, 4, 1, 1], [2, 4, 2, 5]]
        assert vocabulary.codes(batch.tokens_bts)[0].tolist() == [[0, 0], [-1, -1]]


def test_a_time_split_tests_on_all_that_comes_after() -> None:
    rows = [(1, item, at) for at, item in enumerate("abcde")] + [(2, "f", 3)]
    found = read_sequences(write(rows, "timestamp"), IDS, split=TimeSplit(2, 3))
    # User 2 has no history to tell from.
    test = SidSequenceDataset(found, TOKENS, "test")
    assert examples_of(test) == [(0, "abc.", "d"), (0, "abcd", "e")]


def test_tokens_and_their_padding(sequences: Sequences) -> None:
    batch = SidSequenceDataset(sequences, TOKENS).__getitems__([0, 2])
    assert batch.tokens_bts.flatten(1).tolist() == [[1, 3, 0, 0, 0, 0], [1, 3, 1, 4, 1, 5]]
    assert batch.target_tokens.tolist() == TOKENS[[1, 3]].tolist()
    codes = SidSequenceDataset(sequences, CODES, padding=-1, examples="shifted")
    batch = codes.__getitems__([0, 1])
    assert batch.tokens_bts[1].tolist() == [[1, 3], [-1, -1], [-1, -1]]
    assert batch.target_tokens[1].tolist() == [[1, 2], [-1, -1], [-1, -1]]
    assert {tensor.dtype for tensor in batch} == {torch.int64}
    assert {tensor.device.type for tensor in batch.to("meta")} == {"meta"}


@given(
    st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_examples_are_those_of_a_plain_loop(users: list[str], most: int) -> None:
    found = read_sequences(histories(dict(enumerate(users))), IDS)
    prefixes, windows, tests = [], [], []
    for user, items in enumerate(users):
        train = items[:-2] if len(items) >= 3 else items
        for place in range(1, len(train)):
            runs = [(train[start:place], train[place]) for start in range(place)]
            prefixes.append((user, train[max(place - most, 0) : place], train[place]))
            windows += [(user, *run) for run in runs if len(run[0]) <= most]
        if len(items) >= 3:
            tests.append((user, items[:-1][-most:], items[-1]))
    for expected, part, examples in (
        (prefixes, "training", "prefixes"),
        (windows, "training", "windows"),
        (tests, "test", "prefixes"),
    ):
        if not expected:
            continue
        dataset = SidSequenceDataset(found, TOKENS, part, examples=examples, max_items=most)  # type: ignore[arg-type]
        rows = [(user, items.rstrip("."), target) for user, items, target in examples_of(dataset)]
        assert rows == expected


def test_a_loader_is_repeatable_with_and_without_workers(sequences: Sequences) -> None:
    dataset = SidSequenceDataset(sequences, TOKENS, examples="windows")
    state = torch.get_rng_state()

    def passes(**more: Any) -> list[list[int]]:
        loader = dataset.loader(3, shuffle=True, **more)
        return [[hash_of(batch) for batch in loader] for _ in range(2)]

    def hash_of(batch: Any) -> int:
        return hash(tuple(map(str, batch)))

    first = passes(seed=1)
    assert first == passes(seed=1)
    assert first[0] != first[1]
    assert first != passes(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert passes(seed=1, workers=1) == first
    assert [len(batch.users_b) for batch in dataset.loader(3)] == [3, 3, 2]
    assert [len(batch.users_b) for batch in dataset.loader(3, drop_last=True)] == [3, 3]


@pytest.mark.parametrize("kind", [np.int64, np.int32, torch.int64, torch.int32])
def test_tokens_are_neither_copied_nor_sent_to_workers(sequences: Sequences, kind: Any) -> None:
    wide_ns = np.tile(TOKENS, 5_000)
    tokens = torch.from_numpy(wide_ns).to(kind) if isinstance(kind, torch.dtype) else None
    tokens = wide_ns.astype(kind) if tokens is None else tokens
    parts = [SidSequenceDataset(sequences, tokens, part) for part in ("training", "test")]
    for dataset in parts:
        assert np.shares_memory(np.asarray(dataset.tokens_ns), np.asarray(tokens))
        batch = dataset[0]
        assert batch.tokens_bts.dtype == batch.target_tokens.dtype == torch.int64
        assert batch.target_tokens.tolist() == wide_ns[batch.target_items.tolist()].tolist()
        # As a process that is spawned gets it: tensors go through shared memory.
        assert len(bytes(ForkingPickler.dumps(dataset))) < 20_000
    frozen_ns = wide_ns.astype(np.uint16)
    frozen_ns.flags.writeable = False
    assert SidSequenceDataset(sequences, frozen_ns)[0].target_tokens.shape == (1, 10_000)


def test_mistakes_in_a_dataset(sequences: Sequences) -> None:
    for more, said in (
        ({"part": "train"}, "part is 'train'; choose one of training, validation, test"),
        ({"examples": "all"}, "examples is 'all'; choose one of"),
        ({"padding_side": "middle"}, "padding_side is 'middle'"),
        ({"max_items": 0}, "max_items is 0; give at least 1"),
        ({"tokens": CODES}, "padding is 0, which is a token of an item"),
        ({"padding": 5}, "padding is 5, which is a token of an item"),
        ({"tokens": TOKENS[1:]}, r"tokens have shape \(7, 2\) .* expected integers \(8, s\)"),
    ):
        with pytest.raises(SemidError, match=said):
            SidSequenceDataset(**{"sequences": sequences, "tokens": TOKENS, **more})  # type: ignore[arg-type]
    dataset = SidSequenceDataset(sequences, TOKENS)
    for more, said in (
        ({"batch_size": 0}, "batch_size is 0 and workers 0; give at least 1 and 0"),
        ({"batch_size": 1, "workers": -1}, "batch_size is 1 and workers -1"),
    ):
        with pytest.raises(SemidError, match=said):
            dataset.loader(**more)
    with pytest.raises(SemidError, match="unknown device 'gpu'; use auto, cpu, cuda"):
        dataset[0].to("gpu")
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]
    alone = read_sequences(histories({1: "a", 2: "b"}), IDS)
    with pytest.raises(SemidError, match="no user has an interaction for training with one before"):
        SidSequenceDataset(alone, TOKENS)


def test_reading_loads_neither_pandas_nor_duckdb_nor_torch() -> None:
    path = histories({1: "abc"})
    code = (
        "import sys; from semid.recsys.histories import read_sequences; "
        "from semid.arrays import strings_to_arrow; "
        f"read_sequences({path!r}, strings_to_arrow(['a', 'b', 'c'])); "
        "assert not {'pandas', 'duckdb', 'torch', 'faiss'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_but_pieces_needs_torch_arrow_and_numpy_alone() -> None:
    path = histories({1: "abcd"})
    others = (
        *("pandas", "sklearn", "scipy", "threadpoolctl", "duckdb", "safetensors", "pydantic"),
        *("typer", "tqdm", "xxhash", "faiss", "sentencepiece", "transformers"),
    )
    code = f"""
import sys
class Gone:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in {others!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Gone)
import numpy as np
import semid.recsys as recsys
sids = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
sequences = recsys.read_sequences({path!r}, list("abcd"))
dataset = recsys.SidSequenceDataset(sequences, sids, padding=-1)
(batch,) = dataset.loader(8)
for module in (
    recsys.PrefixNgramEmbedding(3, 4, [2, 2]),
    recsys.CodeEmbedding(4, [2, 2]),
    recsys.PieceEmbedding(5, 4),
):
    assert module(batch.tokens_bts).shape == (1, 1, 4)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_does_what_it_says() -> None:
    root = Path(__file__).parent.parent
    items = pq.read_table(root / "data" / "items.parquet")["item_id"].combine_chunks()
    sids_nl = np.random.default_rng(0).integers(0, 16, (len(items), 4))
    IdTable.from_arrays(items, sids_nl).save("out/ids.parquet")
    Path("data").symlink_to(root / "data")
    page = (root / "docs" / "recsys_training.md").read_text()
    said: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M):
        exec(block, said)
    assert said["vectors"].shape[-1] == 32
    assert said["sequences"].unknown == 0
    assert torch.isfinite(said["loss"])
    assert len(said["scores"].score) == 2 * len(said["held_out"])
