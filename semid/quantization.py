"""Residual quantisation in torch: the exact search for the codes of a latent, and the way back.

Shapes: n items, z latent dims, k codewords, l levels, g grid dims. Nothing here knows encoders,
training or files. Residual vector quantisation as in SoundStream (arXiv 2107.03312).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

# Matrix products pick their kernels by shape, and at the ragged ends of a shape by place and by
# number of threads. Filled up with zeros to whole tiles, there are no ends.
TILE_ROWS, TILE_COLUMNS = 16, 8
# Squared distances whose gap is below this share of the row's scale may be in the wrong order:
# about 20 times the largest error seen of float32 against float64, and rare enough (1 row in 1,000
# or fewer) to be searched again. In float64 a gap below it is a tie: the lowest index wins. There
# it stays far below the gaps that neighbouring float32 inputs have.
NEAR_TIE = {torch.float32: 1e-5, torch.float64: 1e-13}


_SEARCH_ROWS = 8_192


class Gridded(Protocol):
    """What the search needs of a level without a codebook; see `semid.fsq.Grid`."""

    @property
    def steps_g(self) -> Tensor:
        """Steps per dim, ``(g,)``."""
        ...

    @property
    def down(self) -> Tensor:
        """The projection to the grid's space, ``(g, z)``."""
        ...

    def bounded(self, residual_nz: Tensor) -> Tensor:
        """Project residuals between the first and the last step of every grid dim."""
        ...

    def code(self, step_ng: Tensor) -> Tensor:
        """Return the codes of points of the grid."""
        ...


class Constants(NamedTuple):
    """What the search needs of a codebook, whatever the residuals.

    match_kz : the codewords that residuals are multiplied with
    bias_k : half their squared lengths and the offset, what is added to the products
    largest : what the rounding of scores is relative to beside the residual, ``()``
    """

    match_kz: Tensor
    bias_k: Tensor
    largest: Tensor


class Level(NamedTuple):
    """One level, as the search and the way back see it.

    codebook_kz : the codewords that latents are made of again
    offset_k : added to half the squared distance of every codeword; None for nothing
    cosine : choose by angle, not by distance
    layer_norm : normalise the residual before it is quantised
    grid : choose by rounding on a grid, not among the codewords
    known : `constants`, where the codewords stay as they are
    """

    codebook_kz: Tensor
    offset_k: Tensor | None = None
    cosine: bool = False
    layer_norm: bool = False
    grid: Gridded | None = None
    known: Constants | None = None

    def enter(self, residual_nz: Tensor) -> Tensor:
        """Turn what the levels before left into what this level quantises."""
        if not self.layer_norm:
            return residual_nz
        return nn.functional.layer_norm(residual_nz, residual_nz.shape[1:])

    def frozen(self) -> Level:
        """Return the level with its constants, for many searches in the same codewords."""
        return self._replace(known=self.constants)

    @property
    def constants(self) -> Constants:
        """What the search needs of the codebook."""
        if self.known is not None:
            return self.known
        square_k = self.codebook_kz.square().sum(1)
        if self.cosine:
            match_kz, bias_k = nn.functional.normalize(self.codebook_kz), torch.zeros_like(square_k)
            largest = torch.zeros_like(square_k[0])
        else:
            match_kz, bias_k, largest = self.codebook_kz, 0.5 * square_k, square_k.max()
        if self.offset_k is not None:
            bias_k = bias_k + self.offset_k
            largest = largest + 2 * self.offset_k.abs().max()
        return Constants(match_kz, bias_k, largest)

    def scores(self, residual_nz: Tensor) -> Tensor:
        """Return what the chosen codeword has least of, ``(n, k)``.

        Half the squared distance, less the part that is the same for every codeword; or the
        negative cosine times the residual's length.
        """
        found = self.constants
        return product(found.bias_k, residual_nz, found.match_kz, alpha=-1)

    def scale(self, size_n: Tensor) -> Tensor:
        """Return what the rounding of scores is relative to, ``(n,)``; see `search`."""
        return (size_n if self.cosine else size_n.square()) + self.constants.largest


