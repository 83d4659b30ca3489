"""Users' histories from an interactions table: item numbers one after the other, split in time.

Read in batches and sorted, in memory or on disk. What is left takes 5 bytes an interaction, and 8 a
user beside its id. Nothing here needs torch.

Shapes: n items, u users, m interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.errors import SemidError, display_path
from semid.id_columns import id_column, refuse_duplicates
from semid.interactions import TIMESTAMP, interaction_columns, strangers
from semid.recsys.ordering import Bounds, Ordered, as_numbers, ordered_in_memory
from semid.tables import ParquetTable, open_table

Numbers = npt.NDArray[np.int32]
Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = ("training", "validation", "test")

# Interactions of a user of which one can be learnt from when two are left out.
_LEAST = 3


@dataclass(frozen=True)
class LeaveOneOut:
    """Test on the last interaction of every user, validate on the one before, train on the rest.

    The protocol of SASRec (Kang & McAuley, arXiv 1808.09781) and TIGER (Rajput et al., arXiv
    2305.05065). Users with fewer than three interactions are for training only.
    """


@dataclass(frozen=True)
class TimeSplit:
    """Validate on interactions from one time on, test on those from another on, of all users.

    Nothing is learnt from what comes after, as it can be by leaving out one (Ji et al., "A critical
    study on data leakage in recommender system offline evaluation", arXiv 2010.11060).

    Attributes
    ----------
    validation, test : as the column ``timestamp`` has them; text such as ``2025-06-30`` for dates
    """

    validation: Any
    test: Any


@dataclass(frozen=True, eq=False)
class Sequences:
    """What users met, in the order of time: user i has ``item_m[offset_u[i] : offset_u[i + 1]]``.

    Attributes
    ----------
    user_ids : sorted, shape ``(u,)``
    offset_u : where each user's interactions begin, and the end of all, int64 ``(u + 1,)``
    item_m : the number of each item, its place among the ids that were given, int32
    part_m : 0 for training, 1 for validation, 2 for test, which never falls within a user
    items : n, how many ids were given
    interactions : rows of the table
    unknown : rows left out, since their item is not among the ids
    users_unknown : users of whom nothing was left
    users_short : users with too few interactions to leave any out
    """

    user_ids: pa.Array
    offset_u: npt.NDArray[np.int64]
    item_m: Numbers
    part_m: npt.NDArray[np.int8]
    items: int
    interactions: int
    unknown: int
    users_unknown: int
    users_short: int

    def __len__(self) -> int:
        return len(self.offset_u) - 1

    def __repr__(self) -> str:
        return (
            f"Sequences({len(self):,} users, {len(self.item_m):,} interactions, "
            f"{self.items:,} items, {self.unknown:,} interactions of unknown items left out)"
        )

    def targets(self, part: Part) -> npt.NDArray[np.int64]:
        """Return the places of a part's interactions that have one before them, ``(e,)``."""
        later_m = self.part_m == PARTS.index(part)
        later_m[self.offset_u[:-1]] = False
        return np.flatnonzero(later_m)

    def met(self, part: Part = "training") -> npt.NDArray[np.int64]:
        """Count how often each item was met in a part, ``(n,)``: 0 in training for cold items."""
        here_m = self.part_m == PARTS.index(part)
        return np.bincount(self.item_m[here_m], minlength=self.items)


def read_sequences(
    interactions: str | Path | ParquetTable,
    items: Any,
    *,
    split: LeaveOneOut | TimeSplit = LeaveOneOut(),
    item_id: str = "item_id",
    memory_gib: float | None = None,
) -> Sequences:
    """Read what users met, as numbers.

    Interactions at the same timestamp are in the order of their item ids as text. The split is made
    before items that are not among the ids are left out: whatever the ids are, the same
    interactions test, and they are those that `semid.cooccurrence` leaves out. A user whose last
    item is unknown is thus not tested.

    Parameters
    ----------
    interactions : table with columns user_id, `item_id`, and timestamp or position
    items : ids, unique, ``(n,)``, or a table with them as its `item_ids`
    split : which interactions validate and test
    item_id : name of the id column of the interactions
    memory_gib : sort on disk, in the system's folder for temporary files, within so much memory,
        by DuckDB; without, in memory

    Raises
    ------
    SemidError
        When the table cannot be read, a column is missing, of another type or holds a null, a user
        has a position twice, an id is given twice, a time of the split is none, no item is known,
        or DuckDB is asked for and missing, or does not do with the memory or the disk.
    """
    if not isinstance(split, LeaveOneOut | TimeSplit):
        raise SemidError(f"the split is {split!r}; give LeaveOneOut() or TimeSplit(…, …)")
    if not isinstance(interactions, str | Path | ParquetTable):
        raise SemidError(
            f"interactions are given as {type(interactions).__name__}; write them to a Parquet "
            "file, such as by DataFrame.to_parquet, and give its path"
        )
    if not isinstance(interactions, ParquetTable):
        interactions = open_table(interactions)
    ids = id_column(getattr(items, "item_ids", items), item_id)
    refuse_duplicates(ids)
    names = interaction_columns(interactions, item_id)
    bounds = _bounds(interactions, names[-1], split) if isinstance(split, TimeSplit) else None
    user_ids, size_u, item_m, part_m = _in_order(interactions, names, ids, bounds, memory_gib)
    short = 0
    if bounds is None:
        part_m, short = _leave_one_out(size_u), int((size_u < _LEAST).sum())
    else:
        if not len(part_m) or part_m.min() > 0 or part_m.max() < 2:
            raise SemidError(
                f"the {split} leaves nothing to train on or to test on; give times within those of "
                f"{display_path(interactions.name)}, written as its column is"
            )
    known_m = item_m >= 0
    if not known_m.any():
        raise strangers(interactions, ids, item_id)
    left_u = np.add.reduceat(known_m, np.cumsum(size_u) - size_u, dtype=np.int64)
    there_u = np.flatnonzero(left_u)
    return Sequences(
        user_ids=user_ids.take(to_arrow(there_u)),
        offset_u=np.concatenate([[0], np.cumsum(left_u[there_u])]),
        item_m=item_m[known_m],
        part_m=part_m[known_m],
        items=len(ids),
        interactions=len(item_m),
        unknown=int((~known_m).sum()),
        users_unknown=len(size_u) - len(there_u),
        users_short=short,
    )


def _in_order(
    table: ParquetTable,
    names: list[str],
    ids: pa.Array,
    bounds: Bounds | None,
    memory_gib: float | None,
) -> Ordered:
    if memory_gib is None:
        return ordered_in_memory(table, names, ids, bounds)
    if not 0 < memory_gib < float("inf"):
        raise SemidError(f"memory_gib is {memory_gib}; it must be above 0 and finite")
    if find_spec("duckdb") is None:
        raise SemidError("memory_gib needs the package 'duckdb'; run: pip install duckdb")
    from semid.recsys.ordering_on_disk import ordered_on_disk

    return ordered_on_disk(table, names, ids, bounds, int(memory_gib * 2**30))


def _bounds(table: ParquetTable, order: str, split: TimeSplit) -> Bounds:
    """Return the times of a split as numbers."""
    if order != TIMESTAMP:
        raise SemidError(
            f"{display_path(table.name)} has no column {TIMESTAMP!r} to split by; use LeaveOneOut()"
        )
    kind, bounds = table.schema.field(order).type, []
    for name, time in (("validation", split.validation), ("test", split.test)):
        try:
            bounds.append(as_numbers(pa.scalar(time), kind).as_py())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SemidError(
                f"the split's {name} is {time!r}, which is no {TIMESTAMP} of the interactions; "
                "write it as the column does, for example 2025-06-30 or '2025-06-30 12:00:00'"
            ) from error
    if bounds[0] > bounds[1]:
        raise SemidError(
            f"the split validates from {split.validation} on but tests from {split.test}, which is "
            "earlier; exchange them"
        )
    return bounds[0], bounds[1]


def _leave_one_out(size_u: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    part_m = np.zeros(size_u.sum(), np.int8)
    last_t = np.cumsum(size_u)[size_u >= _LEAST] - 1
    part_m[last_t] = 2
    part_m[last_t - 1] = 1
    return part_m
