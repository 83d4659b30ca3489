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

from semid.collisions.copies import place_among
from semid.collisions.space import Integers, Matrix, Space

Prefixes = npt.NDArray[np.int32]

# Costs that are at hand at a time: they, and what they are sorted by, take some 150 MB.
_SCORES = 1 << 23
NOWHERE = -1


def nearest_prefixes(
    space: Space, latent_mz: npt.NDArray[np.float32], beam: int
) -> Iterator[tuple[slice, Prefixes, Matrix]]:
    """Yield the `beam` nearest prefixes of items, some items at a time, nearest first.

    Besides what it yields it takes some 200 MB at most, whatever the levels, as long as a single
    item's `beam` times z numbers do not take more.

    Yields
    ------
    items : which
    prefix_mbd : all levels but the last; fewer than `beam` where there are no more
    cost_mb : squared distance with the best codeword of the last level
    """
    widest, width = 1, 1
    for size in space.levels:
        widest, width = max(widest, width * size), min(width * size, beam)
    rows = max(_SCORES // max(widest, 2 * latent_mz.shape[1] * beam), 1)
    for start in range(0, len(latent_mz), rows):
        items = slice(start, min(start + rows, len(latent_mz)))
        yield items, *_beam(space, latent_mz[items], beam)


def _beam(space: Space, latent_mz: npt.NDArray[np.float32], beam: int) -> tuple[Prefixes, Matrix]:
    m, z = latent_mz.shape
    residual_mbz: npt.NDArray[np.float64] = space.enter(latent_mz.astype(np.float64))[:, None]
    prefix_mbd = np.empty((m, 1, 0), np.int32)
    last = len(space.levels) - 1
    for level in range(last):
        codebook_kz = space.codebooks[level]
        best_mb = _nearest_children(space, residual_mbz, level, beam)
        code_mb: Integers = best_mb % len(codebook_kz)
        parent_mb: Integers = (best_mb - code_mb) // len(codebook_kz)
        residual_mbz = np.take_along_axis(residual_mbz, parent_mb[..., None], 1)
        residual_mbz = residual_mbz - codebook_kz[code_mb]
        residual_mbz = space.enter(residual_mbz.reshape(-1, z)).reshape(m, -1, z)
        before_mbd = np.take_along_axis(prefix_mbd, parent_mb[..., None], 1)
        prefix_mbd = np.concatenate([before_mbd, code_mb[..., None].astype(np.int32)], 2)
    some = [space.costs(part, last).min(1) for part in _parts(residual_mbz.reshape(-1, z), space)]
    cost_mb = np.concatenate(some).reshape(m, -1)
    order_mb = np.argsort(cost_mb, axis=1, kind="stable")
    return (
        np.take_along_axis(prefix_mbd, order_mb[..., None], 1),
        np.take_along_axis(cost_mb, order_mb, 1),
    )


def _parts(residual_nz: Matrix, space: Space) -> Iterator[Matrix]:
    """Cut residuals so that their costs at any level stay within `_SCORES`."""
    rows = max(_SCORES // max(space.levels), 1)
    for start in range(0, len(residual_nz), rows):
        yield residual_nz[start : start + rows]


def _nearest_children(
    space: Space, residual_mbz: npt.NDArray[np.float64], level: int, beam: int
) -> Integers:
    """Return the `beam` nearest children of all parents, least first: parent times k plus code."""
    m, b, z = residual_mbz.shape
    k = space.levels[level]
    if m > 1 or b * k <= _SCORES:
        cost_mc = space.costs(residual_mbz.reshape(-1, z), level).reshape(m, -1)
        return _least(cost_mc, beam)
    # One item whose children are too many to look at together: some parents at a time.
    cost_1c: Matrix = np.empty((1, 0))
    child_1c: Integers = np.empty((1, 0), dtype=np.int64)
    parent = 0
    for part_nz in _parts(residual_mbz[0], space):
        cost_1n = space.costs(part_nz, level).reshape(1, -1)
        child_1n = parent * k + _least(cost_1n, beam)
        cost_1n = np.take_along_axis(cost_1n, child_1n - parent * k, 1)
        cost_1c = np.concatenate([cost_1c, cost_1n], 1)
        child_1c = np.concatenate([child_1c, child_1n], 1)
        best_1b = _least(cost_1c, beam)
        cost_1c = np.take_along_axis(cost_1c, best_1b, 1)
        child_1c = np.take_along_axis(child_1c, best_1b, 1)
        parent += len(part_nz)
    return child_1c


def _least(cost_mc: Matrix, count: int) -> Integers:
    """Return the places of the least costs of every row, ``(m, count)``, least first."""
    count = min(count, cost_mc.shape[1])
    found = np.argpartition(cost_mc, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(cost_mc, found, 1), axis=1, kind="stable")
    least: Integers = np.take_along_axis(found, order, 1)
    return least


def settle(
    wish_db: npt.NDArray[np.integer],
    cost_db: npt.NDArray[np.floating],
    room_p: Integers,
    which_m: Integers | None = None,
) -> Integers:
    """Settle which item gets into which prefix, by deferred acceptance.

    Parameters
    ----------
    wish_db : prefixes that items may go to, nearest first; `NOWHERE` for none
    cost_db : what each costs; among equals those that stand first get in
    room_p : how many items each prefix can take
    which_m : the row of wishes of every item, which copies share; each has its own when not given

    Returns
    -------
    prefix_m : where each item gets in, or `NOWHERE`
    """
    if which_m is None:
        which_m = np.arange(len(wish_db))
    # How many items of a row of wishes are in the prefix of its wish: held ones, then asking ones.
    row_n, wish_n, count_n = (np.empty(0, dtype=np.int64) for _ in range(3))
    row_a = np.arange(len(wish_db))
    wish_a, count_a = np.zeros_like(row_a), np.bincount(which_m, minlength=len(wish_db))
    while len(row_a):
        row_n, wish_n, count_n = (
            np.concatenate(both) for both in ((row_n, row_a), (wish_n, wish_a), (count_n, count_a))
        )
        in_n = _admitted(wish_db[row_n, wish_n], cost_db[row_n, wish_n], row_n, count_n, room_p)
        out_n = count_n - in_n
        again = np.flatnonzero((out_n > 0) & (wish_n + 1 < wish_db.shape[1]))
        row_a, wish_a, count_a = row_n[again], wish_n[again] + 1, out_n[again]
        stay = np.flatnonzero(in_n)
        row_n, wish_n, count_n = row_n[stay], wish_n[stay], in_n[stay]
    # Of copies the first get in where it is nearest.
    order = np.lexsort((wish_n, row_n))
    row_n, wish_n, count_n = row_n[order], wish_n[order], count_n[order]
    given = np.repeat(wish_db[row_n, wish_n], count_n).astype(np.int64)
    given_d = np.bincount(row_n, weights=count_n, minlength=len(wish_db)).astype(np.int64)
    place_m = place_among(which_m)
    prefix_m = np.full(len(which_m), NOWHERE, dtype=np.int64)
    lucky = np.flatnonzero(place_m < given_d[which_m])
    starts_d = np.cumsum(given_d) - given_d
    prefix_m[lucky] = given[starts_d[which_m[lucky]] + place_m[lucky]]
    return prefix_m


def _admitted(
    prefix_n: npt.NDArray[np.integer],
    cost_n: npt.NDArray[np.floating],
    row_n: Integers,
    count_n: Integers,
    room_p: Integers,
) -> Integers:
    """Tell how many of each get into their prefix: the cheapest, as far as there is room."""
    in_n = np.zeros_like(count_n)
    inside = np.flatnonzero(prefix_n != NOWHERE)
    order = inside[np.lexsort((row_n[inside], cost_n[inside], prefix_n[inside]))]
    sorted_s, count_s = prefix_n[order], count_n[order]
    before_s = np.cumsum(count_s) - count_s
    starts_s = np.ones(len(order), dtype=np.bool_)
    starts_s[1:] = sorted_s[1:] != sorted_s[:-1]
    first_s = np.flatnonzero(starts_s)
    before_s -= np.repeat(before_s[first_s], np.diff(np.r_[first_s, len(order)]))
    in_n[order] = np.clip(room_p[sorted_s] - before_s, 0, count_s)
    return in_n
