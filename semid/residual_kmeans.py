"""The baselines: k-means per level on the residuals of the level before, by FAISS.

RQ-KMeans and flat k-means quantise the embeddings, or their principal components. Product
quantisation (Jégou, Douze & Schmid, 2011) is the same with codewords that are zero outside the dims
of their level; optimised product quantisation (Ge et al., 2013) turns the space first. So one
search, one way back and one format serve them all. Shapes: n items, d input dims, z latent dims,
k codewords.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from semid.balancing import balance
from semid.codebooks import ResidualCodebooks
from semid.errors import SemidError
from semid.fit_config import KMeansConfig
from semid.kmeans import kmeans, opq_rotation
from semid.model_config import CodebookConfig
from semid.principal import principal_components
from semid.projection import NoProjection, Projection
from semid.quantization import Level, nearest, product

_PRODUCT = ("pq", "opq")


class ResidualKMeans(nn.Module):
    """Codebooks by k-means over embeddings ``(n, d)``, or over a linear map of them.

    Parameters
    ----------
    kind : one of `semid.fit_config.BASELINES`
    width : d
    levels : codewords per level
    config : how they are fitted

    Attributes
    ----------
    trained : whether map and codebooks are those of a model; a fit keeps the map and starts k-means
        from the codebooks

    Raises
    ------
    SemidError
        When product quantisation has more levels than dims.
    """

    mean: Tensor
    map: Tensor

    def __init__(
        self, kind: str, *, width: int, levels: Sequence[int], config: KMeansConfig
    ) -> None:
        super().__init__()
        if kind in _PRODUCT and len(levels) > width:
            raise SemidError(
                f"{len(levels)} levels are more than the {width} dimensions of the embeddings, but "
                f"{kind} gives every level dimensions of its own; use fewer --levels"
            )
        self.kind, self.config, self.trained = kind, config, False
        latent_dim = min(config.pca, width) or width
        if kind == "opq":  # whose levels are all of one width
            latent_dim = -(-width // len(levels)) * len(levels)
        self.spans = [slice(0, latent_dim)] * len(levels)
        if kind in _PRODUCT:
            sizes = [len(part) for part in np.array_split(range(latent_dim), len(levels))]
            self.spans = [slice(*ends) for ends in pairwise(accumulate(sizes, initial=0))]
        self.is_mapped = kind == "opq" or config.pca > 0
        if self.is_mapped:
            self.register_buffer("mean", torch.zeros(width))
            # Its transpose is the way back: its rows or its columns are orthonormal.
            self.register_buffer("map", torch.zeros(latent_dim, width))
        priced = CodebookConfig(balance=float(config.size_limit > 0))
        self.codes = ResidualCodebooks(levels, latent_dim, priced)

    @property
    def codebooks(self) -> list[Tensor]:
        """One codebook ``(k, z)`` per level."""
        return self.codes.codebooks

    @property
    def search_levels(self) -> list[Level]:
        """The levels as the search takes them."""
        return self.codes.search_levels

    def project(self, x_nd: Tensor) -> Tensor:
        """Return the latents ``(n, z)`` of embeddings ``(n, d)``: these, without a map."""
        if not self.is_mapped:
            return x_nd
        return product(self.map.new_zeros(len(self.map)), x_nd - self.mean, self.map)

    def projection(self, rows: int) -> Projection:
        """Return what takes blocks of `rows` embeddings to latents."""
        width = self.map.shape[1] if self.is_mapped else self.codebooks[0].shape[1]
        block = NoProjection(self.codebooks[0].new_zeros(rows, width))
        return lambda x_bd: self.project(block(x_bd))

    def reconstruct(self, latent_nz: Tensor) -> Tensor:
        """Return the embeddings ``(n, d)`` of latents ``(n, z)``."""
        return product(self.mean, latent_nz, self.map.T) if self.is_mapped else latent_nz

    @torch.no_grad()
    def initialise(
        self, sample_nd: Tensor, *, seed: int, on_level: Callable[[int], object] = lambda _: None
    ) -> None:
        """Fit the map and the codebooks to a sample of the catalog; there is nothing to train.

        `on_level` hears how many levels are done after each.
        """
        if self.is_mapped and not self.trained:
            self.mean.copy_(sample_nd.mean(0))
            self.map.copy_(self._fit_map(sample_nd - self.mean, seed))
        residual_nz = self.project(sample_nd).clone()
        for number, span in enumerate(self.spans):
            self._start(number, residual_nz[:, span], seed=(seed + number) % 2**31)
            level = self.search_levels[number]
            residual_nz -= level.codebook_kz[nearest(residual_nz, level)]
            on_level(number + 1)
        self.trained = True

    def _fit_map(self, centred_nd: Tensor, seed: int) -> Tensor:
        if self.kind != "opq":
            return principal_components(centred_nd, len(self.map))
        rows_nd, levels = centred_nd.numpy(), self.codes.levels
        return torch.from_numpy(opq_rotation(rows_nd, len(levels), max(levels), seed=seed))

    def _start(self, number: int, rows_nz: Tensor, *, seed: int) -> None:
        """Fit the codebook of a level to those dims of the residuals that are its own."""
        config, own_kz = self.config, self.codebooks[number][:, self.spans[number]]
        found_kz = torch.from_numpy(
            kmeans(
                rows_nz.numpy(),
                self.codes.levels[number],
                seed=seed,
                iterations=config.iterations,
                library=config.library,
                init=own_kz.numpy() if self.trained else config.init,
            )
        )
        if config.size_limit:
            found_kz, offset_k = balance(
                rows_nz, found_kz, size_limit=config.size_limit, iterations=config.iterations
            )
            self.codes.get_buffer(f"offset_{number}").copy_(offset_k)
        own_kz.copy_(found_kz)
