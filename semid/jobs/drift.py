"""Fresh embeddings held against an ids table and its model: is a retrain due, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from semid.artifact import CONFIG, METRICS, WEIGHTS, read_header, read_json
from semid.assignment import Assigner
from semid.drift import Coded, measure_drift
from semid.drift_verdicts import Limits, judged
from semid.embedding_columns import side_by_side
from semid.errors import display_path
from semid.explained import Codes, Matrix, explained, explained_before
from semid.id_columns import CODES, DISTANCE, code_matrix
from semid.jobs.continuing import require_origin
from semid.jobs.encoding import RAW, encode, usual_codes
from semid.jobs.job import (
    Result,
    look,
    output_path,
    produce,
    require_codes,
    require_like_ids,
    require_memory,
    require_unique_ids,
    require_widths,
)
from semid.jobs.progress import Bar, bar, counted
from semid.manifests import Manifest, write_json
from semid.row_checks import require_types
from semid.streams import rebatched
from semid.tables import ParquetTable, open_table

BATCH_ROWS = 16_384


def drift(
    ids: str,
    *,
    model: str,
    embeddings: str,
    output: str | None = None,
    max_error_ratio: float = Limits.max_error_ratio,
    min_support: float = Limits.min_support,
    max_shift: float = Limits.max_shift,
    max_changed: float = Limits.max_changed,
    strict: bool = False,
    item_id: str = "item_id",
    device: str = "cpu",
    memory_gib: float = 1.0,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Measure how far fresh items have drifted from an ids table, and say if a retrain is due.

    Parameters
    ----------
    ids : ids table
    model : the model that assigned it
    embeddings : of fresh items, new ones or known ones or both, by the encoder of the model
    output : ``.json`` file to write the figures and the findings into
    max_error_ratio, min_support, max_shift, max_changed : as `semid.drift_verdicts.Limits`
    strict : call a retrain that is due a failure
    item_id : name of the id column
    device : ``cpu``, ``cuda`` or ``auto``
    memory_gib : budget of what groups and joins rows; what does not fit spills to disk
    overwrite : replace a file made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input or limits, or a table and a model that do not belong together.
    """
    limits = Limits(max_error_ratio, min_support, max_shift, max_changed)
    require_memory(memory_gib)
    table, fresh, folder = open_table(ids), open_table(embeddings), Path(model)
    _refuse_strangers(table, fresh, folder, item_id)
    assigner = Assigner(folder, item_id=item_id, device=device)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        figures = _measure(table, fresh, assigner, stage, memory_gib, show=show)
        summary = judged(figures, limits)
        write_json(stage / "drift.json", summary)
        return stage / "drift.json", summary

    if output is None:
        result = look(build)
    else:
        result = produce(
            "drift",
            output_path(output),
            inputs={
                "ids": table,
                "embeddings": fresh,
                "model": folder / WEIGHTS,
                "model config": folder / CONFIG,
                "model metrics": folder / METRICS,
            },
            settings={"limits": asdict(limits), "item_id": item_id},
            build=build,
            resumes=(RAW,),
            overwrite=overwrite,
            owner=owner,
        )
    due = strict and result.summary["retrain_due"]
    return replace(result, failure=result.summary["verdict"]) if due else result


def _refuse_strangers(table: ParquetTable, fresh: ParquetTable, folder: Path, item_id: str) -> None:
    """Raise `SemidError` unless table, model and embeddings belong together."""
    header = read_header(folder)
    require_codes(header, folder)
    table.require([item_id, CODES, DISTANCE])
    require_types(table.schema, display_path(table.name))
    require_widths(fresh, header["columns"], folder)
    require_like_ids(table, fresh, item_id, "drift needs fresh embeddings of the same catalog")
    require_origin(table, folder, fresh)


def _measure(
    table: ParquetTable,
    fresh: ParquetTable,
    assigner: Assigner,
    stage: Path,
    memory_gib: float,
    *,
    show: bool,
) -> dict[str, Any]:
    header, item_id = read_header(assigner.model), assigner.item_id
    raw = encode(fresh, assigner, stage / RAW, what="encode", show=show)
    require_unique_ids(table, item_id, show=show)
    columns = [item_id, CODES, DISTANCE]
    with bar("drift", table.num_rows + raw.num_rows, "rows", show=show) as shown:
        figures = measure_drift(
            Coded(counted(table.batches(columns, rows=BATCH_ROWS), shown), table),
            Coded(counted(raw.batches(columns, rows=BATCH_ROWS), shown), raw),
            levels=header["levels"],
            item_id=item_id,
            holdout=float(header["config"].get("holdout", 0.0)),
            temp_dir=stage,
            memory_bytes=int(memory_gib * 2**30),
        )
    with bar("decode", fresh.num_rows, "rows", show=show) as shown:
        pairs = _pairs(fresh, raw, assigner, shown)
        now = explained(assigner.quantizer, usual_codes(table), pairs)
    before = explained_before(read_json(assigner.model / METRICS))
    return figures | {"explained": now, "explained_before": before}


def _pairs(
    fresh: ParquetTable, raw: ParquetTable, assigner: Assigner, shown: Bar
) -> Iterator[tuple[Matrix, Codes]]:
    """Yield the embeddings with the codes that they were given."""
    row, widths = 0, assigner.widths
    embedded = rebatched(fresh.batches(list(widths), rows=BATCH_ROWS), BATCH_ROWS)
    assigned = rebatched(raw.batches([CODES], rows=BATCH_ROWS), BATCH_ROWS)
    for batch, beside in zip(embedded, assigned, strict=True):
        x_nd = side_by_side(batch, widths, where=fresh, first_row=row)
        yield x_nd, code_matrix(beside[CODES], CODES)
        row += len(x_nd)
        shown.update(len(x_nd))
