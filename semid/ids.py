"""Codes, keys and tokens: three spellings of one ID, and the grouping of items by it.

Pure functions on NumPy arrays, n items by l levels (prefixes: p, depth d; keys: m columns); nothing
here knows about tables, models or files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError
from semid.spelling import OWN, level_name

MAX_CODES = 1 << 31
"""Largest size of a level: codes are int32."""

_MAX_KEYS = 1 << 63
_TOKEN = re.compile(f"{OWN.before.format(level='([a-z]+)')}(0|[1-9][0-9]{{0,9}}){OWN.after}")

Codes = npt.NDArray[np.integer[Any]]


def validate_codes(
    codes_nl: Codes,
    levels: Sequence[int] | None = None,
    *,
    at: Callable[[int], str] = "row {}".format,
) -> None:
    """Check that `codes_nl` holds codes: integers from 0, below K at every level.

    Parameters
    ----------
    codes_nl : shape ``(n, l)``
    levels : K of every level, length l; without it any code that fits in int32 will do
    at : turns a row of `codes_nl` into the words that name it

    Raises
    ------
    SemidError
        Naming the shapes, or the first row with a code out of range, its level and the range.
    """
    if codes_nl.ndim != 2 or codes_nl.shape[1] == 0 or codes_nl.dtype.kind not in "iu":
        raise SemidError(
            f"codes have shape {codes_nl.shape} and type {codes_nl.dtype}; expected (n, l) "
            "integers with l at least 1"
        )
    sizes = [MAX_CODES] * codes_nl.shape[1] if levels is None else list(levels)
    if len(sizes) != codes_nl.shape[1]:
        raise SemidError(
            f"codes have {codes_nl.shape[1]} levels where {len(sizes)} are expected "
            f"({', '.join(map(str, sizes))}); use the model that made them"
        )
    if not all(1 <= size <= MAX_CODES for size in sizes):
        raise SemidError(f"levels are {sizes}; each must be from 1 to {MAX_CODES:,}")
    if len(codes_nl) == 0:
        return
    # One maximum over all is many times as fast as one per level.
    if codes_nl.min() >= 0 and (
        codes_nl.max() < min(sizes) or all(codes_nl.max(axis=0) < np.array(sizes))
    ):
        return
    wrong_nl = (codes_nl < 0) | (codes_nl >= np.array(sizes))
    row = int(np.flatnonzero(wrong_nl.any(axis=1))[0])
    level = int(np.flatnonzero(wrong_nl[row])[0])
    raise SemidError(
        f"{at(row)} holds the code {codes_nl[row, level]} at level {level}; "
        f"codes there go from 0 to {sizes[level] - 1}"
    )


def pack_keys(codes_nl: Codes, levels: Sequence[int]) -> npt.NDArray[np.int64]:
    """Pack codes into as few int64 columns as hold them exactly.

    Each column is a mixed-radix number over a run of levels, so rows compare column by column just
    as their codes do level by level.

    Parameters
    ----------
    codes_nl : shape ``(n, l)``
    levels : K of every level, length l

    Returns
    -------
    keys_nm : shape ``(n, m)``, int64

    Raises
    ------
    SemidError
        When a code is out of range.
    """
    validate_codes(codes_nl, levels)
    runs = _runs(levels)
    keys_nm = np.zeros((len(codes_nl), len(runs)), dtype=np.int64)
    for column, run in enumerate(runs):
        for level in run:
            keys_nm[:, column] *= levels[level]
            keys_nm[:, column] += codes_nl[:, level].astype(np.int64)
    return keys_nm


def unpack_keys(keys_nm: npt.NDArray[np.int64], levels: Sequence[int]) -> npt.NDArray[np.int32]:
    """Undo `pack_keys`: keys of shape ``(n, m)`` to codes of shape ``(n, l)``, int32."""
    codes_nl = np.empty((len(keys_nm), len(levels)), dtype=np.int32)
    for column, run in enumerate(_runs(levels)):
        rest_n = keys_nm[:, column]
        for level in reversed(run):
            rest_n, codes_nl[:, level] = np.divmod(rest_n, levels[level])
    return codes_nl


def _runs(levels: Sequence[int]) -> list[list[int]]:
    """Cut the levels into runs whose codes fit one int64 key together."""
    runs: list[list[int]] = [[]]
    for level, size in enumerate(levels):
        if runs[-1] and prod(levels[i] for i in runs[-1]) * size > _MAX_KEYS:
            runs.append([])
        runs[-1].append(level)
    return runs


def group_ids(codes_nl: Codes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Group equal rows.

    Parameters
    ----------
    codes_nl : shape ``(n, l)``

    Returns
    -------
    group_n : the group of every row; groups are numbered from 0 in the order of their codes
    size_n : how many rows share the row's codes, itself included
    """
    order_n, first_n = _sort(codes_nl)
    group_n = np.empty(len(codes_nl), dtype=np.int64)
    group_n[order_n] = np.cumsum(first_n) - 1
    size_n = np.bincount(group_n)[group_n] if len(group_n) else group_n
    return group_n, size_n


