"""Tables that are given by a name: ``name=path``."""

from __future__ import annotations

from glob import has_magic
from pathlib import Path

from semid.errors import SemidError


def name_and_path(given: str) -> tuple[str | None, str]:
    """Split ``name=path``; what has no name, as ``date=1/ids.parquet`` that is there, is a path."""
    name, _, path = given.partition("=")
    if not (name and path) or "/" in name or Path(given).exists():
        return None, given
    return name, path


def name_of_file(path: str) -> str:
    """Return what a table that is given without a name is called: as its file or folder.

    Raises `SemidError` for a pattern of several, which names none.
    """
    if has_magic(path) and not Path(path).exists():
        raise SemidError(f"{path} names no one file or folder; give a name to it, as name={path}")
    return Path(path.rstrip("/")).name.removesuffix(".parquet")
