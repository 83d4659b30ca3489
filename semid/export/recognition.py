"""Which formats a file looks like, for whoever named another one.

By its first bytes, the names in an archive or a folder, or the columns: a look of a few kilobytes,
whatever the file's size. Formats that hold the same look alike, so there may be several.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from semid.errors import SemidError
from semid.export import forge, grid, hf_datasets, lcrec, npz, semantic_ids_llm, tiger, torcheasyrec
from semid.export.openonerec import PID
from semid.id_columns import CODES, SID
from semid.tables import open_table

_HEAD_BYTES = 1 << 16


def recognised(path: Path) -> tuple[str, ...]:
    """Return the formats that a file or folder looks like; none where nothing tells."""
    try:
        if path.is_dir():
            return _of_folder(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head.startswith(b"PAR1"):
            return _of_columns(path)
        if head.startswith(b"\x93NUMPY"):
            return ("tiger",)
        if zipfile.is_zipfile(path):
            return _of_archive(path)
        if head[8:10] == b'{"':  # behind the length of its header
            return ("safetensors",)
        return _of_text(head.decode("utf-8-sig", errors="ignore"))
    except (OSError, SemidError, zipfile.BadZipFile):
        return ()


def _of_folder(path: Path) -> tuple[str, ...]:
    names = {file.name for file in path.iterdir()}
    signs = {
        "grid": grid.FILE in names,
        "tiger": tiger.FILE in names,
        "lcrec": any(name.endswith(lcrec.INDEX) for name in names),
        "torcheasyrec": torcheasyrec.TO_SID in names,
        "datasets": hf_datasets.DATA in names,
    }
    return tuple(format for format, is_there in signs.items() if is_there) or _of_columns(path)


def _of_columns(path: Path) -> tuple[str, ...]:
    names = set(open_table(path).schema.names)
    signs = {
        "openonerec": {PID, CODES} <= names,
        "semantic-ids-llm": f"{semantic_ids_llm.CODE}0" in names,
        "parquet": "code_0" in names,
        "datasets": {CODES, SID} <= names and PID not in names,
        "torcheasyrec": torcheasyrec.ORIGIN in names
        or ({torcheasyrec.ITEM, CODES} <= names and SID not in names),
    }
    return tuple(format for format, has_them in signs.items() if has_them)


def _of_archive(path: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if f"{npz.MEMBERS[0]}.npy" in names:
        return ("npz",)
    return ("grid", "tiger") if any(name.endswith("data.pkl") for name in names) else ()


def _of_text(head: str) -> tuple[str, ...]:
    line = head.lstrip().partition("\n")[0].strip()
    if line.startswith("{"):
        try:
            row = json.loads(line)
        except ValueError:  # an object of many lines
            return ("tokens-json", "lcrec")
        return ("jsonl",) if CODES in row or SID in row else ("tokens-json", "lcrec")
    if line == f"{forge.ITEM},{forge.SID}":
        return ("forge",)
    if "code_0:token" in line:
        return ("recbole",)
    return ("csv",) if "code_0" in line.split(",") else ()
