"""What SIDs keep of users' behaviour: steps from item to item, and how often items are met.

Shapes: n items, l levels, d dims, q steps that are looked for, u distinct SIDs, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids, prefixes
from semid.metrics.behaviour import (
    dealt_anew,
    expected_hits,
    hits,
    next_prefix_entropy,
    popularity_bands,
    prefix_recall,
)
from semid.metrics.uniqueness import weighted_uniqueness

Codes = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

BANDS = ("head", "torso", "tail")
_SIDS_AT_ONCE = 16_384


def steps_taken(codes_nl: Codes, steps_m2: Rows, *, seed: int) -> tuple[dict[str, Any], ...]:
    """Measure how SIDs follow users' steps; returns figures and, of steps dealt anew, nulls."""
    if not len(steps_m2):
        return ({}, {})
    return tuple(
        {
            "prefix_recall": prefix_recall(codes_nl, some_m2).tolist(),
            "next_prefix_entropy": next_prefix_entropy(codes_nl, some_m2).tolist(),
        }
        for some_m2 in (steps_m2, dealt_anew(steps_m2, seed=seed))
    )


def hit_rate(
    codes_nl: Codes, steps_q2: Rows, near_qk: Rows, decode: Callable[[Any], Matrix]
) -> dict[str, Any]:
    """Measure whether the next item is among the k nearest to the present one.

    Returns
    -------
    figures : ``k``; ``steps``; the share of hits among ``embeddings``, and when all items are what
        their codes decode to, ``dequantised`` (after FORGE's embedding hit rate: Fu et al., arXiv
        2509.20904), of items with equal codes in expectation; 0 to 1, good is near that of the
        embeddings
    """
    from semid.neighbours import Nearest

    k = near_qk.shape[1]
    group_n = group_ids(codes_nl)[0]
    sid_ul, size_u = prefixes(codes_nl, codes_nl.shape[1])
    own_q, wanted_q = group_n[steps_q2].T
    nearest = Nearest(decode(sid_ul[own_q]), k + 1, np.arange(len(sid_ul)))
    for start in range(0, len(sid_ul), _SIDS_AT_ONCE):
        sids = np.arange(start, min(start + _SIDS_AT_ONCE, len(sid_ul)))
        nearest.add(decode(sid_ul[sids]), sids)
    found_qk = nearest.result(np.full(len(own_q), -1))
    return {
        "k": k,
        "steps": len(steps_q2),
        "embeddings": float(hits(near_qk, steps_q2[:, 1]).mean()),
        "dequantised": float(expected_hits(found_qk, size_u, own_q, wanted_q, k).mean()),
    }


def popularity(
    codes_nl: Codes, met_n: Rows, error_n: npt.NDArray[np.float32], unit: float | None
) -> dict[str, Any]:
    """Measure collisions where the interactions are, and how head, torso and tail fare.

    Parameters
    ----------
    codes_nl : raw codes
    met_n : interactions of every item
    error_n : squared error, NaN where it is not known
    unit : what the errors are relative to

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
        error = float(known_n.mean(dtype=np.float64) / unit) if unit and len(known_n) else None
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
