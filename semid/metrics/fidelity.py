"""How well codes give embeddings back: as a whole, by prefix, and by category.

Shapes: n items, d dims, c categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.metrics.measurement import Measurement
from semid.metrics.vectors import cosine_similarity

Matrix = npt.NDArray[np.float32]
Cosines = npt.NDArray[np.float64]
_SIDES = ("train", "held_out")


class Fidelity:
    """Errors and cosines of what codes, or their prefixes, decode to, added up batch by batch.

    Of the coefficient of determination of Wright, "Correlation and causation", 1921, and the cosine
    of Salton & McGill, 1983.

    Parameters
    ----------
    spans : where the dims of each embedding column stand in a row
    """

    def __init__(self, spans: Mapping[str, slice]) -> None:
        self._errors = Measurement((), spans)
        self._rows, self._cosines = [0, 0], [0.0, 0.0]

    def add(self, x_nd: Matrix, decoded_nd: Matrix, held_out_n: npt.NDArray[np.bool_]) -> Cosines:
        """Add embeddings, what their codes decode to, and who is held out; returns cosines."""
        self._errors.add(x_nd, None, decoded_nd, held_out_n)
        cosine_n = cosine_similarity(x_nd, decoded_nd)
        for side, rows_n in enumerate((~held_out_n, held_out_n)):
            self._rows[side] += int(rows_n.sum())
            self._cosines[side] += float(cosine_n[rows_n].sum())
        return cosine_n

    def units(self) -> npt.NDArray[np.float64]:
        """Return what a squared error of each column is relative to, ``(c,)``; NaN: nothing."""
        return self._errors.units()

    def result(self) -> dict[str, Any]:
        """Return the figures as plain values.

        Of training items, and, with ``held_out`` in place of ``train``, of those held out:
        ``train_error``, squared error over the squared deviation from the training items' mean: 0
        is exact, 1 no better than the mean, good is below that of RQ-KMeans; ``train_r2``, 1 less
        that, the share of the variance that is given back; ``train_cosine``, the mean cosine of an
        embedding and what its codes decode to, -1 to 1, good is near 1. None without items, or when
        they do not differ. With several embedding columns errors are means over the columns, and
        ``columns`` has those of each.
        """
        found = self._errors.result()
        figures: dict[str, Any] = {}
        for place, side in enumerate(_SIDES):
            error, rows = found[f"{side}_error"], self._rows[place]
            figures[f"{side}_error"] = error
            figures[f"{side}_r2"] = None if error is None else 1 - error
            figures[f"{side}_cosine"] = self._cosines[place] / rows if rows else None
        return figures | ({"columns": found["columns"]} if "columns" in found else {})


def by_group(
    value_n: npt.NDArray[np.floating[Any]], group_n: npt.NDArray[np.int64], groups: int = 0
) -> npt.NDArray[np.float64]:
    """Return the mean over the items of every group, ``(c,)``; NaN of a group without items.

    Of relative errors, which have one unit in all groups, their mean over items is the catalog's: a
    group above it is given back worse than the rest. Own definition.

    Parameters
    ----------
    value_n : of every item
    group_n : its group, from 0
    groups : how many there are at least
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.bincount(group_n, value_n, groups) / np.bincount(group_n, minlength=groups)
