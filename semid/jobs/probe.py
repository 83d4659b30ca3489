"""Ids tables and interactions to what small recommenders make of them: a table, text and a page."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from semid.config import as_plain
from semid.errors import SemidError, display_path, require_package
from semid.id_columns import SID
from semid.interactions import interaction_columns
from semid.jobs.job import Result, output_path, produce, require_workers
from semid.jobs.processes import end_with_parent, in_processes
from semid.jobs.progress import Bar, bar
from semid.manifests import Manifest, fingerprint, write_json
from semid.probe.page import html, lead, markdown
from semid.probe.settings import MODELS, ProbeSettings, settings_of
from semid.probe.summary import summarise
from semid.recsys.histories import PARTS
from semid.streams import open_writer
from semid.tables import ParquetTable, open_table

REFERENCE = "item-ids"
RUNS = "runs"
_FACTS = ("items", "users", "interactions")
_EVERY_SECONDS, _JOIN_SECONDS = 0.2, 2.0
_RANK_STEPS = 1  # of the bar, beside one an epoch


@dataclass(frozen=True)
class _Run:
    """One run: a model, a table with its name (none for the reference), a seed; and its file."""

    model: str
    name: str | None
    ids: str
    seed: int
    file: str
    steps: int


def probe(
    ids: Sequence[str],
    *,
    interactions: str,
    output: str,
    preset: str = "tiny",
    models: Sequence[str] | None = None,
    seeds: int = 3,
    settings: dict[str, Any] | None = None,
    part: str = "test",
    item_id: str = "item_id",
    device: str = "auto",
    workers: int = 1,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Train the same recommenders on ids tables and rank what users met last.

    Runs that an earlier probe at `output`, or one that was interrupted, has made of the same table,
    interactions, settings and seed are not made again.

    Parameters
    ----------
    ids : ids tables of one catalog, each a path or ``name=path``; the first is what the others are
        held against
    interactions : table of who met which item, in order
    output : folder to write ``probe.parquet``, ``probe.md`` and ``probe.html`` into
    preset : of `semid.probe.settings.PRESETS`
    models : of `semid.probe.settings.MODELS`; all when not given
    seeds : runs of each model on each table
    settings : laid over the preset's, see `semid.probe.settings.ProbeSettings`
    part : ``test``, or ``validation`` to choose settings by
    item_id : name of the id column, in all tables
    device : ``auto``, ``cpu`` or ``cuda``
    workers : runs at once, each with its share of the cores
    overwrite : replace a probe of other tables or settings
    show : show a progress bar
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    target = output_path(output)
    chosen, names = probed_by(preset, models, seeds, settings, part)
    require_workers(workers, least=1)
    tables = _tables(ids, item_id)
    met = open_table(interactions)
    interaction_columns(met, item_id)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_package("torch", extra="cpu", purpose="probing")
        from semid.devices import pick_device
        from semid.probe.run import Protocol

        pick_device(device)
        _require_one_catalog(tables, item_id)
        protocol = Protocol(met.name, item_id, chosen, part, device)
        runs = _runs(tables, names, seeds, chosen, part, manifest["inputs"])
        folder = stage / "probe"
        (folder / RUNS).mkdir(parents=True, exist_ok=True)
        _keep(target / RUNS, folder / RUNS, runs)
        _make(runs, folder / RUNS, protocol, workers, show)
        return folder, _write(runs, folder, {"preset": preset, "seeds": seeds, "part": part})

    return produce(
        "probe",
        target,
        inputs={"interactions": met} | {f"ids {name}": table for name, table in tables.items()},
        settings={
            **{"models": names, "seeds": seeds, "part": part, "item_id": item_id},
            **{"preset": preset, "settings": as_plain(chosen), "tables": list(tables)},
        },
        build=build,
        overwrite=overwrite,
        owner=owner,
    )


def probed_by(
    preset: str = "tiny",
    models: Sequence[str] | None = None,
    seeds: int = 3,
    settings: dict[str, Any] | None = None,
    part: str = "test",
) -> tuple[ProbeSettings, list[str]]:
    """Return the settings and models of a `probe`, from those of its parameters that say so.

    Raises
    ------
    SemidError
        For an unknown preset, model, part or setting, or one that is not valid.
    """
    names = list(dict.fromkeys(MODELS if models is None else models))
    if seeds < 1:
        raise SemidError(f"seeds is {seeds}; give at least 1")
    if part not in PARTS[1:]:
        raise SemidError(f"unknown part {part!r}; use test or validation")
    if not names or not set(names) <= set(MODELS):
        raise SemidError(
            f"models are {', '.join(names) or 'none'}; use some of {', '.join(MODELS)}"
        )
    return settings_of(preset, settings or {}), names


def _tables(ids: Sequence[str], item_id: str) -> dict[str, ParquetTable]:
    """Open tables by their names: those given, or of files and folders."""
    if not ids:
        raise SemidError("no ids table is given; name one or more")
    found: dict[str, ParquetTable] = {}
    for one in ids:
        name, named, path = one.partition("=")
        if not named:
            name, path = Path(one.rstrip("/")).name.removesuffix(".parquet"), one
        if name in found:
            raise SemidError(f"two ids tables are called {name!r}; give them as name=path")
        found[name] = open_table(path)
        found[name].require([item_id, SID])
    return found


def _require_one_catalog(tables: dict[str, ParquetTable], item_id: str) -> None:
    first, *others = ((table.name, _item_ids(table, item_id)) for table in tables.values())
    for found in others:
        for (here, own), (there, other) in ((found, first), (first, found)):
            missing = own.filter(pc.invert(pc.is_in(own, value_set=other)))
            if len(missing):
                raise SemidError(
                    f"{display_path(here)} has {len(missing):,} items that {display_path(there)} "
                    f"lacks, such as {missing[0].as_py()!r}; give tables of one catalog"
                )


def _item_ids(table: ParquetTable, item_id: str) -> pa.ChunkedArray:
    batches = [batch.column(0).cast(pa.large_string()) for batch in table.batches([item_id])]
    return pa.chunked_array(batches, pa.large_string())


def _runs(
    tables: dict[str, ParquetTable],
    models: list[str],
    seeds: int,
    settings: ProbeSettings,
    part: str,
    inputs: dict[str, Any],
) -> list[_Run]:
    """Return all runs; a run's file is called for what makes it what it is."""
    found = []
    first = next(iter(tables))
    for seed in range(settings.seed, settings.seed + seeds):
        for model in models:
            for name in [first] if model == REFERENCE else tables:
                own = as_plain(settings)
                sizes = own.pop("sequential" if model == "generative" else "generative")
                sizes = settings.generative if model == "generative" else settings.sequential
                facts = [model, inputs[f"ids {name}"]["digest"], inputs["interactions"]["digest"]]
                file = fingerprint([*facts, own, seed, part])
                shown = None if model == REFERENCE else name
                steps = sizes.epochs + _RANK_STEPS
                found.append(_Run(model, shown, tables[name].name, seed, file, steps))
    return found


