"""Retired rows on the night that their table goes on: who comes back, which SIDs are held.

A SID may be given away once its days are over; who had it is known until it is. Shapes: g retired
rows, f of them free ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow, to_numpy
from semid.id_columns import SID, code_matrix
from semid.sid_sets import SidSet
from semid.streams import Batches
from semid.tombstones import REASON, RETIRED_AT

Mask = npt.NDArray[np.bool_]


class Graves:
    """The retired rows of a table; 10 bytes of memory for each.

    Parameters
    ----------
    rows : streams them, alike every time
    now : with a time zone
    reclaim_after : days after which a SID is free again; None for never
    """

    def __init__(self, rows: Batches, *, now: datetime, reclaim_after: float | None) -> None:
        self.rows = rows
        times = [to_numpy(batch.column(RETIRED_AT).cast(pa.int64())) for batch in rows()]
        self._at_g = np.concatenate([np.empty(0, np.int64), *times])
        self._held_g = np.ones(len(self._at_g), np.bool_)
        if reclaim_after is not None:
            kind = pa.timestamp("us", tz="UTC")
            limit = pa.scalar(now - timedelta(days=reclaim_after), kind).cast(pa.int64())
            self._held_g = self._at_g > limit.as_py()
        self._stays_g = np.ones(len(self._at_g), np.bool_)
        self._back_g = ~self._stays_g

    def bring_back(self, place_b: npt.NDArray[np.int64]) -> None:
        """Take the rows at some places out: they are rows of the table again."""
        self._back_g[place_b], self._stays_g[place_b] = True, False

    def revived(self) -> Iterator[pa.RecordBatch]:
        """Stream those that came back, as rows of the table."""
        for batch in self._picked(self._back_g):
            yield batch.select([n for n in batch.schema.names if n not in (RETIRED_AT, REASON)])

    def held(self) -> Iterator[pa.RecordBatch]:
        """Stream those whose SIDs may not be given away."""
        return self._picked(self._held_g & self._stays_g)

    def count_held(self) -> int:
        """Return how many those are."""
        return int((self._held_g & self._stays_g).sum())

    def passing(self, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass rows on that got SIDs, noting which of the free ones these are."""
        free_g = ~self._held_g & self._stays_g
        place_f = np.flatnonzero(free_g)
        free = SidSet(code_matrix(b.column(SID), SID) for b in self._picked(free_g))
        for batch in rows:
            if len(place_f):
                taken_n = free.places(code_matrix(batch.column(SID), SID))
                self._stays_g[place_f[taken_n[taken_n >= 0]]] = False
            yield batch

    def remaining(self, most: int) -> Iterator[pa.RecordBatch]:
        """Stream those that stay; of free ones whose SID nobody took, the `most` that left last.

        `passing` must have been read to its end.
        """
        free = np.flatnonzero(~self._held_g & self._stays_g)
        if len(free) > most:
            oldest = np.argsort(self._at_g[free], kind="stable")[: len(free) - most]
            self._stays_g[free[oldest]] = False
        yield from self._picked(self._stays_g)

    def _picked(self, wanted_g: Mask) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in self.rows() if wanted_g.any() else ():
            here = np.flatnonzero(wanted_g[row : row + len(batch)])
            row += len(batch)
            if len(here):
                yield batch if len(here) == len(batch) else batch.take(to_arrow(here))
