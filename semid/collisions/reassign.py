"""Every item a SID of its own without another level: free codewords at the least cost.

Items keep their raw SIDs where they can. Within a prefix (all levels but the last) the others get
the free codewords that cost least, exactly; where a prefix has more items than codewords, some
leave for the next-nearest prefixes. As conflict-free reassignment in arXiv 2605.25330 and
2509.16446, which move greedily. Shapes: m items, z latent dims, l levels, k codewords, p prefixes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from semid.collisions.crowds import Crowd, Prefixes, crowds
from semid.collisions.space import Integers, Matrix, Space
from semid.collisions.spill import NOWHERE, nearest_prefixes, settle
from semid.collisions.within import UNPLACED, choose, place

# Prefixes that a beam offers to items whose own is full; the next width is for those left over.
BEAMS = (32, 256, 2_048)
# To tell who should leave a full prefix, what leaving would cost is read off a narrow beam.
_GLANCE = 4

Codes = npt.NDArray[np.int32]
Told = Callable[[int], object]


@dataclass(frozen=True)
class Leavers:
    """Items that have to leave their prefix, or found no place: by raw SID, then by id.

    row_u : their rows
    raw_ul : their raw SIDs
    """

    row_u: Integers
    raw_ul: Codes

    def take(self, places: npt.NDArray[Any]) -> Leavers:
        """Return some of them."""
        return Leavers(self.row_u[places], self.raw_ul[places])


@dataclass(frozen=True)
class Moves:
    """SIDs other than the raw ones.

    row_m : rows of the table, ascending
    sid_ml : their SIDs, without a suffix
    unplaced : items that no free SID was found for
    facts : what the reassignment did, for the report
    """

    row_m: Integers
    sid_ml: Codes
    unplaced: Leavers
    facts: dict[str, Any]


@dataclass
class _Placed:
    """What has been given away so far."""

    rows: list[Integers] = field(default_factory=list)
    sids: list[Codes] = field(default_factory=list)
    raws: list[Codes] = field(default_factory=list)
    added: float = 0.0

    def add(self, row_m: Integers, raw_ml: Codes, sid_ml: Codes, added: float) -> None:
        self.rows.append(row_m)
        self.raws.append(raw_ml)
        self.sids.append(sid_ml)
        self.added += added


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
    folder : for the latents of the items that share their SIDs, 4 z bytes each
    progress : opens a bar of a name and a total
    """
    contested_m = np.sort(
        np.concatenate([crowd.contested for crowd in crowds(ranked, space.levels)])
    )
    latents = Latents(space, contested_m, folder, progress)
    placed, leavers, alike = _Placed(), [], 0
    # One thread: products of a few rows each, and the same bits whatever the machine's threads.
    with progress("reassign", len(contested_m)) as shown, threadpool_limits(1):
        for crowd in crowds(ranked, space.levels):
            latent_mz = latents.of(crowd.contested)
            alike += _alike(latent_mz, crowd)
            leavers.append(_within(crowd, latent_mz, space, placed))
            shown.update(len(crowd.contested))
        left = Leavers(
            np.concatenate([some.row_u for some in leavers]),
            np.concatenate([some.raw_ul for some in leavers]),
        )
        spilled = len(left.row_u)
        if spilled:
            left = _spill(left, ranked, space, latents, placed, shown.set_postfix_str)
    moved_m, raw_ml, sid_ml = _sorted(placed, len(space.levels))
    changed_l = first_changes(raw_ml, sid_ml)
    facts = {
        "moved": len(moved_m),
        "moved_at_level": changed_l,
        "left_full_prefixes": spilled,
        "unplaced": len(left.row_u),
        "added_squared_error": placed.added,
        "indistinguishable": alike,
    }
    return Moves(moved_m, sid_ml, left, facts)


class Latents:
    """The latents of some rows, on disk, looked up by row."""

    def __init__(
        self,
        space: Space,
        row_m: Integers,
        folder: Path,
        progress: Callable[[str, int], AbstractContextManager[Any]],
    ) -> None:
        self._row_m = row_m
        shape = (len(row_m), space.codebooks[0].shape[1])
        self._latent_mz = np.lib.format.open_memmap(
            folder / "latents.npy", mode="w+", dtype=np.float32, shape=shape
        )
        start = 0
        with progress("latents", len(row_m)) as shown:
            for latent_bz in space.latents(row_m):
                self._latent_mz[start : start + len(latent_bz)] = latent_bz
                start += len(latent_bz)
                shown.update(len(latent_bz))

    def of(self, row_m: Integers) -> npt.NDArray[np.float32]:
        """Return the latents of some of the rows, ``(m, z)``."""
        found: npt.NDArray[np.float32] = self._latent_mz[np.searchsorted(self._row_m, row_m)]
        return found


