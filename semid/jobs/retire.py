"""Items leave a store, and their IDs stay theirs; a store goes back to an earlier version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
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
from semid.store import is_store, versions
from semid.store import rollback as roll_back
from semid.streams import Batches
from semid.tables import ParquetTable, open_table
from semid.tombstones import GONE, RETIRED, buried, having, open_retired, retired_schema
from semid.versions import refuse_to_guess

# Facts that a table keeps when items leave it; those on its raw SIDs are counted again.
_LASTING = ("policy", "levels", "sid_length", *(f.name for f in fields(CollisionReport)))


def retire(
    ids: str,
    items: str,
    *,
    item_id: str = "item_id",
    ignore_unknown: bool = False,
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
    ignore_unknown : pass over items that the table never had, which is refused otherwise
    keep : how many versions stay; 0 keeps all
    show : show progress bars
    owner : the step of a pipeline that runs it
    now : when they are retired, with a time zone; this moment when not given

    Raises
    ------
    SemidError
        When the table is no store, an item was never in it (unless `ignore_unknown`), or another
        job writes to it.
    """
    store, when = Path(ids), now or datetime.now(UTC)
    if not is_store(store):
        refuse_to_guess(str(store), versions(store))
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
        leaving, unknown = _leaving(table, before, wanted, item_id)
        if len(unknown) and not ignore_unknown:
            raise SemidError(
                f"{display_path(items)} names {len(unknown):,} items that {display_path(ids)} does "
                f"not have: {first_few([repr(item) for item in unknown.to_pylist()])}; take them "
                "out, or pass over them with --ignore-unknown"
            )
        if len(leaving) == table.num_rows:
            raise SemidError(
                f"{display_path(items)} names every item of {display_path(ids)}; a table cannot be "
                "empty, keep one at least"
            )
        known = read_metadata(table).get("summary", {})
        # What the assignment before did is not what happened now.
        summary = {name: known[name] for name in _LASTING if name in known} | {
            "retired_now": len(leaving),
            "retired": len(leaving) + (0 if before is None else before.num_rows),
            "unknown": len(unknown),
        }
        if not len(leaving):
            return None, known | summary
        return _write(_Leaving(table, before, leaving, when), stage, manifest, summary, show=show)

    return produce_version(
        "retire",
        store,
        inputs={"items": source},
        settings={"item_id": item_id, "ignore_unknown": ignore_unknown},
        build=build,
        keep=keep,
        owner=owner,
    )


@dataclass(frozen=True)
class _Leaving:
    """Items that leave a table, what was retired before them, and when."""

    table: ParquetTable
    before: ParquetTable | None
    items: pa.Array
    now: datetime

    @property
    def item_id(self) -> str:
        return str(self.table.schema.names[0])

    def stay(self) -> Iterator[pa.RecordBatch]:
        return having(self._rows, self.items, self.item_id, inside=False)()

    def gone(self) -> Iterator[pa.RecordBatch]:
        """Stream all retired rows, those from before first."""
        yield from () if self.before is None else self.before.batches(self.before.schema.names)
        for batch in having(self._rows, self.items, self.item_id)():
            yield buried(batch, now=self.now, reason=GONE)

    def _rows(self) -> Iterator[pa.RecordBatch]:
        return self.table.batches(self.table.schema.names)


def _write(
    left: _Leaving, stage: Path, manifest: Manifest, summary: dict[str, Any], *, show: bool
) -> tuple[Path, dict[str, Any]]:
    """Write the table without those that leave, and all that stands beside it."""
    staged, table = stage / "ids", left.table
    schema = ids_schema(id_type(table, left.item_id), left.item_id)
    metadata = read_metadata(table)
    summary |= asdict(count(left.stay, Resources(stage), summary.get("levels")))
    origin = {name: metadata[name] for name in ORIGIN if name in metadata}
    facts = manifest | origin | {"summary": summary}
    with bar("retire", table.num_rows - len(left.items), "rows", show=show) as shown:
        write_table(counted(left.stay(), shown), staged, schema, {METADATA_KEY: json.dumps(facts)})
    previous = Path(table.name)
    hidden = (batch for source in rolled_back(previous, left.now) for batch in source())
    kind = retired_schema(schema.field(0).type, left.item_id)
    write_table(chain(left.gone(), hidden), staged / RETIRED, kind, {})
    write_json(staged / PARTS_MANIFEST, origin)
    _keep_drifted(previous, staged, left)
    return staged, summary


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
    table: ParquetTable, before: ParquetTable | None, wanted: pa.Array, item_id: str
) -> tuple[pa.Array, pa.Array]:
    """Return those of the items that are live, and those that were never in the table."""

    def there(source: ParquetTable) -> Batches:
        return lambda: source.batches([item_id])

    none = pa.array([], wanted.type)
    found = [none, *(b.column(0) for b in having(there(table), wanted, item_id)())]
    leaving = pa.concat_arrays([part.cast(wanted.type) for part in found])
    known = [leaving]
    if before is not None:
        known += [batch.column(0) for batch in having(there(before), wanted, item_id)()]
    unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=pa.concat_arrays(known))))
    return leaving, unknown


def _keep_drifted(previous: Path, staged: Path, left: _Leaving) -> None:
    """Write which of the items that stay are known to have drifted."""
    drifted = open_drifted(previous)
    if drifted is None:
        return
    names = drifted.schema.names
    rows = having(lambda: drifted.batches(names), left.items, left.item_id, inside=False)
    write_table(rows(), staged / DRIFTED, drifted.schema, {})
