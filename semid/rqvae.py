"""The RQ-VAE: MLP encoder, residual codebooks, MLP decoder. Pure torch.

Method: RQ-VAE (arXiv 2203.01941) as TIGER uses it for semantic IDs (2305.05065). Encoder and
decoder have a linear path beside the MLP. It starts as the principal components and the MLP at
zero, so that training begins at PCA followed by residual k-means and only has to improve on it.
Shapes: n items, d input dims, z latent dims, k codewords, l levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from semid.fit_config import RQVAEConfig
from semid.quantization import ResidualCodebooks, product


class RQVAE(nn.Module):
    """Encoder, codebooks and decoder, with the input statistics in front.

    `project` and `reconstruct` are what encoding and decoding need.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: RQVAEConfig, *, width: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        latent_dim = min(config.latent_dim, width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        self.encoder = _Path(width, config.hidden, latent_dim)
        self.codes = ResidualCodebooks(levels, latent_dim)
        self.decoder = _Path(latent_dim, config.hidden[::-1], width)

    @property
    def codebooks(self) -> list[Tensor]:
        """One codebook ``(k, z)`` per level."""
        return self.codes.codebooks

    def project(self, x_nd: Tensor) -> Tensor:
        """Encode embeddings ``(n, d)`` to latents ``(n, z)``."""
        return self.encoder(self.standardise(x_nd))  # type: ignore[no-any-return]

    def reconstruct(self, latent_nz: Tensor) -> Tensor:
        """Decode latents ``(n, z)`` to embeddings ``(n, d)``."""
        return self.decoder(latent_nz) * self.scale + self.mean  # type: ignore[no-any-return]

    def standardise(self, x_nd: Tensor) -> Tensor:
        """Centre the embeddings and scale all dimensions alike, to a mean square of 1."""
        return (x_nd - self.mean).div_(self.scale)

    @torch.no_grad()
    def initialise(self, sample_nd: Tensor, generator: torch.Generator) -> None:
        """Take the input statistics and principal components of a sample; draw the MLPs.

        Codebooks are initialised later, once the autoencoder has settled.
        """
        mean, centred_nd = sample_nd.mean(0), sample_nd - sample_nd.mean(0)
        scale = centred_nd.square().mean().sqrt()
        self.mean.copy_(mean)
        # A catalog of one repeated embedding has no spread to divide by.
        self.scale.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))
        covariance_dd = centred_nd.T.double() @ centred_nd.double()
        _, vectors_dd = torch.linalg.eigh(covariance_dd)
        latent_dim = self.encoder.linear.out_features
        components_zd = vectors_dd.flip(1)[:, :latent_dim].T.to(sample_nd.dtype)
        # Eigenvectors come with either sign; fix it so that machines agree.
        peak_z = components_zd.gather(1, components_zd.abs().argmax(1, keepdim=True))
        components_zd = components_zd * peak_z.sign()
        self.encoder.initialise(components_zd, generator)
        self.decoder.initialise(components_zd.T, generator)


class _Path(nn.Module):
    """An MLP beside a linear map: ``linear(x) + mlp(x)``."""

    def __init__(self, width_in: int, hidden: Sequence[int], width_out: int) -> None:
        super().__init__()
        widths = (width_in, *hidden, width_out)
        self.linear = _undrawn(width_in, width_out, bias=False)
        self.mlp = nn.ModuleList(_undrawn(a, b) for a, b in pairwise(widths))

    def initialise(self, linear: Tensor, generator: torch.Generator) -> None:
        """Set the linear map, draw the hidden layers and let the MLP begin at zero."""
        self.linear.weight.copy_(linear)
        for layer in self.mlp:
            assert isinstance(layer, nn.Linear)
            # Drawn where the generator is, so that a seed means the same on every device.
            drawn = torch.empty_like(layer.weight, device=generator.device)
            nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
            layer.weight.copy_(drawn)
            nn.init.zeros_(layer.bias)
            if layer is self.mlp[-1]:
                nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for layer in self.mlp[:-1]:
            hidden = _activate(_apply(layer, hidden))
        return _apply(self.linear, x) + _apply(self.mlp[-1], hidden)


def _activate(x: Tensor) -> Tensor:
    # In place where no gradient needs the input: a large result is slow to make room for.
    return nn.functional.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def _apply(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
    return product(bias, x, layer.weight)


def _undrawn(width_in: int, width_out: int, *, bias: bool = True) -> nn.Linear:
    """Make a layer without drawing its weights, which would move torch's global generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width_in, width_out, bias=bias)  # type: ignore[no-untyped-call]
    return layer
