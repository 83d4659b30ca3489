"""Whether SIDs keep what is near together: neighbours, prefixes, pairs.

Shapes: n items, l levels, q queries, k neighbours of each, d dims.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids, prefixes

Codes = npt.NDArray[np.integer[Any]]
Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]

PERSISTENCE = 0.9
# SIDs of one prefix that are looked at for the neighbours of a query.
MOST_SIDS = 2_048


def jaccard(one_qk: Rows, other_qk: Rows) -> Figures:
    """Return the Jaccard index of two lists of rows for every query, ``(q,)``, 0 to 1.

    Rows in both over rows in either; -1 fills a list that is shorter, and two empty lists agree in
    nothing: 0. Jaccard (1912), as "Jaccard@k" of nearest neighbours.
    """
    both_q = _shared(one_qk, other_qk).any(2).sum(1)
    either_q = (one_qk >= 0).sum(1) + (other_qk >= 0).sum(1) - both_q
    return np.asarray(both_q / np.maximum(either_q, 1), np.float64)


def rank_biased_overlap(one_qk: Rows, other_qk: Rows, *, p: float = PERSISTENCE) -> Figures:
    """Return the rank-biased overlap of two rankings for every query, ``(q,)``, 0 to 1.

    Webber, Moffat & Zobel (2010), cut at k and scaled so that equal rankings have 1: the mean over
    depths i of the share of rows in both first i, weighted by p^(i-1).
    """
    same_qkk = _shared(one_qk, other_qk)
    k = one_qk.shape[1]
    # Rows in both first i: by how deep one has to go in both to have met it.
    depth_kk = np.maximum(np.arange(k)[:, None], np.arange(k)[None])
    met_qk = np.stack([(same_qkk & (depth_kk == i)).sum((1, 2)) for i in range(k)], 1).cumsum(1)
    weight_k = p ** np.arange(k)
    return np.asarray((met_qk / np.arange(1, k + 1)) @ weight_k / weight_k.sum(), np.float64)


def _shared(one_qk: Rows, other_qk: Rows) -> npt.NDArray[np.bool_]:
    same_qkk: npt.NDArray[np.bool_] = one_qk[:, :, None] == other_qk[:, None]
    return same_qkk & (one_qk >= 0)[:, :, None]


def common_prefix(one_nl: Codes, other_nl: Codes) -> Rows:
    """Return how many first codes two items share, for n pairs ``(n,)``, 0 to l.

    Own definition.
    """
    return np.asarray(np.logical_and.accumulate(one_nl == other_nl, -1).sum(-1), np.int64)


def chance_of_prefix(codes_nl: Codes) -> Figures:
    """Return the chance that two random items share the first code, the first two, …: ``(l,)``.

    The concentration of Simpson, "Measurement of diversity", 1949, of prefixes.

    Exact: pairs within prefixes over all pairs; what codes that were dealt anew to the items would
    give. Its sum is the mean common prefix of random pairs. 0 of one item.
    """
    n = len(codes_nl)
    found = []
    for level in range(codes_nl.shape[1]):
        size_p = prefixes(codes_nl, level + 1)[1].astype(np.float64)
        found.append(float(size_p @ (size_p - 1)) / max(n * (n - 1), 1))
    return np.array(found)


def sid_neighbours(
    codes_nl: Codes,
    query_q: Rows,
    count: int,
    *,
    decode: Callable[[Codes], Matrix],
    tie_n: npt.NDArray[Any],
) -> Rows:
    """Return the SID neighbours of the rows `query_q`: ``(q, k)``, -1 where there are no more.

    Own definition.

    Items are ordered by how many first codes they share with the query, the most first; among
    those by the squared distance of what their codes decode to; then by `tie_n`. Items that do not
    share the first code are no neighbours. The query itself is left out.

    Only SIDs with the longest prefix of the query's that k others have are looked at, and all of
    them up to `MOST_SIDS`. Of a prefix of more SIDs, those whose first item by `tie_n` comes
    first stand for all, beside the fewer than k items that share more codes with the query: a
    query takes O(MOST_SIDS d) at most, however many items share its codes.

    Parameters
    ----------
    codes_nl : raw codes
    query_q : rows
    count : k
    decode : codes ``(m, l)`` to vectors ``(m, d)``
    tie_n : what orders items with the same codes, such as a hash of their ids
    """
    order_n = np.lexsort((tie_n, *codes_nl.T[::-1]))
    sid_ul, size_u = prefixes(codes_nl, codes_nl.shape[1])
    start_u = np.cumsum(size_u) - size_u
    own_q = group_ids(codes_nl)[0][query_q]
    span_q2, inner_q2 = _spans(sid_ul, size_u, own_q, count)
    found_qk = np.full((len(query_q), count), -1)
    for low, high in np.unique(span_q2, axis=0):
        here_b = np.flatnonzero((span_q2 == (low, high)).all(1))
        some_u = _first_sids(np.arange(low, high), tie_n[order_n[start_u[low:high]]])
        known_u = np.union1d(some_u, np.concatenate([np.arange(*inner_q2[b]) for b in here_b]))
        vector_ud = decode(sid_ul[known_u])
        for place in here_b:
            near_u = np.union1d(some_u, np.arange(*inner_q2[place]))
            at_u = np.searchsorted(known_u, near_u)
            own = int(own_q[place])
            shared_u = common_prefix(sid_ul[near_u], sid_ul[own])
            off_ud = vector_ud[at_u] - vector_ud[np.searchsorted(known_u, own)]
            apart_u = np.square(off_ud, out=off_ud).sum(1)
            near_u = near_u[np.lexsort((near_u, apart_u, -shared_u))[: count + 1]]
            rows = np.concatenate(
                [order_n[start_u[u] : start_u[u] + min(size_u[u], count + 1)] for u in near_u]
            )
            rows = rows[rows != query_q[place]][:count]
            found_qk[place, : len(rows)] = rows
    return found_qk


def _spans(sid_ul: Codes, size_u: Rows, own_q: Rows, count: int) -> tuple[Rows, Rows]:
    """Return where the SIDs stand of the longest prefix with `count` others, and of one code more.

    Of the first code when no prefix has as many; of the SID itself when there is no code more.
    """
    upto_u = np.r_[0, np.cumsum(size_u)]
    span_q2 = inner_q2 = np.stack([own_q, own_q + 1], 1)
    enough_q = upto_u[own_q + 1] - upto_u[own_q] > count
    for depth in range(sid_ul.shape[1] - 1, 0, -1):
        new_u = (sid_ul[1:, :depth] != sid_ul[:-1, :depth]).any(1)
        border_p = np.r_[0, 1 + np.flatnonzero(new_u), len(sid_ul)]
        prefix_q = np.searchsorted(border_p, own_q, side="right") - 1
        wider_q2 = np.stack([border_p[prefix_q], border_p[prefix_q + 1]], 1)
        inner_q2 = np.where(enough_q[:, None], inner_q2, span_q2)
        span_q2 = np.where(enough_q[:, None], span_q2, wider_q2)
        enough_q = enough_q | (upto_u[span_q2[:, 1]] - upto_u[span_q2[:, 0]] > count)
    return span_q2, inner_q2


def _first_sids(span_u: Rows, tie_u: npt.NDArray[Any]) -> Rows:
    """Return at most `MOST_SIDS` SIDs of a span, those with the least `tie_u`, ascending."""
    if len(span_u) <= MOST_SIDS:
        return span_u
    return np.sort(span_u[np.lexsort((span_u, tie_u))[:MOST_SIDS]])


def prefix_mates(codes_nl: Codes, query_q: Rows, hash_n: npt.NDArray[Any], depth: int) -> Rows:
    """Return another item with the same first `depth` codes for each query, ``(q,)``, -1 if none.

    Own definition.

    The next of its prefix in the order of `hash_n`; after the last, the first.
    """
    group_n, size_n = group_ids(codes_nl[:, :depth])
    order_n = np.lexsort((hash_n, group_n))
    place_n = np.empty_like(order_n)
    place_n[order_n] = np.arange(len(order_n))
    start_g = np.searchsorted(group_n[order_n], np.arange(group_n.max() + 1))
    start_q, size_q = start_g[group_n[query_q]], size_n[query_q]
    mate_q = order_n[start_q + (place_n[query_q] - start_q + 1) % size_q]
    return np.where(size_q > 1, mate_q, -1)


def prefix_support(codes_nl: Codes, held_out_n: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Measure how many held-out items begin with codes that others have: support of cold items.

    As the coverage of unseen items by seen ones in cold-start recommendation (Schein et al.,
    "Methods and metrics for cold-start recommendations", 2002), of prefixes.

    Returns
    -------
    depths : for each, ``support``, the share of held-out items whose first codes some other item
        has that is not held out, 0 to 1; and ``usual``, the share of these others who share theirs
        with one of them: good is support near it. None where there are no such items
    """
    found = []
    for level in range(codes_nl.shape[1]):
        group_n, _ = group_ids(codes_nl[:, : level + 1])
        known_n = np.bincount(group_n, ~held_out_n)[group_n]
        cold, usual = known_n[held_out_n] > 0, known_n[~held_out_n] > 1
        found.append(
            {
                "depth": level + 1,
                "support": float(cold.mean()) if len(cold) else None,
                "usual": float(usual.mean()) if len(usual) else None,
            }
        )
    return found
