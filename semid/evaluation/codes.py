"""The figures of raw codes alone, and what codes by chance would have.

Shapes: n items, l levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids
from semid.metrics.uniqueness import (
    collision_groups,
    dealt_codes,
    uniqueness,
    uniqueness_by_chance,
)
from semid.metrics.utilization import branching, gini, level_use, sid_use


def code_figures(codes_nl: npt.NDArray[Any], levels: Sequence[int]) -> dict[str, Any]:
    """Measure raw codes ``(n, l)`` alone: uniqueness, use of levels, prefixes and SIDs."""
    size_n = group_ids(codes_nl)[1]
    used = [
        level_use(np.bincount(codes_nl[:, level], minlength=size))
        for level, size in enumerate(levels)
    ]
    return {
        "items": len(codes_nl),
        "uniqueness": uniqueness(size_n),
        "perplexity_ratio": [use.perplexity_ratio for use in used],
        "levels": [
            {**use._asdict(), "branching": branching(codes_nl, level)}
            for level, use in enumerate(used)
        ],
        "collisions": collision_groups(size_n),
        "utilization": sid_use(codes_nl, levels),
    }


def code_nulls(codes_nl: npt.NDArray[Any], levels: Sequence[int], *, seed: int) -> dict[str, Any]:
    """Return what codes drawn alike, or dealt anew to the items, would have."""
    n, random = len(codes_nl), np.random.default_rng(seed)
    alike = [level_use(random.multinomial(n, np.full(size, 1 / size))) for size in levels]
    size_u = np.bincount(group_ids(dealt_codes(codes_nl, seed=seed))[0])
    return {
        "uniqueness": uniqueness_by_chance(codes_nl, levels, seed=seed),
        "levels": [
            {"perplexity_ratio": use.perplexity_ratio, "gini": use.gini, "dead": use.dead}
            for use in alike
        ],
        "utilization": {"gini_sids": {"permuted": gini(size_u)}},
    }
