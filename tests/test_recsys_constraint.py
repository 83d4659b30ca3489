"""What may follow in decoding, with and without items that are excluded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recsys_trie import SIDS, prefixes, tables

from semid.errors import SemidError
from semid.id_table import IdTable
from semid.recsys import SidConstraint, SidLookup, SidTrie
from semid.recsys.vocabulary import SidTokens, SidVocabulary


def next_codes(sids: np.ndarray, prefix: tuple[int, ...]) -> set[int]:
    depth = len(prefix)
    return {int(sid[depth]) for sid in sids if tuple(sid[:depth].tolist()) == prefix}


def assert_allows(constraint: SidConstraint, states: list, left: list[np.ndarray]) -> None:
    """Fail unless after every prefix of a length just the codes of SIDs that are left may follow.

    `states` are prefixes, all of one length, as many for each batch row, whose SIDs `left` has.
    """
    depth, levels = len(states[0]), constraint.trie.levels
    each = len(states) // len(left)
    offset = sum(levels[:depth])
    node = constraint.walk(
        torch.tensor(states).view(len(states), depth)
        + torch.tensor([sum(levels[:level]) for level in range(depth)], dtype=torch.int64)
    ).view(len(left), each)
    allowed = constraint.allowed(node, depth)
    found = constraint.candidates(node, depth)
    logits = torch.randn(len(left), each, sum(levels) + 3)
    masked = constraint.mask(logits, node, depth)
    assert torch.equal(constraint.mask_(logits.clone(), node, depth), masked)
    is_open = ~masked.isneginf()
    assert torch.equal(masked[is_open], logits[is_open])
    for row, sids in enumerate(left):
        for place in range(each):
            expected = sorted(next_codes(sids, states[row * each + place]))
            assert allowed[row, place].nonzero().squeeze(1).tolist() == expected
            tokens = [offset + code for code in expected]
            assert is_open[row, place].nonzero().squeeze(1).tolist() == tokens
            taken = found.node[row, place] >= 0
            assert found.token[row, place][taken].tolist() == tokens
            following = constraint.advance(node[row, place], torch.tensor(tokens).long(), depth)
            assert found.node[row, place][taken].tolist() == following.tolist()


@pytest.mark.parametrize("dense_entries", [0, 4, 1 << 20])
@settings(max_examples=40, deadline=None)
@given(tables(), st.data())
def test_what_is_left_is_allowed_and_nothing_else(dense_entries: int, made, data) -> None:
    sids, levels = made
    trie = SidTrie.of(sids, levels=levels, dense_entries=dense_entries)
    rows = st.lists(st.integers(-1, len(sids) - 1), max_size=len(sids))
    out = set(data.draw(rows)) - {-1}
    whole = SidConstraint.of(trie)
    stock = whole
    left = np.delete(sids, sorted(out), axis=0)
    if not len(left):
        with pytest.raises(SemidError, match="items are excluded; leave some"):
            whole.excluding(torch.tensor(sorted(out)))
        return
    if out:
        stock = whole.excluding(torch.tensor([*out, -1]))
    seen = [data.draw(rows) for _ in range(3)]
    width = max(map(len, seen))
    padded = torch.tensor([row + [-1] * (width - len(row)) for row in seen]).view(3, width).long()
    of_row = [np.delete(sids, sorted((out | set(row)) - {-1}), axis=0) for row in seen]
    if not all(map(len, of_row)):
        with pytest.raises(SemidError, match=r"batch row \d excludes all items that are left"):
            stock.excluding_by_row(padded)
        of_row = [left] * 3
        padded = torch.full((3, 1), -1)
    by_row = stock.excluding_by_row(padded)
    for depth in range(trie.depth):
        states = prefixes(sids, depth)
        assert_allows(whole, states, [sids])
        assert_allows(stock, states, [left])
        assert_allows(by_row, states * 3, of_row)


def test_a_prefix_without_items_is_forbidden() -> None:
    whole = SidConstraint.of(SidTrie.of(SIDS))
    start = whole.start(1)
    # 1,2 is shared by rows 0 and 3: one of them keeps it.
    assert whole.excluding(torch.tensor([0, 2])).allowed(start, 0).tolist() == [[True, True]]
    assert whole.excluding(torch.tensor([0, 2, 3])).allowed(start, 0).tolist() == [[True, False]]
    more = whole.excluding(torch.tensor([0, 2])).excluding(torch.tensor([3]))
    assert more.allowed(start, 0).tolist() == [[True, False]]
    by_row = whole.excluding_by_row(torch.tensor([[0, 2, 3], [3, 0, 0], [1, 4, 1]]))
    expected = [[True, False], [True, True], [False, True]]
    assert by_row.allowed(by_row.start(3), 0).tolist() == expected
    assert by_row.allowed(by_row.start(6), 0).tolist() == [e for e in expected for _ in (0, 1)]
    rows = torch.tensor([2, 0])
    assert by_row.allowed(by_row.start(2), 0, rows).tolist() == [expected[2], expected[0]]
    stock, seen = torch.tensor([0]), torch.tensor([[3, 2], [0, 2]])
    for both in (
        whole.excluding(stock).excluding_by_row(seen),
        whole.excluding_by_row(seen).excluding(stock),
    ):
        assert both.allowed(start.expand(2), 0).tolist() == [[True, False], [True, True]]


def test_masks_are_no_rows() -> None:
    whole, mask = SidConstraint.of(SidTrie.of(SIDS)), torch.tensor([[True, False, False]])
    for exclude in (whole.excluding, whole.excluding_by_row):
        with pytest.raises(
            SemidError, match=r"excluded rows are of type torch\.bool; give the num"
        ):
            exclude(mask)


def test_rows_beyond_the_table_are_refused() -> None:
    whole = SidConstraint.of(SidTrie.of(SIDS))
    for exclude in (whole.excluding, whole.excluding_by_row):
        for rows, row in (([[0, 5]], 5), ([[-2, 9]], -2)):
            with pytest.raises(
                SemidError, match=f"no row {row} to exclude; the table's go from 0 to 4"
            ):
                exclude(torch.tensor(rows))


def test_tables_and_lookups_are_constraints_too() -> None:
    table = IdTable.from_arrays(list("abcde"), SIDS, metadata={"summary": {"levels": [4, 4]}})
    lookup, vocabulary = SidLookup.of(table), SidVocabulary.of(table)
    tokens = vocabulary.tokens(table.sids)
    for sids in (table, lookup, lookup.trie):
        constraint = SidConstraint.of(sids, vocabulary)
        assert constraint.trie.levels == (4, 4)
        assert constraint.walk(torch.from_numpy(tokens)).min() >= constraint.trie.bases[-2]
    assert SidConstraint.of(lookup).trie is lookup.trie
    plain = SidVocabulary.of(table, special=()).tokens(table.sids)
    assert SidConstraint.of(table).walk(torch.from_numpy(plain)).min() > 0
    with pytest.raises(SemidError, match="given as SidLookup; give an ids table, or codes"):
        SidTrie.of(lookup)
    with pytest.raises(SemidError, match="tokens are given as list; give a SidVocabulary"):
        SidConstraint.of(lookup, [[1, 2], [3, 4]])  # type: ignore[arg-type]


def test_a_table_may_outgrow_its_vocabulary() -> None:
    before, after = ([[0, 0, suffix] for suffix in range(size)] for size in (2, 4))
    roomy = SidVocabulary((1, 1, 3))
    assert SidConstraint.of(SidTrie.of(before), roomy).trie.levels == (1, 1, 2)
    with pytest.raises(SemidError, match="the code 3 of level 2 has no token"):
        SidConstraint.of(SidTrie.of(after), roomy)


def test_nodes_within_the_trie_have_no_rows() -> None:
    trie = SidTrie.of(SIDS)
    assert trie.rows(torch.tensor([0, 1, 2, -1])).row_m.tolist() == []


def test_outside_the_trie_nothing_may_follow() -> None:
    constraint = SidConstraint.of(SidTrie.of(SIDS))
    assert constraint.walk(torch.tensor([[0, 2], [1, 3], [1, 9], [0, 3]])).tolist() == [
        -1,
        -1,
        -1,
        3,
    ]
    assert not constraint.allowed(torch.tensor([-1, -1]), 1).any()
    assert constraint.mask(torch.zeros(1, 5), torch.tensor([-1]), 1).isneginf().all()
    # Level 1 has one code, level 0 more.
    narrow = SidConstraint.of(SidTrie.of([[3, 0], [4, 0]], dense_entries=0))
    assert narrow.mask(torch.zeros(1, 6), torch.tensor([-1]), 1).isneginf().all()


def test_logits_must_hold_the_tokens() -> None:
    constraint = SidConstraint.of(SidTrie.of(SIDS))
    with pytest.raises(SemidError, match="those of 4 tokens but level 1 has tokens up to 4"):
        constraint.mask(torch.zeros(1, 4), torch.tensor([1]), 1)


def test_states_must_fit_the_batch_rows() -> None:
    by_row = SidConstraint.of(SidTrie.of(SIDS)).excluding_by_row(torch.tensor([[1, 4], [0, 0]]))
    with pytest.raises(SemidError, match="3 states for 2 batch rows"):
        by_row.allowed(by_row.start(3), 0)
    with pytest.raises(SemidError, match=r"shape \(2,\); expected \(b, m\)"):
        by_row.excluding_by_row(torch.tensor([1, 2]))


def test_tokens_are_those_of_the_model() -> None:
    trie = SidTrie.of(SIDS)
    tokens = SidTokens((np.array([9, 4]), np.array([7, 2, 30])))
    constraint = SidConstraint.of(trie, tokens)
    assert constraint.walk(torch.tensor([[4, 30], [9, 2], [9, 7], [4, 31]])).tolist() == [
        6,
        3,
        -1,
        -1,
    ]
    masked = constraint.mask(torch.zeros(2, 40), torch.tensor([1, 2]), 1)
    assert [row.isfinite().nonzero().squeeze(1).tolist() for row in masked] == [[2, 30], [7, 30]]
    vocabulary = SidVocabulary((2, 6))
    first = SidConstraint.of(trie, vocabulary.sid_tokens)
    assert first.walk(vocabulary.tokens(torch.tensor([[1, 2]]))).tolist() == [6]


def test_levels_may_share_their_tokens() -> None:
    shared = SidTokens((np.arange(3), np.arange(3)))
    constraint = SidConstraint.of(SidTrie.of(SIDS), shared)
    assert constraint.walk(torch.tensor([[1, 2], [0, 0]])).tolist() == [6, -1]


def test_codes_without_a_token_are_refused() -> None:
    trie = SidTrie.of(SIDS)
    with pytest.raises(SemidError, match="the code 2 of level 1 has no token"):
        SidConstraint.of(trie, SidVocabulary((2, 2)).sid_tokens)
    with pytest.raises(SemidError, match="tokens for 3 levels but SIDs have 2"):
        SidConstraint.of(trie, SidVocabulary((2, 3, 4)).sid_tokens)
    # A code that does not occur may lack a token; it takes that of no other.
    first = SidTokens((np.array([0, -1, 5]), np.array([3])))
    for entries in (0, 99):
        some = SidTrie.of([[0, 0], [2, 0]], levels=(3, 1), dense_entries=entries)
        masked = SidConstraint.of(some, first).mask(torch.zeros(1, 6), torch.tensor([0]), 0)
        assert masked.isfinite().nonzero()[:, 1].tolist() == [0, 5]
    unused = SidTokens((np.array([9, 4]), np.array([7, 2, 30, -1])))
    assert SidConstraint.of(trie, unused).trie is trie
