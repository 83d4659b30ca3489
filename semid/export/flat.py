"""The names of flat columns: ``code_0`` … ``code_{L-1}``, and ``suffix`` when IDs have one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semid.errors import SemidError, display_path

SUFFIX = "suffix"


def flat_names(levels: int, sid_length: int) -> list[str]:
    """Return the names of the columns of an ID."""
    return [f"code_{level}" for level in range(levels)] + [SUFFIX] * (sid_length - levels)


def levels_of(names: Sequence[str], path: Path) -> int:
    """Return L from all column names of a file, the first of which is the item id's.

    Raises
    ------
    SemidError
        When they are others.
    """
    levels = len(names) - 1 - (SUFFIX in names)
    if levels < 1 or list(names[1:]) != flat_names(levels, len(names) - 1):
        raise SemidError(
            f"{display_path(path)} has the columns {', '.join(names)}; expected an "
            f"item id, code_0, code_1, … and perhaps {SUFFIX}, as semid export writes them"
        )
    return levels
