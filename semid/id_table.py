"""The table of assigned IDs in memory, and its life; `semid.id_reading` reads it from its files.

Reading a table and looking into it needs NumPy and Arrow alone, so that training code can do it;
what the life of a table needs is imported by the methods.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.arrays import to_arrow
from semid.errors import SemidError
from semid.id_columns import (
    CODES,
    DISTANCE,
    MARGIN,
    SID,
    as_codes,
    code_column,
    code_matrix,
    id_column,
    ids_schema,
    refuse_duplicates,
    refuse_sid_width,
)
from semid.id_metadata import METADATA_KEY, metadata_of
from semid.tombstones import require_id_name

if TYPE_CHECKING:
    import pandas as pd

    from semid.collisions import CollisionConfig
    from semid.drift_verdicts import Limits
    from semid.quantizer import Quantizer
    from semid.table_diff import TableDiff
    from semid.table_index import Index
    from semid.violations import Violations


@dataclass(frozen=True, eq=False)
class IdTable:
    """Assigned IDs in memory; rows in the order of the file they came from.

    Attributes
    ----------
    item_ids : strings or int64, unique, shape ``(n,)``
    codes : raw codes, shape ``(n, l)``, int32
    sids : semantic IDs under the table's collision policy, shape ``(n, s)``, int32
    distance, margin : float32, shape ``(n,)``, where the table has them
    metadata : what the job that wrote the table noted in it: the model's fingerprint and more
    item_id : the name of the item id column
    retired : rows that left the table, whose SIDs are held; see `semid.tombstones`
    """

    item_ids: pa.Array
    codes: npt.NDArray[np.int32]
    sids: npt.NDArray[np.int32]
    distance: npt.NDArray[np.float32] | None = None
    margin: npt.NDArray[np.float32] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    item_id: str = "item_id"
    retired: pa.Table | None = None

    @classmethod
    def assign(
        cls,
        model: Quantizer,
        item_ids: Any,
        x: Any,
        *,
        collisions: CollisionConfig | str = "suffix",
        order: Any = None,
        encoder: str | None = None,
        item_id: str = "item_id",
    ) -> IdTable:
        """Give items their IDs, as ``semid assign`` does.

        Parameters
        ----------
        model : a fitted quantizer
        item_ids : unique, strings or integers, ``(n,)``
        x : their embeddings, as `Quantizer.encode` takes them
        collisions : a policy's name, or all there is to say of it
        order : numbers or times that suffixes go by, ``(n,)``, with ``suffix_order`` in
            `collisions`; its column's name there is of no matter
        encoder : fingerprint of what made the embeddings, for tables that go on to be told by

        Raises
        ------
        SemidError
            For bad rows, or as the policy does.
        """
        from semid.collisions import CollisionConfig
        from semid.in_memory import Items, assign_items

        config = CollisionConfig(collisions) if isinstance(collisions, str) else collisions
        items = Items(model, item_ids, x, item_id=item_id, order=order, encoder=encoder)
        return cls._of_rows(*assign_items(items, config))

    def append(
        self,
        model: Quantizer,
        item_ids: Any,
        x: Any,
        *,
        move_drifted: float | None = None,
        reclaim_after: float | None = None,
        order: Any = None,
        encoder: str | None = None,
        now: datetime | None = None,
    ) -> tuple[IdTable, pa.Table]:
        """Give items that are new to the table IDs that are free in it; the others keep theirs.

        Parameters are as of ``semid assign --previous``, and of `assign`.

        Returns
        -------
        table : with the rows of this one first, as they were
        drifted : items that keep their IDs though their codes would be others now; see
            `semid.appending.Appended`
        """
        from semid.appending import Rules
        from semid.in_memory import Items, append_items

        rules = Rules(now or datetime.now(UTC), move_drifted, reclaim_after)
        items = Items(model, item_ids, x, item_id=self.item_id, order=order, encoder=encoder)
        rows, retired, drifted, noted = append_items(
            items, self.to_arrow(), self.retired, dict(self.metadata), rules
        )
        return self._of_rows(rows, noted, retired), drifted

    def retire(self, item_ids: Any, *, now: datetime | None = None) -> IdTable:
        """Return the table without some items, whose SIDs nobody else gets.

        Raises `SemidError` when an item is not there, or none would be left.
        """
        from semid.in_memory import retire_rows

        when = now or datetime.now(UTC)
        rows, retired, summary = retire_rows(self.to_arrow(), self.retired, item_ids, when)
        noted = {**self.metadata, "summary": {**self.metadata.get("summary", {}), **summary}}
        return self._of_rows(rows, noted, retired)

    @classmethod
    def _of_rows(
        cls, rows: pa.Table, metadata: Mapping[str, Any], retired: pa.Table | None = None
    ) -> IdTable:
        table = cls.from_arrow(rows, item_id=rows.schema.names[0])
        return replace(table, metadata=metadata, retired=retired)

    @classmethod
    def from_arrow(cls, rows: pa.Table | pd.DataFrame, *, item_id: str = "item_id") -> IdTable:
        """Check the rows of an ids table, of Arrow or pandas, and make a table of them.

        Raises
        ------
        SemidError
            As `from_arrays`, or when a column is missing.
        """
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows)
        if missing := [name for name in (item_id, CODES) if name not in table.schema.names]:
            raise SemidError(
                f"the rows have no column {missing[0]!r}; theirs are "
                f"{', '.join(table.schema.names)}"
            )
        columns = {name: table[name].combine_chunks() for name in table.schema.names}
        noted = metadata_of(table.schema, "the table") or getattr(rows, "attrs", {}).get("semid")
        sids = columns.get(SID)
        return cls.from_arrays(
            columns[item_id],
            code_matrix(columns[CODES], CODES),
            None if sids is None else code_matrix(sids, SID),
            distance=columns.get(DISTANCE),
            margin=columns.get(MARGIN),
            metadata=noted,
            item_id=item_id,
        )

    @classmethod
    def from_arrays(
        cls,
        item_ids: Any,
        codes: npt.ArrayLike,
        sids: npt.ArrayLike | None = None,
        *,
        distance: npt.ArrayLike | None = None,
        margin: npt.ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
        item_id: str = "item_id",
    ) -> IdTable:
        """Check arrays and make a table of them; without `sids` the codes are the IDs.

        Raises
        ------
        SemidError
            When lengths differ, there are no rows, an item id is null, occurs twice or is neither
            string nor integer, or codes are not ``(n, l)`` integers from 0.
        """
        require_id_name(item_id, "the table")
        if len(item_ids) == 0:
            raise SemidError("the table has no rows")
        ids = id_column(item_ids, item_id)
        codes_nl = as_codes(codes)
        sids_ns = codes_nl if sids is None else as_codes(sids)
        distance_n = None if distance is None else np.asarray(distance, dtype=np.float32)
        margin_n = None if margin is None else np.asarray(margin, dtype=np.float32)
        parts = {CODES: codes_nl, SID: sids_ns, DISTANCE: distance_n, MARGIN: margin_n}
        for name, values in parts.items():
            if values is not None and len(values) != len(ids):
                raise SemidError(
                    f"{name} has {len(values)} rows but there are {len(ids)} item ids; "
                    "pass arrays of one table"
                )
        refuse_sid_width(codes_nl, sids_ns)
        refuse_duplicates(ids)
        return cls(ids, codes_nl, sids_ns, distance_n, margin_n, dict(metadata or {}), item_id)

    def __len__(self) -> int:
        return len(self.item_ids)

    def __repr__(self) -> str:
        codes, sids = self.codes.shape[1], self.sids.shape[1]
        kind = self.item_ids.type
        return (
            f"IdTable({len(self):,} items, {self.item_id}: {kind}, {codes} codes, SIDs of {sids})"
        )

    @cached_property
    def index(self) -> Index:
        """Where items and SIDs are in the table; made when first asked for."""
        from semid.table_index import index_of

        return index_of([(self.item_ids, self.sids)])

    def rows_of(self, item_ids: Any) -> npt.NDArray[np.int64]:
        """Return the row of every item, shape ``(q,)``; -1 for those that the table lacks.

        Raises
        ------
        SemidError
            When an id is null, or of another type than the table's.
        """
        if len(item_ids) == 0:
            return np.empty(0, np.int64)
        ids = id_column(item_ids, self.item_id)
        if pa.types.is_integer(ids.type) != pa.types.is_integer(self.item_ids.type):
            raise SemidError(
                f"the item ids asked for are {ids.type} but the table's are {self.item_ids.type}; "
                "convert them"
            )
        return self.index.rows_of(ids, lambda row_c: self.item_ids.take(to_arrow(row_c)))

    def lookup(self, item_ids: Any) -> npt.NDArray[np.int32]:
        """Return the SID of every item, shape ``(q, s)``; -1 throughout for those of row -1."""
        row_q = self.rows_of(item_ids)
        return np.where(row_q[:, None] >= 0, self.sids[row_q], np.int32(-1))

    def items_of(self, sid: Sequence[int]) -> pa.Array:
        """Return the items that have a SID: one or none, under a policy that makes SIDs unique.

        Raises `SemidError` when `sid` is not of the length of the table's.
        """
        if len(sid) != self.sids.shape[1]:
            raise SemidError(
                f"{','.join(map(str, sid))} has {len(sid)} codes but the IDs have "
                f"{self.sids.shape[1]}; with_prefix takes fewer"
            )
        return self.with_prefix(sid)

    def with_prefix(self, prefix: Sequence[int]) -> pa.Array:
        """Return the items whose SID begins with `prefix`, sorted by SID.

        Raises `SemidError` when `prefix` is longer than a SID.
        """
        if isinstance(prefix, int):
            raise SemidError(f"{prefix} is no prefix; give its codes as a list")
        row_m = self.index.rows_within(*self.index.span(prefix))
        return self.item_ids.take(to_arrow(row_m))

    def diff(self, new: IdTable, *, changes: str | Path | None = None) -> TableDiff:
        """Say what became of this table's items in a newer one; `semid.table_diff` says how.

        `changes` is a Parquet file to write, if any, with a row for every item that changed.
        """
        from semid.table_diff import Side, diff_tables

        old_side, new_side = (
            Side(name, t.item_ids.type, t.sids.shape[1], iter([(t.item_ids, t.sids)]), t.metadata)
            for name, t in (("the old table", self), ("the new table", new))
        )
        with tempfile.TemporaryDirectory(prefix="diff-") as folder:
            return diff_tables(
                old_side,
                new_side,
                folder=Path(folder),
                changes=None if changes is None else Path(changes),
                item_id=self.item_id,
            )

    def verify(
        self, model: Quantizer | None = None, item_ids: Any = None, x: Any = None
    ) -> Violations:
        """List what is wrong with the table, as ``semid verify`` does; `Violations.total` is 0.

        Parameters
        ----------
        model : the one that assigned it, for its fingerprints and levels
        item_ids, x : items and their embeddings, for their codes to be made anew; need the model

        Raises
        ------
        SemidError
            For bad rows, or embeddings without a model.
        """
        from semid.origin import origin_of
        from semid.verification import verify_table

        if model is None:
            if x is not None:
                raise SemidError("embeddings are given codes only by a model; give it too")
            return verify_table(self)
        again = None
        if x is not None:
            again = IdTable.assign(model, item_ids, x, collisions="none", item_id=self.item_id)
        origin = origin_of(model.to_artifact())
        return verify_table(self, levels=model.levels, again=again, origin=origin)

    def drift(
        self, model: Quantizer, item_ids: Any, x: Any, *, limits: Limits | None = None
    ) -> dict[str, Any]:
        """Say how far fresh items have drifted from the table, and whether a retrain is due.

        Parameters are as of `assign`, and `semid.drift_verdicts.Limits`.

        Returns
        -------
        summary : what ``semid drift`` writes: ``verdict``, ``retrain_due``, ``findings`` and the
            figures of `semid.drift.measure_drift`

        Raises
        ------
        SemidError
            For bad rows, or a table of another model, or one without distances.
        """
        from semid.drift_verdicts import Limits
        from semid.in_memory import Items
        from semid.in_memory_checks import drift_of

        items = Items(model, item_ids, x, item_id=self.item_id)
        return drift_of(items, self.to_arrow(), self.metadata, limits or Limits())

    def align(self, model: Quantizer, item_ids: Any, x: Any) -> Quantizer:
        """Return a new model with its codes renumbered to agree best with those of the table.

        As ``semid align``; of the items, those that the table has are looked at. The model is the
        same otherwise. Raises `SemidError` for bad rows, or when the table has none of the items.
        """
        from semid.in_memory import Items
        from semid.in_memory_checks import aligned

        items = Items(model, item_ids, x, item_id=self.item_id)
        return aligned(items, self.codes, self.rows_of(item_ids))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the table as ``semid assign`` does: one ``.parquet`` file, or a folder.

        Raises
        ------
        SemidError
            When something is there, unless `overwrite`; when it cannot be written; or for retired
            items, for which a single file has no place.
        """
        from semid.in_memory import save_rows

        save_rows(self.to_arrow(), self.retired, Path(path), overwrite=overwrite)

    def to_arrow(self) -> pa.Table:
        """Return the table as its Parquet file holds it, less the columns that it lacks."""
        columns = {
            self.item_id: self.item_ids,
            CODES: code_column(self.codes),
            SID: code_column(self.sids),
            DISTANCE: self.distance,
            MARGIN: self.margin,
        }
        columns = {name: values for name, values in columns.items() if values is not None}
        schema = ids_schema(self.item_ids.type, self.item_id)
        schema = pa.schema([schema.field(name) for name in columns])
        metadata = {METADATA_KEY: json.dumps(dict(self.metadata))}
        return pa.table(columns, schema=schema.with_metadata(metadata))

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame with the columns of the ids table; codes and sid are arrays per row."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        frame.attrs["semid"] = dict(self.metadata)
        return frame
