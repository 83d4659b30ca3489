"""The trie of SIDs: its arrays, and walks through it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.errors import SemidError
from semid.recsys import SidTrie

#                 row 0      1       2       3       4
SIDS = np.array([[1, 2], [0, 1], [1, 0], [1, 2], [0, 2]])


@st.composite
def tables(draw, most: int = 40, sizes: tuple[int, ...] = (1, 2, 3, 5, 200)):
    """SIDs ``(n, s)``, few codes a level so that they share prefixes and whole SIDs."""
    levels = draw(st.lists(st.sampled_from(sizes), min_size=1, max_size=4))
    rows = st.tuples(*(st.integers(0, size - 1) for size in levels))
    return np.array(draw(st.lists(rows, min_size=1, max_size=most))), tuple(levels)


def prefixes(sids: np.ndarray, depth: int) -> list[tuple[int, ...]]:
    return sorted({tuple(sid[:depth].tolist()) for sid in sids})


@pytest.mark.parametrize("dense_entries", [0, 1 << 20])
def test_a_small_trie(dense_entries: int) -> None:
    trie = SidTrie.of(SIDS, dense_entries=dense_entries)
    # node 0: (); 1: 0, 2: 1; 3: 0,1, 4: 0,2, 5: 1,0, 6: 1,2
    assert (trie.levels, trie.depth, trie.num_nodes) == ((2, 3), 2, 7)
    assert (trie.bases, trie.widths) == ((0, 1, 3, 7), (2, 2))
    assert trie.code_v.tolist() == [-1, 0, 1, 1, 2, 0, 2]
    assert trie.first_v.tolist() == [1, 3, 5, 7]
    assert trie.row_n.tolist() == [1, 4, 2, 0, 3]
    assert trie.start_f.tolist() == [0, 1, 2, 3, 5]
    assert trie.leaf_n.tolist() == [6, 3, 5, 6, 4]
    assert trie.size_v.tolist() == [5, 2, 3, 1, 1, 1, 2]
    dense = [] if not dense_entries else [[[1, 2]], [[-1, 3, 4], [5, -1, 6]]]
    assert [table.tolist() for table in trie.dense] == dense
    assert trie.nbytes == 4 * (7 + 4) + 8 * (5 + 5) + (4 * 8 if dense else 0)


def test_only_levels_with_room_are_dense() -> None:
    assert [len(SidTrie.of(SIDS, dense_entries=most).dense) for most in (1, 2, 5, 6)] == [
        0,
        1,
        1,
        2,
    ]


@pytest.mark.parametrize("dense_entries", [0, 1 << 20])
@settings(max_examples=60, deadline=None)
@given(tables())
def test_it_holds_the_prefixes_and_nothing_else(dense_entries: int, made) -> None:
    sids, levels = made
    trie = SidTrie.of(sids, levels=levels, dense_entries=dense_entries)
    for depth in range(trie.depth):
        parents = prefixes(sids, depth)
        node_p = trie.walk(torch.tensor(parents).view(len(parents), depth))
        assert node_p.tolist() == list(range(*trie.bases[depth : depth + 2]))
        found = trie.children(torch.cat([node_p, torch.tensor([-1])]), depth)
        assert (found.node[-1] == -1).all()
        is_own = found.node >= 0 if found.repeats is None else ~found.repeats
        for place, parent in enumerate(parents):
            own = sorted({s[depth] for s in prefixes(sids, depth + 1) if s[:depth] == parent})
            assert found.code[place][is_own[place]].tolist() == own
            for code in {-1, *own, *range(6), levels[depth]}:
                node = trie.advance(node_p[place], torch.tensor(code), depth)
                expected = trie.walk(torch.tensor([*parent, code])) if code in own else -1
                assert node == expected
        # The slots behind the last child say the same as it.
        if found.repeats is not None:
            last = (~found.repeats).sum(1, keepdim=True).clamp(min=1) - 1
            assert (found.node.gather(1, last) == found.node)[found.repeats].all()
            assert (found.code.gather(1, last) == found.code)[found.repeats].all()


@settings(max_examples=60, deadline=None)
@given(tables())
def test_leaves_have_their_rows(made) -> None:
    sids, _ = made
    trie = SidTrie.of(sids)
    leaf = trie.walk(torch.from_numpy(sids))
    assert torch.equal(leaf, trie.leaf_n.long())
    asked = torch.cat([leaf, torch.tensor([-1])])
    found = trie.rows(asked)
    for place, sid in enumerate(sids):
        expected = np.flatnonzero((sids == sid).all(1)).tolist()
        assert found.row_m[found.start_q[place] : found.start_q[place + 1]].tolist() == expected
    assert found.start_q[-1] == found.start_q[-2] == len(found.row_m)
    for depth in range(trie.depth + 1):
        counts = Counter(tuple(sid[:depth].tolist()) for sid in sids)
        low, high = trie.bases[depth : depth + 2]
        assert trie.size_v[low:high].tolist() == [counts[p] for p in prefixes(sids, depth)]


def test_keys_of_any_width_are_sorted() -> None:
    sids = np.array([[(1 << 31) - 1, 5, 1 << 30], [7, (1 << 31) - 1, 3], [7, 0, 1 << 20]])
    trie = SidTrie.of(sids)
    assert trie.row_n.tolist() == [2, 1, 0]
    assert trie.rows(trie.walk(torch.from_numpy(sids))).row_m.tolist() == [0, 1, 2]
    assert not trie.dense


def test_sids_come_as_numpy_torch_or_lists() -> None:
    for sids in (SIDS.tolist(), torch.from_numpy(SIDS), SIDS.astype(np.uint8)):
        assert SidTrie.of(sids).row_n.tolist() == [1, 4, 2, 0, 3]


@pytest.mark.parametrize(
    ("sids", "levels", "words"),
    [
        ([[1, 2], [1, 2, 3]], None, "row 1 has a SID of 3 codes where row 0 has 2; all need one"),
        ([[1, 2], [1, -1]], None, "row 1 holds the code -1 at level 1"),
        ([[1, 2], [4, 1]], (4, 4), "row 1 holds the code 4 at level 0; codes there go from 0 to 3"),
        ([[1, 2]], (4, 4, 4), "codes have 2 levels where 3 are expected"),
        ([[0.5, 2]], None, "codes have shape"),
        ([], None, "there are no SIDs"),
        (np.empty((0, 3), np.int32), None, "there are no SIDs"),
    ],
)
def test_what_is_no_table_of_sids_is_refused(sids, levels, words) -> None:
    with pytest.raises(SemidError, match=words):
        SidTrie.of(sids, levels=levels)


def test_longer_prefixes_are_refused() -> None:
    with pytest.raises(SemidError, match="prefixes have 3 codes but the trie's SIDs have 2"):
        SidTrie.of(SIDS).walk(torch.zeros(4, 3, dtype=torch.int64))


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 1), st.integers(0, 299)), min_size=150, max_size=400))
def test_nodes_of_many_children_are_searched(pairs) -> None:
    sids = torch.tensor(sorted(pairs))
    trie = SidTrie.of(sids, levels=(2, 300), dense_entries=0)
    codes = torch.cartesian_prod(torch.tensor([0, 1]), torch.arange(-1, 302))
    expected = [tuple(pair) in pairs for pair in codes.tolist()]
    node = trie.walk(codes)
    assert (node >= 0).tolist() == expected
    assert torch.equal(trie.rows(node[node >= 0]).row_m, torch.arange(len(sids)))
    assert trie.advance(torch.tensor([-1]), torch.tensor([sids[0, 1]]), 1).tolist() == [-1]
