"""Ids tables in the formats that others read, and back.

One file for each format, with its writer, its reader, and where its schema was read. An export
holds the item ids and their semantic IDs; the raw codes, where a collision policy moved items away
from them, only in the formats that have a place for both. Files are written to the path given,
batch by batch; making that atomic is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from semid.errors import SemidError, display_path
from semid.export import (
    csv,
    forge,
    grid,
    hf_datasets,
    jsonl,
    lcrec,
    npz,
    openonerec,
    parquet,
    recbole,
    safetensors,
    semantic_ids_llm,
    tiger,
    tokens_json,
    torcheasyrec,
)
from semid.export.recognition import recognised
from semid.export.source import OnRows, Request, Source, of_ids, of_table
from semid.export.text import are_decimals
from semid.id_table import IdTable
from semid.tables import ParquetTable


class Format(NamedTuple):
    """A writer and a reader, and what is to be known of them.

    Attributes
    ----------
    write, read : of (source, path) and (path, request)
    passes : how often the writer passes over the table
    folder : whether an export is a folder
    numbers : whether items are numbered, and a map says which they are
    width : codes that there is a place for at every level; None for any number
    as_noted : whether it is the largest level of the table's model, where that is noted
    """

    write: Callable[[Source, Path], None]
    read: Callable[[Path, Request], IdTable]
    passes: int = 1
    folder: bool = False
    numbers: bool = False
    width: int | None = None
    as_noted: bool = False


FORMATS: dict[str, Format] = {
    "parquet": Format(parquet.write, parquet.read),
    "tokens-json": Format(tokens_json.write, tokens_json.read),
    "npz": Format(npz.write, npz.read, npz.PASSES),
    "csv": Format(csv.write, csv.read),
    "jsonl": Format(jsonl.write, jsonl.read),
    "safetensors": Format(safetensors.write, safetensors.read, safetensors.PASSES),
    "datasets": Format(hf_datasets.write, hf_datasets.read, folder=True),
    "lcrec": Format(lcrec.write, lcrec.read, lcrec.PASSES, folder=True, numbers=True),
    "grid": Format(grid.write, grid.read, grid.PASSES, folder=True, numbers=True, as_noted=True),
    "tiger": Format(
        tiger.write, tiger.read, tiger.PASSES, folder=True, numbers=True, as_noted=True
    ),
    "semantic-ids-llm": Format(
        semantic_ids_llm.write, semantic_ids_llm.read, width=semantic_ids_llm.WIDTH
    ),
    "openonerec": Format(openonerec.write, openonerec.read, width=openonerec.WIDTH),
    "torcheasyrec": Format(torcheasyrec.write, torcheasyrec.read, torcheasyrec.PASSES, folder=True),
    "forge": Format(forge.write, forge.read, width=forge.WIDTH),
    "recbole": Format(recbole.write, recbole.read),
}


PARQUET = ("parquet", "semantic-ids-llm", "openonerec")
"""The formats of one file that may also be a folder of Parquet files."""

ID_TYPES = ("string", "int64")


def write(
    table: ParquetTable | IdTable,
    path: Path,
    format: str,
    *,
    item_id: str = "item_id",
    width: int | None = None,
    on_rows: OnRows = lambda _: None,
) -> dict[str, Any]:
    """Write an ids table to `path` in a format of `FORMATS`; memory is bounded by a batch.

    Parameters
    ----------
    table : an opened table, which is streamed, or one in memory
    path : file, or the folder of a format that is one; nothing is there yet
    format : one of `FORMATS`
    item_id : name of the id column of an opened table
    width : how many codes the consumer has at every level, instead of what the format assumes
    on_rows : hears how many rows were passed over, as often as the format's `passes`

    Returns
    -------
    summary : the format, items, levels (L), sid_length (L or L+1) and bytes written

    Raises
    ------
    SemidError
        When the format is unknown or cannot hold a row's SID, or the table has no rows or breaks
        the contract of ids tables.
    """
    chosen = format_of(format)
    if chosen.folder and path.exists():
        raise SemidError(f"{display_path(path)} exists; name a folder that is not there yet")
    if isinstance(table, IdTable):
        source = of_ids(table, on_rows=on_rows)
    else:
        source = of_table(table, item_id=item_id, on_rows=on_rows)
    chosen.write(replace(source, width=_width(chosen, format, width, source)), path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {
        "format": format,
        "items": source.rows,
        "levels": source.levels,
        "sid_length": source.sid_length,
        "bytes": sum(file.stat().st_size for file in files),
    }


def _width(chosen: Format, format: str, width: int | None, source: Source) -> int | None:
    if width is not None and chosen.width is None and not chosen.as_noted:
        raise SemidError(
            f"the format {format} has a place for any code; leave out the width {width}"
        )
    if width is not None and width < 1:
        raise SemidError(f"the width is {width}; it must be at least 1")
    if width is None and chosen.as_noted:
        summary = source.metadata.get("summary")
        levels = summary.get("levels") if isinstance(summary, dict) else None
        return max(levels) if levels else None
    return width or chosen.width


def read(
    path: Path,
    format: str,
    *,
    levels: int | None = None,
    items: Path | None = None,
    id_type: str | None = None,
) -> IdTable:
    """Read an exported file, or one that another program wrote, into memory.

    Parameters
    ----------
    path : file, or folder of a format that is one
    format : one of `FORMATS`
    levels : L, the summary's ``levels``, for files that do not say it: without, all is a code in
        tokens-json, lcrec, openonerec and forge, and the last digit of grid, tiger and
        semantic-ids-llm tells items of one code apart
    items : file with the item id of every row number, for the formats that number items, where it
        is not in the folder: see `semid.export.item_map`; without either, the numbers are the ids
    id_type : what item ids are, one of `ID_TYPES`; without, what the file says, and of text, which
        says nothing, integers where all are canonical decimals

    Raises
    ------
    SemidError
        When the format or the type is unknown, a file is missing or malformed, its L is not
        `levels`, or an id is not of the type.
    """
    chosen = format_of(format)
    if id_type is not None and id_type not in ID_TYPES:
        raise SemidError(f"the type {id_type!r} of item ids is none of {', '.join(ID_TYPES)}")
    if items is not None and not chosen.numbers:
        raise SemidError(f"the format {format} names its items itself; leave out the map {items}")
    if not path.is_file() and not path.is_dir():
        raise SemidError(f"{display_path(path)} is not a file; check the path")
    try:
        table = chosen.read(path, Request(levels, items))
    except (SemidError, OSError) as error:
        said = _refused(path, format, error)
        raise said from (error.__cause__ if said is error else error)
    if levels is not None and table.codes.shape[1] != levels:
        raise SemidError(
            f"{display_path(path)} holds codes of {table.codes.shape[1]} levels where {levels} "
            "are expected; check the path and the number of levels"
        )
    if id_type is None:
        return table
    return replace(table, item_ids=_typed(table.item_ids, id_type, path))


def _refused(path: Path, format: str, error: Exception) -> SemidError:
    """Return what to say of a file that the format's reader refused."""
    shown, likely = display_path(path), recognised(path)
    if likely and format not in likely:
        if likely == ("datasets",) and path.is_file():
            return SemidError(f"{shown} is an ids table already, which needs no import")
        return SemidError(
            f"{shown} is no {format} file but looks like {' or '.join(likely)}; give that format"
        )
    if path.is_dir() and not (FORMATS[format].folder or format in PARQUET):
        return SemidError(f"{shown} is a folder, but {format} is a file; name the file")
    if isinstance(error, OSError):
        return SemidError(f"{shown} cannot be read as {format}: {error.strerror or error}")
    if isinstance(error, SemidError) and shown in str(error):
        return error
    return SemidError(f"{shown}: {error}")


def _typed(ids: pa.Array, id_type: str, path: Path) -> pa.Array:
    """Return ids as a type; text that was read as integers is what it was, as it is canonical."""
    if pa.types.is_integer(ids.type) == (id_type == "int64"):
        return ids
    if id_type == "string":
        return ids.cast(pa.string())
    if not pc.all(are_decimals(ids)).as_py():
        wrong = ids[pc.index(are_decimals(ids), False).as_py()]
        raise SemidError(
            f"{display_path(path)}: the item id {wrong.as_py()!r} is no int64; import the ids as "
            "string"
        )
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise SemidError(
            f"{display_path(path)}: item ids go beyond int64 ({error}); import them as string"
        ) from error


def format_of(name: str) -> Format:
    """Return the format called `name`; raises `SemidError` when it is none of `FORMATS`."""
    if name not in FORMATS:
        raise SemidError(f"the format {name!r} is none of {', '.join(FORMATS)}")
    return FORMATS[name]
