"""Residual quantisation in torch: the exact code search, and codebooks that learn by EMA.

Shapes: n items, z latent dims, k codewords, l levels. Nothing here knows encoders, files or
training loops. Residual vector quantisation as in SoundStream (arXiv 2107.03312).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from semid.kmeans import kmeans

# Squared distances whose gap is below this share of the row's scale may be in the wrong order:
# about 20 times the largest error seen of float32 against float64, and rare enough (1 row in 1,000
# or fewer) to be searched again. In float64 a gap below it is a tie: the lowest index wins. There
# it stays far below the gaps that neighbouring float32 inputs have.
NEAR_TIE = {torch.float32: 1e-5, torch.float64: 1e-13}


SEARCH_ROWS = 8_192


class Search(NamedTuple):
    """What `search` finds for n rows over l levels.

    codes_nl : int64 ``(n, l)``
    distance_n : squared error that is left in latent space, ``(n,)``
    margin_n : gap to the runner-up codeword over the distance, least over levels, ``(n,)``
    near_tie_n : bool ``(n,)``, rows whose codes this precision cannot vouch for
    """

    codes_nl: Tensor
    distance_n: Tensor
    margin_n: Tensor
    near_tie_n: Tensor


def product(bias_m: Tensor, x_nk: Tensor, w_mk: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return ``bias + alpha * x @ w.T``, each row with the same bits wherever it stands.

    Matrix products pick their kernels by shape, and at the ragged ends of a shape by place and by
    number of threads. Filled up with zeros to whole tiles, there are no ends.
    """
    m, k = w_mk.shape
    rows, columns = -m % 16, -k % 8
    if columns:
        x_nk = nn.functional.pad(x_nk, (0, columns))
    if rows or columns:
        w_mk = nn.functional.pad(w_mk, (0, columns, 0, rows))
    if rows:
        bias_m = nn.functional.pad(bias_m, (0, rows))
    return torch.addmm(bias_m, x_nk, w_mk.T, alpha=alpha)[:, :m]


def search(z_nz: Tensor, codebooks: Sequence[Tensor]) -> Search:
    """Quantise latents level by level, each row to its nearest codeword.

    Parameters
    ----------
    z_nz : float32 or float64, shape ``(n, z)``
    codebooks : one ``(k, z)`` per level, of the same dtype and device
    """
    tolerance = NEAR_TIE[z_nz.dtype]
    residual_nz = z_nz
    square_n = z_nz.square().sum(1)
    margin_n = torch.full_like(square_n, torch.inf)
    near_tie_n = torch.zeros_like(square_n, dtype=torch.bool)
    codes = []
    for codebook_kz in codebooks:
        half_k = codebook_kz.square().sum(1).mul_(0.5)
        # Half the squared distance, less the part that is the same for every codeword.
        score_nk = product(half_k, residual_nz, codebook_kz, alpha=-1)
        best_n = score_nk.amin(1)
        slack_n = tolerance * (square_n + 2 * half_k.max())
        reach_n = best_n + 0.5 * slack_n if z_nz.dtype == torch.float64 else best_n
        code_n = _first_within(score_nk, reach_n)
        residual_nz = residual_nz - nn.functional.embedding(code_n, codebook_kz)
        codes.append(code_n)
        if len(codebook_kz) > 1:
            gap_n = 2 * (score_nk.scatter_(1, code_n[:, None], torch.inf).amin(1) - best_n)
            near_tie_n |= ~(gap_n > slack_n)  # NaN too, where squares overflow
            left_n = residual_nz.square().sum(1).clamp_min_(torch.finfo(z_nz.dtype).tiny)
            margin_n = torch.minimum(margin_n, gap_n.clamp_min_(0) / left_n)
    return Search(torch.stack(codes, 1), residual_nz.square().sum(1), margin_n, near_tie_n)


def _first_within(score_nk: Tensor, reach_n: Tensor) -> Tensor:
    """Return the lowest index whose score is at most `reach_n`.

    What is above it counts for more than any index: three plain passes over floats, a fifth of the
    time that ``min`` with indices takes on a CPU, and less than passes over truth values.
    """
    index_k = torch.arange(score_nk.shape[1], dtype=score_nk.dtype, device=score_nk.device)
    above_nk = (score_nk - reach_n[:, None]).clamp_min_(0)
    key_nk = torch.add(index_k, above_nk, alpha=torch.finfo(score_nk.dtype).max)
    # Scores too small for this to tell apart are near-ties; rows with NaN are refused afterwards.
    first_n = key_nk.amin(1).nan_to_num_(0.0, posinf=0.0)
    return first_n.clamp_max_(score_nk.shape[1] - 1).long()


