"""Tokens of SIDs, as numbers and as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.export import write
from semid.id_table import IdTable
from semid.recsys import SidLookup, SidVocabulary
from semid.spelling import SPELLINGS, Spelling

SIDS = torch.tensor([[2, 0, 1], [0, 3, 0]])


def test_levels_stand_behind_the_special_tokens() -> None:
    vocabulary = SidVocabulary((3, 4, 2))
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unknown) == (0, 1, 2, 3)
    assert vocabulary.offsets == (4, 7, 11)
    assert len(vocabulary) == 13
    assert vocabulary.tokens(SIDS).tolist() == [[6, 7, 12], [4, 10, 11]]
    assert vocabulary.sid_tokens.levels[1].tolist() == [7, 8, 9, 10]
    assert (vocabulary.sid_tokens.start, vocabulary.sid_tokens.end) == (None, 2)


def test_special_tokens_are_chosen() -> None:
    vocabulary = SidVocabulary((3, 4, 2), special=("eos", "pad"))
    assert (vocabulary.eos, vocabulary.pad, vocabulary.offsets) == (0, 1, (2, 5, 9))
    with pytest.raises(SemidError, match="has no token 'bos'; its special tokens are eos, pad"):
        vocabulary.bos  # noqa: B018
    none = SidVocabulary((3, 4, 2), special=())
    assert none.offsets == (0, 3, 7)
    assert none.sid_tokens.end is None
    with pytest.raises(SemidError, match="has no token 'unknown'; its special tokens are none"):
        none.tokens(torch.tensor([[-1, -1, -1]]))


def test_unknown_items_have_their_token() -> None:
    lookup = SidLookup.of(IdTable.from_arrays(["a", "b"], SIDS.numpy()))
    vocabulary = SidVocabulary(lookup.levels)
    tokens = vocabulary.tokens(lookup.sids(["b", "nobody"]))
    assert tokens.tolist() == [[4, 10, 11], [3, 3, 3]]
    assert vocabulary.codes(tokens).tolist() == [[0, 3, 0], [-1, -1, -1]]
    found = lookup.rows_of_sids(vocabulary.codes(tokens))
    assert (found.start_q.tolist(), found.row_m.tolist()) == ([0, 1, 1], [1])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
def test_tokens_and_codes_are_one_to_one(levels, data) -> None:
    vocabulary = SidVocabulary(tuple(levels))
    sid = st.tuples(*(st.integers(0, size - 1) for size in levels))
    sids = torch.tensor(data.draw(st.lists(sid, min_size=1))).view(-1, 1, len(levels))
    tokens = vocabulary.tokens(sids)
    assert torch.equal(vocabulary.codes(tokens), sids)
    assert int(tokens.min()) >= 4
    assert int(tokens.max()) < len(vocabulary)
    assert vocabulary.read(vocabulary.texts(sids[:, 0])).tolist() == sids[:, 0].tolist()


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint16])
def test_codes_of_numpy_have_tokens_of_numpy(kind: type) -> None:
    vocabulary = SidVocabulary((3, 4, 2))
    tokens = vocabulary.tokens(SIDS.numpy().astype(kind))
    assert isinstance(tokens, np.ndarray)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[6, 7, 12], [4, 10, 11]]
    assert vocabulary.codes(tokens).tolist() == SIDS.tolist()


def test_a_vocabulary_is_that_of_a_table() -> None:
    noted = IdTable.from_arrays(
        ["a", "b"], SIDS[:, :2].numpy(), SIDS.numpy(), metadata={"summary": {"levels": [8, 8]}}
    )
    lookup = SidLookup.of(noted)
    for sids in (noted, lookup, lookup.trie):
        assert SidVocabulary.of(sids) == SidVocabulary((8, 8, 2))
    own = SidVocabulary.of(noted, special=("eos",), spelling="openonerec")
    assert own == SidVocabulary((8, 8, 2), ("eos",), "openonerec")
    with pytest.raises(SemidError, match="asked for of ndarray; give a SidLookup or an ids table"):
        SidVocabulary.of(SIDS.numpy())  # type: ignore[arg-type]


def test_tokens_of_other_levels_are_no_codes() -> None:
    vocabulary = SidVocabulary((3, 4))
    assert vocabulary.codes(torch.tensor([[4, 4], [7, 10], [0, 99]])).tolist() == [
        [0, -1],
        [-1, 3],
        [-1, -1],
    ]


@pytest.mark.parametrize(
    ("sids", "words"),
    [
        ([[3, 0, 0]], "row 0 holds the code 3 at level 0; codes there go from 0 to 2"),
        ([[0, 0, -2]], "row 0 holds the code -2 at level 2"),
        ([[0, 0]], r"the last of the dimensions \(1, 2\) must be 3"),
        ([[-1, -1, -1], [3, 0, 0]], "row 1 holds the code 3 at level 0"),
        ([[0, 0, 0], [2, -1, 0]], r"row 1 holds the codes \[2, -1, 0\]; an unknown item is -1 thr"),
        ([[[2, 1, -1]]], r"row 0 holds the codes \[2, 1, -1\]"),
        ([[0.0, 1.0, 1.0]], "codes are of type torch.float32; give integers"),
        ([[True, False, True]], "codes are of type torch.bool; give integers"),
    ],
)
def test_codes_beyond_their_level_are_refused(sids, words) -> None:
    with pytest.raises(SemidError, match=words):
        SidVocabulary((3, 4, 2)).tokens(torch.tensor(sids))
    with pytest.raises(
        SemidError, match=words.replace("torch.float32", "float64").replace("torch.", "")
    ):
        SidVocabulary((3, 4, 2)).tokens(np.array(sids))
    with pytest.raises(SemidError, match="codes are given as list; give a tensor or a NumPy array"):
        SidVocabulary((3, 4, 2)).tokens(sids)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"levels": ()}, r"levels are \[\]; give one size or more"),
        ({"levels": (3, 0)}, r"levels are \[3, 0\]"),
        ({"levels": (3,), "special": ("pad", "pad")}, "may stand there once"),
        ({"levels": (3,), "special": ("mask",)}, "special tokens are"),
        ({"levels": (3,), "spelling": "klingon"}, "'klingon' is none of lcrec, openonerec"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(given, words) -> None:
    with pytest.raises(SemidError, match=words):
        SidVocabulary(**given)


def test_text_is_that_of_the_exports(tmp_path: Path) -> None:
    table = IdTable.from_arrays(["p", "q"], SIDS.numpy())
    for name, column in (("openonerec", "tokens"), ("semantic-ids-llm", "semantic_id")):
        write(table, tmp_path / name, name)
        exported = pq.read_table(tmp_path / name)[column].to_pylist()
        vocabulary = SidVocabulary((3, 4, 2), spelling=name)
        assert vocabulary.texts(SIDS) == exported
        assert vocabulary.read(exported).tolist() == SIDS.tolist()
    assert SidVocabulary((3, 4, 2)).texts(SIDS) == ["<a_2><b_0><c_1>", "<a_0><b_3><c_0>"]


def test_text_is_searched_for_sids() -> None:
    vocabulary = SidVocabulary((3, 4, 2))
    texts = ["so: <a_2> <b_0> <c_1>!", "<a_2><b_0>", "", "<a_2><b_9><c_1>", "<a_9><b_0><c_1>"]
    assert vocabulary.read(texts).tolist() == [[2, 0, 1], *[[-1, -1, -1]] * 4]
    assert vocabulary.read([]).shape == (0, 3)
    assert vocabulary.read(["<a_1><b_1><c_1> then <a_2><b_0><c_1>"]).tolist() == [[1, 1, 1]]
    with pytest.raises(SemidError, match="'<a_1><b_1><c_1>' is one text; give a list"):
        vocabulary.read("<a_1><b_1><c_1>")
    own = SidVocabulary((3, 4), spelling=Spelling("[{level}:", "]", "(", ")"))
    assert own.texts([[1, 2]]) == ["([a:1][b:2])"]
    assert own.read(["([a:1][b:2])"]).tolist() == [[1, 2]]
    assert SidVocabulary((3,), spelling=SPELLINGS["lcrec"]).texts([[1]]) == ["<a_1>"]
