"""Free codewords for the items of one prefix, at the least cost.

Shapes: m items, c codewords to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from semid.collisions.nearby import nearby
from semid.collisions.space import Integers, Matrix

# A problem takes 8 bytes for every pair of an item and a codeword, and in the worst case the square
# of the smaller number times the larger in time. More than this many pairs, or of both, are dealt
# with in turns, each exact.
MOST_ITEMS, MOST_PAIRS = 2_048, 1 << 25
UNPLACED = -1

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
# Squared distances of some of the items' residuals to all codewords.
Costs = Callable[[slice], Matrix]


def choose(
    costs: Costs, own_m: Integers, free_k: Mask, shared_k: Mask, elsewhere_m: Floats
) -> tuple[Integers, float]:
    """Give every item of a prefix a codeword of its own: fewest moves, and of these the cheapest.

    Exact, by the Hungarian method (Crouse, 2016, as in SciPy), unless it takes several turns. At
    levels of more than `MOST_ITEMS` codewords it is `semid.collisions.nearby` that is asked first.

    Parameters
    ----------
    costs : of these items
    own_m : the codeword of each item's raw SID
    free_k : codewords that nobody has
    shared_k : codewords that several of these items have, of whom one may keep it
    elsewhere_m : what a SID of another prefix would cost each item; decides who leaves when there
        are more items than codewords

    Returns
    -------
    chosen_m : a codeword, or `UNPLACED` for those who have to leave
    added : what the squared errors of those who stay grow by
    """
    chosen_m = np.full(len(own_m), UNPLACED, dtype=np.int64)
    costs = _known(costs, len(own_m), len(free_k))
    if len(free_k) > MOST_ITEMS and len(own_m) <= free_k.sum() + shared_k.sum():
        found_m = nearby(costs, own_m, free_k, shared_k)
        if found_m is not None:
            return found_m, _price(costs, found_m, len(free_k)) - _price(costs, own_m, len(free_k))
    open_k, shared_k, added = free_k.copy(), shared_k.copy(), 0.0
    for turn in _turns(len(own_m), len(free_k)):
        own_k = np.zeros_like(shared_k)
        own_k[own_m[turn]] = shared_k[own_m[turn]]
        cost_mk, own_t = costs(turn), own_m[turn]
        found_t = _choose(cost_mk, own_t, np.flatnonzero(open_k | own_k), elsewhere_m[turn])
        stay = np.flatnonzero(found_t != UNPLACED)
        added += float((cost_mk[stay, found_t[stay]] - cost_mk[stay, own_t[stay]]).sum())
        open_k[found_t[stay]] = shared_k[found_t[stay]] = False
        chosen_m[turn] = found_t
    return chosen_m, added


def place(costs: Costs, items: int, free_k: Mask) -> tuple[Integers, float]:
    """Give newcomers of a prefix free codewords at the least cost; there must be enough.

    Exact as `choose`. Returns the codewords, ``(m,)``, and their squared errors' sum.
    """
    costs = _known(costs, items, len(free_k))
    if len(free_k) > MOST_ITEMS:
        found_m = nearby(costs, np.full(items, -1), free_k, np.zeros_like(free_k))
        if found_m is not None:
            return found_m, _price(costs, found_m, len(free_k))
    chosen_m = np.empty(items, dtype=np.int64)
    open_k, total = free_k.copy(), 0.0
    for turn in _turns(items, len(free_k)):
        cost_mk = costs(turn)
        column_c = _cheapest(cost_mk, np.flatnonzero(open_k), np.empty(0, dtype=np.int64))
        row, column = linear_sum_assignment(cost_mk[:, column_c])
        chosen_m[turn.start + row] = column_c[column]
        total += float(cost_mk[row, column_c[column]].sum())
        open_k[column_c[column]] = False
    return chosen_m, total


def _known(costs: Costs, items: int, codewords: int) -> Costs:
    """Work the costs out once, where they are few enough to be kept."""
    if items * codewords > MOST_PAIRS:
        return costs
    cost_mk = costs(slice(0, items))
    return lambda some: cost_mk[some]


def _price(costs: Costs, chosen_m: Integers, codewords: int) -> float:
    """Sum the squared errors of items at given codewords."""
    total = 0.0
    for turn in _turns(len(chosen_m), codewords):
        total += float(np.take_along_axis(costs(turn), chosen_m[turn, None], 1).sum())
    return total


def _turns(items: int, codewords: int) -> Iterator[slice]:
    size = max(MOST_PAIRS // codewords, 1)
    size = min(size, MOST_ITEMS) if codewords > MOST_ITEMS else size
    for start in range(0, items, size):
        yield slice(start, min(start + size, items))


def _choose(cost_mk: Matrix, own_m: Integers, column_c: Integers, elsewhere_m: Floats) -> Integers:
    chosen_m = np.full(len(own_m), UNPLACED, dtype=np.int64)
    if not len(column_c):
        return chosen_m
    at_own_m = np.take_along_axis(cost_mk, own_m[:, None], 1)
    column_c = _cheapest(cost_mk, column_c, own_m)
    added_mc = cost_mk[:, column_c] - at_own_m
    if len(own_m) > len(column_c):  # who is not placed pays for leaving
        added_mc -= elsewhere_m[:, None] - at_own_m
    # A move outweighs whatever all of them cost together.
    added_mc -= added_mc.min()
    move = max(added_mc.max(), np.finfo(np.float64).tiny) * (len(own_m) + 1)
    column_of_k = np.full(cost_mk.shape[1], -1)
    column_of_k[column_c] = np.arange(len(column_c))
    keeps = np.flatnonzero(column_of_k[own_m] >= 0)
    added_mc += move
    added_mc[keeps, column_of_k[own_m[keeps]]] -= move
    row, column = linear_sum_assignment(added_mc)
    chosen_m[row] = column_c[column]
    return chosen_m


def _cheapest(cost_mk: Matrix, column_c: Integers, own_m: Integers) -> Integers:
    """Leave out codewords that no best choice needs: beyond every item's m cheapest."""
    m = len(cost_mk)
    if len(column_c) <= 4 * m:
        return column_c
    near = np.argpartition(cost_mk[:, column_c], m - 1, axis=1)[:, :m]
    return np.union1d(column_c[near], np.intersect1d(column_c, own_m))
