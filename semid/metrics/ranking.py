"""Whether the item that is wanted ranks among the first, where items may have equal scores.

Items of one score, as all that share a SID, stand in an order that nothing decides; figures are
those expected of an order at random (McSherry & Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", 2008).

Pure functions on arrays. Shapes: q queries, each with one item that is wanted; m rows of a click
model, v distinct scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError

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


def auc(score_m: npt.NDArray[np.floating[Any]], clicked_m: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: 0.5 by chance, 1 where every click is above the others.

    The chance that a row that was clicked has a higher score than one that was not, equal scores
    counting half, which is the statistic of Mann & Whitney, "On a test of whether one of two random
    variables is stochastically larger than the other", 1947.

    Raises
    ------
    SemidError
        When rows are all clicked, or none is.
    """
    clicks = int(clicked_m.sum())
    others = len(clicked_m) - clicks
    if not clicks or not others:
        raise SemidError(
            f"{clicks:,} of {len(clicked_m):,} rows are clicked; an AUC needs rows of both kinds"
        )
    _, place_m, count_v = np.unique(score_m, return_inverse=True, return_counts=True)
    rank_v = np.cumsum(count_v) - (count_v - 1) / 2  # of equal scores the mean of their ranks
    above = rank_v[place_m][clicked_m].sum() - clicks * (clicks + 1) / 2
    return float(above / clicks / others)


def _places(before_q: Rows, tied_q: Rows, k: int) -> tuple[Rows, Rows]:
    """Return which of the first k places the tied items have, from 0."""
    start_q = np.minimum(before_q, k)
    return start_q, np.minimum(tied_q, k - start_q) + start_q
