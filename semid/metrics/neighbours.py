"""Whether items that are alike share the beginnings of their codes.

Shapes: n items, d dims, q queries among them, k neighbours of each, l levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from semid.errors import require_package


def nearest_neighbours(
    x_nd: npt.NDArray[np.float32], query_q: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """Return the rows nearest to the rows `query_q`, themselves left out: ``(q, k)``.

    Exact, in squared distance, by FAISS; k is `count`, or n - 1 where that is less.

    Raises
    ------
    SemidError
        When faiss is not installed.
    """
    require_package("faiss", extra="cpu", purpose="the search for neighbours")
    import faiss

    count = min(count, len(x_nd) - 1)
    index = faiss.IndexFlatL2(x_nd.shape[1])
    index.add(np.ascontiguousarray(x_nd))
    _, found_qk = index.search(np.ascontiguousarray(x_nd[query_q]), count + 1)
    # A row need not come first: others may be exactly like it, and crowd it out.
    itself_qk = found_qk == query_q[:, None]
    itself_qk[~itself_qk.any(1), -1] = True
    kept_qk: npt.NDArray[np.int64] = found_qk[~itself_qk].reshape(len(query_q), count)
    return kept_qk


def prefix_purity(
    codes_nl: npt.NDArray[np.integer],
    query_q: npt.NDArray[np.int64],
    neighbours_qk: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the share of neighbours with the same first code, the same first two, …: ``(l,)``.

    A mean over queries and their neighbours alike; as cluster purity (Manning, Raghavan & Schütze,
    2008, ch. 16), but among neighbours and for every prefix.
    """
    same_qkl = codes_nl[neighbours_qk] == codes_nl[query_q][:, None]
    shares_l: npt.NDArray[np.float64] = np.logical_and.accumulate(same_qkl, 2).mean((0, 1))
    return shares_l
