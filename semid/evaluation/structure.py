"""What SIDs keep of the neighbourhoods of embeddings, and what collides that is not alike.

Neighbours are those of the first items, a sample by the hashes of their ids, among all items.
Shapes: n items with embeddings, l levels, d dims, q queries, k neighbours of each, m pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids
from semid.metrics.alike import centred_cosine, mean_cosine, unlike
from semid.metrics.information import adjusted_mutual_information, category_purity
from semid.metrics.neighbours import prefix_shares
from semid.metrics.sampling import standard_error
from semid.metrics.structure import (
    chance_of_prefix,
    common_prefix,
    jaccard,
    prefix_mates,
    rank_biased_overlap,
    sid_neighbours,
)
from semid.metrics.uniqueness import colliding_pairs

Codes = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]
Take = Callable[[Rows], Matrix]

NEIGHBOURS = 10
QUERIES = 2_000
# Pairs of colliding items that are looked at, and how many of the worst are named.
PAIRS = 20_000
EXAMPLES = 20


def neighbourhoods(
    codes_nl: Codes, near_qk: Rows, decode: Callable[[Any], Matrix] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure what the SIDs of the first q items keep of their nearest embeddings.

    Parameters
    ----------
    codes_nl : raw codes of all items
    near_qk : the nearest items of the first q, the nearest first
    decode : codes to vectors, by which SID neighbours are told; without, they are left out

    Returns
    -------
    figures : means over the queries: ``jaccard`` and ``rank_biased_overlap`` of embedding and SID
        neighbours; ``common_prefix``, first codes that a query shares with its neighbours, 0 to l,
        and ``common_prefix_ratio``, over that of random pairs, 1 for codes by chance; for each
        depth ``prefix_purity``, the share of neighbours with the same first codes;
        ``standard_errors`` of them, over the queries
    nulls : the same of codes dealt anew: against the SID neighbours of another item, or exactly
    """
    query_q = np.arange(len(near_qk))
    chance_l = chance_of_prefix(codes_nl)
    shared_q = common_prefix(codes_nl[near_qk], codes_nl[: len(near_qk), None]).mean(1)
    same_ql = prefix_shares(codes_nl, query_q, near_qk)
    kept, errors, nulls = ({}, {}, {}) if decode is None else _kept(codes_nl, near_qk, decode)
    figures = {
        **kept,
        "common_prefix": float(shared_q.mean()),
        "common_prefix_ratio": float(shared_q.mean()) / chance_l.sum() if chance_l.any() else None,
        "prefix_purity": same_ql.mean(0).tolist(),
        "standard_errors": {
            **errors,
            "common_prefix": standard_error(shared_q),
            "prefix_purity": [standard_error(same_q) for same_q in same_ql.T],
        },
    }
    return figures, {
        **nulls,
        "common_prefix": float(chance_l.sum()),
        "common_prefix_ratio": 1.0,
        "prefix_purity": chance_l.tolist(),
    }


def _kept(
    codes_nl: Codes, near_qk: Rows, decode: Callable[[Any], Matrix]
) -> tuple[dict[str, Any], ...]:
    """Hold embedding neighbours against SID neighbours: figures, standard errors and nulls."""
    q, k = near_qk.shape
    tie_n = np.arange(len(codes_nl))
    sid_qk = sid_neighbours(codes_nl, np.arange(q), k, decode=decode, tie_n=tie_n)
    other_qk = np.roll(sid_qk, 1, axis=0)
    alike = {"jaccard": jaccard, "rank_biased_overlap": rank_biased_overlap}
    found = {name: measure(near_qk, sid_qk) for name, measure in alike.items()}
    return (
        {name: float(of_q.mean()) for name, of_q in found.items()},
        {name: standard_error(of_q) for name, of_q in found.items()},
        {name: float(measure(near_qk, other_qk).mean()) for name, measure in alike.items()},
    )


def mates(codes_nl: Codes, q: int) -> list[Rows]:
    """Return for each depth another item with the first codes of each of the first q, -1: none."""
    place_n, depths = np.arange(len(codes_nl)), range(1, codes_nl.shape[1] + 1)
    return [prefix_mates(codes_nl, np.arange(q), place_n, depth) for depth in depths]


def cohesion(mates_lq: list[Rows], take: Take) -> tuple[dict[str, Any], float | None]:
    """Measure how alike items with the same first codes are, by `semid.metrics.alike`.

    Returns
    -------
    figures : ``cohesion``, for each depth the mean cosine of the first q items and their mates, and
        its ``standard_error``
    null : that of random pairs
    """

    def cosine(other_q: Rows) -> tuple[float | None, float | None]:
        there = other_q >= 0
        return (
            mean_cosine(take(query_q[there]), take(other_q[there])) if there.any() else (None, None)
        )

    query_q = np.arange(len(mates_lq[0]))
    found, errors = zip(*map(cosine, mates_lq), strict=True)
    null, _ = cosine(np.roll(query_q, 1))
    return {"cohesion": list(found), "standard_error": list(errors)}, null


