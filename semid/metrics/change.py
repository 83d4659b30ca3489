"""What a collision policy changed, and what that cost. Shapes: n items, m of them moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Figures = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]


def change(
    error_n: Figures,
    moved_m: Rows,
    moved_error_m: Figures,
    suffix_n: npt.NDArray[np.integer[Any]] | None,
) -> dict[str, Any]:
    """Measure what a collision policy moved, and what that cost.

    Own definition: moving trades error for uniqueness, and a suffix (Rajput et al., "Recommender
    systems with generative retrieval", 2023) costs no error but says nothing of the item.

    Parameters
    ----------
    error_n : squared error of every item as its raw codes decode, NaN where it is not known
    moved_m : items whose SID does not begin with their raw codes
    moved_error_m : squared error of these as their SIDs decode
    suffix_n : the code that every SID has beyond the raw ones, None of SIDs without

    Returns
    -------
    figures : ``moved`` items, and ``moved_share`` of all, 0 to 1; ``added_error``, the squared
        error that their SIDs add over that of all items, -1 up, good is near 0, None without
        errors; ``suffixes``, the most that one raw SID has, None of SIDs without
    """
    added_m = moved_error_m.astype(np.float64) - error_n[moved_m]
    total = float(np.nansum(error_n, dtype=np.float64))
    return {
        "moved": len(moved_m),
        "moved_share": len(moved_m) / len(error_n),
        "added_error": float(np.nansum(added_m)) / total if total else None,
        "suffixes": None if suffix_n is None else int(suffix_n.max()) + 1,
    }
