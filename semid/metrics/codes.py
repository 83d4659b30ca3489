"""How well codebooks are used, and how many items have an ID of their own.

Shapes: n items, l levels, k codewords. Pure functions on arrays; counts may come from a stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Utilization(NamedTuple):
    """How one level's codebook is used.

    Perplexity as of codebooks since van den Oord et al., "Neural discrete representation learning",
    2017; of the entropy of Shannon (1948).

    used : codewords chosen at least once
    size : K
    perplexity : exp of the entropy of code usage (nats), from 1 to K; K when all are used alike
    largest_share : share of items on the most frequent codeword
    """

    used: int
    size: int
    perplexity: float
    largest_share: float


def utilization(counts_k: npt.NDArray[np.integer]) -> Utilization:
    """Measure one level from how often each of its codewords is used, shape ``(k,)``.

    See `Utilization`: of the entropy of Shannon (1948).
    """
    total = counts_k.sum()
    if not total:
        return Utilization(0, len(counts_k), 0.0, 0.0)
    share_k = counts_k[counts_k > 0] / total
    perplexity = float(np.exp(-(share_k * np.log(share_k)).sum()))
    return Utilization(len(share_k), len(counts_k), perplexity, float(share_k.max()))


def mean_error(errors: Iterable[float | None]) -> float | None:
    """Return the mean of the errors of several embedding columns, for each to count alike.

    Own definition.

    Columns whose items do not differ have none; None when that is all of them.
    """
    known = [error for error in errors if error is not None]
    return sum(known) / len(known) if known else None


def relative_error(squared_error: float, squared_deviation: float) -> float | None:
    """Share of the variance that is lost: squared error over squared deviation from the mean.

    1 less the coefficient of determination (Wright, "Correlation and causation", 1921).

    0 when reconstruction is exact, 1 for one that always answers the mean; None when the items do
    not differ.
    """
    return squared_error / squared_deviation if squared_deviation else None
