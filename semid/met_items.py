"""How often items are met, and users' steps from one to the next; counted out of core.

Shapes: n items, m steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.cooccurrence import MEMORY_BYTES, Counting, early, opened
from semid.errors import SemidError, display_path
from semid.fit_config import ContrastConfig
from semid.interactions import strangers
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
        steps_m2 = _left_out(connection, config, STEPS)
    met_n = np.zeros(len(ids), np.int64)
    met_n[counted["row"].to_numpy()] = counted["times"].to_numpy()
    if not len(counted):
        raise strangers(table, ids, item_id)
    return Met(met_n, steps_m2, table.num_rows, table.num_rows - int(met_n.sum()))


def steps_left_out(
    table: ParquetTable,
    ids: pa.Array,
    config: ContrastConfig,
    *,
    item_id: str = "item_id",
    folder: Path | None = None,
    most: int = 20_000,
) -> npt.NDArray[np.int64]:
    """Return users' steps from item to item that `count_partners` leaves out, ``(m, 2)``.

    A step is left out when its second item is. Of more than `most`, some are chosen by a hash.

    Parameters
    ----------
    table, config, item_id, folder : as of `semid.cooccurrence.count_partners`
    ids : ids of all items, in the order of their rows

    Raises
    ------
    SemidError
        As `count_partners`, or when no step is left out.
    """
    with opened(table, ids, config, item_id, folder) as connection:
        steps_m2 = _left_out(connection, config, most)
    if not len(steps_m2):
        raise SemidError(
            f"{display_path(table.name)} has no step between items that the contrast leaves out, "
            "so nothing is there to measure it on; check contrast.exclude_last, contrast.before "
            "and that its ids are those of the embeddings"
        )
    return steps_m2


def _left_out(
    connection: duckdb.DuckDBPyConnection, config: Counting, most: int
) -> npt.NDArray[np.int64]:
    """Return at most so many of the steps whose second item is left out, ``(m, 2)``."""
    query = _STEPS.format(before=early(connection, config), exclude=config.exclude_last)
    found = connection.sql(f"{query} LIMIT {most}").to_arrow_table()
    return np.stack([column.to_numpy() for column in found.columns], axis=1)


# Steps to items that are left out, in the order that pairs are counted in; by a hash, so that the
# same are chosen whatever the order of the table.
_STEPS = """
    SELECT before AS first, row AS second FROM (
        SELECT "user", row, lag(row) OVER (PARTITION BY "user" ORDER BY place, id) AS before,
            {before} AS early,
            row_number() OVER (
                PARTITION BY "user", {before} ORDER BY place DESC, id DESC
            ) AS from_end
        FROM met LEFT JOIN catalog USING (id)
    ) WHERE row <> before AND (NOT early OR from_end <= {exclude})
    ORDER BY md5(concat_ws('-', "user", before, row))
"""
