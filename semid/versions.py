"""How a folder says which of the versions in it is the table: see `semid.store`."""

from __future__ import annotations

import re
from collections.abc import Collection

from semid.errors import SemidError, display_path

# The file of a store that names the version to read.
CURRENT = "CURRENT"
VERSION = re.compile(r"v\d{4,}")


def version_number(version: str) -> int:
    """Return the number of a version, by which they are in order: 12 of ``v0012``."""
    return int(version[1:])


def named(store: str, content: str, there: Collection[str]) -> str:
    """Return the version that the content of a store's ``CURRENT`` names.

    Raises
    ------
    SemidError
        When that is none of those that are there.
    """
    name = content.strip()
    if name not in there:
        raise SemidError(
            f"{display_path(store)}/{CURRENT} names {name!r}, which is no version that is there "
            f"({', '.join(there) or 'none is'}); semid rollback --to writes it anew"
        )
    return name


def refuse_to_guess(store: str, there: Collection[str]) -> None:
    """Raise `SemidError` when a folder has versions: call it where none of them is current."""
    if there:
        raise SemidError(
            f"{display_path(store)} has versions but none is current; choose one of "
            f"{', '.join(there)} with semid rollback --to"
        )
