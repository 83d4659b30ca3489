"""From SIDs to the arrays of their trie, in NumPy; `semid.recsys.trie` says what they are.

One sort, and one pass for every level. Takes some 60 bytes an item while it lasts. Shapes: n items,
s levels, v nodes, f leaves, p nodes of one depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid.errors import SemidError
from semid.ids import pack_keys, validate_codes

MAX_NODES = (1 << 31) - 1
# Keys below and rows below these fit one unsigned number together.
_HALF = 32


class Built(NamedTuple):
    """Attributes of a `SidTrie`, as arrays."""

    levels: tuple[int, ...]
    bases: tuple[int, ...]
    widths: tuple[int, ...]
    code_v: npt.NDArray[np.int32]
    first_v: npt.NDArray[np.int32]
    row_n: npt.NDArray[np.int64]
    start_f: npt.NDArray[np.int64]


def build(sids: Any, levels: Sequence[int] | None) -> Built:
    """Build the arrays; parameters and errors as of `SidTrie.of`."""
    sids_ns = as_sids(sids)
    sizes = level_sizes(sids_ns, levels)
    row_n = _sorted_rows(sids_ns, sizes)
    starts, codes = _nodes(sids_ns, row_n)
    bases = np.cumsum([0, *map(len, starts)])
    if bases[-1] > MAX_NODES:
        raise SemidError(
            f"the trie of {len(row_n):,} SIDs has {bases[-1]:,} nodes, more than {MAX_NODES:,}; "
            "split the table"
        )
    firsts = [  # a node begins where its first child does
        np.searchsorted(child_p, start_p) + base
        for start_p, child_p, base in zip(starts, starts[1:], bases[1:], strict=False)
    ]
    first_v = np.append(np.concatenate(firsts), bases[-1])
    count_v = np.diff(first_v)
    return Built(
        sizes,
        tuple(bases.tolist()),
        tuple(int(count_v[low:high].max()) for low, high in pairwise(bases[:-1])),
        np.concatenate(codes),
        first_v.astype(np.int32),
        row_n,
        np.append(starts[-1], len(row_n)),
    )


def as_sids(sids: Any) -> npt.NDArray[np.integer[Any]]:
    """Return SIDs of NumPy, torch or lists as a checked array, ``(n, s)``.

    Raises
    ------
    SemidError
        When these are no SIDs, there are none, their lengths differ, or they are not codes.
    """
    if hasattr(sids, "detach"):
        sids = sids.detach().cpu().numpy()
    if not isinstance(sids, np.ndarray) or sids.dtype == object:
        if isinstance(sids, str) or not isinstance(sids, Sequence | np.ndarray):
            raise SemidError(
                f"SIDs are given as {type(sids).__name__}; give an ids table, or codes (n, s) as "
                "an array or a list; a SidLookup has its trie already"
            )
        sids = list(sids)
        lengths = np.array([len(sid) for sid in sids])
        if len(wrong := np.flatnonzero(lengths != lengths[:1])):
            raise SemidError(
                f"row {wrong[0]} has a SID of {lengths[wrong[0]]} codes where row 0 has "
                f"{lengths[0]}; all need one length, as in an ids table"
            )
        sids = np.array(sids)
    if not sids.size:
        raise SemidError("there are no SIDs; the table has no rows")
    validate_codes(sids)
    return np.asarray(sids)


def level_sizes(
    sids_ns: npt.NDArray[np.integer[Any]], levels: Sequence[int] | None
) -> tuple[int, ...]:
    """Return codes per level: those given, which must hold the SIDs, or as many as occur."""
    if levels is None:
        return tuple((sids_ns.max(axis=0).astype(np.int64) + 1).tolist())
    validate_codes(sids_ns, levels)
    return tuple(map(int, levels))


def _sorted_rows(
    sids_ns: npt.NDArray[np.integer[Any]], levels: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Return the rows in the order of their SIDs, those of one SID as they stand."""
    keys_nm = pack_keys(sids_ns, levels)
    if keys_nm.shape[1] == 1 and max(int(keys_nm.max()), len(keys_nm)) < 1 << _HALF:
        # One number for key and row sorts several times as fast as an order of keys.
        both_n = keys_nm[:, 0].view(np.uint64) << np.uint64(_HALF)
        both_n |= np.arange(len(both_n), dtype=np.uint64)
        both_n.sort()
        return (both_n & np.uint64((1 << _HALF) - 1)).view(np.int64)
    return np.lexsort(keys_nm.T[::-1])


def _nodes(
    sids_ns: npt.NDArray[np.integer[Any]], row_n: npt.NDArray[np.int64]
) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int32]]]:
    """Return for every depth where its nodes begin among the sorted rows, and their codes."""
    is_new_n = np.zeros(len(row_n), np.bool_)
    is_new_n[0] = True
    starts, codes = [np.zeros(1, np.int64)], [np.full(1, -1, np.int32)]
    for level in range(sids_ns.shape[1]):
        code_n = sids_ns[:, level][row_n].astype(np.int32)
        is_new_n[1:] |= code_n[1:] != code_n[:-1]
        starts.append(np.flatnonzero(is_new_n))
        codes.append(code_n[starts[-1]])
    return starts, codes
