"""Items whose prefix is full: the next-nearest prefixes that have room.

A beam search proposes prefixes to every item; deferred acceptance (Gale & Shapley, 1962) settles
who gets in where: every item in the nearest prefix that does not fill up with nearer ones. The
outcome does not depend on the order of the items. Shapes: m items, b prefixes of the beam, d their
depth, p prefixes of the table, z latent dims.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from semid.collisions.space import Integers, Matrix, Space

Prefixes = npt.NDArray[np.int32]

# Items that are searched for at a time, so that a level's scores take some 100 MB at most.
_SCORES = 1 << 23
NOWHERE = -1


def nearest_prefixes(
    space: Space, latent_mz: npt.NDArray[np.float32], beam: int
) -> Iterator[tuple[slice, Prefixes, Matrix]]:
    """Yield the `beam` nearest prefixes of items, some items at a time, nearest first.

    Yields
    ------
    items : which
    prefix_mbd : all levels but the last; fewer than `beam` where there are no more
    cost_mb : squared distance with the best codeword of the last level
    """
    widest = max(space.levels) * min(beam, max(space.levels, default=1))
    rows = max(_SCORES // max(widest * 2, latent_mz.shape[1] * beam), 1)
    for start in range(0, len(latent_mz), rows):
        items = slice(start, min(start + rows, len(latent_mz)))
        yield items, *_beam(space, latent_mz[items], beam)


def _beam(space: Space, latent_mz: npt.NDArray[np.float32], beam: int) -> tuple[Prefixes, Matrix]:
    m, z = latent_mz.shape
    residual_mbz: npt.NDArray[np.float64] = space.enter(latent_mz.astype(np.float64))[:, None]
    prefix_mbd = np.empty((m, 1, 0), np.int32)
    last = len(space.levels) - 1
    for level in range(last):
        b = residual_mbz.shape[1]
        codebook_kz = space.codebooks[level]
        cost_mc = space.costs(residual_mbz.reshape(-1, z), level).reshape(m, -1)
        best_mb: Integers = _least(cost_mc, beam)
        code_mb: Integers = best_mb % len(codebook_kz)
        parent_mb: Integers = (best_mb - code_mb) // len(codebook_kz)
        residual_mbz = np.take_along_axis(residual_mbz, parent_mb[..., None], 1)
        residual_mbz = residual_mbz - codebook_kz[code_mb]
        residual_mbz = space.enter(residual_mbz.reshape(-1, z)).reshape(m, -1, z)
        before_mbd = np.take_along_axis(prefix_mbd, parent_mb[..., None], 1) if b else prefix_mbd
        prefix_mbd = np.concatenate([before_mbd, code_mb[..., None].astype(np.int32)], 2)
    cost_mb = space.costs(residual_mbz.reshape(-1, z), last).min(1).reshape(m, -1)
    order_mb = np.argsort(cost_mb, axis=1, kind="stable")
    return (
        np.take_along_axis(prefix_mbd, order_mb[..., None], 1),
        np.take_along_axis(cost_mb, order_mb, 1),
    )


def _least(cost_mc: Matrix, count: int) -> Integers:
    """Return the places of the least costs of every row, ``(m, count)``, least first."""
    count = min(count, cost_mc.shape[1])
    found = np.argpartition(cost_mc, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(cost_mc, found, 1), axis=1, kind="stable")
    least: Integers = np.take_along_axis(found, order, 1)
    return least


def settle(wish_mb: Integers, cost_mb: Matrix, room_p: Integers) -> Integers:
    """Settle which item gets into which prefix, by deferred acceptance.

    Parameters
    ----------
    wish_mb : prefixes that each item may go to, nearest first; `NOWHERE` for none
    cost_mb : what each costs; among equals the item that stands first gets in
    room_p : how many items each prefix can take

    Returns
    -------
    prefix_m : where each item gets in, or `NOWHERE`
    """
    m, beam = wish_mb.shape
    next_m = np.zeros(m, dtype=np.int64)
    prefix_m = np.full(m, NOWHERE, dtype=np.int64)
    price_m = np.zeros(m)
    asking = np.arange(m)
    while len(asking):
        prefix_m[asking] = wish_mb[asking, next_m[asking]]
        price_m[asking] = cost_mb[asking, next_m[asking]]
        next_m[asking] += 1
        inside = np.flatnonzero(prefix_m != NOWHERE)
        order = inside[np.lexsort((inside, price_m[inside], prefix_m[inside]))]
        sorted_n = prefix_m[order]
        first_n = (
            np.flatnonzero(np.r_[True, sorted_n[1:] != sorted_n[:-1]]) if len(order) else order
        )
        rank_n = np.arange(len(order)) - np.repeat(first_n, np.diff(np.r_[first_n, len(order)]))
        out = order[rank_n >= room_p[sorted_n]]
        prefix_m[out] = NOWHERE
        asking = np.flatnonzero((prefix_m == NOWHERE) & (next_m < beam))
    return prefix_m
