"""Clusters of bounded size: a price per codeword, which a row pays beside its distance.

Prices come from an auction (Bertsekas, 1979): a cluster with too many rows raises its price until
those that lose least by it have left for their second choice. The price becomes the `offset_k` of
the level, so that new rows are coded by the saved model alone. A round is one look at every row,
and their number is bounded. Shapes: n rows, z latent dims, k codewords.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid.quantization import Level, least

# Rows whose scores are held at once.
BLOCK_ROWS = 8_192
# Rounds of the closing auction at most, and of those before codewords move.
ROUNDS = 100
_ROUNDS_BETWEEN = 4
# While codewords still move, a price that is not needed shrinks by this much a time.
_FADE = 0.7


@torch.no_grad()
def balance(
    rows_nz: Tensor, codebook_kz: Tensor, *, size_limit: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Move codewords and set prices so that no cluster has more than `size_limit` times the mean.

    Rows that are exactly alike stay together: a group of them beyond the bound is a cluster beyond
    the bound. So may a cluster be that `ROUNDS` rounds of the closing auction do not settle; the
    largest share of use tells.

    Parameters
    ----------
    rows_nz : what the level quantises, ``(n, z)``
    codebook_kz : where the codewords start, ``(k, z)``
    size_limit : above 1
    iterations : of moving every codeword to the mean of its rows

    Returns
    -------
    The codewords ``(k, z)`` and their prices, as `Level.offset_k`, ``(k,)``.
    """
    k = len(codebook_kz)
    # Fewer than the mean, rounded up, cannot be asked of every cluster.
    bound = max(math.ceil(len(rows_nz) / k), int(size_limit * len(rows_nz) / k))
    offset_k = codebook_kz.new_zeros(k)
    for _ in range(iterations):
        # Codewords move while prices rise: means of rows that left alone would be far from them.
        offset_k, code_n = _auction(rows_nz, codebook_kz, offset_k, bound, rounds=_ROUNDS_BETWEEN)
        count_k = torch.bincount(code_n, minlength=k)
        sum_kz = torch.zeros_like(codebook_kz).index_add_(0, code_n, rows_nz)
        mean_kz = sum_kz / count_k.clamp_min(1)[:, None]
        codebook_kz = torch.where(count_k[:, None] > 0, mean_kz, codebook_kz)
        offset_k = torch.where(count_k < bound, _FADE * offset_k, offset_k)
    offset_k, _ = _auction(rows_nz, codebook_kz, offset_k, bound, rounds=ROUNDS)
    return codebook_kz, offset_k


def _auction(
    rows_nz: Tensor, codebook_kz: Tensor, offset_k: Tensor, bound: int, *, rounds: int
) -> tuple[Tensor, Tensor]:
    """Raise prices until every cluster keeps to its bound; return them and what rows chose."""
    code_n = torch.empty(0)
    for _ in range(rounds):
        code_n, gap_n = _choose(rows_nz, Level(codebook_kz, offset_k))
        raise_k = _raises(code_n, gap_n, len(codebook_kz), bound)
        if not raise_k.any():
            break
        offset_k = offset_k + raise_k
    return offset_k - offset_k.min(), code_n


def _choose(rows_nz: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """Return every row's codeword, and by how much its second choice is worse; both ``(n,)``."""
    codes, gaps = [], []
    for block_bz in torch.split(rows_nz, BLOCK_ROWS):
        score_bk = level.scores(block_bz)
        code_b, best_b = least(score_bk)
        codes.append(code_b)
        gaps.append(score_bk.scatter_(1, code_b[:, None], torch.inf).amin(1) - best_b)
    return torch.cat(codes), torch.cat(gaps)


def _raises(code_n: Tensor, gap_n: Tensor, k: int, bound: int) -> Tensor:
    """Return by how much each cluster beyond the bound raises its price, ``(k,)``."""
    codes, gaps = code_n.numpy(), gap_n.numpy()
    order = np.lexsort((gaps, codes))
    count_k = np.bincount(codes, minlength=k)
    # Halfway between the mean and the bound: one that stops at the bound is soon beyond it again.
    target = (len(codes) / k + bound) // 2
    raise_k = np.zeros(k, np.float32)
    for code, stop in enumerate(count_k.cumsum()):
        if count_k[code] > bound:
            rising = gaps[order[stop - count_k[code] : stop]]
            raise_k[code] = _raise(rising, int(count_k[code] - target))
    return torch.from_numpy(raise_k)


def _raise(gap_m: npt.NDArray[np.float32], leaving: int) -> float:
    """Return the price that makes the first `leaving` of m rows go; 0 when none can be parted.

    `gap_m` rises. Rows of one gap go together, and never all rows of a cluster.
    """
    places = np.flatnonzero(gap_m[1:] > gap_m[:-1]) + 1
    if not len(places) or not np.isfinite(gap_m[0]):
        return 0.0
    at = places[min(int(np.searchsorted(places, leaving)), len(places) - 1)]
    return float((gap_m[at - 1] + gap_m[at]) / 2)
