"""Every item a SID of its own without another level: free codewords at the least cost.

Items keep their raw SIDs where they can. Within a prefix (all levels but the last) the others get
the free codewords that cost least, exactly; where a prefix has more items than codewords, some
leave for the next-nearest prefixes. As conflict-free reassignment in arXiv 2605.25330 and
2509.16446, which move greedily. Shapes: m items, z latent dims, l levels, k codewords, p prefixes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from semid.collisions.copies import alike, distinct, place_among
from semid.collisions.crowds import Crowd, crowds
from semid.collisions.leaving import leave
from semid.collisions.moves import Codes, Latents, Leavers, Moves, Placed, first_changes
from semid.collisions.space import Space
from semid.collisions.spill import nearest_prefixes
from semid.collisions.within import UNPLACED, choose

# To tell who should leave a full prefix, what leaving would cost is read off a narrow beam.
_GLANCE = 4


def reassign(
    ranked: Path,
    space: Space,
    folder: Path,
    *,
    progress: Callable[[str, int], AbstractContextManager[Any]],
) -> Moves:
    """Find SIDs for all items that share theirs.

    Parameters
    ----------
    ranked : what `semid.collisions.crowds.rank` wrote
    space : of the model
    folder : for the latents of the items that share their SIDs, 4 z bytes each, and for the wishes
        of those that leave their prefix, 12 bytes for each that is proposed to a distinct latent
    progress : opens a bar of a name and a total
    """
    contested_m = np.sort(
        np.concatenate([crowd.contested for crowd in crowds(ranked, space.levels)])
    )
    latents = Latents(space, contested_m, folder, progress)
    placed, leavers, copies = Placed(), [], 0
    # One thread: products of a few rows each, and the same bits whatever the machine's threads.
    with progress("reassign", len(contested_m)) as shown, threadpool_limits(1):
        for crowd in crowds(ranked, space.levels):
            latent_mz = latents.of(crowd.contested)
            copies += alike(latent_mz, crowd.sid_number)
            leavers.append(_within(crowd, latent_mz, space, placed))
            shown.update(len(crowd.contested))
        left = Leavers(
            np.concatenate([some.row_u for some in leavers]),
            np.concatenate([some.raw_ul for some in leavers]),
        )
        spilled = len(left.row_u)
        if spilled:
            left = leave(left, ranked, space, latents, placed, folder, shown.set_postfix_str)
    moved_m, raw_ml, sid_ml = placed.sorted(len(space.levels))
    changed_l = first_changes(raw_ml, sid_ml)
    facts = {
        "moved": len(moved_m),
        "moved_at_level": changed_l,
        "left_full_prefixes": spilled,
        "unplaced": len(left.row_u),
        "added_squared_error": placed.added,
        "indistinguishable": copies,
    }
    return Moves(moved_m, sid_ml, left, facts)


def _within(
    crowd: Crowd, latent_mz: npt.NDArray[np.float32], space: Space, placed: Placed
) -> Leavers:
    """Place the contested items of some prefixes inside these; return who has to leave."""
    raw_ml = crowd.raw_ml
    residual_mz = space.residual(latent_mz, raw_ml[:, :-1])
    own_m = raw_ml[:, -1].astype(np.int64)
    chosen_m = np.full(len(own_m), UNPLACED, dtype=np.int64)
    added = 0.0
    for items, free_k, shared_k in crowd.prefixes(space.levels[-1]):
        who = np.arange(items.start, items.stop)
        elsewhere_m, room = np.zeros(len(who)), int(free_k.sum() + shared_k.sum())
        if len(who) > room:
            first_d, which_m = distinct(latent_mz[items])
            elsewhere_d = _elsewhere(space, latent_mz[items][first_d], raw_ml[items.start, :-1])
            # No more copies of a latent than there are codewords can stay.
            may = np.flatnonzero(place_among(which_m) < room)
            who, elsewhere_m = who[may], elsewhere_d[which_m[may]]
        costs = partial(space.last_costs, residual_mz[who])
        chosen_m[who], more = choose(costs, own_m[who], free_k, shared_k, elsewhere_m)
        added += more
    move = np.flatnonzero((chosen_m != own_m) & (chosen_m != UNPLACED))
    sid_ml = raw_ml[move].copy()
    sid_ml[:, -1] = chosen_m[move]
    placed.add(crowd.contested[move], raw_ml[move], sid_ml, added)
    out = np.flatnonzero(chosen_m == UNPLACED)
    return Leavers(crowd.contested[out], raw_ml[out])


def _elsewhere(
    space: Space, latent_mz: npt.NDArray[np.float32], own_d: Codes
) -> npt.NDArray[np.float64]:
    """Return what the nearest other prefix would cost each item, ``(m,)``."""
    if len(space.levels) == 1:
        return np.zeros(len(latent_mz))
    costs = []
    for _, prefix_mbd, cost_mb in nearest_prefixes(space, latent_mz, _GLANCE):
        cost_mb[(prefix_mbd == own_d).all(2)] = np.inf
        costs.append(cost_mb.min(1))
    cost_m = np.concatenate(costs)
    worst = cost_m[np.isfinite(cost_m)].max(initial=0.0)
    return np.where(np.isfinite(cost_m), cost_m, worst)
