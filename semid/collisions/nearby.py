"""Exact assignment at levels with more codewords than items need: only the nearest are looked at.

Of the free codewords an item needs no more of its nearest than there are items that have to move:
of these, one is left over by the others. Items whose candidates have nothing to do with each other
are problems apart, so that only those of the same problem count. Shapes: m items, k codewords, n
pairs of an item and a candidate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from semid.collisions.space import Integers, Matrix

# Costs that are at hand at a time, and candidates in all: 16 bytes each.
_COSTS, MOST_CANDIDATES = 1 << 22, 1 << 23
_FIRST = 4

Mask = npt.NDArray[np.bool_]


def nearby(
    costs: Callable[[slice], Matrix], own_m: Integers, free_k: Mask, shared_k: Mask
) -> Integers | None:
    """Give every item a codeword of its own: fewest moves, and of these the cheapest.

    Parameters
    ----------
    costs : squared distances of some of the items to all codewords
    own_m : the codeword that each may keep if it is shared; -1 for none
    free_k, shared_k : codewords that nobody has, and those that one of their items keeps; together
        as many as items at least

    Returns
    -------
    chosen_m : None where it takes more than `MOST_CANDIDATES` candidates to be sure
    """
    m, free_c = len(own_m), np.flatnonzero(free_k)
    keeps_m = (own_m >= 0) & shared_k[own_m]
    want_m = np.full(m, min(_FIRST, len(free_c)))
    have_m = np.zeros(m, dtype=np.int64)
    item_n, code_n, cost_n = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    while (short := np.flatnonzero(have_m < want_m)).size:
        if want_m.sum() > MOST_CANDIDATES:
            return None
        stay = have_m[item_n] >= want_m[item_n]
        found = _nearest(costs, short, want_m[short], free_c, len(free_k))
        item_n, code_n, cost_n = (
            np.concatenate([old_n[stay], new_n])
            for old_n, new_n in zip((item_n, code_n, cost_n), found, strict=True)
        )
        have_m[short] = want_m[short]
        movers_m = _movers(item_n, code_n, own_m, keeps_m)
        want_m = np.maximum(want_m, np.minimum(movers_m, len(free_c)))
    own_cost_m = _own_costs(costs, own_m, keeps_m, len(free_k))
    return _matched((item_n, code_n, cost_n), own_m, keeps_m, own_cost_m)


def _blocks(items: int, codewords: int) -> list[slice]:
    rows = max(_COSTS // codewords, 1)
    return [slice(start, min(start + rows, items)) for start in range(0, items, rows)]


def _nearest(
    costs: Callable[[slice], Matrix], short: Integers, want_s: Integers, free_c: Integers, k: int
) -> tuple[Integers, Integers, npt.NDArray[np.float64]]:
    """Return the nearest free codewords of some items: items, codewords, costs."""
    items, codes, prices = [], [], []
    for block in _blocks(int(short[-1]) + 1, k):
        here = slice(*np.searchsorted(short, (block.start, block.stop)))
        if here.start == here.stop:
            continue
        cost_mc = costs(block)[short[here] - block.start][:, free_c]
        most = int(want_s[here].max())
        near_mt = np.argpartition(cost_mc, most - 1, axis=1)[:, :most]
        cost_mt = np.take_along_axis(cost_mc, near_mt, 1)
        order_mt = np.argsort(cost_mt, axis=1, kind="stable")
        near_mt, cost_mt = (np.take_along_axis(x, order_mt, 1) for x in (near_mt, cost_mt))
        chosen_mt = np.arange(most) < want_s[here][:, None]
        items.append(np.repeat(short[here], want_s[here]))
        codes.append(free_c[near_mt[chosen_mt]])
        prices.append(cost_mt[chosen_mt])
    return np.concatenate(items), np.concatenate(codes), np.concatenate(prices)


def _movers(item_n: Integers, code_n: Integers, own_m: Integers, keeps_m: Mask) -> Integers:
    """Count for every item how many of its problem have to move."""
    m, keeper = len(own_m), np.flatnonzero(keeps_m)
    used, column_n = np.unique(np.r_[code_n, own_m[keeper]], return_inverse=True)
    nodes = m + len(used)
    ends = np.r_[item_n, keeper], m + column_n
    links = csr_array((np.ones(len(column_n), np.int8), ends), shape=(nodes, nodes))
    _, problem = connected_components(links, directed=False)
    size = np.bincount(problem[:m], minlength=int(problem.max()) + 1)
    kept = np.bincount(problem[m + np.unique(column_n[len(item_n) :])], minlength=len(size))
    movers_m: Integers = (size - kept)[problem[:m]]
    return movers_m


def _own_costs(
    costs: Callable[[slice], Matrix], own_m: Integers, keeps_m: Mask, k: int
) -> npt.NDArray[np.float64]:
    """Return what the codewords that items may keep cost them; 0 for the others."""
    own_cost_m = np.zeros(len(own_m))
    for block in _blocks(len(own_m), k) if keeps_m.any() else ():
        own_cost_m[block] = np.take_along_axis(costs(block), own_m[block][:, None], 1)[:, 0]
    return np.where(keeps_m, own_cost_m, 0.0)


def _matched(
    pairs: tuple[Integers, Integers, npt.NDArray[np.float64]],
    own_m: Integers,
    keeps_m: Mask,
    own_cost_m: npt.NDArray[np.float64],
) -> Integers:
    item_n, code_n, cost_n = pairs
    keeper = np.flatnonzero(keeps_m)
    # What an item adds where it goes; a move outweighs whatever all of them add together.
    added_n = np.r_[cost_n - own_cost_m[item_n], np.zeros(len(keeper))]
    added_n -= added_n.min()
    move = max(float(added_n.max()), np.finfo(np.float64).tiny) * (len(own_m) + 1)
    added_n[: len(item_n)] += move
    added_n += move  # no pair may cost nothing: it would be none
    used, column_n = np.unique(np.r_[code_n, own_m[keeper]], return_inverse=True)
    shape = (len(own_m), len(used))
    graph = csr_array((added_n, (np.r_[item_n, keeper], column_n)), shape=shape)
    row_m, column_m = min_weight_full_bipartite_matching(graph)
    chosen_m = np.empty(len(own_m), dtype=np.int64)
    chosen_m[row_m] = used[column_m]
    return chosen_m
