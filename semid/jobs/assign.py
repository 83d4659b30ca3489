"""Embeddings and a model to an ids table, or to the next version of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.appending import Appended, Rules, Table, append
from semid.artifact import CONFIG, WEIGHTS, model_fingerprint, read_header
from semid.assignment import Assigner, space_of
from semid.collisions import CollisionConfig, Resources, Surroundings, resolve
from semid.collisions.checking import repeated
from semid.columns import id_type
from semid.embedding_columns import stream_rows
from semid.errors import SemidError, display_path
from semid.fit_config import WITHOUT_CODES
from semid.id_columns import SID, code_matrix, ids_schema
from semid.id_table import read_metadata
from semid.jobs.encoding import encode
from semid.jobs.job import (
    Result,
    output_path,
    produce,
    require_memory,
    require_unique_ids,
    require_widths,
    require_workers,
    table_path,
)
from semid.jobs.mapping import Engine, map_table, write_table
from semid.jobs.progress import Bar, bar
from semid.jobs.publishing import produce_version
from semid.manifests import METADATA_KEY, Manifest, read_manifest
from semid.store import is_store, resolve_table
from semid.streams import prefetch
from semid.tables import ParquetTable, open_table
from semid.tombstones import RETIRED, Batches, open_retired, retired_schema

DRIFTED = "_drifted.parquet"


def assign(
    embeddings: str,
    *,
    model: str,
    output: str,
    collisions: str = "suffix",
    suffix_order: str = "",
    max_suffix: int = 0,
    overflow: str = "error",
    items: str | None = None,
    previous: str | None = None,
    move_drifted: float | None = None,
    reclaim_after: float | None = None,
    publish: bool = False,
    fresh: bool = False,
    keep: int = 0,
    item_id: str = "item_id",
    device: str = "cpu",
    memory_gib: float = 0.5,
    workers: int = 1,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
    engine: Engine = map_table,
    now: datetime | None = None,
) -> Result:
    """Assign a semantic ID to every row of an embeddings table.

    Parameters
    ----------
    embeddings : Parquet file, folder, glob or URI
    model : model directory
    output : ids table to write, a ``.parquet`` file or a folder of parts; with `publish` a store
    collisions, suffix_order, max_suffix, overflow : see `semid.collisions.CollisionConfig`
    items : table that has the column of `suffix_order`, if the embeddings do not
    previous : ids table whose rows stay as they are; new items get SIDs that are free in it
    move_drifted : drift from which an item of `previous` gets another SID; never when not given
    reclaim_after : days after which a retired SID is free again; never when not given
    publish : write the next version of a store, with its current version as `previous`
    fresh : publish a version that keeps nothing of the one before
    keep : how many versions stay; 0 keeps all
    item_id : name of the id column
    device : ``cpu``, ``cuda`` or ``auto``
    memory_gib : budget for resolving collisions; what does not fit spills to disk
    workers : processes; one process with all threads measures fastest on few cores
    overwrite : replace a table made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before
    engine : maps the rows; on this machine, unless a driver brings a cluster's
    now : when a SID is left, with a time zone; this moment when not given

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    folder = Path(model)
    config = CollisionConfig(collisions, suffix_order, max_suffix, overflow)
    rules = Rules(now or datetime.now(UTC), move_drifted, reclaim_after)
    check_resources(memory_gib, workers)
    table, header = open_table(embeddings), read_header(folder)
    require_widths(table, header["columns"], folder)
    _require_codes(header, folder)
    _require_id_column(table, item_id)
    target = output_path(output) if publish else table_path(output)
    _require_sense(target, publish=publish, fresh=fresh, keep=keep, previous=previous, rules=rules)
    ordered = _ordered(table, items, config, item_id)
    task = _Task(
        table,
        Assigner(folder, item_id=item_id, device=device),
        header,
        config,
        rules,
        ordered,
        partial(encode, workers=workers, show=show, engine=engine),
        int(memory_gib * 2**30),
        show,
    )
    inputs: dict[str, ParquetTable | Path] = {
        "embeddings": table,
        "model": folder / WEIGHTS,
        "model config": folder / CONFIG,
    }
    if ordered is not None and ordered is not table:
        inputs["items"] = ordered
    settings = {
        **asdict(config),
        "item_id": item_id,
        "move_drifted": move_drifted,
        "reclaim_after": reclaim_after,
    }
    if publish:
        return produce_version(
            "assign",
            target,
            inputs=inputs,
            settings=settings | {"fresh": fresh},
            build=lambda stage, manifest, before: task.version(
                stage, manifest, None if fresh else before
            ),
            keep=keep,
            owner=owner,
        )
    before = None if previous is None else resolve_table(previous)
    if before is not None:
        inputs["previous"] = open_table(before)
        if (retired := open_retired(before)) is not None:
            inputs["retired"] = retired
    return produce(
        "assign",
        target,
        inputs=inputs,
        settings=settings,
        build=lambda stage, manifest: task.build(stage, manifest, before, target.suffix),
        overwrite=overwrite,
        owner=owner,
        prepare=(
            (lambda: task.assigner.quantizer) if workers == 1 and engine is map_table else None
        ),
    )


