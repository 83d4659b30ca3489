"""Measuring a quantizer over any number of rows: add batches, then read the figures.

Memory: 16 bytes a row for the raw SIDs (more when they do not fit 63 bits), whatever d is.
Shapes: n items, d input dims, l levels, k codewords, m key columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.ids import pack_keys
from semid.metrics.codes import mean_error, relative_error, utilization

# Below this share of its terms, a sum of squares in float64 is their rounding.
_ROUNDING = 1e-13


class _Side:
    """Sums over the items of one side of the hold-out split, measured from a fixed origin.

    An origin among the items keeps the deviation from drowning in the square of a large mean.
    """

    def __init__(self, width: int) -> None:
        self.rows = 0
        self.error_d = np.zeros(width)
        self.square_d = np.zeros(width)
        self.sum_d = np.zeros(width)

    def add(self, from_origin_nd: npt.NDArray[np.float32], off_nd: npt.NDArray[np.float32]) -> None:
        self.rows += len(off_nd)
        self.error_d += _sums_of_squares(off_nd)
        self.square_d += _sums_of_squares(from_origin_nd)
        self.sum_d += from_origin_nd.sum(0, dtype=np.float64)

    def deviation(self, mean_d: npt.NDArray[np.float64], dims: slice) -> float:
        mean_d, square = mean_d[dims], float(self.square_d[dims].sum())
        mean_square = float(self.rows * mean_d @ mean_d)
        deviation = square - 2 * float(mean_d @ self.sum_d[dims]) + mean_square
        if deviation <= _ROUNDING * (square + mean_square):
            deviation = 0.0
        return deviation

    def relative_error(self, mean_d: npt.NDArray[np.float64], dims: slice) -> float | None:
        return relative_error(float(self.error_d[dims].sum()), self.deviation(mean_d, dims))


def _sums_of_squares(x_nd: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(np.einsum("nd,nd->d", x_nd, x_nd, dtype=np.float64))


def _distinct(keys: list[npt.NDArray[np.int64]]) -> int:
    keys_nm = np.concatenate(keys)
    if keys_nm.shape[1] > 1:
        return len(np.unique(keys_nm, axis=0))
    key_n = keys_nm[:, 0]
    key_n.sort()  # in place: as much memory as the keys, twice as fast
    return int(1 + (key_n[1:] != key_n[:-1]).sum())


class Measurement:
    """Code usage, raw uniqueness and reconstruction error, added up batch by batch.

    Own definition; of `utilization`, `uniqueness` and `relative_error`.

    Parameters
    ----------
    levels : codewords per level
    spans : where the dims of each embedding column stand in a row
    """

    def __init__(self, levels: Sequence[int], spans: Mapping[str, slice]) -> None:
        self._spans = spans
        width = max(span.stop for span in spans.values())
        self._levels = tuple(levels)
        self._counts = [np.zeros(size, np.int64) for size in self._levels]
        self._keys: list[npt.NDArray[np.int64]] = []
        self._origin_d: npt.NDArray[np.float32] | None = None
        self._sides = {"train": _Side(width), "held_out": _Side(width)}

    def add(
        self,
        x_nd: npt.NDArray[np.float32],
        codes_nl: npt.NDArray[np.int32] | None,
        decoded_nd: npt.NDArray[np.float32],
        held_out_n: npt.NDArray[np.bool_],
    ) -> None:
        """Add a batch: embeddings, their codes, what the codes decode to, and who is held out.

        `codes_nl` is None for a model without codes.
        """
        if codes_nl is not None:
            for level, counts_k in enumerate(self._counts):
                counts_k += np.bincount(codes_nl[:, level], minlength=len(counts_k))
            self._keys.append(pack_keys(codes_nl, self._levels))
        if self._origin_d is None:
            self._origin_d = x_nd[0].copy()
        for name, rows_n in (("train", ~held_out_n), ("held_out", held_out_n)):
            if rows_n.any():
                side_nd = x_nd[rows_n]
                self._sides[name].add(side_nd - self._origin_d, side_nd - decoded_nd[rows_n])

    def result(self) -> dict[str, Any]:
        """Return the figures as plain values.

        ``items``; ``levels``, for each its size, used codewords, perplexity and largest share;
        ``raw_uniqueness``, distinct raw SIDs over items, None without codes; ``train_error`` and
        ``held_out_error``, squared error over squared deviation from the training items' mean,
        None without items or when they do not differ. With several embedding columns these are
        means over the columns, and ``columns`` has the two errors of each.
        """
        train = self._sides["train"]
        items = sum(side.rows for side in self._sides.values())
        mean_d = train.sum_d / max(train.rows, 1)
        errors = {name: self._errors(mean_d, span) for name, span in self._spans.items()}
        distinct = _distinct(self._keys) if self._keys else None
        return {
            "items": items,
            "levels": [utilization(counts_k)._asdict() for counts_k in self._counts],
            "raw_uniqueness": None if distinct is None else distinct / items,
            **{
                f"{side}_error": mean_error(error[f"{side}_error"] for error in errors.values())
                for side in self._sides
            },
            **({"columns": errors} if len(errors) > 1 else {}),
        }

    def units(self) -> npt.NDArray[np.float64]:
        """Return each column's mean squared deviation of the training items, ``(c,)``.

        What relative errors are relative to. NaN where these do not differ, or there are none.
        """
        train = self._sides["train"]
        mean_d = train.sum_d / max(train.rows, 1)
        spread_c = [train.deviation(mean_d, span) for span in self._spans.values()]
        return np.array([spread / train.rows if spread else np.nan for spread in spread_c])

    def _errors(self, mean_d: npt.NDArray[np.float64], dims: slice) -> dict[str, float | None]:
        return {
            f"{name}_error": side.relative_error(mean_d, dims) for name, side in self._sides.items()
        }
