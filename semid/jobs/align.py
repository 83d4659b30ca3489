"""A model renumbered to agree with the one before it, from their codes of the same embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.alignment import Codes, churn, find_orders
from semid.artifact import (
    CONFIG,
    METRICS,
    WEIGHTS,
    model_fingerprint,
    read_header,
    write_artifact,
)
from semid.assignment import Assigner
from semid.errors import SemidError, display_path, require_package
from semid.fit_config import WITHOUT_CODES
from semid.id_columns import CODES, code_matrix
from semid.jobs.continuing import require_trained_on
from semid.jobs.encoding import BATCH_BYTES, BATCH_ROWS, CHUNK_ROWS
from semid.jobs.job import Result, output_path, produce, require_widths, require_workers
from semid.jobs.mapping import map_table, open_parts
from semid.jobs.progress import bar, say
from semid.jobs.train import LINES
from semid.manifests import Manifest
from semid.origin import trained_on
from semid.streams import prefetch
from semid.tables import ParquetTable, open_table

OLD_CODES = "old_codes"
# Rows of codes that are counted at once.
COUNTED_ROWS = 262_144


class TwoAssigners:
    """Maps rows of embeddings to rows of (codes, old codes), by two models.

    Parameters
    ----------
    new, old : each with its embedding columns, which may be others
    """

    def __init__(self, new: Assigner, old: Assigner) -> None:
        self.new, self.old = new, old

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that either reads."""
        return tuple(dict.fromkeys((*self.new.columns, *self.old.columns)))

    def __call__(
        self, rows: pa.RecordBatch, *, where: ParquetTable | None = None, first_row: int = 0
    ) -> pa.RecordBatch:
        """Assign the raw codes of both; raises as `semid.assignment.Assigner`."""
        found = [by(rows, where=where, first_row=first_row)[CODES] for by in (self.new, self.old)]
        fields = [
            pa.field(name, column.type, nullable=False)
            for name, column in zip((CODES, OLD_CODES), found, strict=True)
        ]
        return pa.RecordBatch.from_arrays(found, schema=pa.schema(fields))


def align(
    model: str,
    *,
    to: str,
    embeddings: str,
    output: str,
    item_id: str = "item_id",
    device: str = "cpu",
    workers: int = 1,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Write a model anew, its codes renumbered to agree with an older model's.

    The model is the same otherwise, and its history and metrics are kept. The summary has the
    churn before and after: the share of items whose first 1, 2, … codes are not the old ones.

    Parameters
    ----------
    model : model directory
    to : model directory whose codes are to be kept
    embeddings : of items that both models know; Parquet file, folder, glob or URI
    output : model directory to write
    item_id : name of the id column
    device : ``cpu``, ``cuda`` or ``auto``
    workers : processes; one process with all threads measures fastest on few cores
    overwrite : replace a model made from other inputs
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input, or models without codes, or without codebooks to renumber; what stood at
        `output` stays.
    """
    target, new, old = output_path(output), Path(model), Path(to)
    require_workers(workers, least=1)
    table = open_table(embeddings)
    for folder in (new, old):
        header = read_header(folder)
        require_widths(table, header["columns"], folder)
        _require_codes(folder, header["kind"], renumbered=folder == new)
        require_trained_on(folder, table)
    both = TwoAssigners(*(Assigner(f, item_id=item_id, device=device) for f in (new, old)))

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="aligning")
        if device != "cpu":
            from semid.devices import pick_device

            pick_device(device)
        width = sum({**both.new.widths, **both.old.widths}.values())
        map_table(
            table,
            both,
            stage / "codes",
            chunk_rows=CHUNK_ROWS,
            batch_rows=max(min(BATCH_ROWS, BATCH_BYTES // (4 * width)), 1_024),
            what="assign",
            workers=workers,
            at_once=2,
            show=show,
        )
        codes = open_parts(stage / "codes", table.num_rows)
        folder = stage / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        summary = _renumber(both, codes, folder, manifest, show=show)
        return folder, summary

    inputs: dict[str, ParquetTable | Path] = {"embeddings": table, "metrics": new / METRICS}
    for name, folder in (("model", new), ("to", old)):
        inputs |= {name: folder / WEIGHTS, f"{name} config": folder / CONFIG}
    return produce(
        "align",
        target,
        inputs=inputs,
        settings={"item_id": item_id},
        build=build,
        resumes=("codes",),
        overwrite=overwrite,
        owner=owner,
    )


def _require_codes(folder: Path, kind: str, *, renumbered: bool) -> None:
    if kind in WITHOUT_CODES:
        raise SemidError(
            f"{display_path(folder)} is a model of the kind {kind}, which has no codes; name one "
            "that has, such as an rqvae"
        )
    if renumbered and kind == "fsq":
        raise SemidError(
            f"{display_path(folder)} is an fsq, whose codes are places on a grid and cannot be "
            "renumbered; train an rqvae, or go on from the old model with semid train --init-from"
        )


def _renumber(
    both: TwoAssigners, codes: ParquetTable, folder: Path, manifest: Manifest, *, show: bool
) -> dict[str, Any]:
    """Write the renumbered model to `folder`; return the summary."""
    model = both.new.quantizer
    numbering = model.numbering
    passes = 2 + sum(
        home == level and not fixed
        for level, (home, fixed) in enumerate(zip(numbering.homes, numbering.fixed, strict=True))
    )
    with bar("align", passes * codes.num_rows, "rows", show=show) as shown:

        def pairs() -> Iterator[tuple[Codes, Codes]]:
            for batch in prefetch(codes.batches([CODES, OLD_CODES], rows=COUNTED_ROWS)):
                yield code_matrix(batch[CODES], CODES), code_matrix(batch[OLD_CODES], OLD_CODES)
                shown.update(batch.num_rows)

        before = churn(pairs)
        orders = find_orders(pairs, numbering)
        after = churn(pairs, orders)
    facts = {
        "from": model_fingerprint(both.new.model),
        "to": model_fingerprint(both.old.model),
    }
    noted = {"aligned": facts, "encoder_fingerprint": trained_on(both.new.model)}
    write_artifact(model.permuted(orders).to_artifact(), folder, manifest | noted)
    if (both.new.model / LINES).exists():
        shutil.copyfile(both.new.model / LINES, folder / LINES)
    grids = [level for level, fixed in enumerate(numbering.fixed) if fixed]
    for level in grids:
        say(f"align: level {level} is a grid, whose codes keep their numbers", show=show)
    return {
        "quantizer": model.kind,
        "items": codes.num_rows,
        "levels": list(model.levels),
        **({"grids": grids} if grids else {}),
        "churn": [
            {"codes": depth, "before": was, "after": now}
            for depth, (was, now) in enumerate(zip(before, after, strict=True), 1)
        ],
    }