def _within(
    crowd: Crowd, latent_mz: npt.NDArray[np.float32], space: Space, placed: _Placed
) -> Leavers:
    """Place the contested items of some prefixes inside these; return who has to leave."""
    raw_ml = crowd.raw_ml
    residual_mz = space.residual(latent_mz, raw_ml[:, :-1])
    own_m = raw_ml[:, -1].astype(np.int64)
    chosen_m = np.empty(len(own_m), dtype=np.int64)
    added = 0.0
    for items, free_k, shared_k in crowd.prefixes(space.levels[-1]):
        here_mz = residual_mz[items]
        elsewhere_m = np.zeros(len(here_mz))
        if len(here_mz) > free_k.sum() + shared_k.sum():
            elsewhere_m = _elsewhere(space, latent_mz[items], raw_ml[items.start, :-1])
        costs = partial(_costs, space, here_mz)
        chosen_m[items], more = choose(costs, own_m[items], free_k, shared_k, elsewhere_m)
        added += more
    move = np.flatnonzero((chosen_m != own_m) & (chosen_m != UNPLACED))
    sid_ml = raw_ml[move].copy()
    sid_ml[:, -1] = chosen_m[move]
    placed.add(crowd.contested[move], raw_ml[move], sid_ml, added)
    leave = np.flatnonzero(chosen_m == UNPLACED)
    return Leavers(crowd.contested[leave], raw_ml[leave])


def _costs(space: Space, residual_mz: Matrix, items: slice) -> Matrix:
    return space.costs(residual_mz[items], len(space.levels) - 1)


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


def _alike(latent_mz: npt.NDArray[np.float32], crowd: Crowd) -> int:
    """Count the items that another of the same raw SID equals in every bit of its latent."""
    weight_z = np.random.default_rng(0).integers(1, 2**63, latent_mz.shape[1], dtype=np.uint64) | 1
    mixed_m = (latent_mz.view(np.uint32).astype(np.uint64) * weight_z).sum(1)
    order = np.lexsort((mixed_m, crowd.sid_number))
    same = (np.diff(crowd.sid_number[order]) == 0) & (np.diff(mixed_m[order]) == 0)
    return int((np.r_[same, False] | np.r_[False, same]).sum())


def _spill(
    left: Leavers,
    ranked: Path,
    space: Space,
    latents: Latents,
    placed: _Placed,
    note: Callable[[str], object],
) -> Leavers:
    """Place items outside their prefix; return those that find no room in any they reach."""
    if len(space.levels) == 1:
        return left
    table = Prefixes(ranked, space.levels)
    most = int(np.prod([float(size) for size in space.levels[:-1]]).clip(max=2**31))
    for beam in BEAMS:
        if not len(left.row_u):
            break
        left = _spill_once(left, table, space, latents, placed, min(beam, most), note)
    return left


def _spill_once(
    left: Leavers,
    table: Prefixes,
    space: Space,
    latents: Latents,
    placed: _Placed,
    beam: int,
    note: Callable[[str], object],
) -> Leavers:
    latent_uz = latents.of(left.row_u)
    wishes, costs = [], []
    for items, prefix_mbd, cost_mb in nearest_prefixes(space, latent_uz, beam):
        note(f"{items.stop:,} of {len(left.row_u):,} look beyond their prefix")
        wishes.append(
            table.number(prefix_mbd.reshape(-1, prefix_mbd.shape[2])).reshape(cost_mb.shape)
        )
        costs.append(cost_mb)
    wish_ub = np.concatenate(wishes)
    wish_ub[table.room_p[wish_ub] == 0] = NOWHERE
    prefix_u = settle(wish_ub, np.concatenate(costs), table.room_p)
    found = np.flatnonzero(prefix_u != NOWHERE)
    order = found[np.argsort(prefix_u[found], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(prefix_u[order])) + 1) if len(order) else []
    numbers = [int(prefix_u[items[0]]) for items in groups]
    _, _, moved_ml = _sorted(placed, len(space.levels))
    for number, who, used_k in zip(numbers, groups, table.used(numbers, moved_ml), strict=True):
        _enter(left.take(who), latent_uz[who], table.codes(number), ~used_k, space, placed)
        table.room_p[number] -= len(who)
    return left.take(np.flatnonzero(prefix_u == NOWHERE))


def _enter(
    new: Leavers,
    latent_mz: npt.NDArray[np.float32],
    prefix_d: Codes,
    free_k: npt.NDArray[np.bool_],
    space: Space,
    placed: _Placed,
) -> None:
    """Place items in a prefix that is not their own."""
    codes_md = np.repeat(prefix_d[None], len(latent_mz), 0)
    costs = partial(_costs, space, space.residual(latent_mz, codes_md))
    chosen_m, after = place(costs, len(latent_mz), free_k)
    before = float(space.error(latent_mz, new.raw_ul).sum())
    sid_ml = np.concatenate([codes_md, chosen_m[:, None].astype(np.int32)], 1)
    placed.add(new.row_u, new.raw_ul, sid_ml, after - before)


def _sorted(placed: _Placed, levels: int) -> tuple[Integers, Codes, Codes]:
    row_m = np.concatenate([np.empty(0, np.int64), *placed.rows])
    none = np.empty((0, levels), np.int32)
    raw_ml, sid_ml = np.concatenate([none, *placed.raws]), np.concatenate([none, *placed.sids])
    order = np.argsort(row_m)
    return row_m[order], raw_ml[order], sid_ml[order]


def first_changes(raw_ml: Codes, sid_ml: Codes) -> list[int]:
    """Count the items by the first level at which they moved."""
    first_m = (raw_ml != sid_ml).argmax(1)
    counted: list[int] = np.bincount(first_m, minlength=raw_ml.shape[1]).tolist()
    return counted
