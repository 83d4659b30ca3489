"""The tree of prefixes of an ids table as arrays: which prefixes there are, and what is in them.

Rows sorted by their codes make every prefix a range of rows, and its children a range of the
prefixes one code longer. Shapes: n rows sorted by their codes, l levels, p prefixes of a depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Prefixes:
    """All prefixes of one depth, in the order of their codes.

    Attributes
    ----------
    code_p : the last code of each
    start_p : the first row of each among the sorted rows
    size_p : how many rows each has
    children_p : how many prefixes of the next depth begin with each
    """

    code_p: npt.NDArray[np.int32]
    start_p: Rows
    size_p: Rows
    children_p: Rows

    def __len__(self) -> int:
        return len(self.code_p)


def prefix_tree(codes_nl: Codes) -> list[Prefixes]:
    """Return the prefixes of the depths 1 to l of sorted codes ``(n, l)``, n at least 1."""
    differs_nl = np.logical_or.accumulate(codes_nl[1:] != codes_nl[:-1], axis=1)
    starts = [
        np.concatenate([[0], np.flatnonzero(differs_n) + 1]).astype(np.int64)
        for differs_n in differs_nl.T
    ]
    depths = []
    for depth, start_p in enumerate(starts):
        longer_p = starts[min(depth + 1, len(starts) - 1)]
        bound_p = np.append(np.searchsorted(longer_p, start_p), len(longer_p))
        depths.append(
            Prefixes(
                codes_nl[start_p, depth].astype(np.int32),
                start_p,
                np.diff(start_p, append=len(codes_nl)),
                np.diff(bound_p),
            )
        )
    return depths


def means(value_n: Floats, prefixes: Prefixes) -> Floats:
    """Return the mean of what is known in every prefix, ``(p,)``; NaN where nothing is."""
    known_n = ~np.isnan(value_n)
    sum_p = np.add.reduceat(np.where(known_n, value_n, 0.0), prefixes.start_p)
    count_p = np.add.reduceat(known_n.astype(np.int64), prefixes.start_p)
    unknown_p = np.full(len(sum_p), np.nan)
    mean_p: Floats = np.divide(sum_p, count_p, out=unknown_p, where=count_p > 0)
    return mean_p


def most_frequent(label_n: Rows, prefixes: Prefixes) -> tuple[Rows, Floats]:
    """Return the most frequent label of every prefix and its share of the prefix's rows, ``(p,)``.

    Of labels as frequent the lowest. Labels below 0 are unknown; where all are, the label is -1 and
    the share 0.
    """
    known = np.flatnonzero(label_n >= 0)
    label_p, share_p = np.full(len(prefixes), -1), np.zeros(len(prefixes))
    if not len(known):
        return label_p, share_p
    prefix_m = np.searchsorted(prefixes.start_p, known, "right") - 1
    labels = int(label_n.max()) + 1
    pair_m, count_m = np.unique(prefix_m * labels + label_n[known], return_counts=True)
    order_m = np.lexsort((pair_m, -count_m, pair_m // labels))
    of_m = pair_m[order_m] // labels
    first = np.flatnonzero(np.diff(of_m, prepend=-1))
    best = order_m[first]
    label_p[of_m[first]] = pair_m[best] % labels
    share_p[of_m[first]] = count_m[best] / prefixes.size_p[of_m[first]]
    return label_p, share_p
