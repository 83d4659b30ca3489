"""How often items are met, and users' steps from one to the next; counted out of core.

Shapes: n items, m steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.cooccurrence import MEMORY_BYTES, left_out, opened
from semid.errors import SemidError, display_path
from semid.fit_config import ContrastConfig
from semid.tables import ParquetTable

# Steps that are enough to know shares to a fraction of a percent.
STEPS = 200_000
# Every interaction counts as left out: of a model that learnt from none.
ALL = ContrastConfig(exclude_last=2**31 - 1)


@dataclass(frozen=True)
class Met:
    """What users did.

    Attributes
    ----------
    met_n : interactions of every item
    steps_m2 : steps of users from one item to another, a sample by a hash, in its order
    interactions : rows of the table
    of_others : those of items that are not there
    """

    met_n: npt.NDArray[np.int64]
    steps_m2: npt.NDArray[np.int64]
    interactions: int
    of_others: int


def count_met(
    table: ParquetTable,
    ids: pa.Array,
    *,
    learnt: ContrastConfig | None = None,
    item_id: str = "item_id",
    folder: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Met:
    """Count who met which items, and list the steps that a model did not learn from.

    Parameters
    ----------
    table : interactions with columns user_id, `item_id`, and timestamp or position
    ids : ids of all items, in their order
    learnt : how the model learnt from the interactions; None when it did not: all steps count
    item_id : name of the id column
    folder : where the disk has room; the system's when not given
    memory_bytes : DuckDB's budget

    Raises
    ------
    SemidError
        When a column is missing, of another type or holds a null, none of the items is there, or
        the disk is full.
    """
    config = ALL if learnt is None else learnt
    with opened(table, ids, config, item_id, folder, memory_bytes) as connection:
        counted = connection.sql(
            "SELECT row, count(*) AS times FROM met JOIN catalog USING (id) GROUP BY row"
        ).to_arrow_table()
        steps_m2 = left_out(connection, config, STEPS)
    met_n = np.zeros(len(ids), np.int64)
    met_n[counted["row"].to_numpy()] = counted["times"].to_numpy()
    if not len(counted):
        raise SemidError(
            f"none of the {table.num_rows:,} interactions in {display_path(table.name)} is of an "
            "item of the ids table; give those of its catalog, with item ids written alike"
        )
    return Met(met_n, steps_m2, table.num_rows, table.num_rows - int(met_n.sum()))
