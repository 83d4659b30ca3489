"""Users' histories from an interactions table: item numbers one after the other, split in time.

Read in batches. Until all are sorted, some 40 bytes an interaction are held, and the ids of users
and items, each once for every million rows that it is in; what is left takes 5 bytes an
interaction, and 8 a user beside its id. Nothing here needs torch.

Shapes: n items, u users, m interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import to_arrow, to_numpy
from semid.errors import SemidError, display_path
from semid.id_columns import id_column, refuse_duplicates
from semid.interactions import (
    POSITION,
    TIMESTAMP,
    interaction_batches,
    interaction_columns,
    tied,
)
from semid.tables import ParquetTable, open_table

Numbers = npt.NDArray[np.int32]
Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = ("training", "validation", "test")

# Interactions of a user of which one can be learnt from when two are left out.
_LEAST = 3
# A look-up of ids begins with a table of those that are sought: seldom.
_ROWS = 1 << 20


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

    Raises
    ------
    SemidError
        When the table cannot be read, a column is missing, of another type or holds a null, a user
        has a position twice, an id is given twice, a time of the split is none, or no item is
        known.
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
    rows = _in_order(interactions, names)
    size_u = np.bincount(rows.user_m, minlength=len(rows.user_ids))
    if bounds is None:
        part_m, short = _leave_one_out(size_u), int((size_u < _LEAST).sum())
    else:
        part_m = (rows.place_m >= bounds[0]).astype(np.int8) + (rows.place_m >= bounds[1])
        short = 0
        if not len(part_m) or part_m.min() > 0 or part_m.max() < 2:
            raise SemidError(
                f"the {split} leaves nothing to train on or to test on; give times within those of "
                f"{display_path(interactions.name)}, written as its column is"
            )
    item_m = _numbers(ids, rows.item_ids)[rows.item_m]
    known_m = item_m >= 0
    if not known_m.any():
        raise SemidError(
            f"none of the {len(item_m):,} interactions in {display_path(interactions.name)} is of "
            "an item of the ids table; give those of its catalog, with item ids written alike"
        )
    left_u = np.bincount(rows.user_m[known_m], minlength=len(size_u))
    there_u = np.flatnonzero(left_u)
    return Sequences(
        user_ids=rows.user_ids.take(to_arrow(there_u)),
        offset_u=np.concatenate([[0], np.cumsum(left_u[there_u])]),
        item_m=item_m[known_m],
        part_m=part_m[known_m],
        items=len(ids),
        interactions=len(item_m),
        unknown=int((~known_m).sum()),
        users_unknown=len(size_u) - len(there_u),
        users_short=short,
    )


class _Ids:
    """A column of ids as it is read: distinct ids of every batch, and which of them."""

    def __init__(self) -> None:
        self.distinct: list[pa.Array] = []
        self.numbers: list[Numbers] = []
        self.count = 0

    def add(self, column: pa.Array) -> None:
        wide = pa.int64() if pa.types.is_integer(column.type) else pa.large_string()
        found = column.cast(wide).dictionary_encode()
        self.distinct.append(found.dictionary)
        self.numbers.append(to_numpy(found.indices) + np.int32(self.count))
        self.count += len(found.dictionary)

    def in_order(self, *, as_text: bool = False) -> tuple[pa.Array, Numbers]:
        """Return the distinct ids in their order, and the number of each row; only once."""
        joined = pa.concat_arrays(self.distinct)
        self.distinct.clear()
        found = joined.dictionary_encode()
        del joined
        ids = found.dictionary
        keys = ids.cast(pa.large_string()) if as_text else ids
        order_k = pc.array_sort_indices(keys)
        rank_k = np.empty(len(ids), np.int32)
        rank_k[to_numpy(order_k)] = np.arange(len(ids), dtype=np.int32)
        rank_d = rank_k[to_numpy(found.indices)]
        return ids.take(order_k), rank_d[np.concatenate(self.numbers)]


class _Rows(NamedTuple):
    """Interactions in the order of users, time and item ids as text."""

    user_ids: pa.Array
    item_ids: pa.Array
    user_m: Numbers
    item_m: Numbers
    place_m: npt.NDArray[Any]


def _in_order(table: ParquetTable, names: list[str]) -> _Rows:
    users, items, places = _Ids(), _Ids(), []
    for batch in interaction_batches(table, names, rows=_ROWS):
        users.add(batch.column(0))
        items.add(batch.column(1))
        places.append(to_numpy(_as_numbers(batch.column(2), batch.schema.types[2])))
    place_m = np.concatenate(places)
    del places
    user_ids, user_m = users.in_order()
    item_ids, item_m = items.in_order(as_text=True)
    del users, items
    order_m = np.lexsort((item_m, place_m, user_m))
    rows = _Rows(user_ids, item_ids, user_m[order_m], item_m[order_m], place_m[order_m])
    if names[-1] == POSITION:
        _refuse_ties(table, rows)
    return rows


def _refuse_ties(table: ParquetTable, rows: _Rows) -> None:
    user_m, place_m = rows.user_m, rows.place_m
    tied_m = np.flatnonzero((user_m[1:] == user_m[:-1]) & (place_m[1:] == place_m[:-1]))
    if len(tied_m):
        user, place = user_m[tied_m[0]], place_m[tied_m[0]]
        times = int(((user_m == user) & (place_m == place)).sum())
        raise tied(table, rows.user_ids[int(user)].as_py(), place, times)


def _numbers(ids: pa.Array, met_ids: pa.Array) -> Numbers:
    """Return the number of every id that was met among the ids, -1 for those that are not there."""
    kind = pa.int64() if pa.types.is_int64(ids.type) else pa.large_string()
    if met_ids.type != kind:  # the one text, the other integers
        kind = pa.large_string()
    found = pc.index_in(met_ids.cast(kind), value_set=ids.cast(kind))
    number_k = np.full(len(found), -1, np.int32)
    number_k[to_numpy(pc.indices_nonzero(found.is_valid()))] = to_numpy(found.drop_null())
    return number_k


def _as_numbers(times: pa.Array | pa.Scalar, kind: pa.DataType) -> Any:
    """Return times of a type as numbers in their order; decimals as the nearest float64."""
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind) or kind == pa.uint64():
        return times.cast(pa.float64())
    if pa.types.is_date32(kind):
        return times.cast(kind).cast(pa.int32())
    return times.cast(kind).cast(pa.int64())


def _bounds(table: ParquetTable, order: str, split: TimeSplit) -> list[float]:
    """Return the times of a split as numbers."""
    if order != TIMESTAMP:
        raise SemidError(
            f"{display_path(table.name)} has no column {TIMESTAMP!r} to split by; leave one out"
        )
    kind, bounds = table.schema.field(order).type, []
    for name, time in (("validation", split.validation), ("test", split.test)):
        try:
            bounds.append(_as_numbers(pa.scalar(time), kind).as_py())
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
    return bounds


def _leave_one_out(size_u: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    part_m = np.zeros(size_u.sum(), np.int8)
    last_t = np.cumsum(size_u)[size_u >= _LEAST] - 1
    part_m[last_t] = 2
    part_m[last_t - 1] = 1
    return part_m
