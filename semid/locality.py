"""Neighbours that heed each other in training: together on the first levels, apart on the last.

A mate is a row of the batch that is near to another; its scores count in the other's choice. Where
they count as its own, mates share codes; where they count against it, the last level learns to tell
rows from each other that share all codes before. Pure torch. Shapes: n rows of a batch, the first m
of which may have a mate; z latent dims, k codewords.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semid.quantization import Level, least

# Squared distances of mates, over those that both leave to their codewords: 0.5 in real catalogs,
# 0.7 and more in data without structure.
NEAR, FAR = 0.6, 0.7


@torch.no_grad()
def how_near(level: Level, residual_nz: Tensor, score_nk: Tensor, mate_m: Tensor) -> Tensor:
    """Tell how near mates are to each other at the first level; see `nearness`.

    Parameters
    ----------
    level, residual_nz, score_nk : the first level, what it quantises, and its scores of that
    mate_m : place of the mate of every row, its own for one without
    """
    own_mz = residual_nz[: len(mate_m)]
    code_m, _ = least(score_nk[: len(mate_m)])
    left_m = (own_mz - level.codebook_kz[code_m]).square().sum(1)
    return nearness(own_mz, left_m, mate_m)


@torch.no_grad()
def nearness(residual_mz: Tensor, left_m: Tensor, mate_m: Tensor) -> Tensor:
    """Tell how much nearer mates are to each other than to their codewords: ``()``, from 0 to 1.

    The median over mates of their squared distance, over the squared distances that both leave: 1
    up to `NEAR`, 0 from `FAR`. Where nothing is nearer than anything else, as in a dense place
    without structure, what mates have in common is its middle, and codewords would gather there.

    Parameters
    ----------
    residual_mz : what the first level quantises
    left_m : squared distance of every row to its codeword
    mate_m : place of the mate of every row, its own for one without
    """
    mated_m = mate_m != torch.arange(len(mate_m), device=mate_m.device)
    gap_m = (residual_mz - residual_mz[mate_m]).square().sum(1)
    tiny = torch.finfo(gap_m.dtype).tiny
    ratio_m = (gap_m / (left_m + left_m[mate_m]).clamp_min(tiny))[mated_m]
    if not len(ratio_m):
        return gap_m.new_zeros(())
    return ((FAR - ratio_m.median()) / (FAR - NEAR)).clamp(0, 1)


def with_mates(score_nk: Tensor, mate_m: Tensor, weight: Tensor) -> Tensor:
    """Return the scores ``(n, k)`` of which `weight` are the mate's, in the first m rows.

    A weight below 0 counts them against a codeword: best is what is near the row and far from its
    mate.
    """
    own_mk, others_nk = score_nk[: len(mate_m)], score_nk[len(mate_m) :]
    mixed_mk = torch.lerp(own_mk, own_mk[mate_m], weight)
    return torch.cat([mixed_mk, others_nk]) if len(others_nk) else mixed_mk
