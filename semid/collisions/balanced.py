"""LC-Rec's balanced last level (arXiv 2311.09049), for comparison with the literature.

The items of a raw SID are spread over the last level by Sinkhorn iterations, again and again while
some still collide. It moves more items than needed, at a higher cost, and may leave collisions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from semid.collisions.crowds import Codes, crowds
from semid.collisions.moves import Latents, Leavers, Moves, first_changes
from semid.collisions.space import Integers, Matrix, Space
from semid.ids import group_ids

# As in LC-Rec's code.
ROUNDS, EPSILON, ITERATIONS = 20, 0.003, 50
# Scores that are balanced at a time: 32 MiB.
_SCORES = 1 << 22


def spread(
    ranked: Path,
    space: Space,
    folder: Path,
    *,
    progress: Callable[[str, int], AbstractContextManager[Any]],
) -> Moves:
    """Spread items that share a raw SID over the last level; parameters as `reassign`."""
    contested_m = np.sort(np.concatenate([c.contested for c in crowds(ranked, space.levels)]))
    latents = Latents(space, contested_m, folder, progress)
    rows, raws, sids, added = [], [], [], 0.0
    with progress("sinkhorn", len(contested_m)) as shown, threadpool_limits(1):
        for crowd in crowds(ranked, space.levels):
            raw_ml = crowd.raw_ml
            residual_mz = space.residual(latents.of(crowd.contested), raw_ml[:, :-1])
            sid_ml = raw_ml.copy()
            sid_ml[:, -1] = _spread(space, residual_mz, raw_ml)
            moved_mz = residual_mz - space.codebooks[-1][sid_ml[:, -1]]
            kept_mz = residual_mz - space.codebooks[-1][raw_ml[:, -1]]
            added += float(np.square(moved_mz).sum() - np.square(kept_mz).sum())
            move = np.flatnonzero(sid_ml[:, -1] != raw_ml[:, -1])
            rows.append(crowd.contested[move])
            raws.append(raw_ml[move])
            sids.append(sid_ml[move])
            shown.update(len(raw_ml))
    row_m = np.concatenate(rows)
    raw_ml, sid_ml = np.concatenate(raws), np.concatenate(sids)
    order = np.argsort(row_m)
    facts = {
        "moved": len(row_m),
        "moved_at_level": first_changes(raw_ml, sid_ml),
        "added_squared_error": added,
    }
    nobody = Leavers(row_m[:0], sid_ml[:0])
    return Moves(row_m[order], sid_ml[order], nobody, facts)


def _spread(space: Space, residual_mz: Matrix, raw_ml: Codes) -> Codes:
    """Move items that share a SID, in rounds, until none do; return their last codes, ``(m,)``.

    Items that are alone with their raw SID stay, though others may join them.
    """
    code_m = raw_ml[:, -1].astype(np.int64)
    prefix_m, _ = group_ids(raw_ml[:, :-1]) if raw_ml.shape[1] > 1 else (0 * code_m, code_m)
    done: set[bytes] = set()  # what a group comes to does not change: it need not be asked again
    for _ in range(ROUNDS):
        order = np.lexsort((np.arange(len(code_m)), code_m, prefix_m))
        sid_m = prefix_m[order] * len(space.codebooks[-1]) + code_m[order]
        groups = np.split(order, np.flatnonzero(np.diff(sid_m)) + 1)
        groups = [g for g in groups if len(g) > 1 and g.tobytes() not in done]
        if not groups:
            break
        done.update(items.tobytes() for items in groups)
        for size in sorted({len(items) for items in groups}):
            same_gm = np.stack([items for items in groups if len(items) == size])
            most = max(_SCORES // (size * len(space.codebooks[-1])), 1)
            for some_gm in np.split(same_gm, range(most, len(same_gm), most)):
                code_m[some_gm] = _balance(space, residual_mz, some_gm)
    return code_m.astype(np.int32)


def _balance(space: Space, residual_mz: Matrix, item_gm: Integers) -> Integers:
    """Spread groups of one size over the last level, each by itself."""
    from torch import from_numpy

    from semid.estimators import sinkhorn_choice

    cost_ck = space.costs(residual_mz[item_gm.reshape(-1)], len(space.levels) - 1)
    cost_gmk = from_numpy(cost_ck.reshape(*item_gm.shape, -1))
    found: Integers = sinkhorn_choice(cost_gmk, epsilon=EPSILON, iterations=ITERATIONS).numpy()
    return found
