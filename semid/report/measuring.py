"""What a report measures of items and their embeddings, batch by batch.

Shapes: n items, b of a batch, l levels, d dims, g groups of items with one raw SID.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semid.ids import group_ids
from semid.metrics.codes import relative_error

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Decode = Callable[[Codes], Floats]

# Groups whose items are compared, the largest first: their sums take 4 bytes a dim.
MOST_GROUPS = 20_000


@dataclass(frozen=True)
class Groups:
    """Items by their raw SID.

    Attributes
    ----------
    group_n : the group of every item
    size_g : how many items each has
    """

    group_n: Rows
    size_g: Rows

    @classmethod
    def of(cls, codes_nl: Codes) -> Groups:
        """Group raw codes ``(n, l)``."""
        group_n, _ = group_ids(codes_nl)
        return cls(group_n, np.bincount(group_n))

    def members(self, group: int) -> Rows:
        """Return the items of a group."""
        return np.flatnonzero(self.group_n == group)


class Measuring:
    """Errors of every item after one level, two, …, and how alike items of one raw SID are.

    Parameters
    ----------
    codes_nl : raw codes of all items, int32
    groups : the same items by raw SID
    width : d
    decode : codes ``(b, l)`` of a model, or of fewer levels, to ``(b, d)``; None without a model
    """

    def __init__(
        self, codes_nl: Codes, groups: Groups, *, width: int, decode: Decode | None
    ) -> None:
        n, levels = codes_nl.shape
        self._codes_nl, self._groups, self._decode = codes_nl, groups, decode
        self._error_nl = np.full((n, levels), np.nan, np.float32)
        self._square_n = np.full(n, np.nan)
        self._sum_d: dict[bool, npt.NDArray[np.float64]] = {
            side: np.zeros(width) for side in (False, True)
        }
        self._origin_d: Floats | None = None
        shared_g = np.flatnonzero(groups.size_g > 1)
        most_g = shared_g[np.argsort(-groups.size_g[shared_g], kind="stable")][:MOST_GROUPS]
        self._compared_g = most_g
        self._place_g = np.full(len(groups.size_g), -1)
        self._place_g[most_g] = np.arange(len(most_g))
        self._direction_gd = np.zeros((len(most_g), width), np.float32)
        self._known_g = np.zeros(len(most_g), np.int64)

    def add(self, row_b: Rows, x_bd: Floats, held_out_b: npt.NDArray[np.bool_]) -> None:
        """Add a batch: which items, their embeddings, and which of them are held out."""
        if self._origin_d is None:
            self._origin_d = x_bd[0].copy()
        from_origin_bd = x_bd - self._origin_d
        self._square_n[row_b] = np.einsum("bd,bd->b", from_origin_bd, from_origin_bd)
        for side in (False, True):
            self._sum_d[side] += from_origin_bd[held_out_b == side].sum(0, dtype=np.float64)
        if self._decode is not None:
            for level in range(self._codes_nl.shape[1]):
                off_bd = x_bd - self._decode(self._codes_nl[row_b, : level + 1])
                self._error_nl[row_b, level] = np.einsum("bd,bd->b", off_bd, off_bd)
        self._add_directions(row_b, x_bd)

    def _add_directions(self, row_b: Rows, x_bd: Floats) -> None:
        place_b = self._place_g[self._groups.group_n[row_b]]
        some = np.flatnonzero(place_b >= 0)
        if not len(some):
            return
        some = some[np.argsort(place_b[some], kind="stable")]
        place_m, length_m = place_b[some], np.linalg.norm(x_bd[some], axis=1, keepdims=True)
        unit_md = np.divide(x_bd[some], length_m, out=np.zeros_like(x_bd[some]), where=length_m > 0)
        first = np.flatnonzero(np.diff(place_m, prepend=-1))
        self._direction_gd[place_m[first]] += np.add.reduceat(unit_md, first)
        self._known_g[place_m[first]] += np.diff(first, append=len(place_m))

    @property
    def embedded_n(self) -> npt.NDArray[np.bool_]:
        """Which items had an embedding, ``(n,)``."""
        known_n: npt.NDArray[np.bool_] = ~np.isnan(self._square_n)
        return known_n

    def alike(self) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Return the groups that were compared and the mean cosine of their pairs of items.

        The pairs' cosines add up to half of what the squared length of the sum of all directions
        has beyond one for every item: no pair is looked at.
        """
        there_g = np.flatnonzero(self._known_g > 1)
        known_g = self._known_g[there_g]
        square_g = np.square(self._direction_gd[there_g], dtype=np.float64).sum(1)
        return self._compared_g[there_g], (square_g - known_g) / (known_g * (known_g - 1))

    def relative_errors(self) -> Floats | None:
        """Return every item's squared error after each level over the mean deviation, ``(n, l)``.

        The deviation is the squared distance from the mean of all items; NaN without an embedding,
        None without a model or when items do not differ.
        """
        n = int(self.embedded_n.sum())
        sum_d = self._sum_d[False] + self._sum_d[True]
        deviation = float(np.nansum(self._square_n)) - float(sum_d @ sum_d) / max(n, 1)
        if self._decode is None or not n or deviation <= 0:
            return None
        relative_nl: Floats = self._error_nl / np.float32(deviation / n)
        return relative_nl

    def errors_by_level(self, held_out_n: npt.NDArray[np.bool_]) -> dict[str, list[float | None]]:
        """Return what is lost of the variance after each level, of training and held-out items.

        Squared error over squared deviation from the training items' mean.
        """
        if self._decode is None:
            return {}
        rows = {side: self.embedded_n & (held_out_n == side) for side in (False, True)}
        mean_d = self._sum_d[False] / max(int(rows[False].sum()), 1)
        found: dict[str, list[float | None]] = {}
        for side, name in ((False, "training items"), (True, "held-out items")):
            count = int(rows[side].sum())
            if count:
                square = float(self._square_n[rows[side]].sum())
                square += count * float(mean_d @ mean_d) - 2 * float(mean_d @ self._sum_d[side])
                lost_l = self._error_nl[rows[side]].sum(0, dtype=np.float64)
                found[name] = [relative_error(float(lost), max(square, 0.0)) for lost in lost_l]
        return found
