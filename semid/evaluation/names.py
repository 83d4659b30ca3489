"""Which figures `semid evaluate` will have, known before anything is measured.

They are those of a catalog of a few items, measured in the same way. Shapes: n items, l levels,
d dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.coded_items import Categories, CodedItems, Embedded
from semid.embedding_columns import Widths
from semid.evaluation.passing import CodesAlone
from semid.evaluation.whole import Given, measure
from semid.met_items import Met

Matrix = npt.NDArray[np.float32]

_ITEMS = 4
_OF_ANY_LENGTH = {"histogram", "examples", "worst"}


@dataclass(frozen=True)
class _Model:
    """Gives all items the same codes, and codes the same vector."""

    levels: tuple[int, ...]
    widths: Widths

    def decode(self, codes: Any) -> Matrix:
        return np.zeros((len(codes), sum(self.widths.values())), np.float32)

    def quantize(self, x_nd: Matrix) -> Any:
        return _Codes(np.zeros((len(x_nd), len(self.levels)), np.int32))


@dataclass(frozen=True)
class _Codes:
    codes_nl: npt.NDArray[np.int32]


def expected_figures(
    levels: Sequence[int],
    widths: Widths,
    *,
    met: bool,
    categories: bool,
    baseline: bool,
    model: bool = True,
) -> dict[str, Any]:
    """Return figures with the names of those of a model, as `semid.gates.require_names` takes them.

    Parameters
    ----------
    levels, widths : the model's
    met, categories, baseline, model : which of them will be known
    """
    decoder = _Model(tuple(levels), widths)
    row_n = np.arange(_ITEMS)
    x_nd = np.zeros((_ITEMS, sum(widths.values())), np.float32)
    x_nd[:, 0] = row_n - 1

    def stream() -> Iterator[tuple[Matrix, npt.NDArray[np.int64]]]:
        yield x_nd, row_n

    codes_nl = np.zeros((_ITEMS, len(levels)), np.int32)
    suffix_n = row_n.astype(np.int32)
    items = CodedItems(codes_nl, row_n[:0], codes_nl[:0], suffix_n, row_n == 0, row_n)
    steps_m2 = np.array([[0, 1], [1, 2]])
    given = Given(
        items,
        Embedded(widths, row_n, stream, lambda item_m: x_nd[item_m]),
        decoder if model else CodesAlone(tuple(levels), widths),
        baseline=decoder if baseline else None,
        met=Met(np.ones(_ITEMS, np.int64), steps_m2, _ITEMS, 0) if met else None,
        categories=Categories("", row_n * 0, [""]) if categories else None,
    )
    found: dict[str, Any] = _opened(measure(given)[0])
    if categories and model:
        found["fidelity"]["categories"] = tuple(found["fidelity"]["categories"])
    return found


def _opened(value: Any) -> Any:
    """Turn the lists whose length depends on the data into tuples."""
    if isinstance(value, list):
        return [_opened(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: tuple(inner) if key in _OF_ANY_LENGTH else _opened(inner)
        for key, inner in value.items()
    }
