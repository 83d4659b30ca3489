"""Whether the item that is wanted ranks among the first, where items may have equal scores.

Items of one score, as all that share a SID, stand in an order that nothing decides; figures are
those expected of an order at random (McSherry & Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", 2008).

Pure functions on arrays. Shapes: q queries, each with one item that is wanted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]

MISSED = np.iinfo(np.int64).max
"""How many items rank before one that was not found."""


def recall_at(before_q: Rows, tied_q: Rows, k: int) -> Figures:
    """Return the chance that the wanted item is among the first k: ``(q,)``.

    Of one wanted item, recall is the hit rate (Deshpande & Karypis, "Item-based top-N
    recommendation algorithms", 2004).

    Parameters
    ----------
    before_q : items that rank before the wanted one for sure; `MISSED` if it was not found
    tied_q : items of its score, itself among them
    k : how many are shown
    """
    start_q, stop_q = _places(before_q, tied_q, k)
    return np.asarray((stop_q - start_q) / tied_q, np.float64)


def ndcg_at(before_q: Rows, tied_q: Rows, k: int) -> Figures:
    """Return the normalised discounted cumulative gain among the first k: ``(q,)``.

    ``1 / log2(1 + rank)`` of one wanted item, and 0 beyond rank k (Järvelin & Kekäläinen,
    "Cumulated gain-based evaluation of IR techniques", 2002); of tied ones the mean over the ranks
    that they share. Parameters as of `recall_at`.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    total = np.concatenate([[0.0], discount.cumsum()])
    start_q, stop_q = _places(before_q, tied_q, k)
    return np.asarray((total[stop_q] - total[start_q]) / tied_q, np.float64)


def _places(before_q: Rows, tied_q: Rows, k: int) -> tuple[Rows, Rows]:
    """Return which of the first k places the tied items have, from 0."""
    start_q = np.minimum(before_q, k)
    return start_q, np.minimum(tied_q, k - start_q) + start_q
