"""Item ids to codes and SIDs, and back, as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from semid.errors import SemidError
from semid.id_hashes import hash_ids
from semid.id_table import IdTable
from semid.recsys import SidLookup, SidVocabulary

CODES = np.array([[1, 0], [0, 2], [1, 0], [2, 2]], np.int32)
SIDS = np.array([[1, 0, 0], [0, 2, 0], [1, 0, 1], [2, 2, 0]], np.int32)


def table(ids=("b", "a", "d", "c"), **more) -> IdTable:
    return IdTable.from_arrays(list(ids), CODES, SIDS, **more)


def test_items_have_rows_codes_and_sids() -> None:
    lookup = SidLookup.of(table())
    assert len(lookup) == 4
    assert lookup.levels == (3, 3, 2)
    asked = ["c", "nobody", "b"]
    assert lookup.rows(asked).tolist() == [3, -1, 0]
    assert lookup.codes(asked).tolist() == [[2, 2], [-1, -1], [1, 0]]
    assert lookup.sids(asked).tolist() == [[2, 2, 0], [-1, -1, -1], [1, 0, 0]]
    assert all(found.dtype == torch.int64 for found in (lookup.rows(asked), lookup.sids(asked)))
    assert lookup.ids(torch.tensor([1, 3])).to_pylist() == ["a", "c"]
    assert lookup.ids(torch.tensor([1, -1])).to_pylist() == ["a", None]


@pytest.mark.parametrize(
    "asked",
    [
        ["d", "x", ""],
        ("d", "x", ""),
        np.array(["d", "x", ""]),
        np.array(["d", "x", ""], object),
        pa.array(["d", "x", ""]),
        pa.array(["-", "d", "x", ""])[1:],
        pa.array(["d", "x", ""], pa.large_string()),
        pa.chunked_array([["d", "x"], [""]]),
        pa.array(["d", "x", ""]).dictionary_encode(),
        pd.Series(["d", "x", ""], dtype="category"),
        pd.Categorical(["d", "x", ""]),
    ],
)
def test_string_ids_come_as_anything(asked) -> None:
    assert SidLookup.of(table()).rows(asked).tolist() == [2, -1, -1]


@pytest.mark.parametrize(
    "asked",
    [
        [70, 8, 7],
        np.array([70, 8, 7], np.int32),
        np.array([70, 8, 7], object),
        np.array([70, 8, 7], np.uint8),
        pa.array([70, 8, 7], pa.int16()),
        torch.tensor([70, 8, 7], dtype=torch.int32),
        pd.Series([70, 8, 7], dtype="category"),
    ],
)
def test_integer_ids_come_as_anything(asked) -> None:
    assert SidLookup.of(table([7, -8, 70, 1 << 60])).rows(asked).tolist() == [2, -1, 0]


def test_padded_histories_keep_their_shape() -> None:
    lookup = SidLookup.of(table([7, 8, 70, 9]))
    history = torch.tensor([[7, 70, 0], [9, 0, 0]])
    assert lookup.rows(history).tolist() == [[0, 2, -1], [3, -1, -1]]
    assert lookup.sids(history).shape == (2, 3, 3)
    assert lookup.sids(history.numpy()).tolist()[1] == [[2, 2, 0], [-1] * 3, [-1] * 3]


def test_items_have_tokens_of_a_vocabulary() -> None:
    lookup = SidLookup.of(table([7, 8, 70, 9]))
    vocabulary = SidVocabulary.of(lookup)  # 4 special ones, then levels of 3, 3 and 2
    history = torch.tensor([[7, 70], [9, 0]])
    found = lookup.tokens(history, vocabulary)
    assert found.tolist() == [[[5, 7, 10], [5, 7, 11]], [[6, 9, 10], [3, 3, 3]]]
    assert found.dtype == torch.int64
    # Another vocabulary numbers them otherwise, and each goes on to be itself.
    roomy = SidVocabulary((8, 8, 4), special=("unknown",))
    for each in (roomy, vocabulary, SidVocabulary.of(lookup)):
        assert torch.equal(lookup.tokens(history, each), each.tokens(lookup.sids(history)))
    assert lookup.tokens([], vocabulary).shape == (0, 3)
    assert torch.equal(lookup.to("cpu").tokens(history, vocabulary), found)
    assert SidLookup.of(table()).tokens(["c"], vocabulary).tolist() == [[6, 9, 10]]


def test_tokens_that_a_vocabulary_lacks() -> None:
    lookup = SidLookup.of(table())
    bare = SidVocabulary.of(lookup, special=("pad",))
    assert lookup.tokens(["b", "a"], bare).tolist() == [[2, 4, 7], [1, 6, 7]]
    with pytest.raises(SemidError, match="1 of the 2 item ids are unknown, and the vocabulary"):
        lookup.tokens(["b", "x"], bare)
    with pytest.raises(SemidError, match=r"row 1 holds the code 2 at level 1; .* 0 to 1"):
        lookup.tokens(["b"], SidVocabulary((3, 2, 2)))
    with pytest.raises(SemidError, match=r"dimensions \(4, 3\) must be 2"):
        lookup.tokens(["b"], SidVocabulary((3, 3)))
    with pytest.raises(SemidError, match="tokens are asked for in a tuple; give a SidVocabulary"):
        lookup.tokens(["b"], (3, 3, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [object, "U1"])
def test_histories_of_strings_keep_their_shape(kind) -> None:
    lookup = SidLookup.of(table())
    history = np.array([["b", "d", ""], ["c", "", ""]], kind)
    assert lookup.rows(history).tolist() == [[0, 2, -1], [3, -1, -1]]
    assert lookup.sids(history[None]).shape == (1, 2, 3, 3)
    assert lookup.rows(history[:0]).shape == (0, 3)


def test_nothing_is_asked_for() -> None:
    for ids, asked in (("badc", []), ([1, 2, 3, 4], []), ([1, 2, 3, 4], torch.empty(0, 5).long())):
        found = SidLookup.of(table(ids)).sids(asked)
        assert found.shape == (*getattr(asked, "shape", (0,)), 3)


@pytest.mark.parametrize(
    ("ids", "asked", "words"),
    [
        ("badc", [1], "asked for are integers but 'item_id' of the table is strings"),
        ("badc", torch.tensor([1]), "asked for are torch.int64 but"),
        ([1, 2, 3, 4], torch.tensor([True]), "torch.bool"),
        ([1, 2, 3, 4], 6, "'item_id' is 6, one item id; pass a list of them"),
        ([1, 2, 3, 4], np.int64(6), "6.*, one item id"),
        ("badc", "a", "'item_id' is 'a', one item id"),
        ("badc", 6, "'item_id' is 6, one item id"),
        ("badc", None, "cannot be read as strings or integers"),
        ("badc", pd.DataFrame({"item": ["a"]}), "cannot be read as strings or integers"),
        ("badc", [["a"], ["b", "d"]], r"is list<.*one after the other, or to a look-up as a NumPy"),
        ("badc", pa.array([["a"]]), "give item ids one after the other"),
        ([1, 2, 3, 4], [[1, 2], [3, 4]], "give item ids one after the other"),
        ("badc", pa.array(["a", None]).dictionary_encode(), "row 1: 'item_id' is null"),
        ([1, 2, 3, 4], ["1"], "asked for are strings but 'item_id' of the table is int64"),
        ([1, 2, 3, 4], torch.tensor([1.0]), "torch.float32"),
        ([1, 2, 3, 4], [1, None], "row 1: 'item_id' is null"),
        ("badc", ["a", None], "row 1: 'item_id' is null"),
    ],
)
def test_ids_of_another_type_are_refused(ids, asked, words) -> None:
    with pytest.raises(SemidError, match=words):
        SidLookup.of(table(ids)).rows(asked)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=60, unique=True),
        st.lists(st.integers(-3, 40), min_size=1, max_size=40, unique=True),
        st.lists(st.text(max_size=6), min_size=1, max_size=40, unique=True),
    ),
    st.randoms(use_true_random=False),
)
def test_look_ups_are_those_of_a_dict(ids, random) -> None:
    codes = np.arange(len(ids), dtype=np.int32)[:, None]
    kept = random.sample(ids, max(1, len(ids) // 2))
    lookup = SidLookup.of(IdTable.from_arrays(kept, codes[: len(kept)]))
    rows = {item: row for row, item in enumerate(kept)}
    asked = [random.choice(ids) for _ in range(50)]
    assert lookup.rows(asked).tolist() == [rows.get(item, -1) for item in asked]


def test_strings_with_one_hash_are_told_apart() -> None:
    ids = pa.array([f"item {number}" for number in range(300_000)])
    hash_n = hash_ids(ids)
    order_n = np.argsort(hash_n, kind="stable")
    (pairs,) = np.nonzero(hash_n[order_n][1:] == hash_n[order_n][:-1])
    assert len(pairs) > 2
    one, other = (ids[int(order_n[pairs[0] + i])].as_py() for i in (0, 1))
    asked = [other, one]
    assert SidLookup.of(table([one, other, "c", "d"])).rows(asked).tolist() == [1, 0]
    assert SidLookup.of(table([one, "b", "c", "d"])).rows(asked).tolist() == [-1, 0]


def test_sids_have_items_some_of_them_several() -> None:
    lookup = SidLookup.of(IdTable.from_arrays([10, 11, 12, 13], CODES))
    found = lookup.rows_of_sids([[1, 0], [2, 1], [2, 2], [1, 0], [9, 9], [-1, -1]])
    assert found.start_q.tolist() == [0, 2, 2, 3, 5, 5, 5]
    assert found.row_m.tolist() == [0, 2, 3, 0, 2]
    assert lookup.ids(found.row_m).to_pylist() == [10, 12, 13, 10, 12]
    with pytest.raises(SemidError, match=r"shape \(1, 3\); expected \(q, 2\)"):
        lookup.rows_of_sids([[1, 0, 0]])
    with pytest.raises(SemidError, match=r"the SIDs are of type torch.float32; give integers"):
        lookup.rows_of_sids([[1.5, 0.0]])
    with pytest.raises(SemidError, match="asked for of str; give an IdTable, or its path to SidL"):
        SidLookup.of("ids.parquet")  # type: ignore[arg-type]


def test_each_sid_has_a_first_item() -> None:
    lookup = SidLookup.of(IdTable.from_arrays([10, 11, 12, 13], CODES))
    beams = torch.tensor([[[1, 0], [9, 9]], [[2, 2], [0, 2]]])
    first_q = lookup.rows_of_sids(beams.flatten(0, 1)).first_q
    assert first_q.view(2, 2).tolist() == [[0, -1], [3, 1]]
    assert lookup.rows_of_sids(torch.empty(0, 2).long()).first_q.shape == (0,)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([0, 4], "there is no row 4; the table's go from 0 to 3, and -1 stands for none"),
        ([-2, 9], "there is no row -2"),
        ([[0, 1]], r"rows have shape \(1, 2\) and type int64; expected integers \(m,\)"),
        ([0.5], "type float32"),
        ([True], "type bool"),
    ],
)
def test_rows_that_are_none_are_refused(rows, words) -> None:
    with pytest.raises(SemidError, match=words):
        SidLookup.of(table()).ids(torch.tensor(rows))


def test_levels_are_those_noted_of_the_model() -> None:
    noted = table(metadata={"summary": {"levels": [8, 8]}})
    assert SidLookup.of(noted).levels == (8, 8, 2)
    assert SidLookup.of(table(metadata={"summary": {"levels": [8]}})).levels == (3, 3, 2)
    assert SidLookup.of(table(metadata={"summary": None})).levels == (3, 3, 2)


def test_tables_are_files_folders_and_stores(tmp_path: Path) -> None:
    table().save(tmp_path / "ids.parquet")
    table("wxyz").save(tmp_path / "store" / "v0001")
    table("badc").save(tmp_path / "store" / "v0002")
    (tmp_path / "store" / "CURRENT").write_text("v0002\n")
    for path in ("ids.parquet", "store/v0002", "store"):
        assert SidLookup.load(tmp_path / path).rows(["d"]).tolist() == [2]
    with pytest.raises(SemidError, match=r"nothing\.parquet"):
        SidLookup.load(tmp_path / "nothing.parquet")


class Histories(Dataset):
    """What training code has: a lookup inside a data set, sent to workers."""

    def __init__(self, lookup: SidLookup, items: list) -> None:
        self.lookup, self.items = lookup, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> torch.Tensor:
        found = self.lookup.rows_of_sids(self.lookup.sids([self.items[place]]))
        token = self.lookup.tokens([self.items[place]], SidVocabulary((3, 3, 2), special=()))
        return torch.cat([self.lookup.sids([self.items[place]])[0], found.row_m, token[0]])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_it_travels_to_the_workers_of_a_data_loader(context: str) -> None:
    lookup = SidLookup.of(table())
    if context == "spawn":
        lookup.trie.size_v  # noqa: B018 - what was made on the way travels too
        lookup.tokens(["a"], SidVocabulary((3, 3, 2), special=()))
    data = Histories(lookup, ["a", "c", "d"])
    loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context=context)
    batches = [batch.tolist() for batch in loader]
    assert batches == [
        [[0, 2, 0, 1, 0, 5, 6], [2, 2, 0, 3, 2, 5, 6]],
        [[1, 0, 1, 2, 1, 3, 7]],
    ]


def test_a_lookup_moves() -> None:
    lookup = SidLookup.of(table([1, 2, 3, 4]), device="cpu")
    for move in (lookup.to, lookup.trie.to):
        with pytest.raises(SemidError, match="unknown device 'gpu'; use auto, cpu, cuda"):
            move("gpu")
    moved = lookup.to("meta")
    assert moved.device.type == moved.index.key_n.device.type == "meta"
    assert SidLookup.of(table()).to("meta").index.key_n.device.type == "cpu"
