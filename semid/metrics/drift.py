"""How far codes of fresh items have moved from those of a table. Pure functions on counts.

Shapes: k codewords of a level, r draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from semid.metrics.codes import utilization

# Draws of a sample of the table itself, and how many of the codes that moved most are named.
DRAWS, MOVERS = 100, 5

Counts = npt.NDArray[np.integer]


class Mover(NamedTuple):
    """A code whose share of the items moved: before, in the table, and now, of fresh items.

    Own definition.
    """

    code: int
    before: float
    now: float


class Occupancy(NamedTuple):
    """How one level's codes are used by fresh items, next to how the table uses them.

    Own definition.

    divergence : Jensen-Shannon divergence of the two distributions in bits, from 0 to 1
    variation : total variation distance, the share of items that would have to move, from 0 to 1
    divergence_by_chance : mean divergence of as many items drawn at random from the table
    divergence_at_most : the most that any of these draws has
    perplexity_before, perplexity_now : exp of the entropy of code usage
    movers : the codes whose share moved most, that one first
    """

    divergence: float
    variation: float
    divergence_by_chance: float
    divergence_at_most: float
    perplexity_before: float
    perplexity_now: float
    movers: list[Mover]

    @property
    def shift(self) -> float:
        """Divergence beyond chance, in bits; 0 when a draw from the table may have as much."""
        if self.divergence <= self.divergence_at_most:
            return 0.0
        return self.divergence - self.divergence_by_chance


def occupancy(table_k: Counts, fresh_k: Counts, *, seed: int = 0) -> Occupancy:
    """Measure one level from how often its codes are used, each ``(k,)`` with a sum above 0.

    Own definition; see `Occupancy`.
    """
    before_k, now_k = table_k / table_k.sum(), fresh_k / fresh_k.sum()
    random = np.random.default_rng(seed)
    rows = int(fresh_k.sum())
    # One by one: all draws together would be r times as large as the codebook.
    chance_r = np.array(
        [jensen_shannon(before_k, random.multinomial(rows, before_k) / rows) for _ in range(DRAWS)]
    )
    moved_k = np.abs(now_k - before_k)
    most = np.argsort(-moved_k, kind="stable")[:MOVERS]
    return Occupancy(
        divergence=jensen_shannon(before_k, now_k),
        variation=float(moved_k.sum() / 2),
        divergence_by_chance=float(chance_r.mean()),
        divergence_at_most=float(chance_r.max()),
        perplexity_before=utilization(table_k).perplexity,
        perplexity_now=utilization(fresh_k).perplexity,
        movers=[Mover(int(k), float(before_k[k]), float(now_k[k])) for k in most if moved_k[k]],
    )


def jensen_shannon(p_k: npt.NDArray[np.float64], q_k: npt.NDArray[np.float64]) -> float:
    """Return the Jensen-Shannon divergence (Lin, 1991) of two distributions in bits."""
    middle_k = (p_k + q_k) / 2
    return max((_relative_entropy(p_k, middle_k) + _relative_entropy(q_k, middle_k)) / 2, 0.0)


def _relative_entropy(p_k: npt.NDArray[np.float64], q_k: npt.NDArray[np.float64]) -> float:
    there_k = p_k > 0
    return float((p_k[there_k] * np.log2(p_k[there_k] / q_k[there_k])).sum())
