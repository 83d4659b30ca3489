"""Which rows are near each other: exact for few rows, near enough for many; and pairs of them.

Shapes: n rows, d dims, q queries among them, k neighbours of each, c rows of a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semid.errors import require_package
from semid.kmeans import kmeans
from semid.metrics.uniqueness import row_digests
from semid.quantization import Level, nearest, product

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# Up to here every row is compared with every other; beyond, with those of its own cell.
EXACT_ROWS = 16_384
CELL_ROWS = 512
MOST_CELL_ROWS = 4_096
CELL_SAMPLE = 64
QUERIES_AT_ONCE = 512
# Rows whose nearest tell how many are found, the share of them that will do, and how many cells are
# looked into for it, in turn.
PROBED, RECALL, SEEN = 500, 0.95, (4, 8, 16, 32)
# Candidates beyond those that are wanted, whose order rounding may have mixed up.
SPARE = 8
# Of the candidates that are compared at once.
_FLOATS_AT_ONCE = 1 << 23
# What a score may be off by, of the squared lengths that it is made of.
_ROUNDING = 1e-6


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

    Of rows at one distance, however many, those with the least `tie_n` come first, whatever the
    order of the stream.

    Parameters
    ----------
    query_qd : queries
    count : k
    tie_n : what orders rows at one distance, such as a hash of their item ids; by row
    """

    def __init__(self, query_qd: Matrix, count: int, tie_n: npt.NDArray[Any]) -> None:
        require_package("faiss", extra="cpu", purpose="looking for neighbours")
        self._query_qd = np.ascontiguousarray(query_qd, np.float32)
        self._count, self._tie_n = count, tie_n
        self._square_q = np.square(self._query_qd).sum(1)
        # One more, for the query itself may be among them.
        shape = (len(query_qd), count + 1)
        self._apart_qc = np.full(shape, np.inf, np.float32)
        self._row_qc = np.full(shape, -1)

    def add(self, x_bd: Matrix, row_b: Rows) -> None:
        """Look at a batch of rows, which are called `row_b`."""
        import faiss

        copies = _Copies(x_bd, row_b, self._tie_n, self._count + 1)
        x_ud = np.ascontiguousarray(x_bd[copies.first_u], np.float32)
        most = np.square(x_ud).sum(1).max()
        left_q, wide = np.arange(len(self._query_qd)), min(self._count + 1 + SPARE, len(x_ud))
        while len(left_q):
            pieces = -(-len(left_q) * wide * x_ud.shape[1] // _FLOATS_AT_ONCE)
            again = []
            for query_p in np.array_split(left_q, pieces):
                apart_pw, near_pw = faiss.knn(self._query_qd[query_p], x_ud, wide)
                # Rounding may have mixed up, or a tie cut off, what is this near to the last.
                bound_p = apart_pw[:, min(self._count, wide - 1)]
                bound_p = bound_p + 2 * _ROUNDING * (self._square_q[query_p] + most)
                whole_p = (apart_pw[:, -1] > bound_p) | (wide == len(x_ud))
                self._keep(query_p[whole_p], near_pw[whole_p], x_ud, copies)
                again.append(query_p[~whole_p])
            left_q, wide = np.concatenate(again), min(2 * wide, len(x_ud))

    def _keep(self, query_q: Rows, near_qu: Rows, x_ud: Matrix, copies: _Copies) -> None:
        """Keep the nearest of candidates, with their copies, and of what is kept."""
        if not len(query_q):
            return
        # The difference itself, which cancels nothing: the same whatever else is in the batch.
        apart_qu = np.square(x_ud[near_qu] - self._query_qd[query_q][:, None]).sum(2)
        row_qc, apart_qc = copies.of(near_qu, apart_qu)
        row_qc = np.concatenate([self._row_qc[query_q], row_qc], 1)
        apart_qc = np.concatenate([self._apart_qc[query_q], apart_qc], 1)
        order_qc = self._order(row_qc, apart_qc)[:, : self._count + 1]
        self._row_qc[query_q] = np.take_along_axis(row_qc, order_qc, 1)
        self._apart_qc[query_q] = np.take_along_axis(apart_qc, order_qc, 1)

    def _order(self, row_qc: Rows, apart_qc: Matrix) -> Rows:
        return np.lexsort((np.where(row_qc >= 0, self._tie_n[row_qc], 0), apart_qc))

    def result(self, own_q: Rows) -> Rows:
        """Return the nearest rows of every query, without the row `own_q`: ``(q, k)``, -1: none."""
        own_qc = self._row_qc == own_q[:, None]
        row_qc = np.where(own_qc, -1, self._row_qc)
        order_qc = self._order(row_qc, np.where(own_qc, np.inf, self._apart_qc))
        return np.take_along_axis(row_qc, order_qc, 1)[:, : self._count]


class _Copies:
    """The distinct rows of a batch, each with the first of its copies in the order of ties.

    Attributes
    ----------
    first_u : a place in the batch of every distinct row
    """

    def __init__(self, x_bd: Matrix, row_b: Rows, tie_n: npt.NDArray[Any], most: int) -> None:
        digest_b = row_digests(x_bd)
        order_b = np.lexsort((tie_n[row_b], digest_b))
        new_b = np.r_[True, digest_b[order_b][1:] != digest_b[order_b][:-1]]
        start_u = np.flatnonzero(new_b)
        self.first_u = order_b[start_u]
        self._row_b, self._start_u = row_b[order_b], start_u
        self._copies_u = np.minimum(np.diff(start_u, append=len(row_b)), most)

    def of(self, near_qu: Rows, apart_qu: Matrix) -> tuple[Rows, Matrix]:
        """Return candidates with their copies, -1 and infinitely far where there are no more."""
        copies_qu = self._copies_u[near_qu]
        nth_c = np.arange(copies_qu.max())
        row_quc = self._start_u[near_qu][:, :, None] + np.minimum(nth_c, copies_qu[:, :, None] - 1)
        there_quc = nth_c < copies_qu[:, :, None]
        row_quc = np.where(there_quc, self._row_b[row_quc], -1)
        apart_quc = np.where(there_quc, apart_qu[:, :, None], np.float32(np.inf))
        return row_quc.reshape(len(near_qu), -1), apart_quc.reshape(len(near_qu), -1)


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


def nearest_of_all(x_nd: Matrix, count: int, *, seed: int) -> tuple[Rows, float]:
    """Return the rows nearest to every row, ``(n, k)``, -1: none, and what share of them is right.

    Exact up to `EXACT_ROWS`. Beyond, by an inverted file of FAISS (Jégou, Douze & Schmid, "Product
    quantization for nearest neighbor search", 2011, without its quantizer), of as many of its cells
    as it takes to find `RECALL` of the nearest of `PROBED` rows, which are known exactly, or
    the most of `SEEN`: the share is of these.
    """
    n = len(x_nd)
    if n <= EXACT_ROWS:
        return nearest_neighbours(x_nd, np.arange(n), count), 1.0
    import faiss

    x_nd, random = np.ascontiguousarray(x_nd, np.float32), np.random.default_rng(seed)
    cells = int(2 * n**0.5)
    index: Any = faiss.index_factory(x_nd.shape[1], f"IVF{cells},Flat")
    index.cp.seed, index.cp.niter = seed, 5
    index.train(x_nd[np.sort(random.choice(n, min(n, CELL_SAMPLE * cells), replace=False))])
    index.add(x_nd)
    query_q = np.sort(random.choice(n, PROBED, replace=False))
    right_qk = nearest_neighbours(x_nd, query_q, count)
    for seen in SEEN:
        index.nprobe = seen
        found_qk = _without_itself(index.search(x_nd[query_q], count + 1)[1], query_q)
        recall = float((found_qk[:, :, None] == right_qk[:, None]).any(2).mean())
        if recall >= RECALL:
            break
    return _without_itself(index.search(x_nd, count + 1)[1], np.arange(n)), recall


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
