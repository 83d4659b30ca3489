"""A new model's codes renumbered to agree with an old model's: what a retraining leaves of IDs.

Two trainings number their codewords by chance. Renumbering, level by level, changes nothing else of
the new model and keeps as many codes as a one-to-one naming can: the assignment problem (Kuhn,
1955) on how often a new code meets an old one. Fresh IDs are matched to an existing vocabulary at
every refresh in arXiv 2604.13273; here the model itself is renumbered, so that new items follow.
Shapes: n items, l levels, k codewords, p pairs of codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from semid.quantizer import Quantizer
    from semid.reordering import Numbering, Order

Codes = npt.NDArray[np.int32]
# Every call begins again: new and old codes of the same items, ``(n, l)`` each, block by block.
Pairs = Callable[[], Iterable[tuple[Codes, Codes]]]

# Distinct pairs that wait to be counted together.
_WAITING = 1 << 21


def align(new: Quantizer, old: Quantizer, x: Any) -> Quantizer:
    """Return `new` with its codewords renumbered to agree with `old` on the embeddings `x`.

    It is the same quantizer otherwise: its codes map one to one and decode to the same bits. Only
    rows exactly between two different codewords may go to the other one of them, since ties go to
    the lower number. Levels and codewords that `old` lacks, and levels that are grids, keep to
    themselves; see `find_orders`.

    Parameters
    ----------
    new, old : of any kinds and sizes, for the same embedding columns
    x : embeddings ``(n, d)`` of items that both know, as `Quantizer.encode` takes them

    Raises
    ------
    SemidError
        For bad rows, or a model without codes.
    """
    pairs = [(new.encode(x), old.encode(x))]
    return new.permuted(find_orders(lambda: pairs, new.numbering))


def find_orders(pairs: Pairs, numbering: Numbering) -> list[Order]:
    """Return the numbers that the codewords of every level get, ``(k,)`` each.

    A level keeps the codes of as many items as it can of those whose prefix is kept, which are the
    IDs that can still stay; of the orders that do, it takes the one that keeps most codes of all
    items. A codeword that meets no old code gets the lowest number that is left. Levels beyond the
    old model's and grids keep their numbers; old codes beyond the new model's codewords are lost.
    Levels that share a codebook get one order, by the first of them and then by all.

    Parameters
    ----------
    pairs : the codes of both models, read once per level
    numbering : what may be renumbered of the new one

    Notes
    -----
    The order of the rows plays no part. Memory grows with the distinct pairs of codes, not with the
    square of the codewords.
    """
    orders: list[Order] = [np.arange(size) for size in numbering.sizes]
    for level, home in enumerate(numbering.homes):
        if numbering.fixed[level]:
            continue
        if home < level:
            orders[level] = orders[home]
            continue
        met = _count(pairs, numbering, orders, level)
        orders[level] = _in_twins(_match(met, numbering.sizes[level]), numbering.twins[level])
    return orders


def churn(pairs: Pairs, orders: Sequence[Order] | None = None) -> list[float]:
    """Return the share of items whose first 1, 2, … codes are not the old ones.

    As far as both models have levels. `orders` renumber the new codes, if they are given.
    """
    rows, kept = 0, np.zeros(0, np.int64)
    for new_nl, old_nl in pairs():
        same_nl = _same(new_nl, old_nl, min(new_nl.shape[1], old_nl.shape[1]), orders)
        found = np.logical_and.accumulate(same_nl, axis=1).sum(0)
        rows, kept = rows + len(new_nl), kept + found if len(kept) else found
    return [1 - int(count) / rows for count in kept]


def _same(new_nl: Codes, old_nl: Codes, depth: int, orders: Sequence[Order] | None = None) -> Any:
    """Return where the first codes, renumbered, are the old ones, ``(n, depth)``."""
    if orders is None:
        return new_nl[:, :depth] == old_nl[:, :depth]
    same_nl = np.empty((len(new_nl), depth), np.bool_)
    for level in range(depth):
        same_nl[:, level] = orders[level][new_nl[:, level]] == old_nl[:, level]
    return same_nl


class _Met(NamedTuple):
    """How often new codes meet old ones, over p distinct pairs.

    new_p, old_p : the codes
    weight_p : items that meet in the pair; those whose ID can be kept before all others
    """

    new_p: npt.NDArray[np.int64]
    old_p: npt.NDArray[np.int64]
    weight_p: npt.NDArray[np.float64]


def _count(pairs: Pairs, numbering: Numbering, orders: Sequence[Order], level: int) -> _Met:
    size, counts = numbering.sizes[level], _Counts()
    sharing = [other for other, home in enumerate(numbering.homes) if home == level < other]
    for new_nl, old_nl in pairs():
        for at in (level, *sharing):
            if at >= old_nl.shape[1]:
                continue
            known_n = old_nl[:, at] < size
            new_n = new_nl[known_n, at].astype(np.int64)
            kept_n = np.zeros(len(new_n), np.bool_)
            if at == level:
                kept_n = _same(new_nl[known_n], old_nl[known_n], level, orders).all(1)
            counts.add((new_n * size + old_nl[known_n, at]) * 2 + kept_n)
    key_p, count_p = counts.result()
    pair_p, place_p = np.unique(key_p // 2, return_inverse=True)
    kept_p = np.bincount(place_p, count_p * (key_p % 2), len(pair_p))
    met_p = np.bincount(place_p, count_p, len(pair_p))
    # One item whose ID can be kept outweighs all others together; exact up to 90 million codes.
    return _Met(pair_p // size, pair_p % size, kept_p * (count_p.sum() + 1) + met_p)


class _Counts:
    """Counts keys that come in blocks, holding little more than the distinct ones."""

    def __init__(self) -> None:
        self._key_p, self._count_p = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._blocks: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, key_n: npt.NDArray[np.int64]) -> None:
        """Count a block of keys ``(n,)``."""
        self._blocks.append(np.unique(key_n, return_counts=True))
        self._waiting += len(self._blocks[-1][0])
        # As many as are counted already: the work of all merges adds up to a few times the last.
        if self._waiting > max(_WAITING, len(self._key_p)):
            self._merge()

    def result(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the distinct keys, rising, and how often each came."""
        self._merge()
        return self._key_p, self._count_p

    def _merge(self) -> None:
        keys, counts = zip((self._key_p, self._count_p), *self._blocks, strict=True)
        self._key_p, place_n = np.unique(np.concatenate(keys), return_inverse=True)
        total_p = np.bincount(place_n, np.concatenate(counts), len(self._key_p))
        self._count_p, self._blocks, self._waiting = total_p.astype(np.int64), [], 0


