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
    prefix_recall,
)
from semid.metrics.sampling import standard_error

Codes = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_SIDS_AT_ONCE = 16_384


def steps_taken(codes_nl: Codes, steps_m2: Rows, *, seed: int) -> tuple[dict[str, Any], ...]:
    """Measure how SIDs follow users' steps; returns figures and, of steps dealt anew, nulls."""
    if not len(steps_m2):
        return ({}, {})
    figures, nulls = (
        {
            "prefix_recall": prefix_recall(codes_nl, some_m2).tolist(),
            "next_prefix_entropy": next_prefix_entropy(codes_nl, some_m2).tolist(),
        }
        for some_m2 in (steps_m2, dealt_anew(steps_m2, seed=seed))
    )
    # Of shares over steps.
    steps = len(steps_m2)
    spread = [
        share * (1 - share) / (steps - 1) if steps > 1 else None
        for share in figures["prefix_recall"]
    ]
    errors = [None if one is None else one**0.5 for one in spread]
    return figures | {"standard_errors": {"prefix_recall": errors}}, nulls


def hit_rate(
    codes_nl: Codes, steps_q2: Rows, near_qk: Rows, decode: Callable[[Any], Matrix]
) -> dict[str, Any]:
    """Measure whether the next item is among the k nearest to the present one.

    Returns
    -------
    figures : ``k``; ``steps``; the share of hits among ``embeddings``, and when all items are what
        their codes decode to, ``dequantised`` (after FORGE's embedding hit rate: Fu et al., arXiv
        2509.20904), of items with equal codes in expectation; 0 to 1, good is near that of the
        embeddings; ``standard_errors`` of both, over the steps
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
    found_q = hits(near_qk, steps_q2[:, 1])
    expected_q = expected_hits(found_qk, size_u, own_q, wanted_q, k)
    return {
        "k": k,
        "steps": len(steps_q2),
        "embeddings": float(found_q.mean()),
        "dequantised": float(expected_q.mean()),
        "standard_errors": {
            "embeddings": standard_error(found_q),
            "dequantised": standard_error(expected_q),
        },
    }
