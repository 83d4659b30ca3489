"""An ids table is built: rows of embeddings to rows of IDs, beside those that are there already."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from semid.appending import DRIFTED, Appended, Rules, Table, append, open_drifted
from semid.assignment import Assigner, space_of
from semid.collisions import CollisionConfig, Resolved, Resources, Surroundings, resolve
from semid.collisions.checking import repeated
from semid.columns import id_type
from semid.embedding_columns import stream_rows
from semid.errors import SemidError
from semid.gates import Gate
from semid.id_columns import SID, code_matrix, ids_schema
from semid.id_metadata import read_metadata
from semid.jobs.continuing import require_own_encoder, require_same_origin
from semid.jobs.encoding import RAW, encoder_fingerprint
from semid.jobs.gating import Staged, refuse_failed
from semid.jobs.job import require_unique_ids
from semid.jobs.mapping import extend_table, write_table
from semid.jobs.progress import Bar, bar, counted
from semid.manifests import METADATA_KEY, PARTS_MANIFEST, Manifest, write_json
from semid.origin import origin_of
from semid.rolled_back import rolled_back
from semid.streams import Batches, prefetch
from semid.tables import ParquetTable, open_table
from semid.tombstones import RETIRED, having, open_retired, retired_schema

_SCAN_ROWS = 65_536


@dataclass(frozen=True)
class Task:
    """What is to be assigned, and how.

    Attributes
    ----------
    table : embeddings
    header : the model's
    gates : what the table must be before it is published
    refused : file for the figures of a table that fails them
    ordered : the table with the column that suffixes go by, if any
    encode : `semid.jobs.encoding.encode` with its settings
    memory_bytes : budget for resolving collisions
    """

    table: ParquetTable
    assigner: Assigner
    header: dict[str, Any]
    gates: Sequence[Gate]
    refused: Path
    config: CollisionConfig
    rules: Rules
    ordered: ParquetTable | None
    encode: Any
    memory_bytes: int
    show: bool

    def version(
        self, stage: Path, manifest: Manifest, before: Path | None
    ) -> tuple[Path | None, dict[str, Any]]:
        """Build the next version of a store; None when it would be the one before."""
        staged, summary = self.build(stage, manifest, before, "")
        names = ("new", "came_back", "moved_for_drift")
        if before is None or any(summary[name] for name in names):
            return staged, summary
        # The items are those of the version before; what is known of their drift may not be.
        return (None if _list(before) == _list(staged) else staged), summary

    def build(
        self, stage: Path, manifest: Manifest, before: Path | None, suffix: str
    ) -> tuple[Path, dict[str, Any]]:
        """Write the table to the stage; it goes on from the one in `before`, if there is one."""
        length = len(self.header["levels"]) + self.config.has_suffix
        made: dict[str, Any] = {"policy": self.config.policy, "sid_length": length}
        told = {
            "max_suffix": self.config.max_suffix,
            "suffix_order": self.config.suffix_order,
        }
        encoder = encoder_fingerprint(self.table)
        if before is not None:
            previous = open_table(before)
            require_same_origin(previous, self.table, self.assigner, made | told)
            encoder = encoder or read_metadata(previous).get("encoder_fingerprint")
        raw: ParquetTable = self.encode(self.table, self.assigner, stage / RAW, what="assign")
        if self.ordered is not None and self.ordered is not self.table:
            require_unique_ids(self.ordered, self.assigner.item_id, show=self.show)
        origin = {
            **origin_of(self.assigner.model, encoder).note(),
            "collisions": asdict(self.config),
        }
        staged = stage / f"ids{suffix}"
        summary = {**made, "levels": self.header["levels"]}
        schema = ids_schema(id_type(self.table, self.assigner.item_id), self.assigner.item_id)
        # Every row twice, once to be ranked and once to be given its SID; three times more where a
        # table is there already.
        passes = 2 if before is None else 5
        with bar("collisions", passes * self.table.num_rows, "rows", show=self.show) as shown:
            found = self._resolved(
                lambda: counted(raw.batches(raw.schema.names), shown), stage, before
            )
            summary |= asdict(found.report) | found.facts
            metadata = {METADATA_KEY: json.dumps(manifest | origin | {"summary": summary})}
            if isinstance(found, Resolved) or before is None:
                write_table(prefetch(found.rows), staged, schema, metadata)
            elif found.is_whole and staged.suffix != ".parquet":
                extend_table(open_table(before), found.added, staged, schema, metadata)
            else:
                write_table(prefetch(found.rows), staged, schema, metadata)
        if staged.is_dir():
            # What the parts say is as old as they are, where a version links to those before.
            write_json(staged / PARTS_MANIFEST, origin)
        if isinstance(found, Appended):
            self._write_beside(found, before, staged)
        self._require_unique(open_table(staged), stage)
        judged = Staged(
            staged,
            self.table,
            self.assigner.model,
            self.header,
            self.assigner.item_id,
            stage,
            self.memory_bytes,
            self.show,
        )
        return staged, summary | refuse_failed(judged, self.gates, self.refused)

    def _resolved(self, fresh: Batches, stage: Path, before: Path | None) -> Resolved | Appended:
        """Give SIDs to the rows that have none yet."""
        moves = before is not None or self.config.policy in ("reassign", "sinkhorn")
        around = Surroundings(
            self.header["levels"],
            space_of(self.assigner.quantizer, self._embeddings) if moves else None,
            order=None if self.ordered is None else self._order,
        )
        resources = Resources(stage, self.memory_bytes, progress=self._bar)
        item_id = self.assigner.item_id
        if before is None:
            return resolve(fresh, self.config, resources, around, item_id=item_id)
        previous = open_table(before)
        return append(
            fresh,
            Table(_rows(previous), self._held(before)),
            self.config,
            self.rules,
            resources,
            around,
            item_id=item_id,
            judge=partial(require_own_encoder, self.table, previous, self.assigner),
        )

    def _held(self, before: Path) -> Batches:
        """Stream the retired rows, and those that a rollback took out of sight."""
        retired = open_retired(before)
        sources = [] if retired is None else [_rows(retired)]
        sources += rolled_back(before, self.rules.now)
        return lambda: chain.from_iterable(source() for source in sources)

    def _embeddings(self, row_m: Any) -> Iterator[Any]:
        return stream_rows(self.table, self.assigner.widths, row_m)

    def _order(self) -> Iterator[pa.RecordBatch]:
        assert self.ordered is not None
        for batch in self.ordered.batches([self.assigner.item_id, self.config.order_column or ""]):
            yield pa.record_batch(batch.columns, names=["item_id", "value"])

    def _bar(self, what: str, total: int) -> AbstractContextManager[Bar]:
        return bar(what, total, "items", show=self.show)

    def _write_beside(self, added: Appended, before: Path | None, staged: Path) -> None:
        """Write what is kept beside the rows: retired rows, and the list of drifted items."""
        ids = id_type(self.table, self.assigner.item_id)
        retired = list(added.retired)
        if staged.is_file():
            if retired:
                raise SemidError(
                    "the table has retired items, for which a single file has no place; write to a "
                    "folder, or publish"
                )
            return
        if retired:
            schema = retired_schema(ids, self.assigner.item_id)
            write_table(iter(retired), staged / RETIRED, schema, {})
        drifted = [added.drifted, *self._drifted_before(before)]
        if any(map(len, drifted)):
            batches = chain.from_iterable(table.to_batches() for table in drifted)
            write_table(batches, staged / DRIFTED, added.drifted.schema, {})

    def _drifted_before(self, before: Path | None) -> Iterator[pa.Table]:
        """Yield the items known to have drifted of which the embeddings say nothing now."""
        noted = None if before is None else open_drifted(before)
        if noted is None:
            return
        item_id = self.assigner.item_id
        found = pa.Table.from_batches(noted.batches(noted.schema.names), noted.schema)
        known = found[item_id].combine_chunks()
        there = having(lambda: self.table.batches([item_id]), known, item_id)
        for batch in there():
            found = found.filter(
                pc.invert(pc.is_in(found[item_id], value_set=batch.column(0).cast(known.type)))
            )
        yield found

    def _require_unique(self, written: ParquetTable, stage: Path) -> None:
        if not self.config.is_unique:
            return
        retired = open_retired(Path(written.name)) if Path(written.name).is_dir() else None
        tables = [written, *([] if retired is None else [retired])]
        twice = repeated(
            (
                code_matrix(batch.column(0), SID)
                for table in tables
                for batch in table.batches([SID], rows=_SCAN_ROWS)
            ),
            self.header["levels"],
            stage,
            self.memory_bytes,
        )
        if twice is not None:
            raise RuntimeError(
                f"two items, live or retired, have the ID {twice}; nothing was published"
            )


def _list(folder: Path) -> pa.Table | None:
    """Return the list of drifted items of a version."""
    table = open_drifted(folder)
    if table is None:
        return None
    return pa.Table.from_batches(table.batches(table.schema.names), table.schema)


def _rows(table: ParquetTable) -> Batches:
    return lambda: table.batches(table.schema.names, rows=_SCAN_ROWS)
