"""Ids tables and interactions to what small recommenders make of them: a table, text and a page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from semid.config import as_plain
from semid.errors import SemidError, display_path, require_package
from semid.id_columns import SID
from semid.interactions import interaction_columns
from semid.jobs.job import (
    Result,
    output_path,
    produce,
    require_unique_ids,
    require_workers,
)
from semid.jobs.named_tables import name_and_path, name_of_file
from semid.jobs.probe_runs import RUNS, Run, copy_runs, make, read_run, runs_of, take_over
from semid.manifests import Manifest
from semid.probe.page import html, lead, left_out, markdown
from semid.probe.settings import MODELS, ProbeSettings, settings_of, unlike_preset
from semid.probe.summary import summarise
from semid.recsys.histories import PARTS, read_sequences
from semid.streams import open_writer
from semid.tables import ParquetTable, open_table

_FACTS = ("items", "users", "interactions")


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
    interactions, settings and seed are not made again, whatever else the two were of.

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
    workers : runs at once, each with its share of the cores; of several GPUs each has one
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
        # All rows are read before any run is made: what is bad among them is said at once.
        items, unused = _read(tables, met, item_id, part, show=show)
        protocol = Protocol(met.name, item_id, chosen, part, device)
        digests = {name: facts["digest"] for name, facts in manifest["inputs"].items()}
        paths = {name: table.name for name, table in tables.items()}
        runs = runs_of(paths, names, seeds, protocol, {**digests, "items": items})
        made = stage / RUNS
        made.mkdir(exist_ok=True)
        take_over(target, made)
        make(runs, made, protocol, workers=workers, show=show)
        folder = stage / "probe"
        shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed here
        (folder / RUNS).mkdir(parents=True)
        copy_runs(made, folder / RUNS)
        facts = {"preset": preset, "seeds": seeds, "part": part, **unused}
        facts["changed"] = unlike_preset(chosen, preset, names)
        return folder, _write(runs, folder, facts)

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
        keep=(RUNS,),  # whatever the plan, a run's file says what it is of
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
    given = (name.replace("_", "-") for name in models or ())  # as settings spell item_ids
    names = list(dict.fromkeys(MODELS if models is None else given))
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
        name, path = name_and_path(one)
        name = name or name_of_file(path)
        if name in found:
            raise SemidError(f"two ids tables are called {name!r}; give them as name=path")
        found[name] = open_table(path)
        found[name].require([item_id, SID])
    return found


def _read(
    tables: dict[str, ParquetTable], met: ParquetTable, item_id: str, part: str, *, show: bool
) -> tuple[str, dict[str, Any]]:
    """Read all ids and interactions, as every run will, and raise for what is bad among them.

    Returns what identifies the items, in any order, and what of the interactions is left out:
    ``unknown`` ones, which are of no item, and ``unjudged`` users, who thus have no target.
    """
    for table in tables.values():
        require_unique_ids(table, item_id, show=show)
    items = _catalog(tables, item_id)
    total = xxhash.xxh3_128()
    for buffer in filter(None, items.buffers()):  # where ids end, and their text
        total.update(buffer)
    sequences = read_sequences(met, items, item_id=item_id)
    users = len(sequences) + sequences.users_unknown
    targets: dict[str, int] = {name: len(sequences.targets(name)) for name in PARTS}
    for needed in ("training", part):
        if not targets[needed]:
            lost = f", {sequences.unknown:,} rows of items without an ID left out"
            raise SemidError(
                f"no user in {display_path(met.name)} has an interaction for {needed} with one "
                f"before it{lost if sequences.unknown else ''}; give longer histories, of the "
                "items of the ids tables"
            )
    return total.hexdigest(), {
        "unknown": sequences.unknown,
        "unjudged": users - sequences.users_short - targets[part],
    }


def _catalog(tables: dict[str, ParquetTable], item_id: str) -> pa.Array:
    """Return the item ids as text, sorted; raises if they are not those of all tables."""
    first, *others = ((table.name, _item_ids(table, item_id)) for table in tables.values())
    for found in others:
        for (here, own), (there, other) in ((found, first), (first, found)):
            missing = own.filter(pc.invert(pc.is_in(own, value_set=other)))
            if len(missing):
                raise SemidError(
                    f"{display_path(here)} has {len(missing):,} items that {display_path(there)} "
                    f"lacks, such as {missing[0].as_py()!r}; give tables of one catalog"
                )
    return pc.take(first[1], pc.array_sort_indices(first[1])).combine_chunks()


def _item_ids(table: ParquetTable, item_id: str) -> pa.ChunkedArray:
    batches = [batch.column(0).cast(pa.large_string()) for batch in table.batches([item_id])]
    return pa.chunked_array(batches, pa.large_string())


def _write(runs: Sequence[Run], folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    rows = [{"table": run.name, "run": run.file, **read_run(folder / RUNS, run)} for run in runs]
    facts |= {name: rows[0][name] for name in _FACTS}
    facts["machine"] = ", ".join(dict.fromkeys(row["machine"] for row in rows))
    lines = [line for row in rows for line in _lines(row)]
    schema = _schema()
    assert lines[0].keys() == set(schema.names)
    table = pa.Table.from_pylist(lines, schema)
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
    return facts | {"probed": found, "lead": [*lead(summaries), *left_out(facts)]}


def _lines(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row of `probe.parquet` for every group of targets."""
    groups = row["groups"]
    rest = {name: value for name, value in row.items() if name not in ("groups", "recall_q")}
    return [rest | {"group": group} | figures for group, figures in groups.items()]


def _schema() -> pa.Schema:
    from semid.probe.judging import CUTS

    fields = [("table", pa.string()), ("model", pa.string()), ("group", pa.string())]
    fields += [("seed", pa.int64()), ("targets", pa.int64())]
    fields += [(f"{name}@{k}", pa.float64()) for name in ("recall", "ndcg") for k in CUTS]
    fields += [(name, pa.int64()) for name in (*_FACTS, "parameters", "distinct_sids")]
    fields += [(name, pa.float64()) for name in ("fit_seconds", "rank_seconds")]
    return pa.schema([*fields, ("machine", pa.string()), ("run", pa.string())])
