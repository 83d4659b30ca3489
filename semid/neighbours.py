"""Which rows are near each other: exact for few rows, near enough for many; and pairs of them.

Shapes: n rows, d dims, q queries among them, k neighbours of each, c rows of a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semid.kmeans import kmeans
from semid.quantization import Level, nearest, product

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# Up to here every row is compared with every other; beyond, with those of its own cell.
EXACT_ROWS = 16_384
CELL_ROWS = 512
MOST_CELL_ROWS = 4_096
CELL_SAMPLE = 64
QUERIES_AT_ONCE = 512
# Candidates beyond those that are wanted, whose order rounding may have mixed up.
SPARE = 8


def nearest_neighbours(x_nd: Matrix, query_q: Rows, count: int) -> Rows:
    """Return the rows nearest to the rows `query_q`, themselves left out: ``(q, k)``.

    In squared distance, every row compared with every other; whatever the number of threads. k is
    `count`, or n - 1 where that is less.
    """
    x, count = _tensor(x_nd), min(count, len(x_nd) - 1)
    half_n = 0.5 * x.square().sum(1)
    candidates, found = min(count + 1 + SPARE, len(x_nd)), []
    for query_b in torch.split(torch.from_numpy(query_q), QUERIES_AT_ONCE):
        # Half the squared distance, less the part that is the same for all: near enough to find
        # candidates, and then the difference itself, which cancels nothing, to order them.
        score_bn = product(half_n, x[query_b], x, alpha=-1)
        near_bc = score_bn.topk(candidates, largest=False).indices
        apart_bc = (x[near_bc] - x[query_b][:, None]).square().sum(2)
        order_bk = apart_bc.sort(dim=1, stable=True).indices[:, : count + 1]
        found.append(near_bc.gather(1, order_bk))
    return _without_itself(torch.cat(found).numpy(), query_q)


class Nearest:
    """The rows of a stream that are nearest to some queries in squared distance, exactly.

    Of rows at one distance, those with the least `tie` come first; where more of them than
    `SPARE` stand at the border, which are kept is left to the order of the stream.

    Parameters
    ----------
    query_qd : queries
    count : k
    """

    def __init__(self, query_qd: Matrix, count: int) -> None:
        self._query_qd, self._most = _tensor(query_qd), count + 1 + SPARE
        self._count = count
        shape = (len(query_qd), self._most)
        self._apart_qc = torch.full(shape, torch.inf)
        self._row_qc = torch.full(shape, -1, dtype=torch.int64)

    def add(self, x_bd: Matrix, row_b: Rows) -> None:
        """Look at a batch of rows, which are called `row_b`."""
        x, most = _tensor(x_bd), min(self._most, len(x_bd))
        row, half_b = torch.from_numpy(np.ascontiguousarray(row_b)), 0.5 * x.square().sum(1)
        for start in range(0, len(self._query_qd), QUERIES_AT_ONCE):
            cut = slice(start, start + QUERIES_AT_ONCE)
            query = self._query_qd[cut]
            near_qc = product(half_b, query, x, alpha=-1).topk(most, largest=False).indices
            apart_qc = (x[near_qc] - query[:, None]).square().sum(2)
            apart_qc = torch.cat([self._apart_qc[cut], apart_qc], 1)
            row_qc = torch.cat([self._row_qc[cut], row[near_qc]], 1)
            kept = apart_qc.topk(self._most, dim=1, largest=False)
            self._apart_qc[cut] = kept.values
            self._row_qc[cut] = row_qc.gather(1, kept.indices)

    def result(self, own_q: Rows, tie_n: npt.NDArray[Any]) -> Rows:
        """Return the nearest rows of every query, without the row `own_q`: ``(q, k)``, -1 for none.

        `tie_n` orders rows at one distance, such as a hash of their item ids.
        """
        row_qc, apart_qc = self._row_qc.numpy(), self._apart_qc.numpy()
        apart_qc = np.where(row_qc == own_q[:, None], np.inf, apart_qc)
        row_qc = np.where(row_qc == own_q[:, None], -1, row_qc)
        order_qc = np.lexsort((np.where(row_qc >= 0, tie_n[row_qc], 0), apart_qc))
        return np.take_along_axis(row_qc, order_qc, 1)[:, : self._count]


def nearest_centroids(x_nd: Matrix, centroid_kd: Matrix) -> Rows:
    """Return the nearest centroid of every row in squared distance, ``(n,)``, block by block."""
    found_n: Rows = nearest(_tensor(x_nd), Level(_tensor(centroid_kd))).numpy()
    return found_n


def _tensor(x_nd: Matrix) -> torch.Tensor:
    # Torch warns of arrays that cannot be written.
    return torch.from_numpy(np.require(x_nd, np.float32, ["C", "W"]))


def near_rows(x_nd: Matrix, count: int, *, seed: int) -> Rows:
    """Return rows near every row, the nearest first: ``(n, k)``, -1 where there are no more.

    The nearest up to `EXACT_ROWS`. Beyond, the nearest within cells of k-means, in bounded time
    however uneven the cells are: about 3 of 4 are among the nearest.
    """
    n = len(x_nd)
    if n <= EXACT_ROWS:
        return nearest_neighbours(x_nd, np.arange(n), count)
    near_nk = np.full((n, count), -1)
    for row_c in _cells(x_nd, n // CELL_ROWS, seed=seed):
        if len(row_c) > 1:
            found_ck = nearest_neighbours(x_nd[row_c], np.arange(len(row_c)), count)
            near_nk[row_c, : found_ck.shape[1]] = row_c[found_ck]
    return near_nk


def _cells(x_nd: Matrix, count: int, *, seed: int) -> Iterator[Rows]:
    """Yield the rows of every cell of k-means on a sample; large cells in pieces."""
    n = len(x_nd)
    picked = np.random.default_rng(seed).choice(n, min(n, CELL_SAMPLE * count), replace=False)
    centre_kd = kmeans(x_nd[np.sort(picked)], count, seed=seed, iterations=5)
    cell_n = nearest_centroids(x_nd, centre_kd)
    order_n = np.argsort(cell_n, kind="stable")
    for row_c in np.split(order_n, np.cumsum(np.bincount(cell_n, minlength=count))[:-1]):
        for start in range(0, len(row_c), MOST_CELL_ROWS):
            yield row_c[start : start + MOST_CELL_ROWS]


def _without_itself(found_qk: Rows, query_q: Rows) -> Rows:
    # A row need not come first: others may be exactly like it, and crowd it out.
    itself_qk = found_qk == query_q[:, None]
    itself_qk[~itself_qk.any(1), -1] = True
    kept_qk: Rows = found_qk[~itself_qk].reshape(len(query_q), found_qk.shape[1] - 1)
    return kept_qk


def pair_up(near_nk: Rows, *, seed: int) -> Rows:
    """Match each row with one of its near rows, none twice: ``(n,)``, its own number if with none.

    The nearest are tried first. Which of the rows that want the same one gets it is drawn, so that
    every seed pairs differently.
    """
    n, random = len(near_nk), np.random.default_rng(seed)
    mate_n, free_n = np.arange(n), np.ones(n, dtype=np.bool_)
    for wanted_n in near_nk.T:
        asking = np.flatnonzero(free_n & (wanted_n >= 0) & free_n[wanted_n])
        asked, turn = wanted_n[asking], random.permutation(len(asking))
        # A pair is made where no one before it in turn wants either of the two.
        first_n = np.full(n, len(asking))
        np.minimum.at(first_n, asking, turn)
        np.minimum.at(first_n, asked, turn)
        made = (first_n[asking] == turn) & (first_n[asked] == turn)
        left, right = asking[made], asked[made]
        mate_n[left], mate_n[right] = right, left
        free_n[left] = free_n[right] = False
    return mate_n


def side_by_side_order(mate_n: Rows, *, seed: int) -> tuple[Rows, Rows]:
    """Shuffle rows so that mates come one after the other, at an even place and the next.

    Returns the order ``(n,)``, and for every place in it the place of the row's mate, or its own
    where it has none.
    """
    random, row_n = np.random.default_rng(seed), np.arange(len(mate_n))
    left = np.flatnonzero(mate_n > row_n)
    alone = random.permutation(np.flatnonzero(mate_n == row_n))
    even = len(alone) // 2 * 2
    twos = np.concatenate([np.stack([left, mate_n[left]], 1), alone[:even].reshape(-1, 2)])
    order_n = np.concatenate([random.permutation(twos).reshape(-1), alone[even:]])
    beside_n = np.minimum(row_n ^ 1, len(row_n) - 1)
    return order_n, np.where(mate_n[order_n] == order_n[beside_n], beside_n, row_n)
