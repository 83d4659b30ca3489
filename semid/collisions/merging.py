"""The rows again, each with the SID that a policy gave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.collisions.space import Integers
from semid.collisions.streams import Codes, RowBatches, row_after
from semid.errors import SemidError
from semid.id_columns import CODES, CODES_TYPE, SID, code_column, code_matrix

if TYPE_CHECKING:
    from semid.collisions.moves import Moves


class Sids(Protocol):
    """What a policy decided, asked for span by span in row order."""

    def of(self, start: int, codes_nl: Codes) -> Codes:
        """Return the SIDs of the rows from `start`, whose raw codes are given."""
        ...


class Raw:
    """The raw SIDs."""

    def of(self, start: int, codes_nl: Codes) -> Codes:
        """Return the codes as they are."""
        return codes_nl


class Suffixed:
    """Raw SIDs with one level more; `take` gives the suffixes of a span of rows."""

    def __init__(self, take: Callable[[int, int], Codes]) -> None:
        self._take = take

    def of(self, start: int, codes_nl: Codes) -> Codes:
        """Return the codes and their suffix."""
        suffix_n = self._take(start, len(codes_nl))
        return np.concatenate([codes_nl, suffix_n[:, None]], axis=1)


class Moved:
    """Raw SIDs, but for rows that were moved.

    Parameters
    ----------
    moves : SIDs that are not the raw ones
    suffix_u : suffixes of ``moves.unplaced``; None for SIDs without a suffix
    """

    def __init__(self, moves: Moves, suffix_u: npt.NDArray[np.int32] | None) -> None:
        order = np.argsort(moves.unplaced.row_u)
        self._moves, self._row_u = moves, moves.unplaced.row_u[order]
        self._suffix_u = None if suffix_u is None else suffix_u[order]

    def of(self, start: int, codes_nl: Codes) -> Codes:
        """Return the codes, those of moved rows replaced."""
        moves, sid_nl = self._moves, codes_nl.copy()
        span = _span(moves.row_m, start, len(codes_nl))
        sid_nl[moves.row_m[span] - start] = moves.sid_ml[span]
        if self._suffix_u is None:
            return sid_nl
        suffix_n = np.zeros(len(codes_nl), np.int32)
        span = _span(self._row_u, start, len(codes_nl))
        suffix_n[self._row_u[span] - start] = self._suffix_u[span]
        return np.concatenate([sid_nl, suffix_n[:, None]], axis=1)


def _span(row_m: Integers, start: int, count: int) -> slice:
    return slice(*np.searchsorted(row_m, [start, start + count]).tolist())


def merged(
    batches: RowBatches, sids: Sids, items: int, folder: TemporaryDirectory[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows with a column ``sid`` after ``codes``; `folder` goes when they are read."""
    row = 0
    field = pa.field(SID, CODES_TYPE, nullable=False)
    with folder:
        for batch in filter(len, batches):
            codes_nl = code_matrix(batch.column(CODES), CODES, at=row_after(row))
            sid_ns = sids.of(row, codes_nl)
            row += len(codes_nl)
            place = batch.schema.get_field_index(CODES) + 1
            yield batch.add_column(place, field, code_column(sid_ns))
    if row != items:
        raise SemidError(
            f"the table had {items} rows at first and {row} later; "
            "run again when nothing writes to it"
        )
