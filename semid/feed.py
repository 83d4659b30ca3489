"""What a training step gets: a batch of rows and, under contrast, partners for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid.contrast import Pairs
from semid.cooccurrence import Partners
from semid.errors import SemidError
from semid.training_data import ArrayData, TrainingData

Rows = npt.NDArray[np.int64]


@dataclass
class Feed:
    """Hands out training rows on a device.

    Rows that fit are kept in GPU memory. Whatever is drawn is drawn from the seeds given alone.

    Raises
    ------
    SemidError
        When partners are wanted of rows that are streamed.
    """

    data: TrainingData
    device: torch.device
    batch_size: int
    partners: Partners | None = None

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

    def epoch(self, seed: int) -> Iterator[tuple[Tensor, Rows | None]]:
        """Yield an epoch in batches, with the numbers of their rows where the rows have some."""
        if not isinstance(self.data, ArrayData):
            for rows_nd in self.data.batches(self.batch_size, seed=seed):
                yield torch.from_numpy(rows_nd).to(self.device), None
            return
        order_n = self.data.order(seed)
        for start in range(0, len(order_n), self.batch_size):
            row_b = order_n[start : start + self.batch_size]
            yield self._take(row_b), row_b

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
