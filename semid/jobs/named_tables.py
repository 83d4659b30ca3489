"""Tables that are given by a name: ``name=path``."""

from __future__ import annotations

from pathlib import Path


def name_and_path(given: str) -> tuple[str | None, str]:
    """Split ``name=path``; what has no name, as ``date=1/ids.parquet`` that is there, is a path."""
    name, _, path = given.partition("=")
    if not (name and path) or "/" in name or Path(given).exists():
        return None, given
    return name, path


def name_of_file(path: str) -> str:
    """Return what a table that is given without a name is called: as its file or folder."""
    return Path(path.rstrip("/")).name.removesuffix(".parquet")
