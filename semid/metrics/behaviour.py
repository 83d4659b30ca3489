"""Whether SIDs follow what users do: steps from one item to the next, and who is met how often.

Pure functions on arrays. Shapes: n items, l levels, m steps, q queries, k neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids
from semid.metrics.uniqueness import weighted_uniqueness

Codes = npt.NDArray[np.integer[Any]]
Rows = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]

# Shares of the items, the most popular first: the head, then the torso; the others are the tail.
HEAD, TORSO = 0.1, 0.4
BANDS = ("head", "torso", "tail")
# How often steps are dealt again that lead back to their own item.
_DEALS = 100


def prefix_recall(codes_nl: Codes, steps_m2: Rows) -> Figures:
    """Return the share of steps whose items share the first code, the first two, …: ``(l,)``.

    How often the prefix of the item that a user is at finds the next one; 0 to 1, to be held
    against the same of steps dealt anew. Recall as of retrieval (Manning, Raghavan & Schütze, 2008,
    ch. 8), with the items of a prefix as what is retrieved.
    """
    same_ml = codes_nl[steps_m2[:, 0]] == codes_nl[steps_m2[:, 1]]
    return np.asarray(np.logical_and.accumulate(same_ml, 1).mean(0), np.float64)


def next_prefix_entropy(codes_nl: Codes, steps_m2: Rows) -> Figures:
    """Return the entropy of the next item's first codes given the present one's, in bits: ``(l,)``.

    H(next prefix | prefix) over steps, both of the same depth: what a next-prefix predictor that
    knows only the last prefix is left with, by the conditional entropy of Shannon (1948) with
    shares for chances; 0 to log2 of the prefixes, good is far below that of steps dealt anew, whose
    estimate is as biased by few steps.
    """
    found = []
    for depth in range(1, codes_nl.shape[1] + 1):
        prefix_n = group_ids(codes_nl[:, :depth])[0]
        pair_m2 = prefix_n[steps_m2]
        joint_m, first_m = group_ids(pair_m2)[1], group_ids(pair_m2[:, :1])[1]
        found.append(float(np.log2(first_m / joint_m).mean()))
    return np.array(found)


def dealt_anew(steps_m2: Rows, *, seed: int) -> Rows:
    """Return steps from the same items to the same items, dealt at random: the null.

    As of a permutation test (Fisher, "The design of experiments", 1935).

    Users' steps lead from an item to another one, and so do these: what was dealt back to its own
    item is dealt again, together with as many others, until nothing is. A step that no deal can
    place, when one item is at nearly all of the steps, is left out.
    """
    random = np.random.default_rng(seed)
    first_m, second_m = steps_m2[:, 0], random.permutation(steps_m2[:, 1])
    for _ in range(_DEALS):
        back = np.flatnonzero(first_m == second_m)
        if not len(back):
            break
        again = np.union1d(back, random.integers(0, len(first_m), 1 + len(back)))
        second_m[again] = random.permutation(second_m[again])
    there_m = first_m != second_m
    return np.stack([first_m[there_m], second_m[there_m]], 1)


def hits(found_qk: Rows, wanted_q: Rows) -> Figures:
    """Return 1 for queries whose wanted row is among those found, else 0: ``(q,)``.

    Their mean is the hit rate at k (Deshpande & Karypis, "Item-based top-N recommendation
    algorithms", 2004).
    """
    return np.asarray((found_qk == wanted_q[:, None]).any(1), np.float64)


def expected_hits(sid_qk: Rows, size_u: Rows, own_q: Rows, wanted_q: Rows, k: int) -> Figures:
    """Return the chance that the wanted item is among the k nearest where SIDs tie, ``(q,)``.

    Tied ranks in expectation, as by McSherry & Najork, "Computing information retrieval performance
    measures efficiently in the presence of tied scores", 2008.

    Items of one SID decode to one vector: those at the border are drawn at random.

    Parameters
    ----------
    sid_qk : SIDs in the order of their distance to the query, the nearest first, -1 for none
    size_u : items of every SID
    own_q, wanted_q : SID of the query, which is left out itself, and of the wanted item
    k : items that are found
    """
    items_qk = np.where(sid_qk >= 0, size_u[sid_qk], 0) - (sid_qk == own_q[:, None])
    before_qk = items_qk.cumsum(1) - items_qk
    share_qk = np.clip((k - before_qk) / np.maximum(items_qk, 1), 0, 1)
    return np.asarray((share_qk * (sid_qk == wanted_q[:, None])).sum(1), np.float64)


def popularity_bands(met_n: Rows, tie_n: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Return the band of every item by how often it was met: 0 head, 1 torso, 2 tail, ``(n,)``.

    The tenth of the items that is met most, the next four tenths, and the other half; items that
    were never met are tail, however many they are; among items met as often `tie_n` decides. Own
    definition.
    """
    order_n = np.lexsort((tie_n, -met_n))
    band_n = np.full(len(met_n), 2, np.int8)
    band_n[order_n[: round((HEAD + TORSO) * len(met_n))]] = 1
    band_n[order_n[: round(HEAD * len(met_n))]] = 0
    band_n[met_n == 0] = 2
    return band_n


def popularity(
    codes_nl: Codes, met_n: Rows, error_n: npt.NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Measure collisions where the interactions are, and how head, torso and tail fare.

    Own definition; that long tails fare differently is of Park & Tuzhilin, "The long tail of
    recommender systems and how to leverage it", 2008.

    Parameters
    ----------
    codes_nl : raw codes
    met_n : interactions of every item
    error_n : relative squared error, NaN where it is not known

    Returns
    -------
    figures : ``uniqueness`` and ``share_in_groups`` weighted by interactions; by ``popularity``,
        for head, torso and tail, ``items``, the share of the ``interactions``, the mean relative
        ``error``, and the ``share_in_groups`` of their items
    """
    group_n, size_n = group_ids(codes_nl)
    band_n = popularity_bands(met_n, np.arange(len(met_n)))
    total = met_n.sum()
    bands = {}
    for number, name in enumerate(BANDS):
        here = band_n == number
        known_n = error_n[here & ~np.isnan(error_n)]
        error = float(known_n.mean(dtype=np.float64)) if len(known_n) else None
        bands[name] = {
            "items": int(here.sum()),
            "interactions": float(met_n[here].sum() / total) if total else None,
            "error": error,
            "share_in_groups": float((size_n[here] > 1).mean()) if here.any() else None,
        }
    return {
        "uniqueness": weighted_uniqueness(group_n, met_n),
        "share_in_groups": float(met_n[size_n > 1].sum() / total) if total else None,
        "popularity": bands,
    }