def prefixes(codes_nl: Codes, depth: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    """List the distinct prefixes of length `depth`.

    Parameters
    ----------
    codes_nl : shape ``(n, l)``
    depth : d, from 1 to l

    Returns
    -------
    prefix_pd : the prefixes in the order of their codes, shape ``(p, d)``
    size_p : how many rows begin with each

    Raises
    ------
    SemidError
        When `depth` is outside 1 to l.
    """
    if not 1 <= depth <= codes_nl.shape[1]:
        raise SemidError(f"depth is {depth}, but the codes have levels 1 to {codes_nl.shape[1]}")
    order_n, first_n = _sort(codes_nl[:, :depth])
    starts_p = np.flatnonzero(first_n)
    size_p = np.diff(starts_p, append=len(codes_nl))
    return codes_nl[order_n[starts_p], :depth], size_p


def _sort(codes_nl: Codes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return the order that sorts the rows, and where in it a row differs from the one before."""
    levels = (codes_nl.max(axis=0, initial=0).astype(np.int64) + 1).tolist()
    keys_nm = pack_keys(codes_nl, levels)
    order_n = np.lexsort(keys_nm.T[::-1])
    first_n = np.ones(len(codes_nl), dtype=np.bool_)
    keys_nm = keys_nm[order_n]
    first_n[1:] = (keys_nm[1:] != keys_nm[:-1]).any(axis=1)
    return order_n, first_n


def to_tokens(sid_nl: Codes) -> npt.NDArray[np.str_]:
    """Spell IDs as one token per level: ``<a_41> <b_7> <c_203>``.

    Parameters
    ----------
    sid_nl : shape ``(n, l)``

    Returns
    -------
    token_nl : shape ``(n, l)``, unicode

    Raises
    ------
    SemidError
        When a code is negative or does not fit in int32.
    """
    validate_codes(sid_nl)
    columns = []
    for level, code_n in enumerate(sid_nl.T):
        value_k, index_n = np.unique(code_n, return_inverse=True)
        before = OWN.before.format(level=level_name(level))
        token_k = np.array([f"{before}{value}{OWN.after}" for value in value_k.tolist()])
        columns.append(token_k[index_n])
    return np.stack(columns, axis=1)


def from_tokens(tokens: Sequence[Sequence[str]] | npt.NDArray[np.str_]) -> npt.NDArray[np.int32]:
    """Undo `to_tokens`: rows of tokens to IDs of shape ``(n, l)``, int32.

    Raises
    ------
    SemidError
        When there are no rows, their lengths differ, or a token is not one of its level's.
    """
    tokens = tokens.tolist() if isinstance(tokens, np.ndarray) else tokens
    if len(tokens) == 0:
        raise SemidError("there are no tokens to read")
    lengths = np.array([len(row) for row in tokens])
    ragged = np.flatnonzero(lengths != lengths[0])
    if ragged.size or lengths[0] == 0:
        row = int(ragged[0]) if ragged.size else 0
        raise SemidError(
            f"row {row} has {lengths[row]} tokens where row 0 has {lengths[0]}; "
            "every item needs the same number, at least 1"
        )
    columns = ([row[level] for row in tokens] for level in range(lengths[0]))
    return np.stack([_parse(column, level) for level, column in enumerate(columns)], axis=1)


def _parse(tokens: Sequence[str], level: int) -> npt.NDArray[np.int32]:
    name = level_name(level)
    code_of: dict[str, int] = {}
    for row, token in enumerate(tokens):
        if isinstance(token, str) and token in code_of:
            continue
        match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
        if match is None or match[1] != name or int(match[2]) >= MAX_CODES:
            raise SemidError(
                f"row {row} holds the token {token!r} at level {level}; "
                f"expected one like '<{name}_0>'"
            )
        code_of[token] = int(match[2])
    return np.fromiter(map(code_of.__getitem__, tokens), np.int32, len(tokens))