def _keep(before: Path, runs_folder: Path, runs: Sequence[_Run]) -> None:
    """Take over what an earlier probe has made."""
    for run in runs:
        for name in (f"{run.file}.npy", f"{run.file}.json"):  # the latter says that it is done
            if (before / name).exists():
                shutil.copyfile(before / name, runs_folder / name)


def _make(runs: Sequence[_Run], folder: Path, protocol: Any, workers: int, show: bool) -> None:
    """Make the runs that are not there, in processes that say where they are."""
    missing = [run for run in runs if not (folder / f"{run.file}.json").exists()]
    told = multiprocessing.get_context("spawn").SimpleQueue()
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
    with bar("probe", sum(run.steps for run in runs), "epochs", show=show) as shown:
        shown.update(sum(run.steps for run in runs) - sum(run.steps for run in missing))
        with _listening(told, shown):
            done = in_processes(
                _run,
                [(run, folder, protocol) for run in missing],
                workers=workers,
                start=_start,
                start_with=(told, threads),
                ended="the process of a run",
            )
            for _ in done:
                pass


@contextmanager
def _listening(told: Any, shown: Bar) -> Iterator[None]:
    """Move the bar by what processes tell, meanwhile."""
    over = threading.Event()

    def listen() -> None:
        # Not by a last message: a process that is killed while it tells keeps the others waiting.
        while not over.wait(_EVERY_SECONDS):
            while not told.empty():
                steps, sentence = told.get()
                shown.set_postfix_str(sentence, refresh=False)
                shown.update(steps)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_JOIN_SECONDS)


_told: Any = None  # of a spawned process, set once


def _start(told: Any, threads: int | None) -> None:
    global _told
    end_with_parent()
    if threads is not None:  # torch is not loaded yet and reads this when it is
        os.environ["OMP_NUM_THREADS"] = str(threads)
    _told = told


def _run(made: _Run, folder: Path, protocol: Any) -> None:
    from semid.probe.run import run

    label = ", ".join(filter(None, [made.name, made.model, f"seed {made.seed}"]))

    def tell(steps: int, sentence: str) -> None:
        _told.put((steps, f"{label}: {sentence}"))

    checkpoint = folder / f"{made.file}.safetensors"
    row, recall_q = run(
        made.model, made.ids, made.seed, protocol, checkpoint=checkpoint, on_progress=tell
    )
    np.save(folder / f"{made.file}.npy", recall_q.astype(np.float32), allow_pickle=False)
    writing = folder / f"{made.file}.writing"
    write_json(writing, {"model": made.model, **row})
    writing.replace(folder / f"{made.file}.json")
    checkpoint.unlink(missing_ok=True)


def _write(runs: Sequence[_Run], folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    rows = [{"table": run.name, "run": run.file, **_read(folder / RUNS / run.file)} for run in runs]
    facts |= {name: rows[0][name] for name in _FACTS}
    facts["machine"] = ", ".join(dict.fromkeys(row["machine"] for row in rows))
    table = pa.Table.from_pylist([line for row in rows for line in _lines(row)])
    with open_writer(folder / "probe.parquet", table.schema) as writer:
        writer.write_table(table)
    summaries = summarise(rows)
    (folder / "probe.md").write_text(markdown(summaries, facts), "utf-8")
    (folder / "probe.html").write_text(html(summaries, facts), "utf-8")
    found = [
        {
            "model": one["model"],
            "table": one["table"],
            "recall@10": one["groups"]["all"]["recall@10"].mean,
            "range": list(one["groups"]["all"]["recall@10"][1:]),
            "ndcg@10": one["groups"]["all"]["ndcg@10"].mean,
            "ratio": one["ratio"],
            "seconds": one["seconds"].mean,
        }
        for one in summaries
    ]
    return facts | {"probed": found, "lead": lead(summaries)}


def _read(run: Path) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(run.with_suffix(".json").read_text("utf-8"))
    return row | {"recall_q": np.load(run.with_suffix(".npy"), allow_pickle=False)}


def _lines(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row of `probe.parquet` for every group of targets."""
    groups = row["groups"]
    rest = {name: value for name, value in row.items() if name not in ("groups", "recall_q")}
    return [rest | {"group": group} | figures for group, figures in groups.items()]
