"""Pieces of SIDs: what is learnt from whom, how SIDs are cut, and the embedding of the pieces."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.recsys import PieceEmbedding, SidPieces, train_pieces

# Six items begin with (0, 1); the others share nothing.
SIDS = np.array([*([0, 1, last] for last in range(6)), [2, 3, 4], [1, 0, 5]], np.int32)


def spelled(pieces: SidPieces, sids: Any) -> list[list[str]]:
    """The pieces of every SID, codes joined."""
    rows = pieces.encode(np.asarray(sids))
    return [["".join(pieces.tokens(piece)) for piece in row if piece >= 0] for row in rows]


def test_what_is_met_often_becomes_one_piece() -> None:
    # 3 + 3 + 6 codes, one piece for what is unknown, and one more.
    pieces = train_pieces(SIDS, 14)
    assert len(pieces) == 14
    assert spelled(pieces, SIDS[[0, 6]]) == [["<a_0><b_1>", "<c_0>"], ["<a_2>", "<b_3>", "<c_4>"]]
    assert pieces.encode(SIDS).shape == (8, 3)
    assert (pieces.encode(SIDS) < 0).sum() == 6


def test_weights_say_what_is_met_often() -> None:
    weights = np.array([0, 0, 0, 0, 0, 0, 9, 1])
    pieces = train_pieces(SIDS, 15, weights=weights)
    assert spelled(pieces, SIDS[[6, 0]]) == [["<a_2><b_3><c_4>"], ["<a_0>", "<b_1>", "<c_0>"]]


def test_a_large_vocabulary_has_a_piece_for_every_item_and_no_more() -> None:
    pieces = train_pieces(SIDS, 1000)
    assert len(pieces) < 40
    assert pieces.encode(SIDS).shape == (8, 1)
    assert len(np.unique(pieces.encode(SIDS))) == 8


def test_unknown_items_and_codes() -> None:
    pieces = train_pieces(SIDS, 14)
    asked = np.array([[-1, -1, -1], [2, 3, 9], [0, 1, 2]])
    found = pieces.encode(asked, unseen=True)
    assert found[0].tolist() == [-1, -1, -1]
    # What was not there to learn from is piece 0.
    assert found[1, 2] == 0
    assert pieces.tokens(0) == []
    assert found[2, 2] == -1
    assert pieces.encode(torch.from_numpy(asked), unseen=True).tolist() == found.tolist()
    for sids, said in (
        (asked, r"row 1 holds codes \[2, 3, 9\], of which some are in no SID that pieces were"),
        (asked[:, :2], r"SIDs have shape \(3, 2\), but pieces are of \(n, 3\) codes"),
        (np.array([[-1, -1, -1], [2, -1, 3]]), "row 1 holds the code -1 at level 1"),
        (asked.astype(float), "type float64"),
    ):
        with pytest.raises(SemidError, match=said):
            pieces.encode(sids)
    assert pieces.encode(SIDS[:0]).shape == (0, 1)
    assert pieces.encode(np.full((2, 3), -1)).tolist() == [[-1], [-1]]


def test_neither_order_nor_copies_in_it_matter() -> None:
    order_n = np.random.default_rng(0).permutation(len(SIDS))
    one, other = train_pieces(SIDS, 14), train_pieces(SIDS[order_n], 14)
    assert one.model == other.model
    assert SidPieces(one.model).encode(SIDS).tolist() == one.encode(SIDS).tolist()


@given(
    st.lists(st.lists(st.integers(0, 65_533), min_size=4, max_size=4), min_size=1, max_size=20),
    st.integers(0, 30),
)
@settings(max_examples=40, deadline=None)
def test_pieces_put_together_are_the_sid(sids: list[list[int]], more: int) -> None:
    sids_nl = np.array(sids)
    codes = sum(len(set(column)) for column in zip(*sids, strict=True))
    pieces = train_pieces(sids_nl, codes + 1 + more)
    expected = [f"<a_{a}><b_{b}><c_{c}><d_{d}>" for a, b, c, d in sids]
    assert ["".join(row) for row in spelled(pieces, sids_nl)] == expected


def test_the_embedding_is_the_sum_of_its_pieces() -> None:
    embedding = PieceEmbedding(13, 6)
    rows = torch.tensor([[3, 5, 0], [7, -1, -1], [-1, -1, -1]])
    weight = embedding.bag.weight
    expected = torch.stack([weight[3] + weight[5] + weight[0], weight[7], torch.zeros(6)])
    assert torch.allclose(embedding(rows), expected)
    assert torch.equal(embedding(rows[None].int())[0], embedding(rows))
    learned = PieceEmbedding(13, 6, unknown="learned")
    assert torch.equal(learned(rows)[2], learned.bag.weight[13])
    graph = torch.compile(embedding, backend="eager", fullgraph=True)
    assert torch.equal(graph(rows), embedding(rows))


def test_items_of_equal_pieces_share_a_vector() -> None:
    # The first two in another order, which a sum does not tell; the last are unknown.
    pieces_np = np.array([[3, 5, 0], [5, 3, 0], [7, -1, -1], [3, 5, -1], *[[-1, -1, -1]] * 2])
    found = PieceEmbedding(13, 6).collisions(pieces_np)
    assert found == PieceEmbedding(13, 6).collisions(torch.from_numpy(pieces_np))
    assert (found.keys, found.vectors, found.mean) == (6, 4, 6 / 4)
    assert (found.largest, found.share) == (2, 4 / 6)
    # A catalog whose SIDs are equal or not.
    pieces = train_pieces(SIDS, 14)
    twice = np.concatenate([SIDS, SIDS[:1]])
    found = PieceEmbedding(len(pieces), 6).collisions(pieces.encode(twice))
    distinct, count_u = np.unique(twice, axis=0, return_counts=True)
    assert (found.vectors, found.largest) == (len(distinct), count_u.max())
    with pytest.raises(SemidError, match=r"pieces have shape \(2, 2\) .* expected integers"):
        PieceEmbedding(13, 6).collisions(np.zeros((2, 2)))
    with pytest.raises(SemidError, match="there is a piece 7, but pieces go from 0 to 5"):
        PieceEmbedding(6, 6).collisions(pieces_np)


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for sids, size, weights, said in (
        (SIDS, 12, None, "vocabulary_size is 12, but the SIDs hold 12 codes, which need 13 pieces"),
        (SIDS, 20, np.ones(3, int), r"weights have shape \(3,\) .* each of the 8 items"),
        (SIDS, 20, -np.ones(8, int), "expected one integer from 0 for each"),
        (SIDS, 20, np.zeros(8, int), "all weights are 0"),
        (np.zeros((2, 17), int), 20, None, r"SIDs have shape \(2, 17\); pieces are of"),
        (np.full((2, 1), 65_534), 20, None, "holds the code 65534 at level 0; codes there go from"),
    ):
        with pytest.raises(SemidError, match=said):
            train_pieces(sids, size, weights=weights)
    with pytest.raises(SemidError, match="there is no piece 13; they go from 0 to 12"):
        train_pieces(SIDS, 13).tokens(13)
    with pytest.raises(SemidError, match="there is a piece 13, but pieces go from 0 to 12"):
        PieceEmbedding(13, 6)(torch.tensor([[13]]))
    with pytest.raises(SemidError, match="expected integers"):
        PieceEmbedding(13, 6)(torch.zeros(2, 3))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(SemidError, match=r"pip install 'semid\[sentencepiece\]'"):
        train_pieces(SIDS, 13)
