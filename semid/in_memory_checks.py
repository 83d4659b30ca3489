"""What drift and align do with tables of any size, for one in memory.

`semid.id_table.IdTable` puts its face on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from semid.alignment import find_orders
from semid.drift import Coded, measure_drift
from semid.drift_verdicts import Limits, judged
from semid.errors import SemidError
from semid.explained import Codes, Integers, explained, explained_before
from semid.id_columns import DISTANCE
from semid.in_memory import Items, usual_codes
from semid.origin import Origin, require_same_model

if TYPE_CHECKING:
    from semid.quantizer import Quantizer


def drift_of(
    items: Items, rows: pa.Table, noted: Mapping[str, Any], limits: Limits
) -> dict[str, Any]:
    """Say how far fresh items drifted from a table; see `IdTable.drift`."""
    if DISTANCE not in rows.schema.names:
        raise SemidError("the table has no distances, which drift compares; assign it again")
    before, model = Origin.noted(noted), items.model
    if before.model is not None:
        require_same_model("the table", before, "the one given", items.origin)
    figures = measure_drift(
        Coded(rows.to_batches()),
        Coded(items.batches()),
        levels=model.levels,
        item_id=items.item_id,
        holdout=float(model.config.get("holdout", 0.0)),
    )
    now = explained(model, usual_codes(rows), [(items.x_nd, items.codes)])
    told = {"explained": now, "explained_before": explained_before(model.metrics)}
    return judged(figures | told, limits)


def aligned(items: Items, codes_nl: Codes, row_q: Integers) -> Quantizer:
    """Renumber a model to agree with a table's codes; `row_q` are the rows of the items, or -1."""
    known = np.flatnonzero(row_q >= 0)
    if not len(known):
        raise SemidError(
            "none of the items is in the table, whose codes theirs are to agree with; give some "
            "that are"
        )
    pairs = [(items.codes[known], codes_nl[row_q[known]])]
    return items.model.permuted(find_orders(lambda: pairs, items.model.numbering))
