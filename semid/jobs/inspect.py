"""Looking without touching: what is wrong with a table, and what a model or an ids table is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from semid.artifact import CONFIG, METRICS, read_header, read_json
from semid.columns import EMBEDDING, embedding_width, id_type, is_embedding
from semid.config import as_plain
from semid.duplicates import check_interactions, refuse_repeated
from semid.embedding_columns import side_by_side
from semid.encoders import is_saved_encoder, load_encoder
from semid.encoders.saved import read_encoder
from semid.errors import SemidError, display_path
from semid.id_columns import CODES, CODES_TYPE, SID, code_matrix
from semid.id_metadata import read_metadata
from semid.interactions import is_interactions
from semid.jobs.job import require_unique_ids
from semid.jobs.progress import bar
from semid.manifests import MANIFEST, Manifest, read_manifest
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

    Ids are checked, and that none repeats; of interactions, a table with users, the columns, nulls,
    and positions that a user has twice; vectors in
    ``embedding`` and every other list of floats; codes where there are ``codes`` and ``sid``, and
    that no two items share a ``sid`` with a suffix.

    Raises
    ------
    SemidError
        When it cannot be opened at all.
    """
    for is_other, what in ((_is_model, "model directory"), (is_saved_encoder, "saved encoder")):
        if is_other(Path(table)):
            raise SemidError(
                f"{display_path(table)} is a {what}, not a table; semid show {table} says more"
            )
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

    if is_interactions(opened):  # whose items come again and again
        with bar("check interactions", opened.num_rows, "rows", show=show) as shown:
            attempt(lambda: check_interactions(opened, item_id, on_rows=shown.update))
    elif attempt(id_type, opened, item_id) is not None:
        attempt(lambda: require_unique_ids(opened, item_id, show=show))
    for column in _embedding_columns(opened):
        if width := attempt(embedding_width, opened, column):
            facts["width" if column == EMBEDDING else f"width of {column}"] = width
            attempt(_check_embeddings, opened, column, width, show)
    coded = [column for column in (CODES, SID) if column in opened.schema.names]
    lengths = {column: attempt(_check_codes, opened, column, show) for column in coded}
    facts |= {f"length of {column}": length for column, length in lengths.items() if length}
    # An ID that is longer than the codes has a suffix, which tells items apart.
    if (lengths.get(SID) or 0) > (lengths.get(CODES) or 0) > 0:
        attempt(_check_unique_sids, opened, show)
    return Check(facts, problems)


def _embedding_columns(table: ParquetTable) -> list[str]:
    return [
        field.name for field in table.schema if field.name == EMBEDDING or is_embedding(field.type)
    ]


def _check_embeddings(table: ParquetTable, column: str, width: int, show: bool) -> None:
    row = 0
    with bar(f"check {column}", table.num_rows, "rows", show=show) as shown:
        for batch in table.batches([column]):
            side_by_side(batch, {column: width}, where=table, first_row=row)
            row += batch.num_rows
            shown.update(batch.num_rows)


def _check_codes(table: ParquetTable, column: str, show: bool) -> int | None:
    row, width = 0, None
    with bar(f"check {column}", table.num_rows, "rows", show=show) as shown:
        for batch in table.batches([column]):
            at = table.locator(row)
            codes_nl = code_matrix(batch.column(0), column, width=width, at=at)
            width = codes_nl.shape[1]
            row += batch.num_rows
            shown.update(batch.num_rows)
    return width


def _check_unique_sids(table: ParquetTable, show: bool) -> None:
    with bar("unique sid", table.num_rows, "rows", show=show) as shown:
        refuse_repeated(
            table,
            SID,
            CODES_TYPE,
            (batch.column(0).cast(CODES_TYPE) for batch in table.batches([SID])),
            "no two items share an ID, so assign the catalog again, as one table",
            on_rows=shown.update,
        )


def show(path: str, *, item_id: str = "item_id") -> dict[str, Any]:
    """Say what a model directory, a saved encoder, a table or another output is, and what made it.

    The columns of a table are listed with its id column, `item_id`, first.

    Raises
    ------
    SemidError
        When it is none of these.
    """
    folder = Path(path)
    if is_saved_encoder(folder):
        encoder = load_encoder(folder)
        what = f"{read_encoder(folder).kind} encoder"
        return {"what": what, "width": encoder.width, "settings": as_plain(encoder.config)}
    if _is_model(folder):
        header = read_header(folder)
        manifest = read_json(folder / MANIFEST)
        return {
            "what": f"{header['kind']} model",
            "width": header["width"],
            "columns": header["columns"],
            "levels": header["levels"],
            **_pick(manifest, "model_fingerprint", "semid", "seed", "aligned", "versions"),
            "metrics": read_json(folder / METRICS),
            "settings": header["config"],
        }
    made = None if _is_table(folder) else read_manifest(folder)
    if made is not None:
        return _output(folder, made)
    table = open_table(path, allow_empty=True)
    metadata = read_metadata(table)
    names = table.schema.names
    what = "embeddings" if _embedding_columns(table) else "table"
    what = "ids table" if SID in names else what
    facts = {"what": what, "rows": table.num_rows, "files": len(table.files)}
    facts |= _pick(metadata, "semid", "model_fingerprint", "summary")
    fields = sorted(table.schema, key=lambda field: field.name != item_id)
    facts["columns"] = {field.name: str(field.type) for field in fields}
    if SID in names:
        facts["first rows"] = [
            row for batch in islice(table.batches(names, rows=5), 1) for row in batch.to_pylist()
        ]
    elif not (metadata or what != "table" or folder.name.startswith("_")):
        facts["note"] = f"{display_path(path)} was not written by semid"
    return facts


def _is_table(path: Path) -> bool:
    return path.suffix == ".parquet" or any(path.glob("part-*.parquet"))


def _output(path: Path, manifest: Manifest) -> dict[str, Any]:
    """Return what made an output that is no table: a probe, an export, figures, a report."""
    inside = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else [path.name]
    return {
        "what": f"output of semid {manifest['plan']['command']}",
        "semid": manifest["semid"],
        "files": [name for name in inside if not name.startswith("_")],
        "inputs": {name: facts["path"] for name, facts in manifest["inputs"].items()},
        "settings": manifest["plan"]["settings"],
        "summary": manifest["summary"],
    }


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and (folder / CONFIG).exists()


def _pick(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}
