"""Items whose prefix is full find another: what is proposed to them, and what they get there.

Copies of a latent are searched for once and settled together; what is proposed lies on disk.
Shapes: u items that leave, d distinct latents of theirs, b prefixes proposed, z latent dims, l
levels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.collisions.copies import distinct
from semid.collisions.crowds import Prefixes
from semid.collisions.moves import Codes, Latents, Leavers, Placed
from semid.collisions.space import Integers, Space
from semid.collisions.spill import NOWHERE, nearest_prefixes, settle
from semid.collisions.within import place

# Prefixes that a beam offers to items whose own is full; the next width is for those left over. The
# last is for thousands of copies: only where there are no more distinct latents than `MOST_WIDE`.
BEAMS = (32, 256, 2_048, 16_384)
MOST_WIDE = 256


def leave(
    left: Leavers,
    ranked: Path,
    space: Space,
    latents: Latents,
    placed: Placed,
    folder: Path,
    note: Callable[[str], object],
) -> Leavers:
    """Place items outside their prefix; return those that find no room in any they reach.

    Parameters
    ----------
    ranked : what `semid.collisions.crowds.rank` wrote
    latents : of the items, among others
    placed : what was given away before; what is given here is added
    folder : for what is proposed
    note : shows how far the search is
    """
    if len(space.levels) == 1:
        return left
    table = Prefixes(ranked, space.levels)
    most = int(np.prod([float(size) for size in space.levels[:-1]]).clip(max=2**31))
    for beam in BEAMS:
        if not len(left.row_u):
            break
        latent_uz = latents.of(left.row_u)
        first_d, which_u = distinct(latent_uz)
        if beam == BEAMS[-1] and len(first_d) > MOST_WIDE:
            break
        wish_db, cost_db = _wishes(latent_uz[first_d], table, space, min(beam, most), folder, note)
        prefix_u = settle(wish_db, cost_db, table.room_p, which_u)
        _fill(left, prefix_u, latent_uz, table, space, placed)
        left = left.take(np.flatnonzero(prefix_u == NOWHERE))
    return left


def _wishes(
    latent_dz: npt.NDArray[np.float32],
    table: Prefixes,
    space: Space,
    beam: int,
    folder: Path,
    note: Callable[[str], object],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the prefixes with room that are nearest to latents and their costs, ``(d, b)``."""
    shape = len(latent_dz), beam
    wish_db, cost_db = (
        np.lib.format.open_memmap(folder / name, mode="w+", dtype=dtype, shape=shape)
        for name, dtype in (("wishes.npy", np.int32), ("wish_costs.npy", np.float64))
    )
    for some, prefix_mbd, cost_mb in nearest_prefixes(space, latent_dz, beam):
        number_n = table.number(prefix_mbd.reshape(-1, prefix_mbd.shape[2]))
        number_n[table.room_p[number_n] == 0] = NOWHERE
        wish_db[some], cost_db[some] = number_n.reshape(cost_mb.shape), cost_mb
        note(f"{some.stop:,} of {len(latent_dz):,} look beyond their prefix")
    return wish_db, cost_db


def _fill(
    left: Leavers,
    prefix_u: Integers,
    latent_uz: npt.NDArray[np.float32],
    table: Prefixes,
    space: Space,
    placed: Placed,
) -> None:
    """Give the items that got into a prefix their codewords there."""
    found = np.flatnonzero(prefix_u != NOWHERE)
    order = found[np.argsort(prefix_u[found], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(prefix_u[order])) + 1) if len(order) else []
    numbers = [int(prefix_u[items[0]]) for items in groups]
    _, _, moved_ml = placed.sorted(len(space.levels))
    for number, who, used_k in zip(numbers, groups, table.used(numbers, moved_ml), strict=True):
        _enter(left.take(who), latent_uz[who], table.codes(number), ~used_k, space, placed)
        table.room_p[number] -= len(who)


def _enter(
    new: Leavers,
    latent_mz: npt.NDArray[np.float32],
    prefix_d: Codes,
    free_k: npt.NDArray[np.bool_],
    space: Space,
    placed: Placed,
) -> None:
    """Place items in a prefix that is not their own."""
    codes_md = np.repeat(prefix_d[None], len(latent_mz), 0)
    costs = partial(space.last_costs, space.residual(latent_mz, codes_md))
    chosen_m, after = place(costs, len(latent_mz), free_k)
    before = float(space.error(latent_mz, new.raw_ul).sum())
    sid_ml = np.concatenate([codes_md, chosen_m[:, None].astype(np.int32)], 1)
    placed.add(new.row_u, new.raw_ul, sid_ml, after - before)
