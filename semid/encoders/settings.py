"""The checks that the encoders' settings share, each raising `SemidError` with both values.

Knows nothing about what the settings mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from semid.errors import SemidError

DType = Literal["float32", "float16"]


def check_dtype(dtype: str) -> None:
    """Raise `SemidError` unless `dtype` is one that an embedding column can have."""
    if dtype not in ("float32", "float16"):
        raise SemidError(f"dtype is {dtype!r}; it must be 'float32' or 'float16'")


def check_at_least(setting: str, value: float, least: int) -> None:
    """Raise `SemidError` when the number `value` of `setting` is below `least`."""
    if value < least:
        raise SemidError(f"{setting} is {value}; it must be at least {least}")


def check_names(setting: str, names: Sequence[str]) -> None:
    """Raise `SemidError` unless `names` is a tuple of different column names (it may be empty)."""
    if isinstance(names, str):
        raise SemidError(f"{setting} is the text {names!r}; give a list of column names instead")
    if not all(isinstance(name, str) and name for name in names):
        raise SemidError(f"{setting} is {names!r}; every entry must be the name of a column")
    if len(set(names)) < len(names):
        raise SemidError(f"{setting} names a column twice: {', '.join(names)}")


def check_ngrams(setting: str, ngrams: Sequence[int]) -> None:
    """Raise `SemidError` unless `ngrams` is (shortest, longest), or (0, 0) for none at all."""
    if len(ngrams) != 2 or (tuple(ngrams) != (0, 0) and not 1 <= ngrams[0] <= ngrams[1]):
        raise SemidError(
            f"{setting} is {tuple(ngrams)}; it must be (shortest, longest) with "
            f"1 <= shortest <= longest, or (0, 0) for none"
        )
