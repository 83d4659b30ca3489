"""Codewords that no row uses at the end of training, put where rows are coded worst.

While training settles, a codeword may lose its last row with no time left to find others. Moving it
onto the row that its level leaves the largest error takes nothing from any other row. Shapes: n
rows, z latent dims, k codewords.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semid.codebooks import ResidualCodebooks
from semid.quantization import Level, nearest

# A codeword that moves may take the last row of another; after as many rounds as this, it stays so.
ROUNDS = 8


@torch.no_grad()
def revive(codes: ResidualCodebooks, latent_nz: Tensor) -> list[int]:
    """Move unused codewords of trained codebooks to badly coded rows of a sample ``(n, z)``.

    Returns how many were moved on each level. A shared codebook and a grid stay as they are, and
    so does a codeword for which no row is left that shares its own and differs from it.
    """
    moved = [0] * len(codes.levels)
    if codes.config.shared:
        return moved
    residual_nz = latent_nz.clone()
    for number, level in enumerate(codes.search_levels):
        residual_nz = level.enter(residual_nz)
        code_n = nearest(residual_nz, level)
        for _ in range(ROUNDS if level.grid is None else 0):
            places = _move(residual_nz, code_n, level)
            moved[number] += places
            if not places:
                break
            code_n = nearest(residual_nz, level)
        residual_nz = residual_nz - level.codebook_kz[code_n]
    return moved


def _move(residual_nz: Tensor, code_n: Tensor, level: Level) -> int:
    """Move the unused codewords of a level, each onto a row of its own; return how many."""
    codebook_kz = level.codebook_kz
    count_k = torch.bincount(code_n, minlength=len(codebook_kz))
    dead = torch.nonzero(count_k == 0)[:, 0]
    if not len(dead):
        return 0
    distance_n = (residual_nz - codebook_kz[code_n]).square().sum(1)
    rows = _worst(distance_n, code_n, count_k, residual_nz, len(dead))
    dead = dead[: len(rows)]
    codebook_kz.data[dead] = residual_nz[rows]
    if level.offset_k is not None:
        level.offset_k[dead] = level.offset_k.min()
    return len(rows)


def _worst(
    distance_n: Tensor, code_n: Tensor, count_k: Tensor, residual_nz: Tensor, wanted: int
) -> Tensor:
    """Return the rows of the largest distances that differ and leave every codeword a row."""
    left, seen = count_k.tolist(), set()
    chosen: list[int] = []
    for row in torch.argsort(distance_n, descending=True, stable=True).tolist():
        code, residual = int(code_n[row]), residual_nz[row].cpu().numpy().tobytes()
        if len(chosen) == wanted or not distance_n[row]:
            break
        if left[code] > 1 and residual not in seen:
            left[code] -= 1
            seen.add(residual)
            chosen.append(row)
    return torch.tensor(chosen, dtype=torch.int64, device=residual_nz.device)
