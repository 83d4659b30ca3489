"""Looking without touching: what is wrong with a table, and what a model or an ids table is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semid.artifact import CONFIG, METRICS, read_header
from semid.columns import EMBEDDING, check_ids, embedding_matrix, embedding_width, id_type
from semid.errors import SemidError, display_path
from semid.id_columns import CODES, SID, code_matrix
from semid.id_table import read_metadata
from semid.jobs.progress import bar
from semid.outputs import MANIFEST
from semid.tables import ParquetTable, open_table


@dataclass(frozen=True)
class Check:
    """What `check` found.

    Attributes
    ----------
    facts : what the table is
    problems : one sentence for each thing that is wrong; empty when semid can use it
    """

    facts: dict[str, Any]
    problems: list[str]


def check(table: str, *, item_id: str = "item_id", show: bool = False) -> Check:
    """Read a whole table and list what is wrong with it, changing nothing.

    Ids are checked in every table, vectors where there is a column ``embedding``, codes where there
    are ``codes`` and ``sid``.

    Raises
    ------
    SemidError
        When it cannot be opened at all.
    """
    opened = open_table(table)
    facts: dict[str, Any] = {
        "rows": opened.num_rows,
        "files": len(opened.files),
        "columns": {field.name: str(field.type) for field in opened.schema},
    }
    problems: list[str] = []

    def attempt(look: Any, *arguments: Any) -> Any:
        try:
            return look(*arguments)
        except SemidError as error:
            problems.append(str(error))
            return None

    if attempt(id_type, opened, item_id) is not None:
        attempt(check_ids, opened, item_id)
    names = opened.schema.names
    if EMBEDDING in names and (width := attempt(embedding_width, opened)):
        facts["width"] = width
        attempt(_check_embeddings, opened, width, show)
    for column in (CODES, SID):
        if column in names:
            facts[f"length of {column}"] = attempt(_check_codes, opened, column, show)
    return Check(facts, problems)


def _check_embeddings(table: ParquetTable, width: int, show: bool) -> None:
    row = 0
    with bar("embeddings", table.num_rows, "rows", show=show) as shown:
        for batch in table.batches([EMBEDDING]):
            embedding_matrix(batch.column(0), width, where=table, first_row=row)
            row += batch.num_rows
            shown.update(batch.num_rows)


def _check_codes(table: ParquetTable, column: str, show: bool) -> int | None:
    row, width = 0, None
    with bar(column, table.num_rows, "rows", show=show) as shown:
        for batch in table.batches([column]):
            codes_nl = code_matrix(
                batch.column(0), column, width=width, at=lambda r, row=row: table.locate(row + r)
            )
            width = codes_nl.shape[1]
            row += batch.num_rows
            shown.update(batch.num_rows)
    return width


def show(path: str) -> dict[str, Any]:
    """Say what a model directory, a folder of parts or a Parquet table is, and what made it.

    Raises
    ------
    SemidError
        When it is none of these.
    """
    import json

    folder = Path(path)
    if folder.is_dir() and (folder / CONFIG).exists():
        header = read_header(folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        metrics = json.loads((folder / METRICS).read_text())
        keep = ("model_fingerprint", "semid", "seed", "versions")
        return {
            "what": f"{header['kind']} model",
            "width": header["width"],
            "levels": header["levels"],
            **{key: manifest[key] for key in keep if key in manifest},
            "metrics": metrics,
            "settings": header["config"],
        }
    table = open_table(path)
    metadata = read_metadata(table)
    names = table.schema.names
    what = "ids table" if SID in names else "embeddings" if EMBEDDING in names else "table"
    facts = {"what": what, "rows": table.num_rows, "files": len(table.files)}
    keep = ("semid", "model_fingerprint", "summary")
    facts |= {key: metadata[key] for key in keep if key in metadata}
    facts["columns"] = {field.name: str(field.type) for field in table.schema}
    if SID in names:
        first = next(iter(table.batches(names, rows=5))).to_pylist()
        facts["first rows"] = first
    elif not metadata and what == "table":
        facts["note"] = f"{display_path(path)} was not written by semid"
    return facts
