"""Codebooks that learn: residual quantisation in training, by EMA or by gradient.

Shapes: n items, z latent dims, k codewords, l levels. What a batch teaches is a set of sums over
its rows (`Statistics`), so that several processes can add theirs before the codebooks move. Restart
of dead codes as in Jukebox (2005.00341); EMA as in VQ-VAE (1711.00937).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semid.estimators import gumbel_choice, rotate, sinkhorn_choice, straight_through
from semid.fsq import Grid, grid_sizes
from semid.kmeans import kmeans
from semid.locality import how_near, with_mates
from semid.model_config import CodebookConfig
from semid.quantised import Moment, Quantised, Statistics
from semid.quantization import Level, least, nearest

# Offsets of codewords used less or more than this often the mean use stop growing.
_USE_RANGE = (0.05, 20.0)


class ResidualCodebooks(nn.Module):
    """One codebook per level, or one for all, of residual vector quantisation.

    Parameters
    ----------
    levels : codewords per level
    latent_dim : z
    config : how they start, learn and choose
    grids : how many of the last levels have a grid in place of a codebook

    Attributes
    ----------
    started : levels that have been initialised
    """

    def __init__(
        self,
        levels: Sequence[int],
        latent_dim: int,
        config: CodebookConfig | None = None,
        *,
        grids: int = 0,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.config = config or CodebookConfig()
        self.started = 0
        self.homes = [0 if self.config.shared else level for level in range(len(self.levels))]
        first = len(self.levels) - grids
        self.grids = nn.ModuleDict(
            {
                str(level): Grid(grid_sizes(self.levels[level], self.config.fsq_grid), latent_dim)
                for level in range(first, len(self.levels))
            }
        )
        for home in sorted({home for level, home in enumerate(self.homes) if level < first}):
            codebook_kz = torch.zeros(self.levels[home], latent_dim)
            if self.config.update == "gradient":
                self.register_parameter(f"codebook_{home}", nn.Parameter(codebook_kz))
            else:
                self.register_buffer(f"codebook_{home}", codebook_kz)
        for level, size in enumerate(self.levels):
            if self.config.balance and level < first:
                self.register_buffer(f"offset_{level}", torch.zeros(size))
            # Decayed counts, sums and distances; only training needs them, so they stay out of
            # the artifact.
            self.register_buffer(f"count_{level}", torch.ones(size), persistent=False)
            self.register_buffer(f"sum_{level}", torch.zeros(size, latent_dim), persistent=False)
            self.register_buffer(f"distance_{level}", torch.zeros(()), persistent=False)

    @property
    def codebooks(self) -> list[Tensor]:
        """What each level's codes stand for, in order, each ``(k, z)``."""
        return [
            grid.table() if (grid := self._grid(level)) else getattr(self, f"codebook_{home}")
            for level, home in enumerate(self.homes)
        ]

    @property
    def search_levels(self) -> list[Level]:
        """The levels as `semid.quantization.search` takes them."""
        config = self.config
        cosine, normed = config.metric == "cosine", config.layer_norm
        return [
            Level(codebook_kz, self._offset(level), cosine, normed, self._grid(level))
            for level, codebook_kz in enumerate(self.codebooks)
        ]

    @property
    def local(self) -> bool:
        """Whether a row's choice heeds a row that is near."""
        return self.config.estimator != "gumbel" and any(map(self._heed, range(len(self.levels))))

    def _heed(self, level: int) -> float:
        """Return what a mate's scores weigh at a level, as far as mates are near each other."""
        if len(self.levels) == 1 or self._grid(level) is not None:
            return 0.0
        last = level == len(self.levels) - 1
        return -self.config.separation if last else self.config.locality

    def _offset(self, level: int) -> Tensor | None:
        return getattr(self, f"offset_{level}", None)

    def _grid(self, level: int) -> Grid | None:
        name = str(level)
        if name not in self.grids:
            return None
        grid = self.grids[name]
        assert isinstance(grid, Grid)
        return grid

    @torch.no_grad()
    def initialise(
        self,
        sample_nz: Tensor,
        *,
        batch_rows: int,
        seed: int,
        depth: int | None = None,
        keep: bool = False,
    ) -> None:
        """Set each codebook by k-means on the residuals of a catalog-wide sample of latents.

        Levels that have started stay as they are; `depth` is how many then have, all by default.
        The moving averages begin as if every batch of `batch_rows` had looked like the sample; they
        alone do under `keep`, which leaves codebooks as another training made them.
        """
        residual_nz, share = sample_nz, batch_rows / len(sample_nz)
        for level in range(len(self.levels) if depth is None else depth):
            residual_nz = self.search_levels[level].enter(residual_nz)
            fresh = level >= self.started
            if fresh and not keep and (grid := self._grid(level)) is not None:
                grid.initialise(residual_nz)
            elif fresh and not keep and self.homes[level] == level:
                self._start(level, residual_nz, seed=(seed + level) % 2**31)
            found = self.search_levels[level]
            code_n = nearest(residual_nz, found)
            residual_nz = residual_nz - found.codebook_kz[code_n]
            if not fresh:
                continue
            if found.grid is None:
                count_k = torch.bincount(code_n, minlength=len(found.codebook_kz)) * share
                self._set(level, slice(None), found.codebook_kz.detach(), count_k)
            mean_distance = residual_nz.square().sum(1).mean()
            self.get_buffer(f"distance_{level}").copy_(mean_distance)
            self.started = level + 1

    def _start(self, level: int, residual_nz: Tensor, *, seed: int) -> None:
        codebook_kz = self.codebooks[level]
        if self.config.init != "random":
            start = "random" if self.config.init == "kmeans" else self.config.init
            rows_nz = residual_nz.cpu().numpy()
            found = kmeans(rows_nz, len(codebook_kz), seed=seed, init=start)
            codebook_kz.copy_(torch.from_numpy(found))
        else:
            generator = torch.Generator().manual_seed(seed)
            drawn_kz = torch.randn(codebook_kz.shape, generator=generator)
            codebook_kz.copy_(drawn_kz.to(codebook_kz.device) * residual_nz.std(0))

    def forward(self, latent_nz: Tensor, moment: Moment, chance: torch.Generator) -> Quantised:
        """Quantise a batch of latents ``(n, z)`` for training; `chance` draws what is random."""
        residual_nz, total_nz = latent_nz, torch.zeros_like(latent_nz)
        zero = latent_nz.new_zeros(())
        codebook_loss, gap = zero, zero
        codes, residuals, totals, commitments = [], [], [], []
        near = zero
        for number, level in enumerate(self.search_levels[: moment.depth]):
            residual_nz = level.enter(residual_nz)
            residuals.append(residual_nz.detach())
            score_nk = None if level.grid is not None else self._scores(level, residual_nz)
            if moment.mate_n is not None and score_nk is not None:
                if number == 0:
                    near = how_near(level, residuals[0], score_nk, moment.mate_n)
                if weight := self._heed(number):
                    score_nk = with_mates(score_nk, moment.mate_n, weight * near)
            code_n, chosen_nz = self._choose(number, level, residual_nz, score_nk, moment, chance)
            total_nz = total_nz + chosen_nz
            totals.append(total_nz.detach())
            if self.config.update == "gradient" or level.grid is not None:
                codebook_loss = codebook_loss + (chosen_nz - residuals[-1]).square().mean()
            if moment.entropy and level.grid is None:
                gap = gap + self._entropy_gap(level, residual_nz) / moment.depth
            residual_nz = residual_nz - chosen_nz.detach()
            # The residual still depends on the encoder at every level; the codewords do not.
            commitments.append(residual_nz.square().mean())
            codes.append(code_n)
        return Quantised(
            self._pass_through(latent_nz, total_nz),
            commitments,
            codebook_loss,
            gap,
            torch.stack(codes, 1),
            residuals,
            totals,
        )

    def _scores(self, level: Level, residual_nz: Tensor) -> Tensor:
        # Only Gumbel-softmax has a gradient through the scores.
        with torch.set_grad_enabled(self.config.estimator == "gumbel"):
            return level.scores(residual_nz)

    def _choose(
        self,
        number: int,
        level: Level,
        residual_nz: Tensor,
        score_nk: Tensor | None,
        moment: Moment,
        chance: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return the codes of a level and their codewords, these with a gradient where they learn.

        `score_nk` is None for a grid. Under Gumbel-softmax the codewords carry the gradient to the
        encoder too.
        """
        config = self.config
        if score_nk is None:
            grid = self._grid(number)
            assert grid is not None
            code_n, point_nz = grid(residual_nz)
            return code_n, point_nz
        if config.estimator == "gumbel":
            code_n, weight_nk = gumbel_choice(score_nk, moment.temperature, chance)
            return code_n, weight_nk @ level.codebook_kz
        last = number == len(self.levels) - 1
        if config.sinkhorn == "all" or (config.sinkhorn == "last" and last):
            code_n = sinkhorn_choice(
                score_nk, epsilon=config.sinkhorn_epsilon, iterations=config.sinkhorn_iterations
            )
        else:
            code_n, _ = least(score_nk)
        return code_n, nn.functional.embedding(code_n, level.codebook_kz)

    def _pass_through(self, latent_nz: Tensor, total_nz: Tensor) -> Tensor:
        match self.config.estimator:
            case "gumbel":
                return total_nz
            case "rotation":
                return rotate(latent_nz, total_nz.detach())
        return straight_through(latent_nz, total_nz)

    def _entropy_gap(self, level: Level, residual_nz: Tensor) -> Tensor:
        """Return log K less the entropy of the batch's mean soft choice: 0 when all are used alike.

        The temperature is the mean score above the row's best, so that it does not move with scale.
        """
        score_nk = level.scores(residual_nz)
        spread = (score_nk - score_nk.amin(1, keepdim=True)).mean().detach()
        tiny = torch.finfo(score_nk.dtype).tiny
        share_k = nn.functional.softmax(-score_nk / (0.1 * spread).clamp_min(tiny), 1).mean(0)
        return (
            torch.log(score_nk.new_tensor(score_nk.shape[1])) + torch.xlogy(share_k, share_k).sum()
        )

    @torch.no_grad()
    def statistics(self, batch: Quantised) -> list[Statistics]:
        """Return what every trained level learns from a batch; sums, to be added over processes."""
        found = []
        for level, residual_nz in enumerate(batch.residuals):
            code_n, codebook_kz = batch.codes_nl[:, level], self.codebooks[level]
            counts = torch.bincount(code_n, minlength=len(codebook_kz)).to(codebook_kz.dtype)
            sums = _sum_by_code(residual_nz, code_n, codebook_kz)
            distance = (residual_nz - codebook_kz[code_n]).square().sum()
            found.append(Statistics(counts, sums, distance))
        return found

    @torch.no_grad()
    def update(self, learned: Sequence[Statistics]) -> None:
        """Move the running averages, and under ``ema`` every codeword towards its items' mean."""
        weight = 1 - self.config.ema_decay
        for level, (counts, sums, distance) in enumerate(learned):
            count_k, sum_kz = self.get_buffer(f"count_{level}"), self.get_buffer(f"sum_{level}")
            count_k.lerp_(counts, weight)
            sum_kz.lerp_(sums, weight)
            mean_distance = self.get_buffer(f"distance_{level}")
            mean_distance.lerp_(distance / counts.sum(), weight)
            if self._offset(level) is not None:
                self._balance(level, count_k, mean_distance)
        if self.config.update == "ema":
            for home in sorted(set(self.homes)):
                if self._grid(home) is None:
                    self._move(home, learned)

    def _balance(self, level: int, count_k: Tensor, mean_distance: Tensor) -> None:
        """Offset every codeword by its share of use: the price of an even use of the codebook.

        Minimising mean distance less `balance` x mean distance x entropy of use asks for this
        price, as entropy-constrained quantisation (Chou, Lookabaugh & Gray, 1989) does with the
        opposite sign.
        """
        use_k = (count_k / count_k.mean()).clamp(*_USE_RANGE)
        offset_k = 0.5 * self.config.balance * mean_distance * use_k.log()
        self.get_buffer(f"offset_{level}").copy_(offset_k)

    def _move(self, home: int, learned: Sequence[Statistics]) -> None:
        levels = [level for level, at in enumerate(self.homes) if at == home]
        codebook_kz = self.get_buffer(f"codebook_{home}")
        count_k = sum(self.get_buffer(f"count_{level}") for level in levels)
        sum_kz = sum(self.get_buffer(f"sum_{level}") for level in levels)
        used_k = sum(learned[level].count_k for level in levels if level < len(learned))
        if isinstance(used_k, int):  # no level of this home was trained
            return
        assert isinstance(count_k, Tensor)
        # Unused codewords stay put: their count and sum decay alike, in the end to nothing.
        mean_kz = sum_kz / count_k.clamp_min(torch.finfo(count_k.dtype).tiny)[:, None]
        codebook_kz.copy_(torch.where(used_k[:, None] > 0, mean_kz, codebook_kz))

    @torch.no_grad()
    def restart(
        self,
        batch: Quantised,
        learned: Sequence[Statistics],
        *,
        below: float,
        chance: torch.Generator,
    ) -> list[Tensor]:
        """Move codewords used less than `below` times the mean to residuals of the batch.

        `learned` is what `update` was given, of all processes where there are several.
        Returns the rows that were moved on each trained level. A shared codebook only moves those
        that no level uses. Several processes find the same codewords dead; as each has rows of its
        own, they then take the codebooks of the first, as `DistributedDataParallel` does with
        buffers.
        """
        moved = []
        for level, residual_nz in enumerate(batch.residuals):
            count_k = self.get_buffer(f"count_{level}")
            if self._grid(level) is not None:
                moved.append(batch.codes_nl.new_empty(0))
                continue
            mean = float(learned[level].count_k.sum()) / len(count_k)
            home = self.homes[level]
            most_k = torch.stack(
                [self.get_buffer(f"count_{o}") for o, at in enumerate(self.homes) if at == home]
            ).amax(0)
            dead = torch.nonzero(most_k < below * mean)[:, 0]
            if len(dead):
                pick = torch.randint(len(residual_nz), (len(dead),), generator=chance)
                seeds_kz = residual_nz[pick.to(residual_nz.device)]
                # Half the mean: enough to live a while, little enough to follow its first batches.
                self._set(level, dead, seeds_kz, torch.full_like(count_k[dead], 0.5 * mean))
            moved.append(dead)
        return moved

    def _set(self, level: int, rows: slice | Tensor, codebook_kz: Tensor, count_k: Tensor) -> None:
        self.codebooks[level].data[rows] = codebook_kz
        self.get_buffer(f"count_{level}")[rows] = count_k
        self.get_buffer(f"sum_{level}")[rows] = codebook_kz * count_k[:, None]


def _sum_by_code(residual_nz: Tensor, code_n: Tensor, like_kz: Tensor) -> Tensor:
    """Add up the rows of every code in a fixed order, so that a seed repeats the run."""
    sums = torch.zeros_like(like_kz)
    if sums.is_cuda:  # where index_add_ adds in any order, and index_put_ sorts
        return sums.index_put_((code_n,), residual_nz, accumulate=True)
    return sums.index_add_(0, code_n, residual_nz)
