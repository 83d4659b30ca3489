"""The model family: MLP encoder, a bottleneck, MLP decoder. Pure torch.

The bottleneck is nothing (autoencoder), a Gaussian (VAE, 1312.6114), or residual codebooks: one
level (VQ-VAE, 1711.00937), several (RQ-VAE, 2203.01941, as TIGER uses it for semantic IDs,
2305.05065), or finite scalar quantisation. With a linear path beside the MLPs, which starts as the
principal components while the MLPs start at zero, training begins at PCA followed by residual
k-means and only has to improve on it. Shapes: n items, d input dims, z latent dims, l levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Generator, Tensor, nn

from semid.codebooks import ResidualCodebooks
from semid.mlp import Path, apply, undrawn
from semid.model_config import CodebookConfig, ModelConfig
from semid.principal import principal_components
from semid.projection import EncoderProjection, Projection
from semid.quantization import Level

# Where the spread of a VAE's latents starts, as the logarithm of a variance.
_LOG_VARIANCE = -4.0


class Autoencoder(nn.Module):
    """Encoders, bottleneck and decoders, with the input statistics in front.

    Several embeddings of an item, side by side in ``x``, each have an encoder and a decoder of
    their own; their latents are added.

    Parameters
    ----------
    config : shape of the networks
    widths : dims of each embedding, which add up to d
    levels : codewords per level; none for an autoencoder or a VAE
    codebooks : how levels choose and learn
    grids : how many of the last levels have a grid in place of a codebook
    gaussian : whether the latents are drawn from a Gaussian in training

    Attributes
    ----------
    trained : whether the weights are those of a model; training goes on from them and draws none
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        config: ModelConfig,
        *,
        widths: Sequence[int],
        levels: Sequence[int] = (),
        codebooks: CodebookConfig | None = None,
        grids: int = 0,
        gaussian: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.widths, self.trained = config, tuple(widths), False
        width = sum(widths)
        latent_dim = max(widths) if config.skip == "identity" else min(config.latent_dim, width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        hidden = config.hidden
        self.encoders = nn.ModuleList(
            Path(w, hidden, latent_dim, config, config.encoder_dropout) for w in widths
        )
        self.decoders = nn.ModuleList(
            Path(latent_dim, hidden[::-1], w, config, config.dropout) for w in widths
        )
        self.log_variance = undrawn(width, latent_dim) if gaussian else None
        self.codes: ResidualCodebooks | None = None
        if levels:
            self.codes = ResidualCodebooks(levels, latent_dim, codebooks, grids=grids)

    @property
    def search_levels(self) -> list[Level]:
        """The levels as the search takes them; none without codes."""
        return [] if self.codes is None else self.codes.search_levels

    @property
    def codebooks(self) -> list[Tensor]:
        """What the codes of each level stand for, ``(k, z)``; none without codes."""
        return [] if self.codes is None else self.codes.codebooks

    def project(self, x_nd: Tensor) -> Tensor:
        """Encode embeddings ``(n, d)`` to latents ``(n, z)``."""
        return self.encode(self.standardise(x_nd))

    def projection(self, rows: int) -> Projection:
        """Return the fast way of `project`, for blocks of `rows` rows."""
        encoders = [encoder for encoder in self.encoders if isinstance(encoder, Path)]
        return EncoderProjection(encoders, self.widths, self.mean, self.scale, rows)

    def reconstruct(self, latent_nz: Tensor) -> Tensor:
        """Decode latents ``(n, z)`` to embeddings ``(n, d)``."""
        return self.decode(latent_nz) * self.scale + self.mean

    def standardise(self, x_nd: Tensor) -> Tensor:
        """Centre the embeddings and scale all dims of each alike, to a mean square of 1."""
        return (x_nd - self.mean).div_(self.scale)

    def encode(self, x_nd: Tensor, generator: Generator | None = None) -> Tensor:
        """Encode standardised embeddings; a generator draws what dropout leaves out."""
        parts = zip(self.encoders, torch.split(x_nd, list(self.widths), 1), strict=True)
        latents = [encoder(part, generator) for encoder, part in parts]
        return latents[0] if len(latents) == 1 else torch.stack(latents).sum(0)

    def decode(self, latent_nz: Tensor, generator: Generator | None = None) -> Tensor:
        """Decode to standardised embeddings."""
        return torch.cat([decoder(latent_nz, generator) for decoder in self.decoders], 1)

    def draw(self, x_nd: Tensor, latent_nz: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw latents around the encoded ones; also the KL divergence from a standard normal.

        The divergence is a mean over items and latent dims, as every loss is.
        """
        assert self.log_variance is not None
        log_variance_nz = apply(self.log_variance, x_nd)
        noise_nz = torch.randn(latent_nz.shape, generator=generator).to(latent_nz.device)
        kl = 0.5 * (latent_nz.square() + log_variance_nz.exp() - 1 - log_variance_nz).mean()
        return latent_nz + noise_nz * (0.5 * log_variance_nz).exp(), kl

    @torch.no_grad()
    def initialise(self, sample_nd: Tensor, generator: Generator) -> None:
        """Take the input statistics and principal components of a sample; draw the MLPs.

        Codebooks are initialised later, once the autoencoder has settled.
        """
        self.mean.copy_(sample_nd.mean(0))
        spans = list(pairwise(accumulate(self.widths, initial=0)))
        for (start, stop), encoder, decoder in zip(
            spans, self.encoders, self.decoders, strict=True
        ):
            centred_nd = sample_nd[:, start:stop] - self.mean[start:stop]
            scale = centred_nd.square().mean().sqrt()
            # A catalog of one repeated embedding has no spread to divide by.
            self.scale[start:stop] = torch.where(scale > 0, scale, torch.ones_like(scale))
            assert isinstance(encoder, Path)
            assert isinstance(decoder, Path)
            components_zd = principal_components(centred_nd, encoder.width_out)
            # Latents of one size whatever the widths, so that the losses keep their balance.
            shrink = (encoder.width_out / (stop - start)) ** 0.5
            encoder.initialise(components_zd * shrink, generator)
            decoder.initialise(components_zd.T / shrink, generator)
        if self.log_variance is not None:
            nn.init.zeros_(self.log_variance.weight)
            nn.init.constant_(self.log_variance.bias, _LOG_VARIANCE)