def collisions(codes_nl: Codes, *, seed: int) -> tuple[Rows, Rows]:
    """Draw `PAIRS` of `colliding_pairs`.

    Returns
    -------
    pairs_m2 : pairs of items that collide
    items_m : how many items each pair speaks for: two where these are all of their raw SID, else
        the first of it, whose pair with the next it is
    """
    group_n, size_n = group_ids(codes_nl)
    pairs_m2 = np.sort(colliding_pairs(group_n, size_n, np.arange(len(codes_nl))), axis=1)
    pairs_m2 = pairs_m2[np.lexsort(pairs_m2.T[::-1])]
    if len(pairs_m2) > PAIRS:
        drawn_m = np.random.default_rng(seed).choice(len(pairs_m2), PAIRS, replace=False)
        pairs_m2 = pairs_m2[np.sort(drawn_m)]
    return pairs_m2, np.where(size_n[pairs_m2[:, 0]] == 2, 2, 1)


def harm(
    pairs: tuple[Rows, Rows], random_r2: Rows, take: Take, mean_d: Matrix, *, threshold: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure whether items that collide are alike, by `semid.metrics.alike.unlike`.

    Parameters
    ----------
    pairs : of `collisions`
    random_r2 : random pairs
    take : embeddings of items
    mean_d : mean of the catalog
    threshold : cosine below which two are unlike

    Returns
    -------
    figures : ``pairs``, how many were looked at; the ``threshold``; ``share`` and ``cosine``, None
        without pairs; ``share_of_colliding``, of the items that collide those whose pair is unlike;
        ``examples``, the worst of the unlike, with the two ``items`` and their ``cosine``
    nulls : ``share`` and ``cosine`` of random pairs
    """

    def cosines(some_m2: Rows) -> Figures:
        return centred_cosine(take(some_m2[:, 0]), take(some_m2[:, 1]), mean_d)

    pairs_m2, items_m = pairs
    cosine_m = cosines(pairs_m2) if len(pairs_m2) else np.empty(0)
    nulls = unlike(cosines(random_r2) if len(random_r2) else np.empty(0), threshold)
    worst = np.argsort(cosine_m, kind="stable")[:EXAMPLES]
    examples = [
        {"items": pairs_m2[place].tolist(), "cosine": float(cosine_m[place])}
        for place in worst[cosine_m[worst] < threshold]
    ]
    facts = {"pairs": len(pairs_m2), "threshold": threshold, **unlike(cosine_m, threshold)}
    unlike_items = float(items_m @ (cosine_m < threshold) / items_m.sum()) if len(items_m) else 0.0
    return facts | {"share_of_colliding": unlike_items, "examples": examples}, nulls


def categories(
    codes_nl: Codes, category_n: Rows, *, seed: int
) -> tuple[dict[str, Any], list[float]]:
    """Measure what codes say of given categories, of the items that have one.

    Returns
    -------
    figures : ``items``, ``categories``; by ``levels`` the ``ami`` of the code alone and, beyond
        what the codes before it say, the ``conditional_ami``; by ``depths`` the ``purity`` of
        prefixes and, of these prefixes, the ``ami``
    nulls : the purity of every depth with categories dealt anew
    """
    there = category_n >= 0
    codes_nl, category_n = codes_nl[there], category_n[there]
    figures: dict[str, Any] = {"items": len(codes_nl), "categories": len(np.unique(category_n))}
    if not len(codes_nl):
        return figures | {"levels": [], "depths": []}, []
    dealt_n = np.random.default_rng(seed).permutation(category_n)
    levels, depths, nulls = [], [], []
    prefix_n = np.zeros(len(codes_nl), np.int64)
    for level, code_n in enumerate(codes_nl.T):
        inner = adjusted_mutual_information(code_n, category_n, prefix_n)
        alone = adjusted_mutual_information(code_n, category_n) if level else inner
        levels.append({"level": level, "ami": alone, "conditional_ami": inner})
        prefix_n = group_ids(codes_nl[:, : level + 1])[0]
        depths.append(
            {
                "depth": level + 1,
                "purity": category_purity(prefix_n, category_n),
                "ami": adjusted_mutual_information(prefix_n, category_n) if level else inner,
            }
        )
        nulls.append(category_purity(prefix_n, dealt_n))
    return figures | {"levels": levels, "depths": depths}, nulls
