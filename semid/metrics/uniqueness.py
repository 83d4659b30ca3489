"""How many items have a raw SID of their own, and what the others share it with.

Pure functions on arrays. Shapes: n items, l levels, d dims, g collision groups, m pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1, log1p, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids

Codes = npt.NDArray[np.integer[Any]]
Integers = npt.NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15


def collision_groups(size_n: Integers) -> dict[str, Any]:
    """Measure collisions from how many items share the raw SID of each item, ``(n,)``.

    Own definition.

    Returns
    -------
    figures : ``groups``, raw SIDs of more than one item; ``items_in_groups``, their items, and
        ``share_in_groups`` of all, 0 to 1, good is near 0; ``largest_group``; ``histogram``, of
        group sizes 1, 2, 3 to 4, 5 to 8 and so on how many ``groups`` and ``items`` there are
    """
    group_s = np.bincount(size_n) // np.maximum(np.arange(size_n.max() + 1), 1)
    shared = int(group_s[2:] @ np.arange(2, len(group_s)))
    return {
        "groups": int(group_s[2:].sum()),
        "items_in_groups": shared,
        "share_in_groups": shared / len(size_n),
        "largest_group": len(group_s) - 1,
        "histogram": _histogram(group_s),
    }


def _histogram(group_s: Integers) -> list[dict[str, int]]:
    found, first = [], 1
    while first < len(group_s):
        last = 1 if first == 1 else 2 * first - 2 if first > 2 else 2
        count_s = group_s[first : last + 1]
        items = int(count_s @ np.arange(first, first + len(count_s)))
        found.append({"from": first, "to": last, "groups": int(count_s.sum()), "items": items})
        first = last + 1
    return found


def uniqueness(size_n: Integers) -> float:
    """Return distinct raw SIDs over items, from the size of every item's group ``(n,)``.

    1 less the collision rate of LC-Rec (Zheng et al., arXiv 2311.09049).

    Above 0 to 1, good is near `uniqueness_ceiling`.
    """
    return float((1 / size_n).sum() / len(size_n))


def weighted_uniqueness(group_n: Integers, weight_n: npt.NDArray[Any]) -> float | None:
    """Return the weight of the heaviest item of every raw SID over the weight of all, 0 to 1.

    With interactions as weights: how often one who answers each raw SID by its most popular item
    would be right. With equal weights it is `uniqueness`. None without any weight. Cluster purity
    (Manning, Raghavan & Schütze, 2008, ch. 16) with every item a class of its own.
    """
    total = weight_n.sum()
    if not total:
        return None
    most_g = np.zeros(group_n.max() + 1, weight_n.dtype)
    np.maximum.at(most_g, group_n, weight_n)
    return float(most_g.sum() / total)


def row_digests(x_nd: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Hash rows bit for bit to 64 bits, ``(n,)``: a multilinear hash (Lemire & Kaser, 2014).

    Two different rows of a million have one hash with a chance below 1e-6.
    """
    bits_nd = np.ascontiguousarray(x_nd).view(np.uint32)
    weight_d = _mixed(np.arange(1, bits_nd.shape[1] + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
    sum_n = np.zeros(len(bits_nd), np.uint64)
    for place, weight in enumerate(weight_d | np.uint64(1)):
        sum_n += (bits_nd[:, place].astype(np.uint64) + np.uint64(1)) * weight
    return _mixed(sum_n)


def _mixed(value_n: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix bits by the finaliser of SplitMix64 (Steele, Lea & Flood, 2014)."""
    value_n = (value_n ^ (value_n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_n = (value_n ^ (value_n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_n ^ (value_n >> np.uint64(31))


def identical_rows(digest_n: npt.NDArray[np.uint64]) -> dict[str, Any]:
    """Say what embeddings that are equal bit for bit leave possible, from `row_digests`.

    Own definition.

    Returns
    -------
    figures : ``identical_items``, items whose embedding another item has too;
        ``uniqueness_ceiling``, distinct embeddings over items: no quantizer of these embeddings has
        a greater uniqueness, since equal embeddings have equal codes
    """
    copies_m = np.unique(digest_n, return_counts=True)[1]
    return {
        "identical_items": int(copies_m[copies_m > 1].sum()),
        "uniqueness_ceiling": len(copies_m) / len(digest_n),
    }


def colliding_pairs(group_n: Integers, size_n: Integers, hash_n: npt.NDArray[Any]) -> Integers:
    """Pair every item of a collision group with one other of it: rows ``(m, 2)``.

    Own definition.

    The next of its group in the order of `hash_n`, after the last the first: as many pairs as
    items, however large a group is. A group of two is one pair, listed once.
    """
    shared = np.flatnonzero(size_n > 1)
    order = shared[np.lexsort((hash_n[shared], group_n[shared]))]
    here_n = group_n[order]
    first_n = np.r_[True, here_n[1:] != here_n[:-1]] if len(order) else np.zeros(0, np.bool_)
    start_n = np.maximum.accumulate(np.where(first_n, np.arange(len(order)), 0))
    last_n = np.r_[first_n[1:], True] if len(order) else first_n
    next_n = np.where(last_n, start_n, np.arange(len(order)) + 1)
    pairs_m2 = np.stack([order, order[next_n]], axis=1)
    kept_m2: Integers = pairs_m2[~(last_n & (size_n[order] == 2))]
    return kept_m2


def uniqueness_by_chance(codes_nl: Codes, levels: Sequence[int], *, seed: int) -> dict[str, float]:
    """Return the uniqueness of two nulls.

    Of classical occupancy (Feller, "An introduction to probability theory and its applications",
    1950).

    ``random``: codes drawn alike, expected; what a space of this size gives without looking at the
    items. ``permuted``: of `dealt_codes`.
    """
    n, space = len(codes_nl), prod(levels)
    # Chance that one of n draws hits a given SID: 1 - (1 - 1/space)^n.
    hit = -expm1(n * log1p(-1 / space)) if space > 1 else 1.0
    return {
        "random": space / n * hit,
        "permuted": uniqueness(group_ids(dealt_codes(codes_nl, seed=seed))[1]),
    }


def dealt_codes(codes_nl: Codes, *, seed: int) -> Codes:
    """Deal the codes of every level anew to the items: as uneven as they were, but independent.

    As of a permutation test (Fisher, "The design of experiments", 1935).
    """
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(code_n) for code_n in codes_nl.T], axis=1)
