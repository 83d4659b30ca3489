"""Items leave a store, and their IDs stay theirs; a store goes back to an earlier version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from semid.appending import DRIFTED, open_drifted
from semid.collisions import CollisionReport, Resources, count
from semid.columns import id_type
from semid.errors import SemidError, display_path, first_few
from semid.id_columns import id_column, ids_schema
from semid.id_metadata import ORIGIN, read_metadata
from semid.jobs.job import Result, require_like_ids
from semid.jobs.mapping import write_table
from semid.jobs.progress import bar, counted
from semid.jobs.publishing import produce_version
from semid.manifests import METADATA_KEY, PARTS_MANIFEST, Manifest, write_json
from semid.rolled_back import rolled_back
from semid.store import is_store
from semid.store import rollback as roll_back
from semid.streams import Batches
from semid.tables import ParquetTable, open_table
from semid.tombstones import (
    GONE,
    RETIRED,
    buried,
    having,
    open_retired,
    retired_schema,
)

# Facts that a table keeps when items leave it; those on its raw SIDs are counted again.
_LASTING = ("policy", "levels", "sid_length", *(f.name for f in fields(CollisionReport)))


def retire(
    ids: str,
    items: str,
    *,
    item_id: str = "item_id",
    keep: int = 0,
    show: bool = False,
    owner: str | None = None,
    now: datetime | None = None,
) -> Result:
    """Publish a version of a store without some items; their SIDs are held.

    Parameters
    ----------
    ids : store of an ids table
    items : Parquet table with the ids of the items, or a .txt file with one on every line
    item_id : name of the id column, in both tables
    keep : how many versions stay; 0 keeps all
    show : show progress bars
    owner : the step of a pipeline that runs it
    now : when they are retired, with a time zone; this moment when not given

    Raises
    ------
    SemidError
        When the table is no store, an item is not in it, or another job writes to it.
    """
    store, when = Path(ids), now or datetime.now(UTC)
    if not is_store(store):
        raise SemidError(
            f"{display_path(ids)} is no store of versions, where retired IDs are kept; publish the "
            "table first, with semid assign --publish"
        )
    source = Path(items) if items.endswith(".txt") else open_table(items)
    if isinstance(source, Path) and not source.is_file():
        raise SemidError(f"{display_path(source)} does not exist; check the path")

    def build(
        stage: Path, manifest: Manifest, previous: Path | None
    ) -> tuple[Path | None, dict[str, Any]]:
        assert previous is not None
        table, before = open_table(previous), open_retired(previous)
        wanted = _wanted(source, table, item_id)
        leaving = _leaving(table, before, wanted, item_id, items)
        metadata = read_metadata(table)
        known = metadata.get("summary", {})
        # What the assignment before did is not what happened now.
        summary = {name: known[name] for name in _LASTING if name in known} | {
            "retired_now": len(leaving),
            "retired": len(leaving) + (0 if before is None else before.num_rows),
        }
        if not len(leaving):
            return None, metadata.get("summary", {}) | summary
        if len(leaving) == table.num_rows:
            raise SemidError(
                f"{display_path(items)} names every item of {display_path(ids)}; a table cannot be "
                "empty, keep one at least"
            )
        staged, kind = stage / "ids", ids_schema(id_type(table, item_id), item_id)
        stay = having(lambda: table.batches(table.schema.names), leaving, item_id, inside=False)
        summary |= asdict(count(stay, Resources(stage), known.get("levels")))
        origin = {name: metadata[name] for name in ORIGIN if name in metadata}
        facts = manifest | origin | {"summary": summary}
        with bar("retire", table.num_rows - len(leaving), "rows", show=show) as shown:
            write_table(counted(stay(), shown), staged, kind, {METADATA_KEY: json.dumps(facts)})
        hidden = (source() for source in rolled_back(previous, when))
        gone = chain(_gone(table, before, leaving, item_id, when), *hidden)
        write_table(gone, staged / RETIRED, retired_schema(kind.field(0).type, item_id), {})
        write_json(staged / PARTS_MANIFEST, origin)
        _keep_drifted(previous, staged, leaving, item_id)
        return staged, summary

    return produce_version(
        "retire",
        store,
        inputs={"items": source},
        settings={"item_id": item_id},
        build=build,
        keep=keep,
        owner=owner,
    )


def rollback(ids: str, *, to: str | None = None) -> dict[str, str]:
    """Make an earlier version of a store the current one; raises as `semid.store.rollback`."""
    before, after = roll_back(Path(ids), to)
    return {"before": before, "after": after}


def _wanted(source: ParquetTable | Path, table: ParquetTable, item_id: str) -> pa.Array:
    """Read the ids of the items that are to leave, each once."""
    kind = id_type(table, item_id)
    if isinstance(source, ParquetTable):
        require_like_ids(table, source, item_id, "convert the second")
        parts, row = [], 0
        for batch in source.batches([item_id]):
            parts.append(id_column(batch.column(0), item_id, at=source.locator(row)).cast(kind))
            row += batch.num_rows
        return pc.unique(pa.chunked_array(parts, kind))
    try:
        # Not splitlines: it knows ends of lines that an id may hold.
        lines = source.read_text("utf-8").split("\n")
        return pc.unique(pa.array([line for line in lines if line], pa.string()).cast(kind))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise SemidError(
            f"{display_path(source)} cannot be read as item ids, one on every line ({error})"
        ) from error


def _leaving(
    table: ParquetTable, before: ParquetTable | None, wanted: pa.Array, item_id: str, name: str
) -> pa.Array:
    """Return those of the items that are live; the others must be retired already."""

    def there(source: ParquetTable) -> Batches:
        return lambda: source.batches([item_id])

    none = pa.array([], wanted.type)
    found = [none, *(b.column(0) for b in having(there(table), wanted, item_id)())]
    leaving = pa.concat_arrays([part.cast(wanted.type) for part in found])
    known = [leaving]
    if before is not None:
        known += [batch.column(0) for batch in having(there(before), wanted, item_id)()]
    unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=pa.concat_arrays(known))))
    if len(unknown):
        raise SemidError(
            f"{display_path(name)} names items that {display_path(table.name)} does not have: "
            f"{first_few([repr(item) for item in unknown.to_pylist()])}; take them out"
        )
    return leaving


def _gone(
    table: ParquetTable, before: ParquetTable | None, leaving: pa.Array, item_id: str, now: datetime
) -> Iterator[pa.RecordBatch]:
    """Stream all retired rows, those from before first."""
    earlier = iter(()) if before is None else before.batches(before.schema.names)
    rows = having(lambda: table.batches(table.schema.names), leaving, item_id)
    return chain(earlier, (buried(batch, now=now, reason=GONE) for batch in rows()))


def _keep_drifted(previous: Path, staged: Path, leaving: pa.Array, item_id: str) -> None:
    """Write which of the items that stay are known to have drifted."""
    drifted = open_drifted(previous)
    if drifted is None:
        return
    rows = having(lambda: drifted.batches(drifted.schema.names), leaving, item_id, inside=False)
    write_table(rows(), staged / DRIFTED, drifted.schema, {})
