"""What one batch of training costs: reconstruction and what the bottleneck adds. Pure torch.

Every term is a mean over items and dims, so that their balance moves neither with batch size nor
with width. Shapes: n items, d input dims.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable

from semid.autoencoder import Autoencoder
from semid.contrast import Pairs, contrast_loss
from semid.devices import autocast
from semid.fit_config import FitConfig
from semid.quantised import Moment, Quantised

# How much more near pairs of latents count than far ones; see `uniformity`.
_SHARPNESS = 16.0


class Loss(NamedTuple):
    """The loss of a batch.

    total : what is minimised
    terms : its parts before they are weighted, and the total, detached
    quantised : what the codebooks learn from; None while there are none
    """

    total: Tensor
    terms: dict[str, Tensor]
    quantised: Quantised | None


def batch_loss(
    network: Autoencoder,
    x_nd: Tensor,
    config: FitConfig,
    moment: Moment | None,
    chance: Generator,
    pairs: Pairs | None = None,
) -> Loss:
    """Return the loss of a batch of standardised embeddings ``(n, d)``.

    `moment` is None before the codebooks have started, and for networks without. The partners in
    `pairs`, not standardised, are encoded along; only the contrast learns from them.
    """
    n, casting = len(x_nd), _precision(config.training.precision, x_nd.device)
    both = x_nd if pairs is None else torch.cat([x_nd, network.standardise(pairs.x_md)])
    with casting:
        latent_nz = network.encode(both, chance)
    latent_nz = latent_nz.float()  # distances between latents are differences of near numbers
    terms: dict[str, Tensor] = {}
    if network.codes is not None and config.loss.uniformity:
        terms["uniformity"] = uniformity(latent_nz[:n])
    quantised, encoded_nz = None, latent_nz
    if network.log_variance is not None:
        latent_nz, terms["kl"] = network.draw(both, latent_nz, chance)
    elif moment is not None:
        assert network.codes is not None
        quantised = network.codes(latent_nz, moment, chance)
        assert quantised is not None
        latent_nz = quantised.latent_nz
        terms["commitment"] = quantised.commitment
        terms["codebook"] = quantised.codebook_loss
        terms["diversity"] = quantised.entropy_gap
    if pairs is not None:
        chosen = [latent_nz]
        if quantised is not None and config.contrast.levels == "all":
            chosen = quantised.prefixes(encoded_nz)
        terms["contrast"] = contrast_loss(
            [latent[:n] for latent in chosen],
            [latent[n:] for latent in chosen],
            pairs,
            temperature=config.contrast.temperature,
        )
    with casting:
        out_nd = network.decode(latent_nz[:n], chance)
    kind = config.loss.reconstruction
    terms["reconstruction"] = _reconstruction(out_nd.float(), x_nd, network.widths, kind)
    total = terms["reconstruction"]
    for name in ("commitment", "codebook", "diversity", "uniformity", "kl"):
        if name in terms:
            total = total + getattr(config.loss, name) * terms[name]
    if pairs is not None:
        total = total + config.contrast.weight * terms["contrast"]
    terms["total"] = total
    for level, part in enumerate([] if quantised is None else quantised.commitments):
        terms[f"commitment_{level}"] = part
    detached = {name: term.detach() for name, term in terms.items()}
    return Loss(total, detached, None if quantised is None else quantised.first(n))


def uniformity(latent_nz: Tensor) -> Tensor:
    """Return what latents lack to being spread evenly: 1 where all are one, about 0 at best.

    The logarithm of the mean Gaussian potential of all pairs (Wang & Isola, 2005.10242), of latents
    divided by their root mean square length. Near pairs count most: items that hardly differ are
    moved apart, so that codes can tell them from each other.
    """
    n = len(latent_nz)
    if n < 2:
        return latent_nz.new_zeros(())
    mean = latent_nz.square().sum(1).mean().clamp_min(torch.finfo(latent_nz.dtype).tiny)
    log_mean: Tensor = _LogPotential.apply(latent_nz / mean.sqrt())  # type: ignore[no-untyped-call]
    return 1 + log_mean / (2 * _SHARPNESS)


class _LogPotential(torch.autograd.Function):
    """The logarithm of the mean Gaussian potential of all pairs, with a gradient of two products.

    Left to autograd, every step of the way would keep and read again a matrix of all pairs.
    """

    @staticmethod
    def forward(ctx: Any, u_nz: Tensor) -> Tensor:
        n, half_n = len(u_nz), _SHARPNESS * u_nz.square().sum(1)
        # Minus t times the squared distance, in place from the products to the potential.
        pair_nn = torch.addmm(half_n, u_nz, u_nz.T, alpha=2 * _SHARPNESS, beta=-1)
        pair_nn.sub_(half_n[:, None]).clamp_(max=0).exp_().fill_diagonal_(0)
        # Above 0: rows have a mean square of 1, and so pairs a mean squared distance of at most 4.
        total = pair_nn.sum()
        ctx.save_for_backward(u_nz, pair_nn, total)
        return (total / (n * (n - 1))).log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        u_nz, pair_nn, total = ctx.saved_tensors
        pull_nz = pair_nn @ u_nz - pair_nn.sum(1, keepdim=True) * u_nz
        wanted_nz: Tensor = pull_nz * (4 * _SHARPNESS * gradient / total)
        return wanted_nz


def _precision(name: str, device: torch.device) -> torch.autocast:
    # Codes are not to depend on what the CPU multiplies in, on which they happen to be trained.
    on_any = "float32" if name == "auto" and device.type == "cpu" else name
    return autocast(on_any, device)


def _reconstruction(out_nd: Tensor, x_nd: Tensor, widths: tuple[int, ...], kind: str) -> Tensor:
    """Mean over the embeddings of an item, whatever their widths."""
    parts = []
    for out, x in zip(
        torch.split(out_nd, list(widths), 1), torch.split(x_nd, list(widths), 1), strict=True
    ):
        if kind == "cosine":
            parts.append((1 - nn.functional.cosine_similarity(out, x)).mean())
        else:
            parts.append(nn.functional.mse_loss(out, x))
    return torch.stack(parts).mean()
