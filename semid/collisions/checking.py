"""No two items may share an ID: looked at once more, in what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from semid.ids import MAX_CODES, group_ids, pack_keys

Codes = npt.NDArray[np.int32]
# Odd, with bits all over: products with it mix what they multiply.
_MIX = np.uint64(0x9E37_79B9_7F4A_7C15)


def repeated(
    sids: Callable[[], Iterator[Codes]], levels: Sequence[int], rows: int
) -> tuple[int, ...] | None:
    """Return a SID that two rows have, or None; 8 bytes of memory a row.

    `sids` streams SIDs ``(n, s)``, as long as `levels` or longer, alike every time.
    """
    key_n, start = np.empty(rows, dtype=np.uint64), 0
    for sid_ns in sids():
        key_n[start : start + len(sid_ns)] = _mixed(_keys(sid_ns, levels))
        start += len(sid_ns)
    key_n = key_n[:start]
    key_n.sort()
    twice = np.unique(key_n[1:][key_n[1:] == key_n[:-1]])
    if not len(twice):
        return None
    # Keys of several columns were mixed into one: the SIDs themselves decide.
    same = [sid_ns[np.isin(_mixed(_keys(sid_ns, levels)), twice)] for sid_ns in sids()]
    suspect_ns = np.concatenate(same)
    _, size_n = group_ids(suspect_ns)
    found = np.flatnonzero(size_n > 1)
    return tuple(suspect_ns[found[0]].tolist()) if len(found) else None


def _keys(sid_ns: Codes, levels: Sequence[int]) -> npt.NDArray[np.int64]:
    more = sid_ns.shape[1] - len(levels)
    return pack_keys(sid_ns, [*levels, *([MAX_CODES] * more)])


def _mixed(keys_nm: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    mixed_n = keys_nm[:, 0].astype(np.uint64)
    for key_n in keys_nm[:, 1:].T:
        mixed_n = mixed_n * _MIX + key_n.astype(np.uint64)
        mixed_n ^= mixed_n >> np.uint64(29)
    return mixed_n
