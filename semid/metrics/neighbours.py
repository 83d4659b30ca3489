"""Whether items that are alike share the beginnings of their codes.

Shapes: n items, q queries among them, k neighbours of each, l levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def prefix_purity(
    codes_nl: npt.NDArray[np.integer],
    query_q: npt.NDArray[np.int64],
    neighbours_qk: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the share of neighbours with the same first code, the same first two, …: ``(l,)``.

    A mean over queries and their neighbours alike; as cluster purity (Manning, Raghavan & Schütze,
    2008, ch. 16), but among neighbours and for every prefix.
    """
    shares_l: npt.NDArray[np.float64] = prefix_shares(codes_nl, query_q, neighbours_qk).mean(0)
    return shares_l


def prefix_shares(
    codes_nl: npt.NDArray[np.integer],
    query_q: npt.NDArray[np.int64],
    neighbours_qk: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return for each query what `prefix_purity` is the mean of, 0 to 1: ``(q, l)``.

    Own definition, as `prefix_purity`.
    """
    same_qkl = codes_nl[neighbours_qk] == codes_nl[query_q][:, None]
    shares_ql: npt.NDArray[np.float64] = np.logical_and.accumulate(same_qkl, 2).mean(1)
    return shares_ql
