"""Embeddings and a model to an ids table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.artifact import CONFIG, WEIGHTS, model_fingerprint, read_header
from semid.assignment import Assigner
from semid.collisions import POLICIES, CollisionConfig, Resources, Surroundings, resolve
from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.fit_config import WITHOUT_CODES
from semid.id_columns import ids_schema
from semid.jobs.encoding import encode
from semid.jobs.job import (
    Result,
    produce,
    require_memory,
    require_widths,
    require_workers,
    table_path,
)
from semid.jobs.mapping import Engine, map_table, write_table
from semid.jobs.progress import Bar, bar
from semid.manifests import METADATA_KEY, Manifest
from semid.streams import prefetch
from semid.tables import open_table


def assign(
    embeddings: str,
    *,
    model: str,
    output: str,
    collisions: str = "suffix",
    item_id: str = "item_id",
    device: str = "cpu",
    memory_gib: float = 0.5,
    workers: int = 1,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
    engine: Engine = map_table,
) -> Result:
    """Assign a semantic ID to every row of an embeddings table.

    Parameters
    ----------
    embeddings : Parquet file, folder, glob or URI
    model : model directory
    output : ids table to write, a ``.parquet`` file or a folder of parts
    collisions : ``suffix`` or ``none``
    item_id : name of the id column
    device : ``cpu``, ``cuda`` or ``auto``
    memory_gib : budget for resolving collisions; what does not fit spills to disk
    workers : processes; one process with all threads measures fastest on few cores
    overwrite : replace a table made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before
    engine : maps the rows; on this machine, unless a driver brings a cluster's

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    target, folder = table_path(output), Path(model)
    if collisions not in POLICIES:
        raise SemidError(f"unknown collision policy {collisions!r}; use {' or '.join(POLICIES)}")
    check_resources(memory_gib, workers)
    table, header = open_table(embeddings), read_header(folder)
    require_widths(table, header["columns"], folder)
    if header["kind"] in WITHOUT_CODES:
        raise SemidError(
            f"{display_path(folder)} is a model of the kind {header['kind']}, which has no codes; "
            "train one that has, such as rqvae"
        )
    schema = ids_schema(id_type(table, item_id), item_id)
    if len(set(schema.names)) < len(schema):
        raise SemidError(
            f"the id column of {display_path(embeddings)} is called {item_id!r}, as one of the "
            f"columns of an ids table ({', '.join(schema.names[1:])}); rename it"
        )

    assigner = Assigner(folder, item_id=item_id, device=device)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        raw = encode(
            table,
            assigner,
            stage / "raw",
            what="assign",
            workers=workers,
            show=show,
            engine=engine,
        )
        # Every row twice: once to be ranked, once to be given its SID.
        with bar("collisions", 2 * table.num_rows, "rows", show=show) as shown:
            found = resolve(
                lambda: _counted(raw.batches(raw.schema.names), shown),
                CollisionConfig(collisions),
                Resources(stage, int(memory_gib * 2**30)),
                Surroundings(header["levels"]),
                item_id=item_id,
            )
            summary = {"policy": collisions, "levels": header["levels"], **asdict(found.report)}
            facts = manifest | {"model_fingerprint": model_fingerprint(folder), "summary": summary}
            staged = stage / f"ids{target.suffix}"
            write_table(prefetch(found.rows), staged, schema, {METADATA_KEY: json.dumps(facts)})
        return staged, summary

    return produce(
        "assign",
        target,
        inputs={
            "embeddings": table,
            "model": folder / WEIGHTS,
            "model config": folder / CONFIG,
        },
        settings={"collisions": collisions, "item_id": item_id},
        build=build,
        overwrite=overwrite,
        owner=owner,
        prepare=(lambda: assigner.quantizer) if workers == 1 and engine is map_table else None,
    )


def check_resources(memory_gib: float = 0.5, workers: int = 1) -> None:
    """Raise `SemidError` for a memory or a number of processes that cannot be."""
    require_memory(memory_gib)
    require_workers(workers, least=1)


def _counted(rows: Iterator[pa.RecordBatch], shown: Bar) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        yield batch
        shown.update(batch.num_rows)
