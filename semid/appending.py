"""New items for a table whose IDs are live: what is there stays, what comes gets free SIDs.

Items that the table has keep their rows as they are, though their embeddings may have changed; how
far these drifted is measured. Items that were retired get their IDs back. Everything streams.
Shapes: n fresh rows, m of them changed, l levels, z latent dims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.collisions import (
    CollisionConfig,
    CollisionReport,
    Resources,
    Space,
    Surroundings,
    count,
    resolve,
)
from semid.errors import SemidError
from semid.graves import Graves
from semid.id_columns import code_column
from semid.known_items import Comparison, compare, drift
from semid.streams import Batches
from semid.tables import ParquetTable, open_table
from semid.tombstones import MOVED, buried, having

# Where `Appended.drifted` stands, beside the parts of a folder table.
DRIFTED = "_drifted.parquet"

Codes = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """An ids table as others append to it.

    Attributes
    ----------
    rows : streams its rows, alike every time
    retired : streams its retired rows; None when it has none
    """

    rows: Batches
    retired: Batches | None = None


@dataclass(frozen=True)
class Rules:
    """How a table is kept.

    Attributes
    ----------
    now : with a time zone
    move_drifted : drift from which items get another SID; None for never
    reclaim_after : days after which a retired SID is free again; None for never
    """

    now: datetime
    move_drifted: float | None = None
    reclaim_after: float | None = None

    def __post_init__(self) -> None:
        """Raise `SemidError` for numbers that cannot be."""
        for name in ("move_drifted", "reclaim_after"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise SemidError(f"{name} is {value}; it must be 0 or more")


@dataclass(frozen=True)
class Appended:
    """A table with new items.

    Attributes
    ----------
    before : streams the rows that were there and stay
    is_whole : whether these are all that were there
    added : those that came back, and the new ones in their order
    retired : retired rows, of items and of SIDs that were left; to be read after `added`
    drifted : a row for every item whose fresh codes differ from those it keeps: ``codes``,
        ``fresh_codes`` and ``drift``, how much worse the ID that it keeps describes it, over the
        mean squared error of the table
    report : on the raw SIDs of all rows
    facts : how many items were kept, new, …, how many SIDs of retired items are held, and what the
        policy did
    """

    before: Batches
    is_whole: bool
    added: Iterator[pa.RecordBatch]
    retired: Iterator[pa.RecordBatch]
    drifted: pa.Table
    report: CollisionReport
    facts: dict[str, Any]

    @property
    def rows(self) -> Iterator[pa.RecordBatch]:
        """All rows, in their order; once."""
        return chain(self.before(), self.added)


def append(
    fresh: Batches,
    table: Table,
    config: CollisionConfig,
    rules: Rules,
    resources: Resources,
    around: Surroundings,
    *,
    item_id: str = "item_id",
    judge: Callable[[Integers], object] = lambda _: None,
) -> Appended:
    """Give the fresh items that a table lacks SIDs that are free in it.

    Parameters
    ----------
    fresh : streams rows with raw codes; ids are unique (not checked here)
    table : made by the same model and the same policy
    around : the levels and the space of the model, and what suffixes go by
    judge : takes the numbers of the rows that are to get SIDs, ascending, and may refuse them

    Raises
    ------
    SemidError
        As `semid.collisions.resolve`; or when the policy cannot keep IDs.
    """
    space, levels = around.space, around.levels
    if space is None or levels is None:
        raise ValueError("appending needs the levels and the space of the model")
    if config.policy == "sinkhorn":
        raise SemidError(
            "the collision policy sinkhorn moves items that have an ID already; use suffix, "
            "reassign or none for a table that is to be kept"
        )
    graves = Graves(
        table.retired or (lambda: iter(())), now=rules.now, reclaim_after=rules.reclaim_after
    )
    found = compare(fresh, table.rows, graves.rows, levels, resources, item_id)
    drift_m, at_home_m = drift(found, space, table.rows, graves.rows)
    far_m = np.zeros(len(drift_m), dtype=np.bool_)
    if rules.move_drifted is not None:
        # Those that come back do so for their IDs; others may have been moved where they belong.
        far_m = (drift_m >= rules.move_drifted) & ~found.back_m & ~at_home_m
    leaving = _ids_of(fresh, found.row_m[far_m], item_id)
    stay = having(table.rows, leaving, item_id, inside=False)
    left = _only(table.rows, leaving, item_id, rules.now)
    new_n = ~found.known_n
    new_n[found.row_m[far_m]] = True
    judge(np.flatnonzero(new_n))
    graves.bring_back(found.back)
    around = replace(
        around,
        space=replace(space, latents=_of_rows(space, np.flatnonzero(new_n))),
        previous=lambda: chain(stay(), graves.revived()),
        retired=lambda: chain(graves.held(), left()),
    )
    moved, back = int(far_m.sum()), len(found.back)
    facts = {"new": int(new_n.sum()) - moved, "came_back": back, "moved_for_drift": moved}
    if new_n.any():
        done = resolve(_picked(fresh, new_n), config, resources, around, item_id=item_id)
        report, rows, facts = done.report, done.rows, facts | done.facts
    else:
        assert around.previous is not None
        report, rows = count(around.previous, resources, levels), iter(())
    facts |= {
        "kept": report.items - sum(facts[name] for name in ("new", "came_back", "moved_for_drift")),
        "drifted": len(drift_m) - moved,
        "held": graves.count_held() + moved,
    }
    return Appended(
        stay,
        not far_m.any(),
        chain(graves.revived(), graves.passing(rows)),
        chain(graves.remaining(report.items), left()),
        _drifted(found, fresh, drift_m, ~far_m, item_id),
        report,
        facts,
    )


def open_drifted(folder: Path) -> ParquetTable | None:
    """Open the list of the drifted items of a folder table, or None when it has none."""
    place = folder / DRIFTED
    return open_table(place, allow_empty=True) if place.is_file() else None


def _drifted(
    found: Comparison,
    fresh: Batches,
    drift_m: npt.NDArray[np.float64],
    kept_m: npt.NDArray[np.bool_],
    item_id: str,
) -> pa.Table:
    """List the changed items that keep their codes, the furthest first."""
    listed = pa.table(
        {
            item_id: _ids_of(fresh, found.row_m, item_id),
            "codes": code_column(found.kept_ml),
            "fresh_codes": code_column(found.fresh_ml),
            "drift": drift_m,
        }
    )
    order = np.argsort(-drift_m, kind="stable")
    return listed.take(pa.array(order[kept_m[order]]))


def _ids_of(fresh: Batches, row_m: Integers, item_id: str) -> pa.Array:
    """Return the ids of rows, ascending."""
    wanted = np.zeros(int(row_m.max(initial=-1)) + 1, dtype=np.bool_)
    wanted[row_m] = True
    kind = next(fresh()).schema.field(item_id).type
    parts = [batch.column(item_id) for batch in _picked(fresh, wanted)()] if len(row_m) else []
    return pa.concat_arrays([pa.array([], kind), *parts])


def _picked(batches: Batches, wanted_n: npt.NDArray[np.bool_]) -> Batches:
    """Stream the rows that are wanted; those beyond the end are not."""

    def stream() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in batches():
            here = np.flatnonzero(wanted_n[row : row + len(batch)])
            row += len(batch)
            if len(here) == len(batch):
                yield batch
            elif len(here):
                yield batch.take(pa.array(here))
            if row >= len(wanted_n):
                return

    return stream


def _of_rows(
    space: Space, row_n: Integers
) -> Callable[[Integers], Iterator[npt.NDArray[np.float32]]]:
    """Return what yields the latents of some among `row_n`."""
    return lambda place_m: space.latents(row_n[place_m])


def _only(rows: Batches, ids: pa.Array, item_id: str, now: datetime) -> Batches:
    """Stream the rows of some items as retired ones: their SIDs were left."""
    chosen = having(rows, ids, item_id)
    return lambda: (buried(batch, now=now, reason=MOVED) for batch in chosen())
