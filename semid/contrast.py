"""Contrast: items that the same users meet get latents that are alike. Pure torch.

Symmetric InfoNCE (1807.03748) between quantised latents, as PLUM's co-occurrence contrast applies
it to semantic IDs. Shapes: m items with a partner, z latent dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pairs(NamedTuple):
    """Partners of some rows of a batch.

    place_m : rows of the batch that have a partner, ``(m,)``
    x_md : standardised embeddings of the partners, ``(m, d)``
    item_m, partner_m : which training items these rows and their partners are
    """

    place_m: Tensor
    x_md: Tensor
    item_m: Tensor
    partner_m: Tensor


def contrast_loss(
    latents: Sequence[Tensor], partners: Sequence[Tensor], pairs: Pairs, *, temperature: float
) -> Tensor:
    """Return symmetric InfoNCE, a mean over items and over `latents` (one for each prefix).

    Every other pair of the batch is a negative, unless it holds the same item as partner or is
    the item itself. The mean is divided by log m, so that 1 is what chance gets whatever the batch.
    """
    m = len(pairs.place_m)
    if m < 2:
        return latents[0].new_zeros(())
    same_mm = pairs.partner_m[:, None] == pairs.partner_m[None]
    same_mm |= pairs.item_m[:, None] == pairs.partner_m[None]
    same_mm |= pairs.item_m[:, None] == pairs.item_m[None]
    same_mm.fill_diagonal_(False)
    target_m = torch.arange(m, device=same_mm.device)
    losses = []
    for latent_nz, partner_mz in zip(latents, partners, strict=True):
        u_mz = nn.functional.normalize(latent_nz[pairs.place_m], dim=1)
        v_mz = nn.functional.normalize(partner_mz, dim=1)
        logit_mm = (u_mz @ v_mz.T / temperature).masked_fill(same_mm, -torch.inf)
        there = nn.functional.cross_entropy(logit_mm, target_m)
        back = nn.functional.cross_entropy(logit_mm.T, target_m)
        losses.append(0.5 * (there + back))
    return torch.stack(losses).mean() / torch.log(latents[0].new_tensor(float(m)))
