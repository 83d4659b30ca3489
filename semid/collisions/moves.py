"""What a policy moved, and the latents that it goes by.

Shapes: m items, z latent dims, l levels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.collisions.space import Integers, Space

Codes = npt.NDArray[np.int32]


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
class Placed:
    """What has been given away so far."""

    rows: list[Integers] = field(default_factory=list)
    sids: list[Codes] = field(default_factory=list)
    raws: list[Codes] = field(default_factory=list)
    added: float = 0.0

    def add(self, row_m: Integers, raw_ml: Codes, sid_ml: Codes, added: float) -> None:
        """Note SIDs other than the raw ones, and what the squared error grew by."""
        self.rows.append(row_m)
        self.raws.append(raw_ml)
        self.sids.append(sid_ml)
        self.added += added

    def sorted(self, levels: int) -> tuple[Integers, Codes, Codes]:
        """Return rows, raw SIDs and SIDs, by row."""
        row_m = np.concatenate([np.empty(0, np.int64), *self.rows])
        none = np.empty((0, levels), np.int32)
        raw_ml, sid_ml = np.concatenate([none, *self.raws]), np.concatenate([none, *self.sids])
        order = np.argsort(row_m)
        return row_m[order], raw_ml[order], sid_ml[order]


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


def first_changes(raw_ml: Codes, sid_ml: Codes) -> list[int]:
    """Count the items by the first level at which they moved."""
    first_m = (raw_ml != sid_ml).argmax(1)
    counted: list[int] = np.bincount(first_m, minlength=raw_ml.shape[1]).tolist()
    return counted
