"""Which levels suit a catalog, told from a sample of its embeddings before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semid.columns import EMBEDDING, id_type
from semid.embedding_columns import Widths, embedding_widths, side_by_side, spans
from semid.errors import SemidError, display_path, require_package
from semid.fit_config import FitConfig
from semid.jobs.job import (
    Result,
    look,
    output_path,
    produce,
    require_memory,
    require_unique_ids,
)
from semid.jobs.progress import bar
from semid.manifests import Manifest, write_json
from semid.planning import Planner, Wanted
from semid.planning.sample import Sample, Sampler
from semid.streams import prefetch
from semid.tables import ParquetTable, open_table

SAMPLE_ROWS = 262_144
LEAST_SAMPLE = 1_000
# A sample, its residuals and what fitting and drawing take beside them.
_COPIES = 4


def plan(
    embeddings: str,
    *,
    target_uniqueness: float = 0.95,
    levels: Sequence[Sequence[int]] = (),
    columns: Sequence[str] = (EMBEDDING,),
    output: str | None = None,
    sample: int = SAMPLE_ROWS,
    seed: int = 0,
    memory_gib: float = FitConfig.memory_gib,
    item_id: str = "item_id",
    overwrite: bool = False,
    show: bool = False,
) -> Result:
    """Predict what levels would make of a catalog, and recommend some.

    The table is read once, whatever its size. Up to `sample` embeddings are drawn by a hash of
    themselves, RQ-KMeans is fitted to them with every candidate, and what the whole catalog will
    be like is extrapolated; see `semid.planning`.

    Parameters
    ----------
    embeddings : Parquet file, folder, glob or URI
    target_uniqueness : share of distinct raw IDs to reach
    levels : levels to try beside those that are chosen, such as ``[(512, 256, 128)]``
    columns : embedding columns, side by side as a training fuses them
    output : ``.json`` file to write the plan into
    sample : embeddings to draw at most; fewer where they would not fit in `memory_gib`
    seed : of the sample and of the fits
    memory_gib : budget, of this and of the training that is planned
    item_id : name of the id column
    overwrite : replace a file made by other settings
    show : show progress bars

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    wanted = Wanted(target_uniqueness, tuple(map(tuple, levels)), seed, memory_gib)
    require_memory(memory_gib)
    if sample < LEAST_SAMPLE:
        raise SemidError(f"the sample is {sample:,} rows; it must be at least {LEAST_SAMPLE:,}")
    FitConfig(columns=tuple(columns), seed=seed)  # as a training would check them
    table = open_table(embeddings)
    widths = embedding_widths(table, columns)
    id_type(table, item_id)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="planning")
        require_unique_ids(table, item_id, show=show)
        drawn = _draw(table, widths, sample, wanted, show=show)
        summary = _run(drawn, widths, wanted, table, show=show)
        write_json(stage / "plan.json", summary)
        return stage / "plan.json", summary

    if output is None:
        return look(build)
    settings = {**asdict(wanted), "columns": list(columns), "sample": sample, "item_id": item_id}
    return produce(
        "plan",
        output_path(output),
        inputs={"embeddings": table},
        settings=settings,
        build=build,
        overwrite=overwrite,
    )


def _draw(table: ParquetTable, widths: Widths, most: int, wanted: Wanted, *, show: bool) -> Sample:
    """Read the whole table, checking every row, and draw a sample of it."""
    width = sum(widths.values())
    rows = min(most, int(wanted.memory_gib * 2**30) // (_COPIES * 4 * width))
    sampler = Sampler(table.num_rows, width, rows=max(rows, LEAST_SAMPLE), seed=wanted.seed)
    row = 0
    with bar("sample", table.num_rows, "rows", show=show) as shown:
        for batch in prefetch(table.batches(list(widths))):
            sampler.add(side_by_side(batch, widths, where=table, first_row=row))
            row += batch.num_rows
            shown.update(batch.num_rows)
    return sampler.result()


def _run(
    drawn: Sample, widths: Widths, wanted: Wanted, table: ParquetTable, *, show: bool
) -> dict[str, Any]:
    try:
        planner = Planner(drawn, spans(widths), wanted)
    except SemidError as error:
        raise SemidError(f"{display_path(table.name)}: {error}") from error
    with bar("plan", planner.codewords, "codewords", show=show) as shown:
        return planner.run(on_level=shown.update)