class Choice(NamedTuple):
    """What one level chooses for n residuals: codes, margins and near-ties as in `Search`."""

    code_n: Tensor
    margin_n: Tensor
    near_tie_n: Tensor


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

    For that it is filled up to tiles.
    """
    m, k = w_mk.shape
    rows, columns = -m % TILE_ROWS, -k % TILE_COLUMNS
    if columns:
        x_nk = nn.functional.pad(x_nk, (0, columns))
    if rows or columns:
        w_mk = nn.functional.pad(w_mk, (0, columns, 0, rows))
    if rows:
        bias_m = nn.functional.pad(bias_m, (0, rows))
    return torch.addmm(bias_m, x_nk, w_mk.T, alpha=alpha)[:, :m]


def search(z_nz: Tensor, levels: Sequence[Level]) -> Search:
    """Quantise latents level by level, each row to its best codeword.

    Parameters
    ----------
    z_nz : float32 or float64, shape ``(n, z)``
    levels : of the same dtype and device
    """
    residual_nz = z_nz
    # Rounding in a residual is relative to what it is a remainder of, not to itself.
    size_n = z_nz.square().sum(1).sqrt()
    margin_n = torch.full_like(z_nz[:, 0], torch.inf)
    near_tie_n = torch.zeros_like(margin_n, dtype=torch.bool)
    codes = []
    for level in levels:
        if level.layer_norm:
            spread_n = residual_nz.var(1, correction=0).add_(1e-5).sqrt()
            residual_nz = level.enter(residual_nz)
            size_n = size_n / spread_n + residual_nz.square().sum(1).sqrt()
        choose = _nearest if level.grid is None else _on_grid
        residual_nz, found = choose(residual_nz, size_n, level)
        codes.append(found.code_n)
        margin_n = torch.minimum(margin_n, found.margin_n)
        near_tie_n |= found.near_tie_n
    return Search(torch.stack(codes, 1), residual_nz.square().sum(1), margin_n, near_tie_n)


def nearest(residual_nz: Tensor, level: Level) -> Tensor:
    """Return the codes ``(n,)`` that `level` gives to residuals that have entered it.

    In blocks: the scores of a whole sample against a large codebook take gigabytes.
    """
    entered = [level._replace(layer_norm=False).frozen()]
    blocks = torch.split(residual_nz, _SEARCH_ROWS)
    return torch.cat([search(block_bz, entered).codes_nl[:, 0] for block_bz in blocks])


def _nearest(residual_nz: Tensor, size_n: Tensor, level: Level) -> tuple[Tensor, Choice]:
    """Choose a codeword; return what it leaves of the residual too."""
    level = level.frozen()
    tiny, double = torch.finfo(residual_nz.dtype).tiny, residual_nz.dtype == torch.float64
    score_nk = level.scores(residual_nz)
    slack_n = NEAR_TIE[residual_nz.dtype] * level.scale(size_n)
    code_n, best_n = least(score_nk)
    if double:
        code_n = _first_within(score_nk, best_n + 0.5 * slack_n)
    left_nz = residual_nz - nn.functional.embedding(code_n, level.codebook_kz)
    if score_nk.shape[1] == 1:
        never_n = torch.zeros_like(best_n, dtype=torch.bool)
        return left_nz, Choice(code_n, torch.full_like(best_n, torch.inf), never_n)
    gap_n = 2 * (score_nk.scatter_(1, code_n[:, None], torch.inf).amin(1) - best_n)
    near_tie_n = ~(gap_n > slack_n)  # NaN too, where squares overflow
    if level.cosine:  # the squared distance between unit vectors, times the residual's length
        distance_n = 2 * (residual_nz.square().sum(1).sqrt() + best_n)
    else:
        distance_n = left_nz.square().sum(1)
    return left_nz, Choice(code_n, gap_n.clamp_min(0) / distance_n.clamp_min(tiny), near_tie_n)


def _on_grid(residual_nz: Tensor, size_n: Tensor, level: Level) -> tuple[Tensor, Choice]:
    """Round to a point of the grid; return what it leaves of the residual too."""
    assert level.grid is not None
    dtype = residual_nz.dtype
    bounded_ng, steps_g = level.grid.bounded(residual_nz), level.grid.steps_g.to(dtype)
    slack_ng = NEAR_TIE[dtype] * steps_g * (1 + size_n[:, None] * level.grid.down.norm(dim=1))
    lower_ng = bounded_ng.floor()
    # In float64 halves go down, and what is within rounding of a half too.
    half_ng = 0.5 + slack_ng if dtype == torch.float64 else torch.full_like(slack_ng, 0.5)
    step_ng = lower_ng + (bounded_ng - lower_ng > half_ng)
    code_n = level.grid.code(step_ng.nan_to_num(0.0))  # rows with NaN are refused afterwards
    left_nz = residual_nz - nn.functional.embedding(code_n, level.codebook_kz)
    off_ng = (bounded_ng - step_ng).abs()
    gap_ng = torch.where(steps_g > 1, 1 - 2 * off_ng, torch.inf)
    near_tie_n = ~(gap_ng > 2 * slack_ng).all(1)
    square_n = off_ng.square().sum(1).clamp_min(torch.finfo(dtype).tiny)
    return left_nz, Choice(code_n, gap_ng.amin(1).clamp_min(0) / square_n, near_tie_n)


def least(score_nk: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of every row's least score, ``(n,)``, and that score.

    NumPy's search is vectorised on a CPU, torch's is not and takes ten times as long.
    """
    found = score_nk.detach()
    code_n = found.argmin(1) if found.is_cuda else torch.from_numpy(found.numpy().argmin(1))
    return code_n, score_nk.gather(1, code_n[:, None])[:, 0]


def _first_within(score_nk: Tensor, reach_n: Tensor) -> Tensor:
    """Return the lowest index whose score is at most `reach_n`; 0 in rows with NaN."""
    return (score_nk <= reach_n[:, None]).to(torch.uint8).argmax(1)


def look_up(codes_nl: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum the codewords of every row: latents ``(n, z)``. Fewer columns than levels: a prefix."""
    levels = codes_nl.shape[1]
    return torch.stack(
        [codebook_kz[codes_nl[:, level]] for level, codebook_kz in enumerate(codebooks[:levels])]
    ).sum(0)
