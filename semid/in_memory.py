"""What jobs do with tables of any size, for rows in memory: the same functions, one batch.

Takes and gives Arrow tables; `semid.id_table.IdTable` puts its face on them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.appending import Rules, Table, append
from semid.assignment import space_of
from semid.collisions import CollisionConfig, Resources, Surroundings, count, resolve
from semid.embedding_columns import read_rows
from semid.errors import SemidError, display_path, first_few
from semid.explained import Fresh, require_own_encoder
from semid.id_columns import (
    CODES,
    DISTANCE,
    MARGIN,
    code_column,
    code_matrix,
    id_column,
    ids_schema,
    refuse_duplicates,
)
from semid.id_metadata import metadata_of
from semid.manifests import fingerprint
from semid.origin import Origin, origin_of, require_same_encoder, require_same_model
from semid.outputs import publish, staging, translate_os_errors
from semid.streams import ROW_GROUP_ROWS, Batches, open_writer
from semid.tombstones import GONE, RETIRED, buried, having, require_id_name, retired_schema

if TYPE_CHECKING:
    from semid.quantizer import Quantizer

# Rows whose codes are decoded for the mean of what a model was fitted to.
_USUAL_ROWS = 16_384


class Items:
    """Items with their embeddings, encoded: what is to be given SIDs.

    Parameters
    ----------
    model : a fitted quantizer
    item_ids : unique, ``(n,)``
    x : embeddings ``(n, d)``, as `Quantizer.encode` takes them
    order : what suffixes go by, ``(n,)``; None for the item ids
    encoder : fingerprint of what made the embeddings, where it is known
    """

    def __init__(
        self,
        model: Quantizer,
        item_ids: Any,
        x: Any,
        *,
        item_id: str,
        order: Any = None,
        encoder: str | None = None,
    ) -> None:
        require_id_name(item_id, "the ids")
        self.model, self.item_id = model, item_id
        self.origin = origin_of(model.to_artifact(), encoder)
        self.x_nd = read_rows(x, model.widths)[0]
        ids = id_column(item_ids, item_id)
        if len(ids) != len(self.x_nd):
            raise SemidError(f"{len(ids)} item ids were given for {len(self.x_nd)} embeddings")
        refuse_duplicates(ids)
        found = model.quantize(self.x_nd)
        columns = {
            item_id: ids,
            CODES: code_column(found.codes_nl),
            DISTANCE: pa.array(found.distance_n),
            MARGIN: pa.array(found.margin_n),
        }
        self.raw = pa.record_batch(columns)
        self._order = None if order is None else pa.array(order)

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """The raw codes, ``(n, l)``."""
        return code_matrix(self.raw.column(CODES), CODES)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the rows with their raw codes."""
        return iter([self.raw])

    def around(self, config: CollisionConfig) -> Surroundings:
        """Return what policies need to know of the model and the order of suffixes."""
        if bool(config.suffix_order) != (self._order is not None):
            given = "no order was given" if self._order is None else "an order was given"
            raise SemidError(
                f"suffixes go by {config.suffix_order or 'the item id'}, but {given}; give what "
                "suffix_order names, and only then"
            )
        return Surroundings(
            self.model.levels,
            space_of(self.model, self.rows),
            order=None if self._order is None else self._ordered,
        )

    def rows(self, row_m: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the embeddings of some rows."""
        return iter([self.x_nd[row_m]])

    def _ordered(self) -> Iterator[pa.RecordBatch]:
        columns = [self.raw.column(self.item_id), self._order]
        return iter([pa.record_batch(columns, names=["item_id", "value"])])


def assign_items(items: Items, config: CollisionConfig) -> tuple[pa.Table, dict[str, Any]]:
    """Give items SIDs; returns the rows of an ids table and what a job would note in it."""
    with tempfile.TemporaryDirectory(prefix="assign-") as folder:
        resources = Resources(Path(folder))
        found = resolve(
            items.batches, config, resources, items.around(config), item_id=items.item_id
        )
        rows = _table(found.rows, items)
    return rows, _noted(items, config, asdict(found.report) | found.facts)


def append_items(
    items: Items,
    rows: pa.Table,
    retired: pa.Table | None,
    noted: dict[str, Any],
    rules: Rules,
) -> tuple[pa.Table, pa.Table | None, pa.Table, dict[str, Any]]:
    """Give the items that a table lacks SIDs that are free in it, by the policy it was made with.

    Returns
    -------
    rows, retired : of the table that comes of it
    drifted : as `semid.appending.Appended`
    noted : what a job would note in it

    Raises
    ------
    SemidError
        When the table was made by another model, or does not say by which and how.
    """
    config = _same(items, noted)
    _require_like(items.raw.column(0).type, rows.schema.field(0).type)
    with tempfile.TemporaryDirectory(prefix="append-") as folder:
        added = append(
            items.batches,
            Table(_stream(rows), None if retired is None else _stream(retired)),
            config,
            rules,
            Resources(Path(folder)),
            items.around(config),
            item_id=items.item_id,
            judge=partial(
                require_own_encoder,
                items.model,
                lambda: usual_codes(rows),
                Fresh(items.rows, len(items.x_nd), "the embeddings given"),
            ),
        )
        after, gone = _table(added.rows, items), list(added.retired)
    left = pa.Table.from_batches(gone) if gone else None
    found = _noted(items, config, asdict(added.report) | added.facts)
    # What nobody says anew is as it was.
    found["encoder_fingerprint"] = items.origin.encoder or noted.get("encoder_fingerprint")
    return after, left, added.drifted, found


def retire_rows(
    rows: pa.Table, retired: pa.Table | None, item_ids: Any, now: datetime
) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Take items out of a table; returns its rows, its retired rows, and its counts now.

    Raises
    ------
    SemidError
        When an item is not in the table, or none would be left.
    """
    item_id = rows.schema.names[0]
    ids = pc.unique(id_column(item_ids, item_id))
    _require_like(ids.type, rows.schema.field(0).type)
    before = [] if retired is None else retired.to_batches()
    here = pc.is_in(ids, value_set=rows.column(0).combine_chunks())
    gone_before = pa.chunked_array([batch.column(0) for batch in before], ids.type)
    unknown = ids.filter(pc.invert(pc.or_(here, pc.is_in(ids, value_set=gone_before))))
    if len(unknown):
        shown = first_few([repr(item) for item in unknown.to_pylist()])
        raise SemidError(f"the table does not have the items {shown}; take them out")
    ids = ids.filter(here)
    if len(ids) == len(rows):
        raise SemidError("a table cannot be empty; keep one item at least")
    stay = having(_stream(rows), ids, item_id, inside=False)
    gone = [buried(b, now=now, reason=GONE) for b in having(_stream(rows), ids, item_id)()]
    with tempfile.TemporaryDirectory(prefix="retire-") as folder:
        summary = asdict(count(stay, Resources(Path(folder))))
    kind = retired_schema(rows.schema.field(0).type, item_id)
    left = pa.Table.from_batches([*before, *gone], None if before or gone else kind)
    summary |= {"retired_now": len(ids), "retired": len(left)}
    return pa.Table.from_batches(stay(), rows.schema), left, summary


def save_rows(rows: pa.Table, retired: pa.Table | None, path: Path, *, overwrite: bool) -> None:
    """Write a table; see `IdTable.save`."""
    single = path.suffix == ".parquet"
    if single and retired is not None:
        raise SemidError(
            "the table has retired items, for which a single file has no place; save it to a folder"
        )
    if path.exists() and not overwrite:
        raise SemidError(f"{display_path(path)} exists; choose another path, or overwrite=True")
    with translate_os_errors(path), staging(path, {"save": str(rows.schema)}) as stage:
        staged = stage / ("ids.parquet" if single else "ids")
        if single:
            _write(rows, staged)
        else:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir()
            _write(rows, staged / "part-00000.parquet")
            if retired is not None:
                _write(retired, staged / RETIRED)
        noted = metadata_of(rows.schema, "the table")
        publish(staged, path, None if single else {**noted, "fingerprint": fingerprint(noted)})


def _write(rows: pa.Table, path: Path) -> None:
    with open_writer(path, rows.schema, rows.schema.metadata) as writer:
        writer.write_table(rows, ROW_GROUP_ROWS)


def _require_like(found: pa.DataType, expected: pa.DataType) -> None:
    if pa.types.is_integer(found) != pa.types.is_integer(expected):
        raise SemidError(
            f"the item ids given are {found} but the table's are {expected}; convert them"
        )


def _stream(table: pa.Table) -> Batches:
    return lambda: iter(table.replace_schema_metadata(None).combine_chunks().to_batches())


def usual_codes(rows: pa.Table) -> npt.NDArray[np.int32]:
    """Return the codes of rows that lie evenly over a table, ``(n, l)``."""
    step = -(-len(rows) // _USUAL_ROWS)
    return code_matrix(rows[CODES].combine_chunks(), CODES)[::step]


def _table(rows: Iterator[pa.RecordBatch], items: Items) -> pa.Table:
    schema = ids_schema(items.raw.column(0).type, items.item_id)
    return pa.Table.from_batches([batch.cast(schema) for batch in rows], schema)


def _noted(items: Items, config: CollisionConfig, facts: dict[str, Any]) -> dict[str, Any]:
    levels = list(items.model.levels)
    summary = {"policy": config.policy, "levels": levels}
    return {
        **items.origin.note(),
        "collisions": asdict(config),
        "summary": summary | {"sid_length": len(levels) + config.has_suffix} | facts,
    }


def _same(items: Items, noted: dict[str, Any]) -> CollisionConfig:
    """Return the policy of a table, refusing one of another model."""
    before = Origin.noted(noted)
    if before.model is None:
        raise SemidError(
            "the table does not say which model assigned it, so its IDs cannot be kept; use one "
            "that semid assigned"
        )
    require_same_model("the table", before, "the one given", items.origin)
    require_same_encoder(
        *("the table was assigned from", before.encoder),
        *("the embeddings given", items.origin.encoder),
    )
    if "collisions" not in noted:
        raise SemidError(
            "the table does not say by which collision policy its IDs were made; use one that "
            "semid assigned"
        )
    return CollisionConfig(**noted["collisions"])
