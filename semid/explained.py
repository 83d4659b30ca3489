"""How much of embeddings a model gives back: what tells another encoder's from those it knows.

Embeddings of another encoder may have the same width: their codes are in range and mean nothing.
Shapes: n rows, d dims, l levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.embedding_columns import spans
from semid.errors import SemidError
from semid.metrics.measurement import Measurement

if TYPE_CHECKING:
    from semid.quantizer import Quantizer

Matrix = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]

# Share of what the model explains of its own items below which embeddings are taken for another
# encoder's: items of an unheard-of kind still keep about half.
ENCODER = 0.25
# Nothing can be said of fewer rows, nor by a model that hardly explains its own items.
LEAST_ROWS, LEAST_EXPLAINED = 64, 0.2
# Rows to tell an encoder by: in a few places, so that little is read of large row groups.
PLACES, ROWS_AT_A_PLACE = 16, 256


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


@dataclass(frozen=True)
class Fresh:
    """Embeddings that are to join a table.

    Attributes
    ----------
    rows : takes row numbers, ascending, and yields the embeddings ``(b, d)``
    total : how many rows there are
    name : as a message calls them
    """

    rows: Callable[[Integers], Iterator[Matrix]]
    total: int
    name: str


def require_own_encoder(
    model: Quantizer, usual: Callable[[], Codes], fresh: Fresh, new_m: Integers
) -> None:
    """Raise `SemidError` when fresh embeddings look like another encoder's than the model's.

    A sample of the new ones among them is judged; of all, where these are too few.

    Parameters
    ----------
    model : gives codes
    usual : returns codes of items that it knows, ``(n, l)``
    new_m : numbers of the rows that are new, ascending
    """
    before = explained_before(model.metrics)
    row_m = new_m if len(new_m) >= LEAST_ROWS else np.arange(fresh.total)
    if not can_tell(before, len(row_m)):
        return
    coded = (
        (x_nd, model.quantize(x_nd).codes_nl)
        for place in _places(len(row_m))
        for x_nd in fresh.rows(row_m[place])
    )
    sentence = another_encoder(explained(model, usual(), coded), before, len(row_m))
    if sentence is not None:
        raise SemidError(
            f"{fresh.name}: {sentence}; embed the items with the encoder that the model was "
            "trained with, or train a new model"
        )


def _places(rows: int) -> list[Integers]:
    """Return row numbers that lie evenly among `rows`, in a few runs; all where these are few."""
    if rows <= PLACES * ROWS_AT_A_PLACE:
        return [np.arange(rows)]
    starts = np.linspace(0, rows - ROWS_AT_A_PLACE, PLACES).astype(np.int64)
    return [np.arange(start, start + ROWS_AT_A_PLACE) for start in starts]
