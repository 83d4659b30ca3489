"""Codes for blocks of rows, on as many threads as ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from semid.projection import Projection
from semid.quantization import Level, Search, search


class Network(Protocol):
    """What a kind of quantizer brings: a way into latent space, codebooks, and a way back."""

    @property
    def search_levels(self) -> list[Level]:
        """The levels of codes; none for a network without."""
        ...

    def projection(self, rows: int) -> Projection:
        """Return what encodes blocks of `rows` embeddings, with buffers of its own."""
        ...

    def project(self, x_nd: Tensor) -> Tensor:
        """Encode embeddings ``(n, d)`` to latents ``(n, z)``, differentiably."""
        ...

    def reconstruct(self, latent_nz: Tensor) -> Tensor:
        """Decode latents ``(n, z)`` to embeddings ``(n, d)``."""
        ...


class BlockSearch:
    """Finds codes in the precision of a network, always for `rows` rows at once.

    Every thread that calls it at the same time has a projection of its own.
    """

    def __init__(self, network: Network, rows: int) -> None:
        self.network, self.rows = network, rows
        self.levels = [level.frozen() for level in network.search_levels]
        self._idle: list[Projection] = []

    @torch.inference_mode()
    def __call__(self, x_bd: npt.NDArray[Any]) -> Search:
        """Search the codes of at most `rows` embeddings ``(b, d)``."""
        with self._projection() as project:
            found = search(project(x_bd), self.levels)
        return Search(*(part[: len(x_bd)] for part in found))

    @torch.inference_mode()
    def latents(self, x_bd: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the latents ``(b, z)`` of at most `rows` embeddings ``(b, d)``."""
        with self._projection() as project:
            return project(x_bd)[: len(x_bd)].cpu().numpy().copy()

    @contextmanager
    def _projection(self) -> Iterator[Projection]:
        try:
            projection = self._idle.pop()
        except IndexError:
            projection = self.network.projection(self.rows)
        yield projection
        self._idle.append(projection)
