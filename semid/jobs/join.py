"""Embeddings of several tables to one table that has them side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from semid.columns import id_type, is_embedding
from semid.embedding_columns import embedding_widths
from semid.errors import SemidError, display_path
from semid.item_matching import in_one_order
from semid.jobs.encoding import encoder_fingerprint
from semid.jobs.job import (
    Result,
    produce,
    require_like_ids,
    require_memory,
    require_unique_ids,
    table_path,
)
from semid.jobs.mapping import write_missing_parts, write_table
from semid.jobs.named_tables import name_and_path, name_of_file
from semid.jobs.progress import bar, counted
from semid.joining import Rows, Source, find_places, joined, joined_schema, put_in_order
from semid.manifests import METADATA_KEY, Manifest, fingerprint
from semid.streams import prefetch
from semid.tables import ParquetTable, open_table

SORTED = "sorted"


def join(
    embeddings: Sequence[str],
    *,
    output: str,
    item_id: str = "item_id",
    memory_gib: float = 1.0,
    overwrite: bool = False,
    show: bool = False,
    owner: str | None = None,
) -> Result:
    """Put the embedding columns of several tables of the same items side by side.

    Items are those of the first table, in its order; the others may have any. A table's one
    embedding column is called as the table; several, as of tables that were joined, keep their
    names.

    Parameters
    ----------
    embeddings : two tables or more, each ``name=path``, or a path, whose file's or folder's name
        it then is: Parquet file, folder, glob or URI
    output : table to write, a ``.parquet`` file or a folder of parts: the item ids, and a list of
        float32 for every column
    item_id : name of the id column, in all tables
    memory_gib : budget for tables that are in another order than the first, which are sorted on
        disk
    overwrite : replace a table made of others
    show : show progress bars
    owner : the step of a pipeline that runs it, which may replace what it made before

    Raises
    ------
    SemidError
        For bad input, tables that do not hold the same items, or columns of one name; what stood
        at `output` stays.
    """
    target = table_path(output)
    require_joinable(embeddings, item_id, memory_gib)
    sources = _sources(embeddings, item_id)
    schema = joined_schema(sources, item_id)

    def build(stage: Path, manifest: Manifest) -> tuple[Path, dict[str, Any]]:
        first = sources[0].table
        require_unique_ids(first, item_id, show=show)
        rows = _in_order(sources, item_id, stage, int(memory_gib * 2**30), show=show)
        widths = {name: d for source in sources for name, d in source.renamed.items()}
        summary = {"items": first.num_rows, "columns": widths, **_encoders(sources)}
        with bar("join", first.num_rows, "rows", show=show) as shown:

            def rows_from(start: int) -> Iterator[pa.RecordBatch]:
                shown.update(start)
                return counted(prefetch(joined(sources, rows, item_id, start=start)), shown)

            if target.suffix != ".parquet":
                write_missing_parts(rows_from, stage / "parts", schema)
                return stage / "parts", summary
            metadata = {METADATA_KEY: json.dumps(manifest | {"summary": summary})}
            return write_table(rows_from(0), stage / "out.parquet", schema, metadata), summary

    return produce(
        "join",
        target,
        inputs={f"embeddings {', '.join(source.names)}": source.table for source in sources},
        settings={"item_id": item_id, "columns": [list(source.names) for source in sources]},
        build=build,
        resumes=("parts", SORTED),
        overwrite=overwrite,
        owner=owner,
    )


def require_joinable(
    embeddings: Sequence[str], item_id: str = "item_id", memory_gib: float = 1.0
) -> None:
    """Raise `SemidError` for tables that cannot be joined whatever is in them."""
    require_memory(memory_gib)
    if len(embeddings) < 2:
        raise SemidError(
            f"{'one table is' if embeddings else 'no tables are'} given to join; give two or more, "
            "each as name=path"
        )
    names = [name for name, _ in map(name_and_path, embeddings) if name is not None]
    _require_names(names, item_id)


def _require_names(names: Sequence[str], item_id: str) -> None:
    for name in names:
        if name == item_id:
            raise SemidError(
                f"a table is called '{name}', but that is the column with the ids; give it as "
                "name=path, with another name"
            )
        if name != name.strip() or "," in name or not name:
            raise SemidError(
                f"a table is called {name!r}, which cannot be a column: --columns takes names "
                "separated by commas; give it as name=path, with another name"
            )
        if names.count(name) > 1:
            raise SemidError(
                f"{names.count(name)} columns are called '{name}'; give their tables as name=path, "
                "each with a name of its own"
            )


def _sources(embeddings: Sequence[str], item_id: str) -> list[Source]:
    """Open the tables, and name their columns."""
    found: list[Source] = []
    for one in embeddings:
        name, path = name_and_path(one)
        table = open_table(path)
        id_type(table, item_id)
        if found:
            require_like_ids(found[0].table, table, item_id, "cast one of them")
        found.append(Source(table, *_columns(table, name, path)))
    _require_names([name for source in found for name in source.names], item_id)
    return found


def _columns(
    table: ParquetTable, name: str | None, path: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the embedding columns of a table with their widths, and what they will be called."""
    columns = [field.name for field in table.schema if is_embedding(field.type)]
    if not columns:
        raise SemidError(
            f"{display_path(table.name)} has no column of embeddings, lists of float32 or float16; "
            f"its columns are {', '.join(table.schema.names)}; semid embed makes one from items"
        )
    if len(columns) > 1 and name is not None:
        raise SemidError(
            f"{display_path(table.name)} has {len(columns)} columns of embeddings "
            f"({', '.join(columns)}), which keep their names; leave out '{name}='"
        )
    names = columns if len(columns) > 1 else [name or name_of_file(path)]
    return embedding_widths(table, columns), tuple(names)


def _in_order(
    sources: Sequence[Source], item_id: str, stage: Path, memory_bytes: int, *, show: bool
) -> list[Rows]:
    """Return the rows of all tables in the order of the first, those of others sorted on disk."""
    first, rows = sources[0].table, list[Rows](sources)
    mixed = [
        (place, source)
        for place, source in enumerate(sources)
        if not in_one_order(first, source.table, item_id)
    ]
    for place, source in mixed:
        require_unique_ids(source.table, item_id, show=show)
        place_n = find_places(first, source.table, item_id, folder=stage, memory_bytes=memory_bytes)
        with bar(f"sort {source.names[0]}", len(place_n), "rows", show=show) as shown:
            rows[place] = put_in_order(
                source,
                source.width,
                place_n,
                stage / SORTED / str(place),
                memory_bytes=memory_bytes // len(mixed),
                on_rows=shown.update,
            )
    return rows


def _encoders(sources: Sequence[Source]) -> dict[str, str]:
    """Return what identifies the encoders together, where every table says which made it."""
    found = {", ".join(one.names): encoder_fingerprint(one.table) for one in sources}
    return {} if None in found.values() else {"encoder_digest": fingerprint(found)}
