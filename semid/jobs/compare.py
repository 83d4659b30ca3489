"""Embeddings to a comparison of quantizers: a table of runs, and the same as text and page."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.columns import id_type
from semid.comparison.entries import CONTRAST, DEFAULT, Entry, entries, plan
from semid.comparison.page import html, markdown
from semid.comparison.summary import PER_LEVEL, PLAIN, point, summarise
from semid.cooccurrence import count_partners
from semid.embedding_columns import embedding_widths, take_rows
from semid.errors import SemidError, display_path, require_package
from semid.jobs.job import Result, output_path, produce, require_unique_ids
from semid.jobs.processes import end_with_parent, in_processes
from semid.jobs.progress import bar
from semid.manifests import Manifest, write_json
from semid.met_items import steps_left_out
from semid.streams import open_writer
from semid.tables import ParquetTable, open_table

_LEVELS = (256, 256, 256)
_FACTS = ("items", "width", "held_out_rows", "queries", "steps")


def compare(
    embeddings: str,
    *,
    output: str,
    quantizers: list[str] | None = None,
    levels: list[int] | None = None,
    flat: int = 0,
    seeds: int = 3,
    settings: dict[str, Any] | None = None,
    interactions: str | None = None,
    item_id: str = "item_id",
    device: str = "auto",
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Fit quantizers to the same rows and measure them alike.

    Parameters
    ----------
    embeddings : Parquet file, folder, glob or URI
    output : folder to write ``comparison.parquet``, ``comparison.md`` and ``comparison.html`` into
    quantizers : of `semid.comparison.entries.NAMES`; those of its `DEFAULT` when not given
    levels : codewords per level; three of 256 when not given
    flat : codewords of quantizers with one level; 0 for as many as the first level
    seeds : runs of each quantizer, with the seeds that follow the settings' own
    settings : as of a fit; each goes to the quantizers that have it
    interactions : table of who met which item: adds a quantizer that learns from it, and for all
        of them whether codes follow the steps of users that it did not learn from
    item_id : name of the id column, in both tables
    device : ``auto``, ``cpu`` or ``cuda``
    overwrite : replace a comparison of other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    target = output_path(output)
    compared = compared_by(quantizers, levels, flat, seeds, settings, interactions)
    table = open_table(embeddings)
    met = None if interactions is None else open_table(interactions)
    embedding_widths(table, compared[0].config.columns)
    id_type(table, item_id)

    def build(stage: Path, _: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="comparing")
        require_package("faiss", extra="cpu", purpose="comparing")
        from semid.devices import pick_device

        pick_device(device)
        require_unique_ids(table, item_id, show=show)
        runs = stage / "runs"
        rows = []
        protocol = _Protocol(table, item_id, device, met, _steps(compared, table, met, item_id))
        with bar("compare", len(compared) * seeds, "runs", show=show) as shown:
            for entry in compared:
                for number in range(seeds):
                    shown.set_postfix_str(f"{entry.name}, seed {entry.config.seed + number}")
                    made = runs / f"{entry.name}-{number}.json"
                    if not made.exists():
                        _in_child(entry, number, protocol, made)
                    rows.append(json.loads(made.read_text()))
                    shown.update(1)
        return _write(rows, stage / "comparison", seeds)

    return produce(
        "compare",
        target,
        inputs={"embeddings": table} | ({} if met is None else {"interactions": met}),
        settings={"quantizers": plan(compared), "seeds": seeds, "item_id": item_id},
        build=build,
        resumes=("runs",),
        overwrite=overwrite,
        owner=owner,
    )


def compared_by(
    quantizers: list[str] | None = None,
    levels: list[int] | None = None,
    flat: int = 0,
    seeds: int = 3,
    settings: dict[str, Any] | None = None,
    interactions: str | None = None,
) -> list[Entry]:
    """Return what `compare` would run, from those of its parameters that say so.

    Raises
    ------
    SemidError
        As `semid.comparison.entries.entries`, and for a contrast without interactions.
    """
    if seeds < 1:
        raise SemidError(f"seeds is {seeds}; give at least 1")
    names = DEFAULT if quantizers is None else quantizers
    if interactions is not None and quantizers is None:
        names = [*names[:1], CONTRAST, *names[1:]]
    if interactions is None and CONTRAST in names:
        raise SemidError(f"{CONTRAST} learns from interactions; name them by --interactions")
    return entries(names, levels=levels or _LEVELS, flat=flat, settings=settings)


@dataclass(frozen=True)
class _Protocol:
    """What all runs have in common.

    table, item_id : the embeddings
    device : of the fits
    met : the interactions, if any
    steps_m2 : users' steps that codes are measured on, as rows of the table
    """

    table: ParquetTable
    item_id: str
    device: str
    met: ParquetTable | None
    steps_m2: npt.NDArray[np.int64]


def _steps(
    compared: list[Entry], table: ParquetTable, met: ParquetTable | None, item_id: str
) -> npt.NDArray[np.int64]:
    """Return the steps that no contrast learns from."""
    if met is None:
        return np.empty((0, 2), np.int64)
    config = next((e.config for e in compared if e.name == CONTRAST), compared[0].config).contrast
    ids = pa.chunked_array(batch.column(0) for batch in table.batches([item_id]))
    return steps_left_out(met, ids, config, item_id=item_id)


def _in_child(entry: Entry, number: int, protocol: _Protocol, made: Path) -> None:
    """Run in a process that has done nothing else, so that its memory is the run's own."""
    calls, ended = [(entry, number, protocol)], f"the process of {entry.name}"
    [(_, row)] = in_processes(_run, calls, workers=1, start=end_with_parent, ended=ended)
    made.parent.mkdir(exist_ok=True)
    writing = made.with_suffix(".writing")
    write_json(writing, row)
    writing.replace(made)


