"""What an ids table says of an item, a SID or a prefix, without touching anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.arrays import strings_to_arrow, to_arrow, to_numpy
from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.id_columns import CODES, SID, code_matrix
from semid.sid_batches import sid_batches
from semid.table_index import Index, index_of, open_index
from semid.table_rows import rows_at, values_of
from semid.tables import ParquetTable, open_table
from semid.tombstones import GONE, REASON, RETIRED_AT, open_retired

Rows = npt.NDArray[np.integer[Any]]


def lookup(
    ids: str,
    *,
    item: Sequence[str] | None = None,
    sid: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
    limit: int = 20,
    items: str | None = None,
    title: str = "title",
    item_id: str = "item_id",
) -> dict[str, Any]:
    """Look items up by id, or by the whole or the beginning of their SID.

    Reads the index beside the table where there is one, else the table once. Exactly one of
    `item`, `sid` and `prefix` is to be given; what is not in the table is a result, not an error.

    Parameters
    ----------
    ids : ids table
    item : item ids, as text
    sid : a whole semantic ID
    prefix : the first codes of one
    limit : how many of the items with a SID or prefix to list, by SID
    items : table with titles of the items
    title : its column with them
    item_id : name of the id column in both tables

    Returns
    -------
    for `item`, ``items``: of each its ``item_id``, ``state`` (live, retired, moved, rolled back or
    absent) and, if there, ``sid``, ``codes``, ``title``, ``sharing`` (for every length of prefix
    how many items have the same, itself included) or ``retired_at`` and ``sid_now``, if it has
    another; for `sid`, the ``sid``, how many live items have it (``count``), and the first
    ``items``, those that left it last; for `prefix`, the ``prefix``,
    its ``count``, how many codes follow it (``next_codes``), and the first ``items``

    Raises
    ------
    SemidError
        For bad input, or more codes than a SID of the table has.
    """
    if sum(given is not None for given in (item or None, sid, prefix)) != 1:
        raise SemidError("say what to look up by one of --item, --sid and --prefix")
    if limit < 0:
        raise SemidError(f"the limit is {limit}; it must be at least 0")
    found = _Lookup.opened(ids, items, title, item_id)
    if sid is not None:
        return found.by_sid(list(sid), limit)
    if prefix is not None:
        return found.by_prefix(list(prefix), limit)
    return {"items": found.by_item(list(item or []))}


@dataclass(frozen=True)
class _Lookup:
    """An opened table with its index, and where titles come from."""

    table: ParquetTable
    index: Index
    titles: ParquetTable | None
    title: str
    item_id: str

    @classmethod
    def opened(cls, ids: str, items: str | None, title: str, item_id: str) -> _Lookup:
        table = open_table(ids)
        id_type(table, item_id)
        table.require([CODES, SID])
        titles = None if items is None else open_table(items)
        if titles is not None:
            id_type(titles, item_id)
            titles.require([title])
        index = open_index(table, item_id) or index_of(sid_batches(table, item_id))
        return cls(table, index, titles, title, item_id)

    def by_item(self, texts: list[str]) -> list[dict[str, Any]]:
        ids = self._item_ids(texts)
        row_q = self.index.rows_of(ids, lambda row_c: self._read(row_c, [self.item_id])[0])
        live = iter(self._described(row_q[row_q >= 0]))
        absent = ids.take(to_arrow(np.flatnonzero(row_q < 0)))

        def are_absent(tombs: pa.RecordBatch) -> Rows:
            tomb_ids = tombs.column(self.item_id).cast(ids.type)
            return to_numpy(pc.indices_nonzero(pc.is_in(tomb_ids, value_set=absent)))

        retired = self._retired(are_absent) if len(absent) else []
        # Of an item that was moved before it was retired, what it was retired with.
        retired.sort(key=lambda entry: entry["state"] == GONE)
        dead = {entry["item_id"]: entry for entry in retired}
        return [
            next(live) if row >= 0 else dead.get(item, {"item_id": item, "state": "absent"})
            for row, item in zip(row_q.tolist(), ids.to_pylist(), strict=True)
        ]

    def by_sid(self, sid: list[int], limit: int) -> dict[str, Any]:
        self._refuse_length("--sid", sid, exactly=True)
        start, stop = self.index.span(sid)
        live = self._described(self.index.rows_within(start, min(stop, start + limit)))

        def had_it(tombs: pa.RecordBatch) -> Rows:
            sids_ns = code_matrix(tombs.column(SID), SID, width=len(sid))
            return np.flatnonzero((sids_ns == sid).all(axis=1))

        return {"sid": sid, "count": stop - start, "items": [*live, *self._retired(had_it)]}

    def by_prefix(self, prefix: list[int], limit: int) -> dict[str, Any]:
        self._refuse_length("--prefix", prefix, exactly=False)
        start, stop = self.index.span(prefix)
        whole = len(prefix) == len(self.index.levels)
        return {
            "prefix": prefix,
            "count": stop - start,
            "next_codes": 0 if whole else self.index.next_codes(prefix),
            "items": self._described(self.index.rows_within(start, min(stop, start + limit))),
        }

    def _refuse_length(self, option: str, codes: list[int], *, exactly: bool) -> None:
        length = len(self.index.levels)
        if len(codes) > length or (exactly and len(codes) < length):
            advice = "; --prefix takes fewer" if len(codes) < length else ""
            raise SemidError(
                f"{option} {','.join(map(str, codes))}: these are {len(codes)} codes but the IDs "
                f"of {display_path(self.table.name)} have {length}{advice}"
            )

    def _item_ids(self, texts: list[str]) -> pa.Array:
        kind = id_type(self.table, self.item_id)
        try:
            return strings_to_arrow(texts).cast(kind)
        except pa.ArrowInvalid as error:
            raise SemidError(
                f"--item {', '.join(map(repr, texts))}: the item ids of "
                f"{display_path(self.table.name)} are whole numbers"
            ) from error

    def _read(self, row_m: npt.NDArray[np.int64], columns: list[str]) -> list[pa.Array]:
        return [column.combine_chunks() for column in rows_at(self.table, row_m, columns).columns]

    def _described(self, row_m: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return what is known of the items in some rows."""
        columns = [self.item_id, SID, CODES]
        rows = rows_at(self.table, row_m, columns)
        titles = self._titles_of(rows.column(self.item_id))
        found = []
        for item, sid, codes in zip(*(rows.column(c).to_pylist() for c in columns), strict=True):
            spans = [self.index.span(sid[: depth + 1]) for depth in range(len(sid))]
            entry = {"item_id": item, "state": "live", "sid": sid, "codes": codes}
            sharing = {"sharing": [stop - start for start, stop in spans]}
            found.append(entry | titles.get(item, {}) | sharing)
        return found

    def _titles_of(self, ids: pa.Array | pa.ChunkedArray) -> dict[Any, dict[str, Any]]:
        if self.titles is None or not len(ids):
            return {}
        ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        column = values_of(self.titles, ids, self.title, item_id=self.item_id)
        return {item: {"title": title} for item, title in column.items()}

    def _retired(self, wanted: Callable[[pa.RecordBatch], Rows]) -> list[dict[str, Any]]:
        """Return the tombstones that `wanted` picks from batches, if the table keeps any."""
        folder = Path(self.table.files[0]).parent
        tombs = open_retired(folder) if self.table.is_local else None
        if tombs is None:
            return []
        found = []
        columns = [self.item_id, SID, RETIRED_AT, REASON]
        tombs.require(columns)
        for batch in tombs.batches(columns):
            found += batch.take(to_arrow(wanted(batch))).to_pylist()
        ids = pa.array(
            [tomb[self.item_id] for tomb in found], tombs.schema.field(self.item_id).type
        )
        titles = self._titles_of(ids)
        return [
            {
                "item_id": tomb[self.item_id],
                "state": tomb[REASON],
                "sid": tomb[SID],
                "retired_at": None if (at := tomb[RETIRED_AT]) is None else at.isoformat(),
                **({} if now is None else {"sid_now": now}),
                **titles.get(tomb[self.item_id], {}),
            }
            for tomb, now in zip(found, self._sids_of(ids), strict=True)
        ]

    def _sids_of(self, ids: pa.Array) -> list[list[int] | None]:
        """Return the SIDs that items have now, None for those that have none."""
        ids = ids.cast(id_type(self.table, self.item_id))
        row_q = self.index.rows_of(ids, lambda row_c: self._read(row_c, [self.item_id])[0])
        sids = iter(self._read(row_q[row_q >= 0], [SID])[0].to_pylist())
        return [next(sids) if row >= 0 else None for row in row_q.tolist()]
