"""An ids table measured against its embeddings, with the FAISS baseline beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from semid.artifact import CONFIG, WEIGHTS, model_fingerprint, read_header
from semid.embedding_columns import side_by_side, spans
from semid.errors import SemidError, display_path, require_package
from semid.id_columns import CODES, code_matrix
from semid.id_metadata import read_metadata
from semid.ids import validate_codes
from semid.jobs.job import Result, output_path, produce, require_like_ids, require_widths
from semid.jobs.progress import TrainingBar, bar
from semid.manifests import Manifest, write_json
from semid.streams import prefetch, rebatched
from semid.tables import ParquetTable, open_table

if TYPE_CHECKING:
    from semid.quantizer import Quantizer

BATCH_ROWS = 16_384
# Rows that are encoded again, and the share of them that may have other codes: of the model that
# assigned them all have the same, unless an item was embedded anew since.
AGAIN_ROWS = 2_048
OTHER_SHARE = 0.01


def evaluate(
    ids: str,
    *,
    embeddings: str,
    model: str,
    output: str,
    baseline: bool = True,
    item_id: str = "item_id",
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Measure an ids table.

    Parameters
    ----------
    ids : ids table
    embeddings : the embeddings it was assigned from, in the same order
    model : the model that assigned it
    output : ``metrics.json`` to write
    baseline : also fit RQ-KMeans with the same levels, seed and held-out items, and measure it
    item_id : name of the id column
    overwrite : replace a file made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input, or tables and a model that do not belong together.
    """
    target, folder = output_path(output), Path(model)
    ids_table, table, header = open_table(ids), open_table(embeddings), read_header(folder)
    ids_table.require([CODES])
    require_widths(table, header["columns"], folder)
    need = "evaluate needs the embeddings that the IDs were assigned from"
    require_like_ids(ids_table, table, item_id, need)
    if ids_table.num_rows != table.num_rows:
        raise SemidError(
            f"{display_path(ids)} has {ids_table.num_rows:,} rows but {display_path(embeddings)} "
            f"has {table.num_rows:,}; {need}"
        )

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="evaluating")
        metrics = _measure(ids_table, table, folder, item_id, show=show)
        summary: dict[str, Any] = {"quantizer": header["kind"], **metrics}
        if baseline:
            summary["baseline"] = _baseline(table, header, item_id, show=show)
        write_json(stage / "metrics.json", summary)
        return stage / "metrics.json", summary

    return produce(
        "evaluate",
        target,
        inputs={
            "ids": ids_table,
            "embeddings": table,
            "model": folder / WEIGHTS,
            "model config": folder / CONFIG,
        },
        settings={"baseline": baseline, "item_id": item_id},
        build=build,
        overwrite=overwrite,
        owner=owner,
    )


def _refuse_other_model(ids: ParquetTable, folder: Path) -> None:
    assigned, given = read_metadata(ids).get("model_fingerprint"), model_fingerprint(folder)
    if assigned not in (None, given):
        raise SemidError(
            f"{display_path(ids.name)} was assigned by another model ({assigned}) than "
            f"{display_path(folder)} ({given}); name the model that assigned it, or assign the "
            "IDs again"
        )


def _measure(
    ids: ParquetTable, table: ParquetTable, folder: Path, item_id: str, *, show: bool
) -> dict[str, Any]:
    from semid.metrics.measurement import Measurement
    from semid.quantizer import load
    from semid.training_data import held_out

    model = load(folder)
    _refuse_other_model(ids, folder)
    share = float(model.config.get("holdout", 0.0))
    measurement = Measurement(model.levels, spans(model.widths))
    with bar("evaluate", table.num_rows, "rows", show=show) as shown:
        for place, (x_nd, codes_nl, items) in enumerate(
            prefetch(_joined(ids, table, item_id, model))
        ):
            if place == 0:
                _refuse_other_embeddings(ids, table, model, x_nd, codes_nl)
            measurement.add(x_nd, codes_nl, model.decode(codes_nl), held_out(items, share))
            shown.update(len(x_nd))
    return measurement.result()


def _refuse_other_embeddings(
    ids: ParquetTable,
    table: ParquetTable,
    model: Quantizer,
    x_nd: npt.NDArray[np.float32],
    codes_nl: npt.NDArray[np.int32],
) -> None:
    again_nl = model.quantize(x_nd[:AGAIN_ROWS]).codes_nl
    other_n = (again_nl != codes_nl[:AGAIN_ROWS]).any(1)
    if other_n.mean() > OTHER_SHARE:
        raise SemidError(
            f"{display_path(table.name)} is not what {display_path(ids.name)} was assigned from: "
            f"{other_n.sum():,} of its first {len(other_n):,} rows have other codes there; "
            "evaluate needs the embeddings that the IDs were assigned from"
        )


def _joined(
    ids: ParquetTable, table: ParquetTable, item_id: str, model: Quantizer
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], pa.Array]]:
    """Stream both tables side by side, making sure that they speak of the same items."""
    row = 0
    # Row groups of the two tables need not end together.
    columns = [item_id, *model.widths]
    embedded = rebatched(table.batches(columns, rows=BATCH_ROWS), BATCH_ROWS)
    assigned = rebatched(ids.batches([item_id, CODES], rows=BATCH_ROWS), BATCH_ROWS)
    for batch, beside in zip(embedded, assigned, strict=True):
        items = batch[item_id]
        there = beside[item_id].cast(items.type)
        if not there.equals(items):
            same = pc.equal(there, items).fill_null(False)
            place = int(np.flatnonzero(~same.to_numpy(zero_copy_only=False))[0])
            raise SemidError(
                f"{ids.locate(row + place)} is item {there[place].as_py()!r} but "
                f"{table.locate(row + place)} is item {items[place].as_py()!r}; evaluate needs the "
                "embeddings that the IDs were assigned from, in the same order"
            )
        x_nd = side_by_side(batch, model.widths, where=table, first_row=row)
        at = ids.locator(row)
        codes_nl = code_matrix(beside[CODES], CODES, at=at)
        validate_codes(codes_nl, model.levels, at=at)
        yield x_nd, codes_nl, items
        row += batch.num_rows


def _baseline(
    table: ParquetTable, header: dict[str, Any], item_id: str, *, show: bool
) -> dict[str, Any]:
    from semid.fit_config import FitConfig
    from semid.fitting import fit_data
    from semid.training_data import open_training_data

    fitted = header["config"]
    config = FitConfig(
        quantizer="rqkmeans",
        levels=tuple(header["levels"]),
        columns=tuple(header["columns"]),
        seed=int(fitted.get("seed", 0)),
        holdout=float(fitted.get("holdout", 0.1)),
    )
    memory_bytes = int(config.memory_gib * 2**30)
    with bar("baseline", len(config.levels), "levels", show=show) as shown:
        data = open_training_data(
            table,
            item_id,
            share=config.holdout,
            memory_bytes=memory_bytes,
            columns=config.columns,
        )
        model = fit_data(data, config, device="cpu", callbacks=[TrainingBar(shown)])
    return {"quantizer": "rqkmeans", **model.metrics}