def _run(entry: Entry, number: int, protocol: _Protocol) -> dict[str, Any]:
    from semid.comparison.run import Steps, queries, run_entry
    from semid.training_data import open_training_data, require_rows, training_ids

    config, table, item_id = entry.config, protocol.table, protocol.item_id
    data = open_training_data(
        table,
        item_id,
        share=config.holdout,
        memory_bytes=int(config.memory_gib * 2**30),
        columns=config.columns,
    )
    try:
        require_rows(data, config.levels)
    except SemidError as error:
        raise SemidError(f"{display_path(table.name)}: {error}") from error
    partners, steps = None, None
    if entry.name == CONTRAST and protocol.met is not None:
        ids = training_ids(table, item_id, share=config.holdout)
        partners = count_partners(protocol.met, ids, config.contrast, item_id=item_id)
    if len(protocol.steps_m2):
        rows, pairs = np.unique(protocol.steps_m2, return_inverse=True)
        steps = Steps(take_rows(table, data.widths, rows), pairs.reshape(-1, 2))
    row = run_entry(
        entry,
        data,
        seed=config.seed + number,
        device=protocol.device,
        partners=partners,
        steps=steps,
    )
    items = data.train_rows + data.held_out_rows
    facts = {"items": items, "width": data.width, "held_out_rows": data.held_out_rows}
    return row | facts | {"queries": len(queries(items)), "steps": len(protocol.steps_m2)}


def _write(rows: list[dict[str, Any]], folder: Path, seeds: int) -> tuple[Path, dict[str, Any]]:
    shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed here
    folder.mkdir()
    facts = {key: rows[0][key] for key in _FACTS} | {"seeds": seeds}
    table = pa.Table.from_pylist(rows, _schema())
    with open_writer(folder / "comparison.parquet", table.schema) as writer:
        writer.write_table(table)
    summaries = summarise(rows)
    (folder / "comparison.md").write_text(markdown(summaries, facts), "utf-8")
    (folder / "comparison.html").write_text(html(summaries, facts), "utf-8")
    found = []
    for summary in summaries:
        error, unique = point(summary) or (None, None)
        figures = {"error": error, "raw_uniqueness": unique, "not_dominated": summary["best"]}
        found.append({"quantizer": summary["quantizer"], **figures})
    return folder, facts | {"quantizers": found}


def _schema() -> pa.Schema:
    fields = [("quantizer", pa.string()), ("seed", pa.int64()), ("levels", pa.list_(pa.int32()))]
    fields += [(name, pa.list_(pa.float64())) for name in PER_LEVEL]
    fields += [(name, pa.float64()) for name in PLAIN]
    return pa.schema([*fields, *((name, pa.int64()) for name in _FACTS)])
