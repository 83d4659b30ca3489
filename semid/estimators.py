"""Gradients through a choice: straight-through, rotation trick, Gumbel-softmax; and Sinkhorn.

Pure functions on tensors. Shapes: n items, z latent dims, k codewords.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def straight_through(latent_nz: Tensor, quantised_nz: Tensor) -> Tensor:
    """Return the quantised latent with the latent's gradient unchanged (VQ-VAE, 1711.00937)."""
    return latent_nz + (quantised_nz - latent_nz).detach()


def rotate(latent_nz: Tensor, quantised_nz: Tensor) -> Tensor:
    """Return the quantised latent; its gradient is rotated and scaled as the latent was.

    The rotation trick (2410.06424): the smallest rotation, times a length, that takes each latent
    to its quantised one counts as constant, so that gradients keep their angle to it.
    """
    tiny = torch.finfo(latent_nz.dtype).tiny
    with torch.no_grad():
        from_n = latent_nz.norm(dim=1, keepdim=True).clamp_min(tiny)
        to_n = quantised_nz.norm(dim=1, keepdim=True)
        u_nz, q_nz = latent_nz / from_n, quantised_nz / to_n.clamp_min(tiny)
        middle_nz = nn.functional.normalize(u_nz + q_nz, dim=1)
        scale_n = to_n / from_n
    along_n = (latent_nz * middle_nz).sum(1, keepdim=True)
    start_n = (latent_nz * u_nz).sum(1, keepdim=True)
    rotated_nz = (latent_nz - 2 * along_n * middle_nz + 2 * start_n * q_nz) * scale_n
    # The value to the last bit, whatever rounding did to the rotation.
    exact_nz: Tensor = rotated_nz + (quantised_nz - rotated_nz).detach()
    return exact_nz


def gumbel_choice(
    score_nk: Tensor, temperature: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a codeword for every row by Gumbel-softmax (1611.01144).

    Parameters
    ----------
    score_nk : least for the best codeword
    temperature : relative to the mean score above the row's best

    Returns
    -------
    code_n : the codewords drawn
    weight_nk : one-hot in value, with the gradient of the softmax
    """
    logit_nk = -score_nk
    spread = (logit_nk.amax(1, keepdim=True) - logit_nk).mean().detach()
    drawn = torch.rand(score_nk.shape, generator=generator).to(score_nk.device)
    noise_nk = -torch.log(-torch.log(drawn.clamp(1e-9, 1 - 1e-7)))
    scaled_nk = logit_nk / (spread * temperature).clamp_min(torch.finfo(logit_nk.dtype).tiny)
    soft_nk = nn.functional.softmax(scaled_nk + noise_nk, dim=1)
    code_n = soft_nk.argmax(1)
    hard_nk = nn.functional.one_hot(code_n, score_nk.shape[1]).to(soft_nk.dtype)
    return code_n, hard_nk - soft_nk.detach() + soft_nk


@torch.no_grad()
def sinkhorn_choice(score_nk: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Choose codewords so that a batch uses all of them about alike (LC-Rec, 2311.09049).

    `epsilon` is relative to the mean score above the row's best. Returns ``code_n``; of batches
    ``(b, n, k)`` at once, ``(b, n)``.
    """
    above_nk = score_nk - score_nk.amin(-1, keepdim=True)
    mean = above_nk.mean((-2, -1), keepdim=True)
    log_nk = -above_nk / (epsilon * mean).clamp_min(torch.finfo(score_nk.dtype).tiny)
    for _ in range(iterations):
        log_nk = log_nk - log_nk.logsumexp(-2, keepdim=True)  # every codeword the same mass
        log_nk = log_nk - log_nk.logsumexp(-1, keepdim=True)  # every row all of its own
    return log_nk.argmax(-1)