def _match(met: _Met, size: int) -> Order:
    """Pair new codes with old ones, one to one, for the largest weight; the rest get what is left.

    By shortest augmenting paths (Jonker & Volgenant, 1987) in the pairs that occur; a quarter of a
    minute for 65,536 codewords and a million pairs.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    code_k = np.arange(size)
    # A codeword may also stay without a pair, at no weight: a full matching always exists. One more
    # for every edge, as a sparse matrix takes 0 for no edge.
    rows = np.concatenate([met.new_p, code_k])
    columns = np.concatenate([met.old_p, size + code_k])
    weights = np.concatenate([met.weight_p + 1, np.ones(size)])
    graph = csr_matrix((weights, (rows, columns)), shape=(size, 2 * size))
    new_k, place_k = min_weight_full_bipartite_matching(graph, maximize=True)
    order = np.full(size, -1, np.int64)
    order[new_k] = np.where(place_k < size, place_k, -1)
    order[order < 0] = np.setdiff1d(code_k, order)
    return order


def _in_twins(order: Order, twin_k: Order) -> Order:
    """Sort the numbers of codewords that are exactly alike, so that the first remains the first."""
    sorted_k = np.empty_like(order)
    sorted_k[np.argsort(twin_k, kind="stable")] = order[np.lexsort((order, twin_k))]
    return sorted_k