def check_resources(memory_gib: float = 0.5, workers: int = 1) -> None:
    """Raise `SemidError` for a memory or a number of processes that cannot be."""
    require_memory(memory_gib)
    require_workers(workers, least=1)


def _require_codes(header: dict[str, Any], folder: Path) -> None:
    if header["kind"] in WITHOUT_CODES:
        raise SemidError(
            f"{display_path(folder)} is a model of the kind {header['kind']}, which has no codes; "
            "train one that has, such as rqvae"
        )


def _require_id_column(table: ParquetTable, item_id: str) -> None:
    names = ids_schema(id_type(table, item_id), item_id).names
    if len(set(names)) < len(names):
        raise SemidError(
            f"the id column of {display_path(table.name)} is called {item_id!r}, as one of the "
            f"columns of an ids table ({', '.join(names[1:])}); rename it"
        )


def _require_sense(
    target: Path, *, publish: bool, fresh: bool, keep: int, previous: str | None, rules: Rules
) -> None:
    """Refuse options that do not go together."""
    if publish and previous is not None:
        raise SemidError(
            "publish goes on from the store's current version; leave out previous, or write to "
            "another output without publish"
        )
    if publish and target.suffix == ".parquet":
        raise SemidError(
            f"the output {display_path(target)} is a file, but publish writes versions into a "
            "folder; leave out the ending"
        )
    if not publish and is_store(target):
        raise SemidError(
            f"{display_path(target)} is a store of versions; add --publish to write the next one"
        )
    for name, given in (("fresh", fresh), ("keep", keep)):
        if given and not publish:
            raise SemidError(f"{name} is for versions of a store; add publish or leave it out")
    if keep < 0:
        raise SemidError(f"keep is {keep}; it must be 0, for all versions, or more")
    alone = previous is None and not publish
    for name, value in (
        ("move_drifted", rules.move_drifted),
        ("reclaim_after", rules.reclaim_after),
    ):
        if value is not None and (alone or fresh):
            raise SemidError(
                f"{name} is for a table that goes on from a previous one; give previous, or leave "
                "it out"
            )


