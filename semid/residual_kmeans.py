"""RQ-KMeans: FAISS k-means per level on the residuals of the level before. The baseline.

The latent space is the embedding space, so encoding and decoding are the codebooks alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from semid.codebooks import ResidualCodebooks
from semid.model_config import CodebookConfig
from semid.projection import NoProjection, Projection
from semid.quantization import Level


class RQKMeans(nn.Module):
    """Residual k-means over embeddings ``(n, d)``; same shape as an RQ-VAE without its networks."""

    def __init__(self, *, width: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.codes = ResidualCodebooks(levels, width, CodebookConfig(balance=0.0))

    @property
    def codebooks(self) -> list[Tensor]:
        """One codebook ``(k, d)`` per level."""
        return self.codes.codebooks

    @property
    def search_levels(self) -> list[Level]:
        """The levels as the search takes them."""
        return self.codes.search_levels

    def project(self, x_nd: Tensor) -> Tensor:
        """Return the embeddings: they are the latents."""
        return x_nd

    def projection(self, rows: int) -> Projection:
        """Return what takes blocks of `rows` embeddings to latents."""
        return NoProjection(self.codebooks[0].new_zeros(rows, self.codebooks[0].shape[1]))

    def reconstruct(self, latent_nz: Tensor) -> Tensor:
        """Return the latents: they are the embeddings."""
        return latent_nz
