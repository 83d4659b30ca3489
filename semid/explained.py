"""How much of embeddings a model gives back: what tells another encoder's from those it knows.

Embeddings of another encoder may have the same width: their codes are in range and mean nothing.
Shapes: n rows, d dims, l levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.embedding_columns import spans
from semid.metrics.measurement import Measurement

if TYPE_CHECKING:
    from semid.quantizer import Quantizer

Matrix = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]

# Share of what the model explains of its own items below which embeddings are taken for another
# encoder's: items of an unheard-of kind still keep about half.
ENCODER = 0.25
# Nothing can be said of fewer rows, nor by a model that hardly explains its own items.
LEAST_ROWS, LEAST_EXPLAINED = 64, 0.2


def explained(
    model: Quantizer, usual_nl: Codes, coded: Iterable[tuple[Matrix, Codes]]
) -> float | None:
    """Return the share of the variance of embeddings that their codes give back.

    1 less the squared error over the squared deviation from a mean, as `explained_before`. There
    the mean is that of the training items; here, of what the codes of usual items decode to.

    Parameters
    ----------
    model : gives the codes
    usual_nl : codes of items like those that it was fitted to, ``(n, l)``
    coded : batches of embeddings ``(n, d)`` and their codes ``(n, l)``

    Returns
    -------
    share : at most 1, below 0 for what codes describe worse than the mean; None of equal rows
    """
    measurement = Measurement((), spans(model.widths))
    usual_nd = model.decode(usual_nl)
    measurement.add(usual_nd, None, usual_nd, np.zeros(len(usual_nd), np.bool_))
    for x_nd, codes_nl in coded:
        measurement.add(x_nd, None, model.decode(codes_nl), np.ones(len(x_nd), np.bool_))
    error = measurement.result()["held_out_error"]
    return None if error is None else 1 - error


def explained_before(metrics: Mapping[str, Any]) -> float | None:
    """Return that share of a model's own items, from its metrics: of held-out ones, if any."""
    errors = (metrics.get(f"{side}_error") for side in ("held_out", "train"))
    error = next((error for error in errors if error is not None), None)
    return None if error is None else 1 - error


def can_tell(before: float | None, rows: int) -> bool:
    """Tell whether a model's share and this many rows suffice to tell another encoder's."""
    return rows >= LEAST_ROWS and before is not None and before >= LEAST_EXPLAINED


def another_encoder(now: float | None, before: float | None, rows: int) -> str | None:
    """Say that embeddings look like another encoder's, or return None when they do not.

    Parameters
    ----------
    now, before : the shares of the variance explained, of these rows and of the model's own items
    rows : how many of these there are
    """
    if now is None or before is None or not can_tell(before, rows) or now >= ENCODER * before:
        return None
    return (
        f"these embeddings look like another encoder's: the model explains {now:.0%} of their "
        f"variance but {before:.0%} of its own items'"
    )