def _ordered(
    table: ParquetTable, items: str | None, config: CollisionConfig, item_id: str
) -> ParquetTable | None:
    """Return the table with the column that suffixes go by."""
    if config.order_column is None:
        if items is not None:
            raise SemidError("items are only read for suffix_order; give it, or leave them out")
        return None
    found = table if items is None else open_table(items)
    found.require([item_id, config.order_column])
    kind = found.schema.field(config.order_column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
        raise SemidError(
            f"{display_path(found.name)}: column '{config.order_column}' is {kind}, but suffixes "
            "go by numbers or times; name another in suffix_order"
        )
    if id_type(found, item_id) != id_type(table, item_id):
        raise SemidError(
            f"{display_path(found.name)}: column '{item_id}' is {id_type(found, item_id)}, but "
            f"{id_type(table, item_id)} in {display_path(table.name)}; convert one of them"
        )
    return found


@dataclass(frozen=True)
class _Task:
    """What is to be assigned, and how."""

    table: ParquetTable
    assigner: Assigner
    header: dict[str, Any]
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
        if before is not None and not any(summary[name] for name in names):
            return None, summary
        return staged, summary

    def build(
        self, stage: Path, manifest: Manifest, before: Path | None, suffix: str
    ) -> tuple[Path, dict[str, Any]]:
        """Write the table to the stage."""
        known = None if before is None else self._require_same_origin(before)
        raw: ParquetTable = self.encode(self.table, self.assigner, stage / "raw", what="assign")
        if self.ordered is not None and self.ordered is not self.table:
            require_unique_ids(self.ordered, self.assigner.item_id, show=self.show)
        facts = manifest | {
            "model_fingerprint": model_fingerprint(self.assigner.model),
            "encoder_fingerprint": encoder_fingerprint(self.table),
        }
        staged = stage / f"ids{suffix}"
        summary = {"policy": self.config.policy, "levels": self.header["levels"]}
        summary |= {"sid_length": len(self.header["levels"]) + self.config.has_suffix}
        schema = ids_schema(id_type(self.table, self.assigner.item_id), self.assigner.item_id)
        # Every row twice: once to be ranked, once to be given its SID.
        with bar("collisions", 2 * self.table.num_rows, "rows", show=self.show) as shown:
            fresh = partial(_counted, raw, shown)
            moves = before is not None or self.config.policy in ("reassign", "sinkhorn")
            around = Surroundings(
                self.header["levels"],
                space_of(self.assigner.quantizer, self._embeddings) if moves else None,
                order=None if self.ordered is None else self._order,
            )
            resources = Resources(stage, self.memory_bytes, progress=self._bar)
            if before is None or known is None:
                found = resolve(
                    fresh, self.config, resources, around, item_id=self.assigner.item_id
                )
                rows, report, more = found.rows, found.report, found.facts
            else:
                added = append(
                    fresh,
                    known,
                    self.config,
                    self.rules,
                    resources,
                    around,
                    item_id=self.assigner.item_id,
                )
                rows, report, more = added.rows, added.report, added.facts
            summary |= asdict(report) | more
            metadata = {METADATA_KEY: json.dumps(facts | {"summary": summary})}
            write_table(prefetch(rows), staged, schema, metadata)
        if known is not None:
            self._write_beside(added, staged)
        self._require_unique(open_table(staged))
        return staged, summary

    def _embeddings(self, row_m: Any) -> Iterator[Any]:
        return stream_rows(self.table, self.assigner.widths, row_m)

    def _order(self) -> Iterator[pa.RecordBatch]:
        assert self.ordered is not None
        for batch in self.ordered.batches([self.assigner.item_id, self.config.order_column or ""]):
            yield pa.record_batch(batch.columns, names=["item_id", "value"])

    def _bar(self, what: str, total: int) -> AbstractContextManager[Bar]:
        return bar(what, total, "items", show=self.show)

    def _require_same_origin(self, before: Path) -> Table:
        """Open the previous table, refusing one that was not made just as this one will be."""
        table, shown = open_table(before), display_path(before)
        table.require([self.assigner.item_id])
        noted = read_metadata(table)
        summary, model = noted.get("summary", {}), model_fingerprint(self.assigner.model)
        if "model_fingerprint" not in noted:
            raise SemidError(
                f"{shown} does not say which model assigned it, so its IDs cannot be kept; give a "
                "table that semid assign wrote"
            )
        if noted["model_fingerprint"] != model:
            raise SemidError(
                f"{shown} was assigned by the model {noted['model_fingerprint']}, but "
                f"{display_path(self.assigner.model)} is {model}; use that model, or assign anew "
                "(semid align makes a new model's codes agree with the old ones)"
            )
        encoder, mine = noted.get("encoder_fingerprint"), encoder_fingerprint(self.table)
        if encoder and mine and encoder != mine:
            raise SemidError(
                f"{shown} was assigned from embeddings of the encoder {encoder}, but those of "
                f"{display_path(self.table.name)} are of {mine}; embed the items with the first"
            )
        mine_is: dict[str, Any] = {"policy": self.config.policy}
        mine_is |= {"sid_length": len(self.header["levels"]) + self.config.has_suffix}
        for name, value in mine_is.items():
            if summary.get(name) != value:
                raise SemidError(
                    f"the {name.replace('_', ' ')} of {shown} is {summary.get(name)}, but {value} "
                    "was asked for; IDs are kept only by the same collision policy"
                )
        if id_type(table, self.assigner.item_id) != id_type(self.table, self.assigner.item_id):
            raise SemidError(
                f"{shown}: column '{self.assigner.item_id}' is "
                f"{id_type(table, self.assigner.item_id)}, but "
                f"{id_type(self.table, self.assigner.item_id)} in "
                f"{display_path(self.table.name)}; convert the new one"
            )
        retired = open_retired(before)
        return Table(_rows(table), None if retired is None else _rows(retired))

    def _write_beside(self, added: Appended, staged: Path) -> None:
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
        if len(added.drifted):
            batches = iter(added.drifted.to_batches())
            write_table(batches, staged / DRIFTED, added.drifted.schema, {})

    def _require_unique(self, written: ParquetTable) -> None:
        if not self.config.is_unique:
            return
        twice = repeated(
            lambda: (code_matrix(batch.column(0), SID) for batch in written.batches([SID])),
            self.header["levels"],
            written.num_rows,
        )
        if twice is not None:
            raise RuntimeError(f"two items were given the ID {twice}; nothing was published")


def encoder_fingerprint(table: ParquetTable) -> str | None:
    """Return what identifies the encoder that made embeddings, or None where nothing says."""
    noted = read_manifest(Path(table.name)) if table.is_local else None
    found = (noted or {}).get("summary", {}).get("encoder_digest")
    return None if found is None else str(found)


def _rows(table: ParquetTable) -> Batches:
    return lambda: table.batches(table.schema.names, rows=65_536)


def _counted(table: ParquetTable, shown: Bar) -> Iterator[pa.RecordBatch]:
    for batch in table.batches(table.schema.names):
        yield batch
        shown.update(batch.num_rows)