def look_up(codes_nl: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum the codewords of every row: latents ``(n, z)``. Fewer columns than levels: a prefix."""
    levels = codes_nl.shape[1]
    return torch.stack(
        [codebook_kz[codes_nl[:, level]] for level, codebook_kz in enumerate(codebooks[:levels])]
    ).sum(0)


class Quantised(NamedTuple):
    """One training batch after quantisation.

    latent_nz : the quantised latent; its gradient passes straight through to the encoder
    commitment : mean squared distance of each level's residual to its codeword, summed over levels
    codes_nl : int64 ``(n, l)``
    residuals : for each level what was quantised there, detached, ``(n, z)``
    """

    latent_nz: Tensor
    commitment: Tensor
    codes_nl: Tensor
    residuals: list[Tensor]


def _sum_by_code(residual_nz: Tensor, code_n: Tensor, like_kz: Tensor) -> Tensor:
    """Add up the rows of every code in a fixed order, so that a seed repeats the run."""
    sums = torch.zeros_like(like_kz)
    if sums.is_cuda:  # where index_add_ adds in any order, and index_put_ sorts
        return sums.index_put_((code_n,), residual_nz, accumulate=True)
    return sums.index_add_(0, code_n, residual_nz)


class ResidualCodebooks(nn.Module):
    """One codebook per level, learnt as exponential moving averages with restart of dead codes.

    The statistics of a batch are sums (`counts` and `sums` in `update`), so that several processes
    can add theirs before the update.
    """

    def __init__(self, levels: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.levels = tuple(levels)
        for level, size in enumerate(self.levels):
            self.register_buffer(f"codebook_{level}", torch.zeros(size, latent_dim))
            # Decayed counts and sums; only training needs them, so they stay out of the artifact.
            self.register_buffer(f"count_{level}", torch.ones(size), persistent=False)
            self.register_buffer(f"sum_{level}", torch.zeros(size, latent_dim), persistent=False)

    @property
    def codebooks(self) -> list[Tensor]:
        """The codebooks in order of level, each ``(k, z)``."""
        return [self.get_buffer(f"codebook_{level}") for level in range(len(self.levels))]

    @torch.no_grad()
    def initialise(
        self,
        sample_nz: Tensor,
        *,
        batch_rows: int,
        seed: int,
        iterations: int = 25,
        on_level: Callable[[int], object] | None = None,
    ) -> None:
        """Set each codebook by k-means on the residuals of a catalog-wide sample of latents.

        The moving averages begin as if every batch of `batch_rows` had looked like the sample.
        `on_level` hears how many levels are done after each.
        """
        residual_nz = sample_nz.clone()
        for level, size in enumerate(self.levels):
            rows_nz = residual_nz.cpu().numpy()
            codebook_kz = torch.from_numpy(
                kmeans(rows_nz, size, seed=(seed + level) % 2**31, iterations=iterations)
            )
            codebook_kz = codebook_kz.to(sample_nz.device)
            count_k = torch.zeros(size, device=sample_nz.device)
            # In blocks: the scores of a whole sample against a large codebook take gigabytes.
            for block_bz in torch.split(residual_nz, SEARCH_ROWS):
                code_b = search(block_bz, [codebook_kz]).codes_nl[:, 0]
                count_k += torch.bincount(code_b, minlength=size)
                block_bz -= codebook_kz[code_b]
            self._set(level, slice(None), codebook_kz, count_k * (batch_rows / len(sample_nz)))
            if on_level is not None:
                on_level(level + 1)

    def forward(self, latent_nz: Tensor) -> Quantised:
        """Quantise a batch of latents ``(n, z)`` for training."""
        residual_nz = latent_nz
        commitment = latent_nz.new_zeros(())
        codes, residuals = [], []
        for codebook_kz in self.codebooks:
            residuals.append(residual_nz.detach())
            half_k = codebook_kz.square().sum(1).mul_(0.5)
            code_n = torch.addmm(half_k, residuals[-1], codebook_kz.T, alpha=-1).argmin(1)
            residual_nz = residual_nz - codebook_kz[code_n]
            # The residual still depends on the encoder at every level; the codewords do not.
            commitment = commitment + residual_nz.square().mean()
            codes.append(code_n)
        straight_nz = latent_nz - residual_nz.detach()
        return Quantised(straight_nz, commitment, torch.stack(codes, 1), residuals)

    @torch.no_grad()
    def update(self, batch: Quantised, *, decay: float) -> None:
        """Move every codeword towards the mean of the residuals it was chosen for."""
        for level, residual_nz in enumerate(batch.residuals):
            count_k, sum_kz = self.get_buffer(f"count_{level}"), self.get_buffer(f"sum_{level}")
            code_n = batch.codes_nl[:, level]
            counts = torch.bincount(code_n, minlength=len(count_k)).to(count_k.dtype)
            sums = _sum_by_code(residual_nz, code_n, sum_kz)
            count_k.lerp_(counts, 1 - decay)
            sum_kz.lerp_(sums, 1 - decay)
            codebook_kz = self.get_buffer(f"codebook_{level}")
            # Unused codewords stay put: their count and sum decay alike, in the end to nothing.
            mean_kz = sum_kz / count_k.clamp_min(torch.finfo(count_k.dtype).tiny)[:, None]
            codebook_kz.copy_(torch.where(counts[:, None] > 0, mean_kz, codebook_kz))

    @torch.no_grad()
    def restart(self, batch: Quantised, *, below: float, generator: torch.Generator) -> list[int]:
        """Move codewords used less than `below` times the mean to residuals of the batch.

        Returns how many were moved on each level.
        """
        moved = []
        for level, residual_nz in enumerate(batch.residuals):
            count_k = self.get_buffer(f"count_{level}")
            mean = len(residual_nz) / len(count_k)
            dead = torch.nonzero(count_k < below * mean)[:, 0]
            if len(dead):
                pick = torch.randint(len(residual_nz), (len(dead),), generator=generator)
                seeds_kz = residual_nz[pick.to(residual_nz.device)]
                # Half the mean: enough to live a while, little enough to follow its first batches.
                self._set(level, dead, seeds_kz, torch.full_like(count_k[dead], 0.5 * mean))
            moved.append(len(dead))
        return moved

    def _set(self, level: int, rows: slice | Tensor, codebook_kz: Tensor, count_k: Tensor) -> None:
        self.get_buffer(f"codebook_{level}")[rows] = codebook_kz
        self.get_buffer(f"count_{level}")[rows] = count_k
        self.get_buffer(f"sum_{level}")[rows] = codebook_kz * count_k[:, None]
