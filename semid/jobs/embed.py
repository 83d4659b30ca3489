"""Items to embeddings: fit the encoder on a sample if it needs fitting, then embed every item.

The encoder of behaviour is fitted on interactions instead of a sample.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from semid.columns import id_type
from semid.config import as_plain, parse
from semid.cooccurrence import count_cooccurrences
from semid.embedding import Embedder
from semid.encoders import (
    CooccurrenceConfig,
    CooccurrenceEncoder,
    Encoder,
    FeaturesConfig,
    LsaConfig,
    SentenceTransformerConfig,
    is_saved_encoder,
    load_encoder,
    make_encoder,
)
from semid.encoders.saved import JSON_NAME
from semid.errors import RowError, SemidError, display_path
from semid.jobs.job import Result, produce, require_unique_ids, require_workers, table_path
from semid.jobs.mapping import Engine, map_table, open_parts, write_table
from semid.jobs.progress import bar
from semid.manifests import METADATA_KEY, Manifest, digest
from semid.outputs import publish
from semid.tables import ParquetTable, open_table

BATCH_ROWS = 4_096


def embed(
    items: str,
    *,
    output: str,
    encoder: str = "lsa",
    settings: dict[str, Any] | None = None,
    interactions: str | None = None,
    item_id: str = "item_id",
    workers: int = 0,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
    engine: Engine = map_table,
) -> Result:
    """Embed an items table.

    Parameters
    ----------
    items : Parquet file, folder, glob or URI
    output : embeddings to write, a ``.parquet`` file or a folder of parts; the fitted encoder is
        saved beside it as ``NAME.encoder``
    encoder : ``lsa``, ``features``, ``cooccurrence``, the folder of a saved encoder, or a
        sentence-transformers name or folder
    settings : of the encoder, such as ``{"text": ["title", "brand"]}``
    interactions : table of who met which item, for ``cooccurrence``: what it is fitted on; a saved
        one embeds by it the items that it does not know
    item_id : name of the id column, in both tables
    workers : processes; 0 takes one per core where the encoder runs on one
    overwrite : replace an output made by other settings
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before
    engine : maps the rows; on this machine, unless a driver brings a cluster's

    Raises
    ------
    SemidError
        For bad input or settings; what stood at `output` stays.
    """
    target = table_path(output)
    require_workers(workers, least=0)
    table = open_table(items)
    met = None if interactions is None else open_table(interactions)
    made = choose_encoder(encoder, settings or {}, item_id=item_id)
    require_interactions(made, encoder, given=met is not None)
    id_type(table, item_id)
    table.require(made.columns)
    saved = encoder_folder(target)
    if saved.exists() and not is_saved_encoder(saved) and not overwrite:
        raise SemidError(
            f"{display_path(saved)} exists and holds no saved encoder, but the one of "
            f"{display_path(target)} belongs there; choose another --output, or replace it with "
            "--overwrite"
        )
    inputs: dict[str, ParquetTable | Path] = {"items": table}
    if met is not None:
        inputs["interactions"] = met
    reused = is_saved_encoder(Path(encoder))
    if Path(encoder).is_dir():  # a saved encoder, or a sentence-transformers folder
        inputs["encoder"] = Path(encoder)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        require_unique_ids(table, item_id, show=show)
        fitted = _fit(made, table, met, stage / "encoder", fit=not reused, show=show)
        found = {}
        if isinstance(fitted, CooccurrenceEncoder):
            fitted = _folded(fitted, table, met) if reused and met is not None else fitted
            found["cold"] = _count_cold(fitted, table)
        engine(
            table,
            Embedder(fitted, item_id=item_id),
            stage / "parts",
            # Small enough that every process gets some of a small catalog.
            chunk_rows=min(fitted.chunk_rows, max(table.num_rows // 8, 2_048)),
            # A slow encoder moves the bar more often.
            batch_rows=min(BATCH_ROWS, max(fitted.chunk_rows // 16, 256)),
            what="embed",
            workers=_workers(fitted, workers),
            show=show,
        )
        written = open_parts(stage / "parts", table.num_rows)
        summary = {
            "items": table.num_rows,
            "width": fitted.width,
            **found,
            "encoder": str(saved),
            "encoder_digest": digest(stage / "encoder" / JSON_NAME),
        }
        publish(stage / "encoder", saved)
        if target.suffix != ".parquet":
            return stage / "parts", summary
        metadata = {METADATA_KEY: json.dumps(manifest | {"summary": summary})}
        rows = written.batches(written.schema.names)
        return write_table(rows, stage / "out.parquet", written.schema, metadata), summary

    plan = {"encoder": encoder, "config": as_plain(made.config), "item_id": item_id}
    return produce(
        "embed",
        target,
        inputs=inputs,
        settings=plan,
        build=build,
        resumes=("encoder", "parts"),
        overwrite=overwrite,
        owner=owner,
        complete=lambda made_before: _belongs(saved, made_before),
    )


def encoder_folder(output: Path) -> Path:
    """Where the encoder that made an embeddings table is saved."""
    return output.with_name(f"{output.name.removesuffix('.parquet')}.encoder")


def _belongs(saved: Path, manifest: Manifest) -> bool:
    """Tell whether the encoder beside a table is the one that made it."""
    place = saved / JSON_NAME
    wanted = manifest.get("summary", {}).get("encoder_digest")
    return is_saved_encoder(saved) and place.is_file() and digest(place) == wanted


def choose_encoder(name: str, settings: dict[str, Any], *, item_id: str = "item_id") -> Encoder:
    """Make the encoder called `name`, as `embed` takes it; one that is not saved is not fitted.

    `item_id` is the name of the id column, which the encoder of behaviour reads.

    Raises
    ------
    SemidError
        For unknown or bad settings, or a saved encoder that cannot be read.
    """
    if is_saved_encoder(Path(name)) or (Path(name) / JSON_NAME).is_file():
        if settings:
            raise SemidError(
                f"the saved encoder {name} has its settings already; leave out "
                f"{', '.join(settings)}, or fit a new one"
            )
        return load_encoder(Path(name))
    where = f"encoder {name}"
    if name == "lsa":
        return make_encoder(parse(LsaConfig, settings, where=where))
    if name == "features":
        return make_encoder(parse(FeaturesConfig, settings, where=where))
    if name == "cooccurrence":
        if "item_id" in settings:
            raise SemidError(f"{where}: item_id is no setting; name the id column by --item-id")
        with_ids = {**settings, "item_id": item_id}
        return make_encoder(parse(CooccurrenceConfig, with_ids, where=where))
    with_model = {**settings, "model": name}
    return make_encoder(parse(SentenceTransformerConfig, with_model, where=where))


def require_interactions(encoder: Encoder, name: str, *, given: bool) -> None:
    """Raise `SemidError` when an encoder, called `name`, and an interactions table do not fit."""
    if isinstance(encoder, CooccurrenceEncoder):
        if not given and not is_saved_encoder(Path(name)):
            raise SemidError(
                f"the encoder {name} learns from an interactions table; give one (--interactions)"
            )
    elif given:
        raise SemidError(
            f"the encoder {name} does not learn from interactions; leave them out, or use the "
            "encoder cooccurrence"
        )


def _workers(encoder: Encoder, asked: int) -> int:
    return asked or (os.cpu_count() or 1 if encoder.fit_rows else 1)


def _fit(
    encoder: Encoder,
    table: ParquetTable,
    met: ParquetTable | None,
    folder: Path,
    *,
    fit: bool,
    show: bool,
) -> Encoder:
    """Fit and save; an encoder that a killed job saved is taken up again."""
    if is_saved_encoder(folder):
        return load_encoder(folder)
    if fit and isinstance(encoder, CooccurrenceEncoder) and met is not None:
        _fit_behaviour(encoder, table, met)
    elif fit and encoder.fit_rows:
        _fit_sample(encoder, table, show=show)
    shutil.rmtree(folder, ignore_errors=True)
    writing = folder.with_name("encoder.writing")
    shutil.rmtree(writing, ignore_errors=True)
    encoder.save(writing)
    writing.rename(folder)
    return encoder


def _fit_sample(encoder: Encoder, table: ParquetTable, *, show: bool) -> None:
    """Fit on a uniform sample."""
    rows_n, sample = _sample(table, encoder.columns, encoder.fit_rows, show=show)
    try:
        encoder.fit(sample)
    except RowError as error:
        raise error.at(table.locate(int(rows_n[error.row]))) from error
    except SemidError as error:
        raise SemidError(f"{display_path(table.name)}: {error}") from error


def _fit_behaviour(encoder: CooccurrenceEncoder, table: ParquetTable, met: ParquetTable) -> None:
    """Fit on what users meet together of all items."""
    item_id = encoder.config.item_id
    items = pa.Table.from_batches(table.batches([item_id]))
    counted = count_cooccurrences(met, items[item_id], encoder.config, item_id=item_id)
    try:
        encoder.fit(items, counted)
    except SemidError as error:
        raise SemidError(f"{display_path(met.name)}: {error}") from error


def _folded(
    encoder: CooccurrenceEncoder, table: ParquetTable, met: ParquetTable
) -> CooccurrenceEncoder:
    """Let a saved encoder know items that it does not, by their interactions."""
    item_id = encoder.config.item_id
    later = [id_ for batch in table.batches([item_id]) for id_ in encoder.unknown(batch)]
    if not later:
        return encoder
    ids = pa.array([*encoder.context_ids, *later], pa.large_string())
    counted = count_cooccurrences(met, ids, encoder.config, item_id=item_id)
    return encoder.fold_in(later, counted)


def _count_cold(encoder: CooccurrenceEncoder, table: ParquetTable) -> int:
    return sum(int(encoder.is_cold(batch).sum()) for batch in table.batches(encoder.columns))


def _sample(
    table: ParquetTable, columns: tuple[str, ...], rows: int, *, show: bool, seed: int = 0
) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """Draw at most `rows` rows uniformly, in one pass: their numbers, in table order, and them."""
    total = table.num_rows
    wanted = np.arange(total)
    if total > rows:
        wanted = np.sort(np.random.default_rng(seed).choice(total, rows, replace=False))
    taken, row = [], 0
    with bar("sample", total, "rows", show=show) as shown:
        for batch in table.batches(columns):
            low, high = np.searchsorted(wanted, [row, row + batch.num_rows])
            taken.append(batch.take(pa.array(wanted[low:high] - row)))
            row += batch.num_rows
            shown.update(batch.num_rows)
    return wanted, pa.Table.from_batches(taken)
