"""Which levels are worth trying on a catalog, and what trying them costs.

Knows nothing of the rows but how many there are. Shapes: k codewords, d dims.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scipy.special import lambertw

Levels = tuple[int, ...]

SIZES = (16, 64, 256, 1024, 4096)
LENGTHS = (2, 3, 4, 5)
# Lengths of one size, from the shortest that can do.
LENGTHS_EACH = 3
# Rows that a codeword needs: FAISS warns of fewer.
ROWS_EACH = 39
# Rows that a level is fitted to in a trial, of a sample that has more.
LEAST_FIT_ROWS, FIT_ROWS_EACH = 65_536, 64
ITERATIONS = 25
# Multiplications and additions of all trials: about two minutes of two idle cores.
WORK = 6e12


class Shape(NamedTuple):
    """What the cost of a trial depends on: rows of the sample, those to fit to, and d."""

    rows: int
    fit_rows: int
    width: int

    def rows_for(self, size: int) -> int:
        """Return how many rows a level of `size` codewords is fitted to."""
        return min(self.fit_rows, max(LEAST_FIT_ROWS, FIT_ROWS_EACH * size))


class Grid(NamedTuple):
    """The levels to try, and those that would take too long, each in order of their cost."""

    tried: list[Levels]
    left_out: list[Levels]


def least_room(distinct: int, target: float) -> float:
    """Return how many IDs there must be for `target` of the items to have one of their own.

    Were all IDs as likely, n items would have ``S (1 - exp(-n / S))`` of S different ones (the
    birthday problem); codes are never as even as that. Solved for S by Lambert's W.
    """
    each = float(lambertw(-math.exp(-1 / target) / target).real) + 1 / target  # n / S
    return distinct / each


def candidates(train_rows: int, distinct: int, target: float) -> list[Levels]:
    """Return levels that could do: alike in size, and each half of the one before.

    Parameters
    ----------
    train_rows : of the catalog, 39 for each codeword of a level
    distinct : embeddings of the catalog that differ
    target : uniqueness to reach; levels that could not even if all their IDs were as likely are
        left out
    """
    room, found = least_room(distinct, target), []
    for size in (size for size in SIZES if size * ROWS_EACH <= train_rows):
        alike = [(size,) * length for length in LENGTHS]
        found += [levels for levels in alike if math.prod(levels) >= room][:LENGTHS_EACH]
        halves = [tuple(size >> level for level in range(length)) for length in (3, 4)]
        found += [levels for levels in halves if size >= 256 and math.prod(levels) >= room][:1]
    return found


def work(levels: Iterable[Levels], shape: Shape) -> float:
    """Return the multiplications and additions that trials of all `levels` take.

    A prefix that several have is fitted once.
    """
    prefixes = {one[: depth + 1] for one in levels for depth in range(len(one))}
    sizes = [prefix[-1] for prefix in prefixes]
    return sum(
        2.0 * shape.width * size * (ITERATIONS * shape.rows_for(size) + shape.rows)
        for size in sizes
    )


def cost_order(levels: Levels) -> tuple[int, int, Levels]:
    """Order levels by what their IDs cost a recommender: tokens an item, then codewords."""
    return len(levels), sum(levels), levels


def affordable(
    grid: Sequence[Levels], asked: Sequence[Levels], shape: Shape, limit: float = WORK
) -> Grid:
    """Leave out of a grid what takes most work until the rest stays within `limit`.

    What was `asked` for is always tried.
    """
    kept, left_out = list(dict.fromkeys([*asked, *grid])), []
    while work(kept, shape) > limit:
        able = [levels for levels in kept if levels not in asked]
        if not able:
            break
        dearest = max(able, key=lambda levels: (work([levels], shape), levels))
        kept.remove(dearest)
        left_out.append(dearest)
    return Grid(sorted(kept, key=cost_order), sorted(left_out, key=cost_order))
