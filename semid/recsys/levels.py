"""How many codes an ids table's SIDs may have at every level."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.id_table import IdTable


def levels_of(table: IdTable) -> tuple[int, ...]:
    """Return codes per level of a table's SIDs.

    The codewords that the table notes of its model, or one above the largest code that occurs; of a
    suffix always the latter.
    """
    summary = table.metadata.get("summary")
    noted = (summary.get("levels") if isinstance(summary, dict) else None) or ()
    found: npt.NDArray[Any] = table.sids.max(axis=0).astype(np.int64) + 1
    if len(noted) == table.codes.shape[1]:
        found[: len(noted)] = np.maximum(found[: len(noted)], noted)
    return tuple(found.tolist())
