"""What a training step gets: a batch of rows, neighbours side by side; under contrast, partners.

Shapes: n rows of a batch, d dims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid.contrast import Pairs
from semid.cooccurrence import Partners
from semid.errors import SemidError
from semid.neighbours import near_rows, pair_up, side_by_side_order
from semid.streams import prefetch
from semid.training_data import ArrayData, TrainingData

Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]

# Near rows that each row may be put beside; several, as every epoch pairs differently.
NEAR = 10
# Rows of a stream among which neighbours are looked for, about.
BLOCK_ROWS = 65_536


class Batch(NamedTuple):
    """Training rows on the device.

    x_nd : embeddings
    row_n : which training rows they are; None of a stream
    mate_n : place in the batch of a row near each, its own where there is none; None where none
        are looked for
    """

    x_nd: Tensor
    row_n: Rows | None = None
    mate_n: Tensor | None = None

    def part(self, start: int, stop: int) -> Batch:
        """Return some of the rows; those whose mate is left behind are their own."""
        x_nd = self.x_nd[start:stop]
        row_n = None if self.row_n is None else self.row_n[start:stop]
        if self.mate_n is None:
            return Batch(x_nd, row_n)
        mate_n = self.mate_n[start:stop] - start
        own_n = torch.arange(len(mate_n), device=mate_n.device)
        there_n = (mate_n >= 0) & (mate_n < len(mate_n))
        return Batch(x_nd, row_n, torch.where(there_n, mate_n, own_n))


@dataclass
class Feed:
    """Hands out training rows on a device.

    Rows that fit are kept in GPU memory. Whatever is drawn is drawn from the seeds given alone.

    Parameters
    ----------
    partners : of the contrast
    neighbours : how rows are seen when every one is put beside one near to it, each epoch another;
        None where that is not wanted
    seed : of the search for near rows

    Raises
    ------
    SemidError
        When partners are wanted of rows that are streamed.
    """

    data: TrainingData
    device: torch.device
    batch_size: int
    partners: Partners | None = None
    neighbours: Callable[[Matrix], Matrix] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.partners is not None and not isinstance(self.data, ArrayData):
            raise SemidError(
                "contrast looks up partners, for which the embeddings must be in memory; "
                "raise memory_gib to more than twice their size"
            )

    @cached_property
    def _resident(self) -> Tensor | None:
        """The training rows in GPU memory, when half of what is free holds them."""
        if self.device.type != "cuda" or not isinstance(self.data, ArrayData):
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        rows_nd = self.data.train_nd
        return torch.from_numpy(rows_nd).to(self.device) if 2 * rows_nd.nbytes < free else None

    @cached_property
    def _near(self) -> Rows:
        assert isinstance(self.data, ArrayData)
        assert self.neighbours is not None
        return near_rows(self.neighbours(self.data.train_nd), NEAR, seed=self.seed)

    def epoch(self, seed: int) -> Iterator[Batch]:
        """Yield an epoch in batches."""
        if not isinstance(self.data, ArrayData):
            yield from self._streamed(seed)
            return
        mate_n = None
        if self.neighbours is not None:
            order_n, mate_n = _beside(self._near, seed)
        else:
            order_n = self.data.order(seed)
        for start, stop in self._cuts(len(order_n)):
            row_b = order_n[start:stop]
            yield self._batch(self._take(row_b), row_b, mate_n, start, stop)

    def _streamed(self, seed: int) -> Iterator[Batch]:
        if self.neighbours is None:
            for x_bd in self.data.batches(self.batch_size, seed=seed):
                yield Batch(torch.from_numpy(x_bd).to(self.device))
            return
        # Whole batches, so that only the last of an epoch is smaller.
        block_rows = max(BLOCK_ROWS // self.batch_size, 1) * self.batch_size
        blocks = self.data.batches(block_rows, seed=seed)
        seen = self.neighbours
        found = ((x_nd, near_rows(seen(x_nd), NEAR, seed=self.seed)) for x_nd in blocks)
        for place, (x_nd, near_nk) in enumerate(prefetch(found)):
            order_n, mate_n = _beside(near_nk, seed + place)
            for start, stop in self._cuts(len(order_n)):
                rows_nd = torch.from_numpy(x_nd[order_n[start:stop]]).to(self.device)
                yield self._batch(rows_nd, None, mate_n, start, stop)

    def _cuts(self, rows: int) -> Iterator[tuple[int, int]]:
        for start in range(0, rows, self.batch_size):
            yield start, min(start + self.batch_size, rows)

    def _batch(
        self, rows_nd: Tensor, row_b: Rows | None, mate_n: Rows | None, start: int, stop: int
    ) -> Batch:
        if mate_n is None:
            return Batch(rows_nd, row_b)
        mate_b = torch.from_numpy(mate_n[start:stop] - start).to(self.device)
        return Batch(rows_nd, row_b, mate_b).part(0, stop - start)

    def _take(self, row_b: Rows) -> Tensor:
        if self._resident is not None:
            return self._resident[torch.from_numpy(row_b).to(self.device)]
        assert isinstance(self.data, ArrayData)
        return torch.from_numpy(self.data.train_nd[row_b]).to(self.device)

    def pairs(self, row_n: Rows | None, seed: tuple[int, ...]) -> Pairs | None:
        """Draw a partner, not standardised yet, for each of the rows that has any."""
        if self.partners is None:
            return None
        assert row_n is not None
        place_m = np.flatnonzero(self.partners.has_n[row_n])
        partner_m = self.partners.draw(row_n[place_m], seed)
        indices = (place_m, row_n[place_m], partner_m)
        place, item, partner = (torch.from_numpy(index).to(self.device) for index in indices)
        return Pairs(place, self._take(partner_m), item, partner)


def _beside(near_nk: Rows, seed: int) -> tuple[Rows, Rows]:
    return side_by_side_order(pair_up(near_nk, seed=seed), seed=seed)
