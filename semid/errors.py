"""What a user can get wrong. Every message says what is wrong, where, and the way out.

`SemidError` is the one exception type that the command line turns into a sentence and its exit
code; anything else that escapes is a defect of semid's (exit code 1).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


class SemidError(ValueError):
    """A mistake in the input, the settings or the environment that the user can put right.

    The message names the file, the column, the first row and both offending values where they
    exist, and ends with what to do.
    """

    exit_code = 2


class GateError(SemidError):
    """A figure is beyond the limit set for it, or a table breaks its contract."""

    exit_code = 3


class RowError(SemidError):
    """A mistake in one row of a batch; the caller that knows the table names the row by `at`."""

    def __init__(self, before: str, row: int, after: str = "") -> None:
        super().__init__(before, row, after)
        self.before, self.row, self.after = before, row, after

    def __str__(self) -> str:
        return f"{self.before} in row {self.row}{self.after}"

    def at(self, place: str) -> SemidError:
        """Return the same mistake in a row called `place`, such as ``items.parquet, row 17``."""
        return SemidError(f"{place}: {self.before}{self.after}")


def require_package(module: str, *, extra: str, purpose: str) -> None:
    """Raise `SemidError` naming the extra to install when `module` cannot be found.

    `module` is the import name, `purpose` what semid wanted it for ("the RQ-VAE").
    """
    if find_spec(module) is None:
        raise SemidError(
            f"{purpose} needs the package '{module}', which is not installed; "
            f"run: pip install 'semid[{extra}]'"
        )


def first_few(values: list[object], limit: int = 5) -> str:
    """Join at most `limit` values for a message: ``a, b, c, … (12 in all)``."""
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown}, … ({len(values)} in all)"


def display_path(path: str | Path) -> str:
    """Return `path` as the user would type it: relative to the working folder when below it."""
    if "://" in str(path):
        return str(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
