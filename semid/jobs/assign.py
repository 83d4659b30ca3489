"""Embeddings and a model to an ids table, or to the next version of one: what may be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa

from semid.appending import Rules
from semid.artifact import CONFIG, WEIGHTS, read_header
from semid.assignment import Assigner
from semid.collisions import CollisionConfig
from semid.collisions.settings import require_room
from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.jobs.building import Task
from semid.jobs.continuing import require_trained_on
from semid.jobs.encoding import RAW, encode
from semid.jobs.gating import table_gates
from semid.jobs.job import (
    Result,
    output_path,
    produce,
    require_codes,
    require_like_ids,
    require_memory,
    require_widths,
    require_workers,
    table_path,
)
from semid.jobs.mapping import Engine, map_table
from semid.jobs.publishing import produce_version
from semid.store import is_store, resolve_table
from semid.tables import ParquetTable, open_table
from semid.tombstones import open_retired, require_id_name


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
    gates: Sequence[str] = (),
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
    gates : what the figures of codes and embeddings must be, such as ``uniqueness >= 0.9`` or
        ``train_error <= 0.3``, or nothing is published; see `semid.gates`
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
        For bad input or settings, and `GateError` for a gate that fails; what stood at `output`
        stays.
    """
    folder = Path(model)
    config = CollisionConfig(collisions, suffix_order, max_suffix, overflow)
    rules = Rules(now or datetime.now(UTC), move_drifted, reclaim_after)
    check_resources(memory_gib, workers)
    table, header = open_table(embeddings), read_header(folder)
    require_widths(table, header["columns"], folder)
    require_codes(header, folder)
    asked = table_gates(gates, header)
    require_trained_on(folder, table)
    id_type(table, item_id)
    require_id_name(item_id, display_path(table.name))
    target = output_path(output) if publish else table_path(output)
    _require_sense(target, publish=publish, fresh=fresh, keep=keep, previous=previous, rules=rules)
    require_room(tuple(header["levels"]), table.num_rows, config)
    ordered = _ordered(table, items, config, item_id)
    task = Task(
        table,
        Assigner(folder, item_id=item_id, device=device),
        header,
        asked,
        target.with_name(f"{target.stem}.refused.json"),
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
    } | ({"gates": [gate.text for gate in asked]} if asked else {})
    if publish:
        return produce_version(
            "assign",
            target,
            inputs=inputs,
            settings=settings | {"fresh": fresh},
            build=lambda stage, manifest, before: task.version(
                stage, manifest, None if fresh else before
            ),
            resumes=(RAW,),
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
        resumes=(RAW,),
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
    require_like_ids(table, found, item_id, "convert one of them")
    return found
