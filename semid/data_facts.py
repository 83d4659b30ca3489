"""What a sample of embeddings says of the catalog: repeated rows, dense places, heavy tails.

Shapes: n rows, d dims, k codewords, m distinct rows. Knows nothing about models or training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kmeans import kmeans
from semid.metrics.codes import Utilization, utilization
from semid.metrics.uniqueness import row_digests

Matrix = npt.NDArray[np.float32]

# Enough to tell even rows from uneven ones, in a second.
PROBED_ROWS = 8_192
PROBED_CODEWORDS = 256
PROBE_ITERATIONS = 10
TAIL = 0.01
# Squared distances to the codeword, over the mean one, below which a row lies in a dense place.
NEAR = 0.2


@dataclass(frozen=True)
class DataFacts:
    """What is known of a sample.

    Attributes
    ----------
    copies_m : how often each distinct row stands there, ``(m,)``; rows are compared bit for bit
    probe : how k-means uses a flat codebook on them
    tail_share : share of the variance that the farthest 1% of the rows hold
    dense_share : share of the rows that are nearer to their codeword of the probe than a fifth of
        the mean squared distance
    """

    copies_m: npt.NDArray[np.int64]
    probe: Utilization
    tail_share: float
    dense_share: float

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return int(self.copies_m.sum())

    @property
    def repeated(self) -> int:
        """Rows that repeat another one."""
        return self.rows - len(self.copies_m)

    def as_plain(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {
            "sampled_rows": self.rows,
            "distinct_rows": len(self.copies_m),
            "most_repeated": int(self.copies_m.max()),
            "kmeans_codewords": self.probe.size,
            "kmeans_perplexity": self.probe.perplexity,
            "kmeans_largest_share": self.probe.largest_share,
            "tail_share": self.tail_share,
            "dense_share": self.dense_share,
        }


def examine(x_nd: Matrix, codewords: int, *, seed: int) -> DataFacts:
    """Look at a sample of embeddings ``(n, d)``; k-means probes it with at most `codewords`."""
    copies_m = np.unique(row_digests(np.asarray(x_nd, np.float32)), return_counts=True)[1]
    step = math.ceil(len(x_nd) / PROBED_ROWS)
    centred_nd = x_nd[::step] - x_nd[::step].mean(0)
    k = min(codewords, PROBED_CODEWORDS, len(centred_nd))
    probe, dense_share = _probe(centred_nd, k, seed=seed)
    return DataFacts(copies_m, probe, _tail_share(centred_nd), dense_share)


def _probe(x_nd: Matrix, k: int, *, seed: int) -> tuple[Utilization, float]:
    from semid.neighbours import nearest_centroids

    centroid_kd = kmeans(x_nd, k, seed=seed, iterations=PROBE_ITERATIONS)
    code_n = nearest_centroids(x_nd, centroid_kd)
    square_n = np.square(x_nd - centroid_kd[code_n], dtype=np.float64).sum(1)
    used = utilization(np.bincount(code_n, minlength=k))
    return used, float((square_n < NEAR * square_n.mean()).mean())


def _tail_share(centred_nd: Matrix) -> float:
    square_n = np.sort(np.einsum("nd,nd->n", centred_nd, centred_nd, dtype=np.float64))
    tail = max(1, round(TAIL * len(square_n)))
    total = square_n.sum()
    return float(square_n[-tail:].sum() / total) if total else 0.0


def perplexity_ceiling(copies_m: npt.NDArray[np.int64], k: int) -> float:
    """Return the largest perplexity that any quantizer with k codewords can reach on such rows.

    Equal rows have equal codes: a row whose copies exceed an even share takes a codeword for
    itself, and at best the rest is spread evenly over the others.
    """
    left, rows, entropy = int(copies_m.sum()), int(copies_m.sum()), 0.0
    free = min(k, len(copies_m))
    for copies in np.sort(copies_m)[::-1][:free].tolist():
        if copies * free <= left:
            break
        entropy -= copies / rows * math.log(copies / rows)
        left, free = left - copies, free - 1
    if left:
        entropy -= left / rows * math.log(left / rows / free)
    return math.exp(entropy)
